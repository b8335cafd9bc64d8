import numpy as np
import pytest

from serve_app.core.vectors import check_unit, cosines, fuse, unit
from serve_app.errors import InvalidVector


@pytest.mark.parametrize("values", [[0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0]])
def test_a_vector_that_points_nowhere_is_refused(values: list[float]) -> None:
    with pytest.raises(InvalidVector):
        unit(np.array(values, np.float32))


def test_huge_numbers_do_not_overflow() -> None:
    assert np.allclose(unit(np.array([3e38, 3e38], np.float32)), np.sqrt(0.5))


@pytest.mark.parametrize(
    "vector",
    [
        np.ones(3, np.float32),
        np.array([1.0, 0.0], np.float32),
        np.array([1.0, 0.0, 0.0]),
        np.array([np.nan, 0, 0], np.float32),
    ],
    ids=["not unit", "wrong dimension", "float64", "NaN"],
)
def test_only_unit_vectors_of_the_right_shape_pass(vector: np.ndarray) -> None:
    with pytest.raises(InvalidVector):
        check_unit(vector, 3)
    check_unit(np.array([0.0, 1.0, 0.0], np.float32), 3)


def test_a_fused_vector_lies_between_its_parts_and_has_unit_length() -> None:
    image, text = np.eye(2, dtype=np.float32)
    assert np.allclose(fuse(image, text, 0.5), np.sqrt(0.5))
    assert np.allclose(fuse(image, text, 1.0), image)


def test_the_cosine_with_a_row_without_length_is_zero() -> None:
    rows = np.array([[2, 0], [0, 0], [-1, 0]], np.float32)
    assert cosines(np.array([1, 0], np.float32), rows).tolist() == [1, 0, -1]
