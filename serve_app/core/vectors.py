"""Unit vectors: made here, checked here. Knows nothing of models or tables."""

import numpy as np

from serve_app.errors import InvalidVector
from serve_app.types import FloatMatrix, FloatVector

UNIT_TOLERANCE = 1e-3


def unit(values: FloatVector) -> FloatVector:
    """The same direction at length 1, float32. Raises InvalidVector if a number is not finite or all are zero."""
    # float64: the squares of large float32 values overflow.
    wide = np.asarray(values, dtype=np.float64)
    if not np.isfinite(wide).all():
        raise InvalidVector("the vector holds a number that is NaN or infinite")
    length = float(np.linalg.norm(wide))
    if length == 0.0 or not np.isfinite(length):
        raise InvalidVector("the vector is zero, so it points nowhere")
    return (wide / length).astype(np.float32)


def check_unit(vector: FloatVector, dimension: int) -> None:
    """Raises InvalidVector unless the vector is finite, float32, of shape [dimension] and of unit length."""
    if vector.shape != (dimension,):
        raise InvalidVector(f"the vector has {vector.size} numbers, the table wants {dimension}")
    if vector.dtype != np.float32:
        raise InvalidVector(f"the vector is {vector.dtype}, not float32")
    if not np.isfinite(vector).all():
        raise InvalidVector("the vector holds a number that is NaN or infinite")
    length = float(np.linalg.norm(vector))
    if abs(length - 1.0) > UNIT_TOLERANCE:
        raise InvalidVector(f"the vector has length {length:.4f}, not 1")


def fuse(image: FloatVector, text: FloatVector, image_weight: float) -> FloatVector:
    """The vector of a picture with its text: unit(w * image + (1 - w) * text), both of unit length."""
    return unit(image_weight * image + (1.0 - image_weight) * text)


def cosines(query: FloatVector, rows: FloatMatrix) -> FloatVector:
    """Cosine of `query` [d] with each row [n, d], shape [n]; 0 where either has no length."""
    lengths = np.linalg.norm(rows, axis=1) * float(np.linalg.norm(query))
    products = rows @ query
    scores: FloatVector = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return scores
