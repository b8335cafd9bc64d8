import asyncio
from dataclasses import replace

import numpy as np
import pytest

from serve_app.core.ids import sha256_of
from serve_app.errors import DocumentNotFound, FingerprintMismatch, PictureNotFound
from serve_app.types import DocumentInput, InlinePicture, ItemFailure, Modality, PictureUri, UpsertOutcome
from tests.fakes.parts import OTHER_CARD, FakeTextEncoding, picture_of, vector_of
from tests.unit.services.conftest import System, make_system


def statuses(results: list[UpsertOutcome | ItemFailure]) -> list[str]:
    return [each.code if isinstance(each, ItemFailure) else str(each.status) for each in results]


async def test_text_picture_and_both_become_one_row_each(system: System) -> None:
    results = await system.documents.add(
        [
            DocumentInput(text="red boat"),
            DocumentInput(picture=picture_of("blue cat"), metadata={"by": "us"}),
            DocumentInput(text="green tree", picture=picture_of("green tree"), id="both"),
        ]
    )
    assert statuses(results) == ["stored"] * 3
    text, picture, both = [await system.documents.get(each.id) for each in results if isinstance(each, UpsertOutcome)]
    assert (text.modality, text.text, text.uri) == (Modality.TEXT, "red boat", None)
    assert (picture.modality, picture.metadata) == (Modality.IMAGE, {"by": "us"})
    assert picture.uri in system.pictures.files
    assert (both.modality, both.id, both.text) == (Modality.IMAGE_TEXT, "both", "green tree")
    row = (await system.retrieval.get(["both"]))[0]
    assert row is not None
    halves = vector_of("green tree", Modality.IMAGE) + vector_of("green tree", Modality.TEXT)
    assert np.allclose(row.vector, halves / np.linalg.norm(halves), atol=1e-6)


async def test_an_id_comes_from_the_content_when_none_is_given(system: System) -> None:
    (result,) = await system.documents.add([DocumentInput(text="red boat")])
    assert isinstance(result, UpsertOutcome)
    assert result.id == sha256_of(b"red boat")[:32]


async def test_the_same_content_again_is_unchanged_and_not_encoded_again(system: System) -> None:
    corpus = [DocumentInput(text="red boat"), DocumentInput(picture=picture_of("blue cat"))]
    await system.documents.add(corpus)
    version = system.table.version
    assert statuses(await system.documents.add(corpus)) == ["unchanged", "unchanged"]
    assert (len(system.texts.encoded), len(system.pictures.encoded)) == (1, 1)
    assert system.table.version == version


async def test_new_metadata_on_old_content_is_stored_without_encoding(system: System) -> None:
    await system.documents.add([DocumentInput(text="red boat", id="a")])
    result = await system.documents.add([DocumentInput(text="red boat", id="a", metadata={"price": 3})])
    assert statuses(result) == ["stored"]
    assert (await system.documents.get("a")).metadata == {"price": 3}
    assert len(system.texts.encoded) == 1


async def test_new_content_under_an_old_id_replaces_it_and_keeps_the_time_of_creation(system: System) -> None:
    await system.documents.add([DocumentInput(text="red boat", id="a")])
    before = await system.documents.get("a")
    await system.documents.add([DocumentInput(picture=picture_of("blue cat"), id="a")])
    after = await system.documents.get("a")
    assert (after.modality, after.created_at) == (Modality.IMAGE, before.created_at)
    assert after.updated_at > before.updated_at


async def test_a_bad_document_fails_alone(system: System) -> None:
    results = await system.documents.add(
        [
            DocumentInput(text="red boat"),
            DocumentInput(text="   "),
            DocumentInput(text="x" * 201),
            DocumentInput(picture=InlinePicture(b"no picture")),
            DocumentInput(),
            DocumentInput(text="a", id="\n"),
            DocumentInput(picture=PictureUri("file:///nowhere.png")),
            DocumentInput(text="a", metadata={"price": float("nan")}),
            DocumentInput(text="\ud800"),
            DocumentInput(text="blue cat"),
        ]
    )
    assert statuses(results) == [
        "stored",
        "empty_text",
        "text_too_long",
        "not_a_picture",
        "invalid_request",
        "invalid_document_id",
        "picture_not_found",
        "invalid_request",
        "invalid_request",
        "stored",
    ]


