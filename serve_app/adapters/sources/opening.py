"""Opens a source: what lies there tells its kind, unless the user does. Wrong locations and columns are errors here, at once."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from types import MappingProxyType

from serve_app.adapters.sources.columnar import ARROW_SUFFIXES, PARQUET_SUFFIXES, Columnar
from serve_app.adapters.sources.lists import Manifest
from serve_app.adapters.sources.pictures import PICTURE_SUFFIXES, PictureFolder
from serve_app.adapters.sources.places import open_files, require_present, spelt_out
from serve_app.adapters.sources.spec import SourceSpec
from serve_app.adapters.sources.tables import OwnTable
from serve_app.adapters.sources.tars import TAR_SUFFIXES, Tars
from serve_app.core.source_items import Source
from serve_app.errors import InvalidSource

KINDS: Mapping[str, Callable[[SourceSpec], Source]] = MappingProxyType(
    {
        "folder": PictureFolder,
        "parquet": lambda spec: Columnar(spec, is_parquet=True),
        "jsonl": lambda spec: Manifest(spec, is_csv=False),
        "csv": lambda spec: Manifest(spec, is_csv=True),
        "webdataset": Tars,
        "datasets": lambda spec: Columnar(spec, is_parquet=False),
        "table": OwnTable,
    }
)
ENDINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "folder": PICTURE_SUFFIXES,
        "parquet": PARQUET_SUFFIXES,
        "jsonl": (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz"),
        "csv": (".csv", ".csv.gz", ".tsv", ".tsv.gz"),
        "webdataset": TAR_SUFFIXES,
        "datasets": ARROW_SUFFIXES,
        "table": (".lance",),
    }
)
# Further down nothing new is expected, and a bucket is not to be listed twice.
LOOKED_AT = 2000


def open_source(spec: SourceSpec) -> Source:
    """The source, with what can be told of it before it is read. Raises SourceNotFound, InvalidSource."""
    if spec.kind is not None and spec.kind not in KINDS:
        raise InvalidSource(f"there is no kind of source {spec.kind!r}; there are: {', '.join(KINDS)}")
    require_present(spec)
    kind = spec.kind or kind_of(spec)
    if kind == "table" and len(spec.locations) > 1:
        raise InvalidSource("one table is read at a time")
    source = KINDS[kind](replace(spec, kind=kind))
    if isinstance(source, Manifest | Columnar | OwnTable):
        source.check()
    return source


def kind_of(spec: SourceSpec) -> str:
    """What lies at the first location. Raises InvalidSource where that is nothing known, or several things."""
    place = next(spelt_out(spec.locations[0]))
    files = open_files(spec)
    file = files.find(place)
    if file is not None:
        seen = _kinds([file.path])
    else:
        paths = [each.path for each in islice(files.below(place), LOOKED_AT)]
        inside = place.rstrip("/").endswith(".lance") or any(".lance/" in f"/{path}" for path in paths)
        seen = {"table"} if inside else _kinds(paths)
    if len(seen) == 1:
        return seen.pop()
    what = f"holds several kinds ({', '.join(sorted(seen))})" if seen else "holds nothing that is known"
    raise InvalidSource(f"{place} {what}: say which is meant by its kind, one of {', '.join(KINDS)}")


def _kinds(paths: list[str]) -> set[str]:
    return {kind for path in paths for kind, endings in ENDINGS.items() if path.lower().endswith(endings)}
