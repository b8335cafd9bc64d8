"""What all kinds of corpora are read with: lines, rows, pictures. What is wrong is one sentence with the file and the line."""

import csv
import json
from collections.abc import Collection, Iterator, Mapping, Sized
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any, Literal

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


class BrokenRows:
    """Rows that are left out of a corpus, a sentence each. Real files have some, and figures over all others are worth having."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def append(self, sentence: str) -> None:
        self.sentences.append(sentence)

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """What is raised about a row inside is noted, and the row left."""
        try:
            yield
        except InvalidRequest as error:
            self.append(error.message)

    def check_some_good(self, good: Sized) -> None:
        """Raises InvalidRequest with the first of them where nothing else was there."""
        if self.sentences and not good:
            raise InvalidRequest(self.sentences[0])


def json_lines(path: Path, broken: BrokenRows) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Where it stands and the object of each line that is not empty. Raises InvalidRequest for a file that cannot be read."""
    # By line feeds alone: JSON may hold the other separators of lines that Python knows.
    for number, line in enumerate(text_of(path).split("\n"), 1):
        where = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except json.JSONDecodeError as error:
            broken.append(f"{where} is not JSON: {error.msg} at column {error.colno}")
            continue
        if isinstance(item, dict):
            yield where, item
        else:
            broken.append(f"{where} is no JSON object")


def table_rows(path: Path, broken: BrokenRows) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Where it stands and the cells of each row, by the names in the first line; separated by comma, tab, | or ;.

    Broken are rows that have not as many cells as the first line. Raises InvalidRequest for a file that cannot be read.
    """
    text = text_of(path)
    first = text.partition("\n")[0]
    if not first.strip():
        raise InvalidRequest(f"{path} does not begin with the names of its columns")
    # What separates the names separates the cells: the first line holds no caption that could mislead.
    delimiter = max(_DELIMITERS, key=first.count)
    # Flickr30k's file is separated by |, and quotation marks in it are those of the captions.
    plain: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "|" else csv.QUOTE_MINIMAL
    rows = csv.reader(StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True, quoting=plain)
    names: list[str] | None = None
    while True:
        try:
            cells = next(rows, None)
        except csv.Error as error:
            broken.append(f"{path}:{rows.line_num} cannot be read: {error}")
            continue
        if cells is None:
            return
        cells = [cell.strip() for cell in cells]
        if names is None:
            names = cells
        elif len(cells) == len(names):
            yield f"{path}:{rows.line_num}", dict(zip(names, cells, strict=True))
        elif cells:
            broken.append(f"{path}:{rows.line_num} has {len(cells)} cells, the first line {len(names)}")


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


def check_there(pictures: Collection[str], name: str) -> None:
    """Raises InvalidRequest if files are missing: usually the folder is wrong, and figures without them would mislead."""
    missing = [path for path in pictures if "://" not in path and not Path(path).is_file()]
    if missing:
        raise InvalidRequest(
            f"{name}: {len(missing):,} of {len(pictures):,} pictures are not there, the first is {missing[0]}; name the folder "
            "that the paths begin in with --images"
        )


def pictures_in(folder: Path) -> list[Path]:
    """Every picture file below a folder, in order, hidden ones left out."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