async def test_a_picture_by_uri_stays_where_it_is_and_is_told_by_its_content(system: System) -> None:
    system.pictures.files["s3://bucket/boat.png"] = b"picture: red boat"
    document = DocumentInput(picture=PictureUri("s3://bucket/boat.png"), id="boat")
    assert statuses(await system.documents.add([document])) == ["stored"]
    assert (await system.documents.get("boat")).uri == "s3://bucket/boat.png"
    assert statuses(await system.documents.add([document])) == ["unchanged"]
    system.pictures.files["s3://bucket/boat.png"] = b"picture: blue boat"
    assert statuses(await system.documents.add([document])) == ["stored"]
    assert len(system.pictures.encoded) == 2


async def test_of_two_documents_with_one_id_the_last_one_stands(system: System) -> None:
    await system.documents.add([DocumentInput(text="red boat", id="a"), DocumentInput(text="blue cat", id="a")])
    assert (await system.documents.get("a")).text == "blue cat"
    assert sum((await system.table.info()).counts.values()) == 1


async def test_a_cut_text_says_so(system: System) -> None:
    (result,) = await system.documents.add([DocumentInput(text="boat " * 20)])
    assert isinstance(result, UpsertOutcome)
    assert result.truncated


async def test_what_arrives_together_becomes_few_commits(system: System) -> None:
    await system.documents.add([DocumentInput(text="first")])
    before = system.table.version
    await asyncio.gather(*(system.documents.add([DocumentInput(text=f"boat {at}")]) for at in range(50)))
    await system.indexing.settled()
    assert system.table.version - before < 10


async def test_a_deleted_document_is_gone_and_deleting_it_again_says_so(system: System) -> None:
    await system.documents.add([DocumentInput(text="red boat", id="a")])
    assert (await system.documents.delete("a")).deleted
    with pytest.raises(DocumentNotFound):
        await system.documents.get("a")
    with pytest.raises(DocumentNotFound):
        await system.documents.delete("a")


async def test_a_text_has_no_picture_to_show(system: System) -> None:
    await system.documents.add([DocumentInput(text="red boat", id="a")])
    with pytest.raises(PictureNotFound):
        await system.documents.content(await system.documents.get("a"))


async def test_documents_of_another_encoder_are_refused_before_anything_is_written(system: System) -> None:
    await system.documents.add([DocumentInput(text="red boat", id="a")])
    stranger = make_system(system.table, FakeTextEncoding(OTHER_CARD))
    with pytest.raises(FingerprintMismatch):
        await stranger.documents.add([DocumentInput(text="blue cat")])
    assert sum((await system.table.info()).counts.values()) == 1


async def test_other_fields_are_stored_and_nothing_is_encoded_again(system: System) -> None:
    boat = DocumentInput(text="red boat", id="boat", fields={"price": 2, "tags": ["sea"]})
    await system.documents.add([boat])
    assert (await system.documents.get("boat")).fields == {"price": 2.0, "tags": ("sea",)}
    assert statuses(await system.documents.add([replace(boat, fields={"price": 2.0, "tags": ("sea",)})])) == [
        "unchanged"
    ]
    assert statuses(await system.documents.add([replace(boat, fields={"price": 3})])) == ["stored"]
    assert (await system.documents.get("boat")).fields == {"price": 3.0}
    assert len(system.texts.encoded) == 1


async def test_a_document_with_a_field_that_is_not_declared_fails_alone(system: System) -> None:
    documents = [DocumentInput(text="red boat", fields={"colour": "red"}), DocumentInput(text="blue cat")]
    assert statuses(await system.documents.add(documents)) == ["invalid_field", "stored"]
