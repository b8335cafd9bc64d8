"""WebDataset: tars in which the files of one sample follow each other and share a name: 17.jpg, 17.txt, 17.json.

Read from the beginning to the end, one sample in memory at a time. A broken sample fails alone, a damaged tar from there on.
"""

import gzip
import json
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, BinaryIO, cast

import pyarrow as pa

from serve_app.adapters.sources.mapping import RowMapping
from serve_app.adapters.sources.parts import batches, failed_part, failure, part
from serve_app.adapters.sources.pictures import PICTURE_SUFFIXES
from serve_app.adapters.sources.places import named_files, open_files
from serve_app.adapters.sources.spec import SourceSpec
from serve_app.core.source_items import SourceFailure, SourceItem, SourcePart
from serve_app.errors import (
    CrossmodalError,
    InvalidRow,
    InvalidSource,
    PictureTooLarge,
    SourceNotFound,
    UnreadableSource,
)

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
TEXT_ENDINGS = ("txt", "text", "caption")
NUMBER_ENDINGS = ("cls", "cls2", "index", "inx")
PICTURE_ENDINGS = tuple(suffix.removeprefix(".") for suffix in PICTURE_SUFFIXES)
MAX_TEXT_BYTES = 16 * 1024 * 1024
DAMAGED = (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error)
BLOCK = 512


@dataclass(frozen=True, slots=True)
class Tars:
    """Implements core.source_items.Source: a part for each tar. An item's key is `0001.tar#folder/17`."""

    spec: SourceSpec

    def parts(self) -> Iterator[SourcePart]:
        any_found = False
        for named in named_files(self.spec, TAR_SUFFIXES):
            if named.file is None:
                yield failed_part(named.name, SourceNotFound(f"nothing lies under {named.name}"))
                continue
            any_found = True
            file = named.file
            yield part(named.name, file.uri, file.size, file.tag, content=(named.name, file.uri))
        if not any_found:
            raise InvalidSource(f"there are no tars below {', '.join(self.spec.locations)}")

    def read_part(self, part: SourcePart) -> Iterator[pa.Table | SourceFailure]:
        if isinstance(part.content, SourceFailure):
            yield part.content
            return
        name, uri = part.content
        yield from batches(self._items(name, uri))

    def _items(self, name: str, uri: str) -> Iterator[SourceItem | SourceFailure]:
        # A `url` in the JSON says where the picture of the tar once came from.
        mapping = RowMapping(self.spec, uri.rpartition("/")[0], unusual=("uri",))
        last = ""
        try:
            with open_files(self.spec).open(uri) as file:
                # A damaged member ends the tar after the samples before it: its own sample is not whole.
                for sample, members in groupby(_members(file, uri), key=lambda member: member[0]):
                    row, error = self._sample(members)
                    yield failure(f"{name}#{sample}", error) if error else mapping.item(f"{name}#{sample}", row)
                    last = sample
        except UnreadableSource as error:
            where = f"after the sample {last}" if last else "from its beginning"
            yield failure(name, UnreadableSource(f"the tar cannot be read {where}: {error.message}"))
        except SourceNotFound as error:
            yield failure(name, error)

    def _sample(self, members: Iterator["Member"]) -> tuple[dict[str, Any], CrossmodalError | None]:
        """Its members as a row, whose columns are their endings; and the first error among them."""
        row: dict[str, Any] = {}
        error: CrossmodalError | None = None
        for key, ending, info, tar in members:
            row.setdefault("__key__", key)
            try:
                self._add(row, ending, info, tar)
            except (InvalidRow, PictureTooLarge) as found:
                error = error or found
        return row, error

    def _add(self, row: dict[str, Any], ending: str, info: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
        picture = ending in PICTURE_ENDINGS or ending == self.spec.columns.get("image")
        known = picture or ending in ("json", *TEXT_ENDINGS, *NUMBER_ENDINGS) or ending in self.spec.columns.values()
        if not known:
            return
        limit = self.spec.max_item_bytes if picture else MAX_TEXT_BYTES
        if info.size > limit:
            kind = PictureTooLarge if picture else InvalidRow
            raise kind(f"the member .{ending} has {info.size:,} bytes, at most {limit:,} are taken")
        try:
            data = cast(Any, tar.extractfile(info)).read()
        except DAMAGED as error:
            raise UnreadableSource(f"{info.name} ends too early") from error
        if picture:
            # The first picture is the sample's, unless another one is named. A string is what the JSON says of it.
            column = ending if ending == self.spec.columns.get("image") else "image"
            row[column] = row[column] if isinstance(row.get(column), bytes) else data
        elif ending == "json":
            for name, value in _object(data).items():
                row.setdefault(name, value)
        else:
            text = _text(data, ending)
            row["text" if ending in TEXT_ENDINGS and ending not in self.spec.columns.values() else ending] = text


Member = tuple[str, str, tarfile.TarInfo, tarfile.TarFile]
"""The sample, the ending of the member's name in small letters, and the member, to be read before the next one."""


def _members(file: BinaryIO, uri: str) -> Iterator[Member]:
    plain = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if uri.lower().endswith("gz") else file
    try:
        with tarfile.open(fileobj=plain, mode="r:") as tar:
            while (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would keep all of them
                folder, slash, base = info.name.removeprefix("./").rpartition("/")
                stem, _, ending = base.partition(".")
                if info.isfile() and stem and not base.startswith("__"):
                    yield f"{folder}{slash}{stem}", ending.lower(), info, tar
            # tarfile takes a damaged header for the end.
            plain.seek(tar.offset)
            if plain.read(BLOCK).strip(b"\0"):
                raise UnreadableSource(f"the header at byte {tar.offset:,} is damaged")
    except DAMAGED as error:
        raise UnreadableSource(str(error) or "it ends too early") from error


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError as error:
        raise InvalidRow("the member .json is not JSON") from error
    if not isinstance(found, dict):
        raise InvalidRow("the member .json holds no object")
    return found


def _text(data: bytes, ending: str) -> Any:
    try:
        text = data.decode("utf-8-sig").strip()
        return int(text) if ending in NUMBER_ENDINGS else text
    except ValueError as error:
        raise InvalidRow(
            f"the member .{ending} is not {'a number' if ending in NUMBER_ENDINGS else 'UTF-8'}"
        ) from error
