"""Pictures in classes: a folder for each class, called like it. `classes.json` says how a folder's name is said in words."""

import json
from pathlib import Path

from serve_app.adapters.corpora.files import pictures_in, text_of
from serve_app.core.judgements import LabelledPictures
from serve_app.errors import InvalidRequest

NAMES_FILE = "classes.json"


def read_classes(folder: Path) -> LabelledPictures:
    """The folders that hold pictures, by name; `_` in a name is a space. Raises InvalidRequest."""
    names = _names(folder / NAMES_FILE)
    classes: dict[str, list[str]] = {}
    for inside in sorted(folder.iterdir()):
        if not inside.is_dir() or inside.name.startswith("."):
            continue
        if pictures := pictures_in(inside):
            label = names.get(inside.name, inside.name.replace("_", " ")).strip()
            if label in classes:
                raise InvalidRequest(f"{folder}: two folders are called {label!r}")
            classes[label] = [str(each) for each in pictures]
    if len(classes) < 2:
        raise InvalidRequest(f"{folder} holds {len(classes)} folders of pictures; a choice needs two at least")
    return LabelledPictures(folder.name, classes)


def _names(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        names = json.loads(text_of(path))
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"{path} is not JSON: {error.msg} at line {error.lineno}") from error
    if not isinstance(names, dict) or not all(isinstance(each, str) for each in names.values()):
        raise InvalidRequest(f'{path} is no JSON object of folders and names, such as {{"n01440764": "tench"}}')
    return names
