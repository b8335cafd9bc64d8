"""Every hard picture: OpenCLIP's pixels under `exact: openclip`, what a person sees under our policy, or a clear refusal."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serve_app.adapters.picture_decoder import PictureDecoder
from serve_app.errors import InvalidPicture, UnsupportedPicture
from tests.unit.adapters.openclip_pixels import opened, reference, wanted
from tests.unit.adapters.picture_zoo import Kind, zoo

OPENCLIP = PictureDecoder(max_bytes=5_000_000, max_pixels=50_000_000, max_aspect_ratio=50, exact="openclip")
POLICY = PictureDecoder(max_bytes=5_000_000, max_pixels=50_000_000, max_aspect_ratio=50)
ZOO = zoo()
# Small, since every kind goes through each; test_picture_decoder.py has the sizes of real encoders.
PREPROCESSINGS = {
    "CLIP": wanted("shortest", "bicubic", 96, 96),
    "bilinear": wanted("shortest", "bilinear", 64, 64),
    "SigLIP": wanted("squash", "bicubic", 64, 64),
    "padded": wanted("longest", "bicubic", 80, 80, fill_color=127),
    "tall": wanted("shortest", "bilinear", 64, 48),
    "wide and padded": wanted("longest", "bilinear", 30, 112, fill_color=9),
}
# PIL warns whoever converts palettes with an alpha for each index to RGB, as OpenCLIP does.
pytestmark = pytest.mark.filterwarnings("ignore:Palette images with Transparency:UserWarning")


def named(kinds: list[Kind]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("kind", kinds, ids=[kind.name for kind in kinds])


def unlike_the_reference(decoder: PictureDecoder, kind: Kind, seen: Image.Image) -> list[str]:
    """The preprocessings whose pixels are not bit for bit those that OpenCLIP makes of `seen`."""
    return [
        name
        for name, preprocessing in PREPROCESSINGS.items()
        if not np.array_equal(decoder.to_pixels(kind.data, preprocessing), reference(seen, preprocessing))
    ]


@named([kind for kind in ZOO if not kind.refused_always and not kind.openclip_fails])
def test_exact_to_openclip_gives_the_reference_pixels(kind: Kind) -> None:
    assert not unlike_the_reference(OPENCLIP, kind, opened(kind.data))


@named([kind for kind in ZOO if kind.refused is None])
def test_our_policy_gives_the_reference_pixels_of_what_a_person_sees(kind: Kind) -> None:
    assert not unlike_the_reference(POLICY, kind, kind.seen or opened(kind.data))


@named([kind for kind in ZOO if kind.openclip_fails])
def test_what_openclip_itself_cannot_convert_is_refused_when_exact_to_it(kind: Kind) -> None:
    with pytest.raises(ValueError, match="not supported"):
        reference(opened(kind.data), wanted())
    with pytest.raises(UnsupportedPicture, match="OpenCLIP"):
        OPENCLIP.to_pixels(kind.data, wanted())


@named([kind for kind in ZOO if kind.seen is not None and not kind.openclip_fails])
def test_our_policy_differs_from_openclip_where_it_says_so(kind: Kind) -> None:
    preprocessing = PREPROCESSINGS["CLIP"]
    ours, theirs = POLICY.to_pixels(kind.data, preprocessing), reference(opened(kind.data), preprocessing)
    assert not np.array_equal(ours, theirs)


@named([kind for kind in ZOO if kind.refused is not None])
def test_what_has_no_meaning_is_refused_with_its_own_code(kind: Kind) -> None:
    assert kind.refused is not None
    with pytest.raises(InvalidPicture) as caught:
        POLICY.to_pixels(kind.data, wanted())
    assert caught.value.code == kind.refused.code


@named([kind for kind in ZOO if kind.refused_always])
def test_being_exact_to_openclip_does_not_open_the_door_to_broken_files(kind: Kind) -> None:
    assert kind.refused is not None
    with pytest.raises(InvalidPicture) as caught:
        OPENCLIP.to_pixels(kind.data, wanted())
    assert caught.value.code == kind.refused.code


def test_every_kind_has_a_name_of_its_own() -> None:
    assert len({kind.name for kind in ZOO}) == len(ZOO)


def test_the_page_about_pictures_counts_them_rightly() -> None:
    page = (Path(__file__).parents[3] / "docs" / "pictures.md").read_text(encoding="utf-8")
    assert f"makes {len(ZOO)} hard pictures" in page
    assert all(f"`{kind.refused.code}`" in page for kind in ZOO if kind.refused is not None)
