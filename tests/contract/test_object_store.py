"""The object store keeps one contract: in memory, in a local folder, on S3 and on Azure (emulators on the loopback interface)."""

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
import pytest

from serve_app.adapters.object_store import ObjectReader, ObstoreObjectStore, fetch_file, fetch_folder, place_of
from serve_app.adapters.open_clip import load_text_tower, weight_packing
from serve_app.errors import InvalidConfig, ModelUnavailable, PictureNotFound, PictureTooLarge, StorageUnavailable
from serve_app.services.pictures import PictureService
from serve_app.types import Embedding
from tests.emulators import Bucket, s3_bucket
from tests.fakes.object_store import MemoryObjectStore
from tests.unit.adapters.tiny_checkpoints import save_checkpoint

DATA = b"\x89PNG the bytes of a picture"
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def s3_options() -> Iterator[dict[str, str]]:
    """The options of a bucket `pictures` in which other things lie already."""
    with s3_bucket("pictures") as bucket:
        store = ObjectReader(bucket.uri, bucket.options).store_of(place_of(bucket.uri))
        store.put("models/tiny/open_clip_config.json", b"{}")
        store.put("models/tiny/tokenizer/vocab.txt", b"a b c")
        store.put("models/tiny-other/not_this.txt", b"x")
        store.put("odd names/50% ü?.png", DATA)
        yield bucket.options


@dataclass(frozen=True)
class Case:
    store: ObstoreObjectStore | MemoryObjectStore
    root: str
    signs: bool


def folder_case(folder: Path) -> Case:
    return Case(ObstoreObjectStore(str(folder)), folder.as_uri() + "/", signs=False)


def bucket_case(uri: str, bucket: Bucket) -> Case:
    return Case(ObstoreObjectStore(uri, bucket.options), uri.rstrip("/") + "/", signs=True)


CASES: dict[str, Callable[[pytest.FixtureRequest, Path], Case]] = {
    "memory": lambda request, folder: Case(MemoryObjectStore(), "memory://pictures/", signs=False),
    "folder": lambda request, folder: folder_case(folder / "pictures"),
    "folder with odd name": lambda request, folder: folder_case(folder / "ä b%20c"),
    "s3": lambda request, folder: bucket_case("s3://contract/some/prefix/", request.getfixturevalue("s3")),
    "s3 root": lambda request, folder: bucket_case("s3://contract", request.getfixturevalue("s3")),
    "azure": lambda request, folder: bucket_case("az://contract/some/prefix/", request.getfixturevalue("azure")),
    "azure root": lambda request, folder: bucket_case("az://contract", request.getfixturevalue("azure")),
}


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return CASES[request.param](request, tmp_path)


async def test_what_was_put_is_read_by_its_uri(case: Case) -> None:
    uri = await case.store.put(SHA256, "image/png", DATA)
    assert uri == f"{case.root}{SHA256[:2]}/{SHA256[2:4]}/{SHA256}.png"
    assert case.store.root == case.root
    assert await case.store.read(uri, 1000) == DATA


async def test_a_put_may_be_repeated_also_at_once(case: Case) -> None:
    uris = await asyncio.gather(*(case.store.put(SHA256, "image/png", DATA) for _ in range(5)))
    assert len(set(uris)) == 1
    assert await case.store.read(uris[0], 1000) == DATA


async def test_a_store_owns_what_it_wrote_and_nothing_else(case: Case) -> None:
    uri = await case.store.put(SHA256, "image/png", DATA)
    assert case.store.owns(uri)
    for other in (
        case.root,
        uri + "x/../..",
        case.root + "../secret.png",
        case.root.rstrip("/") + "-other/a.png",
        "s3://x/" + uri,
    ):
        assert not case.store.owns(other), other


async def test_what_lies_there_is_listed_and_removed_unless_it_is_young(case: Case) -> None:
    uri = await case.store.put(SHA256, "image/png", DATA)
    assert [each async for portion in case.store.stored(timedelta(0), SHA256[:2]) for each in portion.items()] == [
        (uri, len(DATA))
    ]
    assert [each async for portion in case.store.stored(timedelta(0), "00") for each in portion] == []
    assert [each async for portion in case.store.stored(timedelta(hours=1), SHA256[:2]) for each in portion] == []
    assert await case.store.remove(uri, timedelta(hours=1)) == 0
    assert await case.store.remove(case.root + "not/ours.png", timedelta(0)) == 0
    assert await case.store.remove(uri, timedelta(0)) == len(DATA)
    assert await case.store.remove(uri, timedelta(0)) == 0
    with pytest.raises(PictureNotFound):
        await case.store.read(uri, 1000)


