import pytest

from serve_app.core.ids import check_document_id, content_sha256, document_id, sha256_of
from serve_app.errors import InvalidDocumentId


def test_the_hash_tells_text_picture_and_both_apart() -> None:
    picture = sha256_of(b"picture")
    hashes = {content_sha256("a", None), content_sha256("b", None), content_sha256(None, picture)}
    assert len(hashes | {content_sha256("a", picture), content_sha256("b", picture)}) == 5
    assert len(document_id(picture)) == 32


@pytest.mark.parametrize("value", ["", "x" * 513, " a", "a\n", "a\x00b"])
def test_a_bad_id_is_refused(value: str) -> None:
    with pytest.raises(InvalidDocumentId):
        check_document_id(value)


@pytest.mark.parametrize("value", ["a", "folder/picture.png", "Ünïcode 👍", "a'b\"; --"])
def test_any_other_id_is_taken(value: str) -> None:
    check_document_id(value)
