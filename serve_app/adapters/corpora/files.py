"""What all kinds of corpora are read with: lines, rows, pictures. What is wrong is one sentence with the file and the line."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from serve_app.errors import InvalidRequest

PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"}
)
_DELIMITERS = ",\t|;"


def text_of(path: Path) -> str:
    """The whole file. Raises InvalidRequest."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}") from error


def json_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The number and the object of each line that is not empty. Raises InvalidRequest."""
    for number, line in enumerate(text_of(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except json.JSONDecodeError as error:
            raise InvalidRequest(f"{path}:{number} is not JSON: {error.msg} at column {error.colno}") from error
        if not isinstance(item, dict):
            raise InvalidRequest(f"{path}:{number} is no JSON object")
        yield number, item


def table_rows(path: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    """The number and the cells of each row, by the names in the first line; separated by comma, tab, | or ;.

    Raises InvalidRequest, also for a row that has not as many cells as the first line.
    """
    lines = text_of(path).splitlines(keepends=True)
    if not lines:
        raise InvalidRequest(f"{path} is empty")
    # What separates the names separates the cells: the first line holds no caption that could mislead.
    delimiter = max(_DELIMITERS, key=lines[0].count)
    rows = csv.DictReader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
    try:
        for row in rows:
            if None in row or None in row.values():
                raise InvalidRequest(f"{path}:{rows.line_num} has not as many cells as the first line")
            yield rows.line_num, {name: cell.strip() for name, cell in row.items()}
    except csv.Error as error:
        raise InvalidRequest(f"{path}:{rows.line_num} cannot be read: {error}") from error


def string_of(item: Mapping[str, Any], names: tuple[str, ...], where: str) -> str | None:
    """The first of these keys that has a value. Raises InvalidRequest if that is no string."""
    for name in names:
        value = item.get(name)
        if value is None or value == "":
            continue
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)  # ids are often numbers
        if not isinstance(value, str):
            raise InvalidRequest(f"{where}: `{name}` is no string")
        return value
    return None


def located(picture: str, folder: Path) -> str:
    """A picture as a corpus names it: a URI as it is, a path from the folder."""
    return picture if "://" in picture else str(folder / picture)


def picture_bytes(picture: str) -> bytes | None:
    """A picture file of this machine; None for what lies elsewhere or is gone."""
    return Path(picture).read_bytes() if "://" not in picture and Path(picture).is_file() else None


def check_there(pictures: Mapping[str, str], name: str) -> None:
    """`pictures`: names and where they are. Raises InvalidRequest if files are missing: figures without them would mislead."""
    missing = [path for path in pictures.values() if "://" not in path and not Path(path).is_file()]
    if missing:
        raise InvalidRequest(
            f"{name}: {len(missing):,} of {len(pictures):,} pictures are not there, the first is {missing[0]}; name the folder "
            "that the paths begin in with --images"
        )


def pictures_in(folder: Path) -> list[Path]:
    """Every picture file below a folder, in order, hidden ones left out."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
