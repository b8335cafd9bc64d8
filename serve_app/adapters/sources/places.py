"""Which files the locations of a source mean, in order, and how they are called. Knows no format."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from serve_app.adapters.object_files import ObjectFiles, StoredFile
from serve_app.adapters.sources.spec import SourceSpec
from serve_app.errors import InvalidSource, SourceNotFound

BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")
MAX_SPELT_OUT = 1_000_000


@dataclass(frozen=True, slots=True)
class Named:
    """A file and what reports call it. `file` is None where a location leads nowhere."""

    name: str
    file: StoredFile | None


def open_files(spec: SourceSpec) -> ObjectFiles:
    return ObjectFiles(spec.locations[0], spec.options)


def spelt_out(location: str) -> Iterator[str]:
    """`{00..11}` as 00, 01, ... 11, and `{a,b}` as a, b; several of them in every combination."""
    found = BRACES.search(location)
    if found is None:
        yield location
        return
    for choice in _choices(found[1]):
        yield from spelt_out(location[: found.start()] + choice + location[found.end() :])


def require_present(spec: SourceSpec) -> None:
    """Raises SourceNotFound for the first location at which nothing lies; of one with braces the first counts."""
    files = open_files(spec)
    for location in spec.locations:
        first = next(spelt_out(location))
        if files.find(first) is None and next(iter(files.below(first)), None) is None:
            raise SourceNotFound(f"nothing lies under {first}")


def named_files(spec: SourceSpec, suffixes: tuple[str, ...]) -> Iterator[Named]:
    """The files that are meant: those named, and those below folders whose names end so."""
    files = open_files(spec)
    # The names of files tell them apart unless they lie in several folders.
    apart = len(spec.locations) > 1 or "{" in spec.locations[0].rpartition("/")[0]
    for location in spec.locations:
        for place in spelt_out(location):
            file = files.find(place)
            if file is not None:
                yield Named(file.uri if apart else file.path, file)
                continue
            found = _below(files, place)
            if found is None:
                yield Named(place, None)
                continue
            for each in found:
                if each.path.lower().endswith(suffixes) and _in_split(each.path, spec.split):
                    yield Named(each.uri if apart else each.path, each)


def _below(files: ObjectFiles, place: str) -> Iterator[StoredFile] | None:
    """Every file below a folder or prefix; None where nothing lies under it."""
    found = files.below(place)
    try:
        first = next(found, None)
    except SourceNotFound:
        return None
    return None if first is None else chain([first], found)


def _in_split(path: str, split: str | None) -> bool:
    """As Hugging Face names files: `train/data-00000.arrow`, `data/train-00000-of-00002.parquet`."""
    return split is None or any(re.match(rf"{re.escape(split)}([-_./]|$)", piece) for piece in path.split("/"))


def _choices(inside: str) -> Iterator[str]:
    numbers = RANGE.fullmatch(inside)
    if numbers is None:
        yield from inside.split(",")
        return
    first, last = int(numbers[1]), int(numbers[2])
    if not 0 <= last - first < MAX_SPELT_OUT:
        raise InvalidSource(f"{{{inside}}} is no range that goes up to at most {MAX_SPELT_OUT:,} files")
    for number in range(first, last + 1):
        yield str(number).zfill(len(numbers[1]))