async def test_a_picture_that_comes_again_after_long_becomes_young_again(tmp_path: Path) -> None:
    store = ObstoreObjectStore(str(tmp_path))
    uri = await store.put(SHA256, "image/png", DATA)
    file = tmp_path / uri.removeprefix(store.root)
    os.utime(file, (0, 0))
    assert await store.put(SHA256, "image/png", DATA) == uri
    assert await store.remove(uri, timedelta(hours=1)) == 0
    assert await store.read(uri, 1000) == DATA


async def test_a_missing_object_is_not_found(case: Case) -> None:
    with pytest.raises(PictureNotFound):
        await case.store.read(case.root + "aa/bb/nothing.png", 1000)


async def test_an_object_over_the_limit_is_refused(case: Case) -> None:
    uri = await case.store.put(SHA256, "image/png", DATA)
    assert await case.store.read(uri, len(DATA)) == DATA
    with pytest.raises(PictureTooLarge):
        await case.store.read(uri, len(DATA) - 1)


async def test_a_signed_address_fetches_the_picture_where_the_store_can_sign(case: Case) -> None:
    url = await case.store.signed_url(await case.store.put(SHA256, "image/png", DATA))
    if not case.signs:
        assert url is None
    else:
        assert url is not None
        async with httpx.AsyncClient() as client:
            answer = await client.get(url)
        assert answer.content == DATA
        assert answer.headers["content-type"] == "image/png"


async def test_addresses_for_browsers_are_signed_given_as_they_are_or_none(case: Case) -> None:
    nothing = cast(Any, None)
    service = PictureService(nothing, nothing, case.store, nothing, max_bytes=1, threads=1)
    kept = await case.store.put(SHA256, "image/png", DATA)
    signed, *others = await service.sign(
        [kept, "https://pictures.test/a.png", "file:///etc/passwd", "s3://theirs/a.png"]
    )
    assert (signed is not None) == case.signs
    assert others == ["https://pictures.test/a.png", None, None]


async def test_nothing_is_signed_that_the_store_did_not_write(case: Case) -> None:
    assert await case.store.signed_url("s3://pictures/models/tiny/open_clip_config.json") is None


async def test_a_half_written_object_is_written_again(tmp_path: Path) -> None:
    store = ObstoreObjectStore(str(tmp_path))
    uri = await store.put(SHA256, "image/png", DATA)
    (tmp_path / SHA256[:2] / SHA256[2:4] / f"{SHA256}.png").write_bytes(DATA[:5])
    assert await store.read(uri, 1000) == DATA[:5]
    assert await store.read(await store.put(SHA256, "image/png", DATA), 1000) == DATA


async def test_odd_keys_are_taken_as_they_stand(s3_options: dict[str, str]) -> None:
    reader = ObjectReader("s3://pictures", s3_options)
    assert await reader.read("s3://pictures/odd names/50% ü?.png", 1000) == DATA


async def test_dots_in_a_key_reach_nothing(s3_options: dict[str, str]) -> None:
    with pytest.raises(StorageUnavailable):
        await ObjectReader("s3://pictures", s3_options).read(
            "s3://pictures/a/../models/tiny/open_clip_config.json", 1000
        )


async def test_a_missing_bucket_is_said_without_naming_the_address(s3_options: dict[str, str]) -> None:
    store = ObstoreObjectStore("s3://nowhere/x", s3_options)
    with pytest.raises(StorageUnavailable) as caught:
        await store.put(SHA256, "image/png", DATA)
    assert "127.0.0.1" not in caught.value.message


async def test_a_storage_that_does_not_answer_is_unavailable(s3_options: dict[str, str]) -> None:
    store = ObstoreObjectStore("s3://pictures", {**s3_options, "endpoint": "http://127.0.0.1:9"})
    with pytest.raises(StorageUnavailable) as caught:
        await store.read("s3://pictures/x.png", 10)
    assert caught.value.__cause__ is not None


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(InvalidConfig, match="colour"):
        ObstoreObjectStore("s3://pictures", {"colour": "red"})


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(InvalidConfig, match="ftp"):
        place_of("ftp://host/x")


