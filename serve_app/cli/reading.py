"""Turns paths into documents: folders and files of pictures and videos, .txt, .jsonl and .csv. Knows no service.

What cannot be read becomes a failure with the name of the file, and of the line in it; the rest goes on.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from serve_app.client import ImageSource, NewDocument, NewVideo
from serve_app.errors import CrossmodalError, InvalidRequest

PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"}
)
VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".ogv", ".mpg", ".mpeg", ".ts", ".flv"})
LIST_SUFFIXES = frozenset({".txt", ".jsonl", ".csv"})
KNOWN_KEYS = frozenset({"id", "text", "image", "video", "metadata", "fields"})
OWN_COLUMNS = ("id", "text", "image", "video")
KNOWN_SUFFIXES = PICTURE_SUFFIXES | VIDEO_SUFFIXES | LIST_SUFFIXES
LIST_SEPARATOR = ";"  # between the elements of a list in a CSV


@dataclass(frozen=True, slots=True)
class Frames:
    """Which frames of videos are taken; the service's own choice if neither is said."""

    every_s: float | None = None
    scenes: bool = False

    def of(self, uri: str) -> NewVideo:
        return NewVideo(uri, self.every_s, self.scenes)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a document comes from, for people: `boats/red.png`, `captions.csv:12`. `document` or `error` is set."""

    name: str
    document: NewDocument | None = None
    error: CrossmodalError | None = None


def read_paths(
    paths: Iterable[Path], fields: Mapping[str, str] = MappingProxyType({}), frames: Frames = Frames()
) -> Iterator[Source]:
    """Every document under these paths, in order; a folder is walked by name, hidden files left out.

    `fields`: the types of the fields that the service declares, by name; a column of a CSV that is called so is that field.
    """
    for source in _read_paths(paths, fields):
        document = source.document
        if document is not None and document.video is not None:
            document = replace(document, video=frames.of(document.video.uri))
        yield replace(source, document=document)


def _read_paths(paths: Iterable[Path], fields: Mapping[str, str]) -> Iterator[Source]:
    for path in paths:
        if path.is_dir():
            for found in sorted(path.rglob("*")):
                hidden = any(part.startswith(".") for part in found.relative_to(path).parts)
                # In a folder only what we know is taken: a README beside the pictures is no failure.
                if found.is_file() and not hidden and found.suffix.lower() in KNOWN_SUFFIXES:
                    yield from read_file(found, fields)
        else:
            yield from read_file(path, fields)


def read_file(path: Path, fields: Mapping[str, str] = MappingProxyType({})) -> Iterator[Source]:
    """The documents of one file: one for each line or row of a list, one for a picture or a video."""
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        yield Source(str(path), NewDocument(id=path.name, video=_video(str(path), Path())))
        return
    if suffix not in LIST_SUFFIXES:
        # Whatever its name: the service looks at the bytes, and says if they are no picture.
        yield Source(str(path), NewDocument(image=path))
        return
    readers: Mapping[str, Callable[[Path], Iterator[Source]]] = {
        ".txt": _texts,
        ".jsonl": _json_lines,
        ".csv": partial(_rows, fields=fields),
    }
    try:
        yield from readers[suffix](path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else f"it is not UTF-8 {suffix[1:]} ({error})"
        yield Source(str(path), error=InvalidRequest(f"{path} cannot be read: {why}"))


def _texts(path: Path) -> Iterator[Source]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield Source(f"{path}:{number}", NewDocument(text=line.strip()))


def _json_lines(path: Path) -> Iterator[Source]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _from_json(f"{path}:{number}", line, path.parent)


def _from_json(name: str, line: str, folder: Path) -> Source:
    try:
        item = json.loads(line)
        if not isinstance(item, dict):
            raise InvalidRequest("the line is not a JSON object")
        unknown = sorted(item.keys() - KNOWN_KEYS)
        if unknown:
            raise InvalidRequest(f"unknown keys: {', '.join(unknown)} (what is yours goes into `metadata`)")
        wrong = [key for key in ("id", "text", "image", "video") if not isinstance(item.get(key), str | None)]
        if wrong or not all(isinstance(item.get(key), dict | None) for key in ("metadata", "fields")):
            raise InvalidRequest("id, text, image and video are strings, metadata and fields are objects")
    except json.JSONDecodeError as error:
        return Source(name, error=InvalidRequest(f"the line is not JSON: {error.msg} at column {error.colno}"))
    except InvalidRequest as error:
        return Source(name, error=error)
    return Source(name, _document(item, item.get("metadata") or {}, item.get("fields") or {}, folder))


def _rows(path: Path, fields: Mapping[str, str]) -> Iterator[Source]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.DictReader(lines, strict=True)
        if not {"text", "image", "video"} & set(rows.fieldnames or ()):
            message = f"{path} has no column `text`, `image` or `video` in its first line"
            yield Source(str(path), error=InvalidRequest(message))
            return
        for row in rows:
            name = f"{path}:{rows.line_num}"
            if None in row or None in row.values():
                yield Source(name, error=InvalidRequest("the row has not as many fields as the first line"))
                continue
            more = {key: value for key, value in row.items() if key not in OWN_COLUMNS and value}
            metadata = {key: value for key, value in more.items() if key not in fields}
            typed = {key: _typed(value, fields[key]) for key, value in more.items() if key in fields}
            yield Source(name, _document(row, metadata, typed, path.parent))


def _typed(value: str, type_: str) -> Any:
    """A cell as the field's type has it in JSON; one that is not of the type goes as it is, and the service says so."""
    if type_ in ("strings", "integers"):
        parts = [part.strip() for part in value.split(LIST_SEPARATOR) if part.strip()]
        return parts if type_ == "strings" else [_typed(part, "integer") for part in parts]
    try:
        match type_:
            case "integer":
                return int(value)
            case "float":
                return float(value)
            case "boolean":
                return {"true": True, "false": False}[value.strip().lower()]
            case _:
                return value
    except (ValueError, KeyError):
        return value


def _document(
    item: Mapping[str, Any], metadata: Mapping[str, Any], fields: Mapping[str, Any], folder: Path
) -> NewDocument:
    # An empty field of a CSV says nothing; so does null in JSON.
    return NewDocument(
        text=item.get("text") or None,
        image=_image(item.get("image"), folder),
        video=_video(item["video"], folder) if item.get("video") else None,
        id=item.get("id") or None,
        metadata=metadata,
        fields=fields,
    )


def _video(named: str, folder: Path) -> NewVideo:
    """The service reads it where it lies: a path becomes the address of a file of this machine."""
    return NewVideo(named if "://" in named else (folder / named).absolute().as_uri())


def _image(named: str | None, folder: Path) -> ImageSource | None:
    """A URI goes to the service as it is; a path is taken from the folder of the list that names it."""
    if not named:
        return None
    return named if "://" in named else folder / named
