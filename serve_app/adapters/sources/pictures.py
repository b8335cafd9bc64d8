"""Pictures and videos in folders and below prefixes, each by its URI; with captions beside them where asked. Reads none."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa

from serve_app.adapters.object_files import ObjectFiles, StoredFile
from serve_app.adapters.sources.parts import PART_ROWS, batches, failed_part, failure, part
from serve_app.adapters.sources.places import named_files, open_files
from serve_app.adapters.sources.spec import SourceSpec
from serve_app.core.source_items import SourceFailure, SourceItem, SourcePart
from serve_app.core.videos import VIDEO_SUFFIXES
from serve_app.errors import InvalidRow, InvalidSource, SourceNotFound

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif")
MAX_CAPTION_BYTES = 1024 * 1024
# A part ends at about every so manyth file, chosen by its name: a file that is added changes one part and not all after it.
CUT_AT_ONE_IN = 400


@dataclass(frozen=True, slots=True)
class PictureFolder:
    """Implements core.source_items.Source. An item's key is its URI."""

    spec: SourceSpec

    def parts(self) -> Iterator[SourcePart]:
        files: list[StoredFile] = []
        any_found = False
        for named in named_files(self.spec, (*PICTURE_SUFFIXES, *sorted(VIDEO_SUFFIXES))):
            if named.file is None:
                yield failed_part(named.name, SourceNotFound(f"nothing lies under {named.name}"))
                continue
            any_found = True
            files.append(named.file)
            if (
                len(files) == PART_ROWS
                or zlib.crc32(named.file.path.encode(errors="surrogatepass")) % CUT_AT_ONE_IN == 0
            ):
                yield _part(files)
                files = []
        if files:
            yield _part(files)
        if not any_found:
            raise InvalidSource(f"there are no pictures or videos below {', '.join(self.spec.locations)}")

    def read_part(self, part: SourcePart) -> Iterator[pa.Table | SourceFailure]:
        if isinstance(part.content, SourceFailure):
            yield part.content
            return
        files = open_files(self.spec)
        yield from batches(_item(files, uri, self.spec.captions) for uri in part.content)


def _part(files: list[StoredFile]) -> SourcePart:
    identity = chain.from_iterable((each.uri, each.size, each.tag) for each in files)
    return part(files[0].uri, *identity, content=tuple(each.uri for each in files))


def _item(files: ObjectFiles, uri: str, captions: bool) -> SourceItem | SourceFailure:
    if not captions:
        return SourceItem(uri, uri=uri)
    caption = files.read(f"{uri.rpartition('.')[0]}.txt", MAX_CAPTION_BYTES)
    try:
        text = (caption or b"").decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return failure(uri, InvalidRow("the caption beside the picture is not UTF-8"))
    return SourceItem(uri, uri=uri, text=text or None)