def test_a_folder_is_fetched_whole_and_once(tmp_path: Path, s3_options: dict[str, str]) -> None:
    folder = Path(fetch_folder("s3://pictures/models/tiny", str(tmp_path / "cache"), s3_options))
    files = {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}
    assert files == {"open_clip_config.json": b"{}", "tokenizer/vocab.txt": b"a b c"}
    assert [each.name for each in (tmp_path / "cache").iterdir()] == [folder.name]
    (folder / "mark").touch()
    assert Path(fetch_folder("s3://pictures/models/tiny", str(tmp_path / "cache"), s3_options)) == folder
    assert (folder / "mark").exists()


def test_an_empty_folder_cannot_be_fetched(tmp_path: Path, s3_options: dict[str, str]) -> None:
    with pytest.raises(PictureNotFound, match="models/none"):
        fetch_folder("s3://pictures/models/none", str(tmp_path), s3_options)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_in_a_bucket_is_fetched_once_and_gives_the_same_vectors(
    tmp_path: Path, s3_options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    local = save_checkpoint(tmp_path / "local")
    store = ObjectReader("s3://pictures", s3_options).store_of(place_of("s3://pictures"))
    for file in local.iterdir():
        store.put(f"models/random/{file.name}", file)
    fetched = [fetch_folder("s3://pictures/models/random", str(tmp_path / "cache"), s3_options) for _ in range(2)]
    assert fetched[0] == fetched[1]
    monkeypatch.setattr(weight_packing, "pays_here", lambda _: False)  # both alike, whatever the machine does meanwhile
    ours, theirs = (load_text_tower(model=f"local-dir:{folder}") for folder in (fetched[0], local))
    assert ours.card.fingerprint == theirs.card.fingerprint
    [first], [second] = ours.encode(["a red boat"]), theirs.encode(["a red boat"])
    assert isinstance(first, Embedding)
    assert isinstance(second, Embedding)
    assert np.array_equal(first.vector, second.vector)


def test_a_checkpoint_that_was_replaced_is_fetched_anew(tmp_path: Path, s3_options: dict[str, str]) -> None:
    store = ObjectReader("s3://pictures", s3_options).store_of(place_of("s3://pictures"))
    folders = []
    for content in (b"old", b"new"):
        store.put("models/replaced/open_clip_config.json", content)
        folders.append(fetch_folder("s3://pictures/models/replaced", str(tmp_path), s3_options))
    assert folders[0] != folders[1]
    assert (Path(folders[1]) / "open_clip_config.json").read_bytes() == b"new"


def test_a_file_is_fetched_with_what_lies_beside_it_and_no_more(tmp_path: Path, s3_options: dict[str, str]) -> None:
    store = ObjectReader("s3://pictures", s3_options).store_of(place_of("s3://pictures"))
    for name in ("a.safetensors", "b.safetensors", "open_clip_config.json", "deep/tokenizer.json"):
        store.put(f"models/files/{name}", name.encode())
    file = Path(
        fetch_file(
            "s3://pictures/models/files/a.safetensors",
            str(tmp_path),
            s3_options,
            beside=("open_clip_config.json", "*token*.json"),
        )
    )
    assert file.read_bytes() == b"a.safetensors"
    assert {each.name for each in file.parent.iterdir()} == {"a.safetensors", "open_clip_config.json"}
    with pytest.raises(PictureNotFound):
        fetch_file("s3://pictures/models/files/c.safetensors", str(tmp_path), s3_options, beside=("*.json",))


def test_a_copy_that_is_refused_leaves_nothing_and_is_fetched_again(tmp_path: Path, s3_options: dict[str, str]) -> None:
    def refuse(folder: Path) -> None:
        raise ModelUnavailable(f"{len(list(folder.iterdir()))} files are refused")

    with pytest.raises(ModelUnavailable, match="2 files"):
        fetch_folder("s3://pictures/models/tiny", str(tmp_path), s3_options, check=refuse)
    assert list(tmp_path.iterdir()) == []
    assert Path(fetch_folder("s3://pictures/models/tiny", str(tmp_path), s3_options)).is_dir()


def test_what_a_dead_process_left_half_fetched_is_swept(tmp_path: Path, s3_options: dict[str, str]) -> None:
    (tmp_path / ".fetching-dead" / "whole").mkdir(parents=True)
    folder = fetch_folder("s3://pictures/models/tiny", str(tmp_path), s3_options)
    assert list(tmp_path.iterdir()) == [Path(folder)]


def test_of_several_that_fetch_at_once_one_fetches(tmp_path: Path, s3_options: dict[str, str]) -> None:
    checks: list[Path] = []

    def fetch(_: int) -> str:
        return fetch_folder("s3://pictures/models/tiny", str(tmp_path), s3_options, check=checks.append)

    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(fetch, range(4)))
    assert len(folders) == len(checks) == 1
