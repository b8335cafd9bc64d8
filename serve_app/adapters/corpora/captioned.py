"""Pictures with captions: CSV, JSON lines, Karpathy's JSON of COCO and Flickr, or a .txt beside each picture. Knows no search.

Every caption asks for its picture, every picture for its captions, and both are documents. A caption's id is that of its picture,
`#` and its number, as Flickr30k has it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from serve_app.adapters.corpora.files import (
    BrokenRows,
    check_there,
    json_lines,
    located,
    pictures_in,
    string_of,
    table_rows,
    text_of,
)
from serve_app.core.judgements import JudgedCorpus, JudgedDocument, JudgedQuery
from serve_app.errors import InvalidRequest

# What the data sets out there call the two: ours, Hugging Face's imagefolder, Flickr30k's CSV.
PICTURE_KEYS = ("image", "file_name", "filename", "filepath", "image_name", "path", "picture")
CAPTION_KEYS = ("caption", "text", "comment", "sentence", "raw")
MANY_KEYS = ("captions", "texts", "sentences")


def read_captions(path: Path, images: Path | None) -> JudgedCorpus:
    """A .jsonl with an object, or a table with a row, for each caption or each picture. Raises InvalidRequest."""
    broken = BrokenRows()
    in_json = path.suffix.lower() in (".jsonl", ".ndjson")
    captions: dict[str, list[str]] = {}
    for where, row in json_lines(path, broken) if in_json else table_rows(path, broken):
        with broken.set_aside():
            picture = string_of(row, PICTURE_KEYS, where)
            if picture is None:
                raise InvalidRequest(f"{where} names no picture: one of {', '.join(PICTURE_KEYS)} is wanted")
            texts = _captions(row, where)
            captions.setdefault(picture, []).extend(texts)
    files = {each: located(each, images or path.parent) for each in captions}
    return _corpus(f"{path.absolute().parent.name}/{path.name}", captions, files, broken)


def read_karpathy(path: Path, images: Path | None, split: str) -> JudgedCorpus:
    """One split of Karpathy's JSON: {"images": [{"filename", "split", "sentences": [{"raw"}]}]}. Raises InvalidRequest."""
    try:
        content = json.loads(text_of(path))
        listed = [each for each in content["images"] if isinstance(each, dict)]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InvalidRequest(f"{path} is no JSON with `images`, as Karpathy's splits are") from error
    chosen = [each for each in listed if each.get("split") == split]
    if not chosen:
        known = ", ".join(sorted({str(each.get("split")) for each in listed})) or "none"
        raise InvalidRequest(f"{path} has no pictures of the split {split!r}; it has: {known}")
    broken = BrokenRows()
    captions: dict[str, list[str]] = {}
    files: dict[str, str] = {}
    for at, each in enumerate(chosen):
        with broken.set_aside():
            where = f"{path}: picture {at} of {split}"
            name, sentences = string_of(each, ("filename",), where), each.get("sentences")
            if name is None or not isinstance(sentences, list):
                raise InvalidRequest(f"{where} has no `filename` or no list `sentences`")
            captions[name] = [text for sentence in sentences for text in _captions(sentence, where)]
            files[name] = _file(images or path.parent, str(each.get("filepath") or ""), name)
    return _corpus(f"{path.name}, {split}", captions, files, broken)


def read_sidecars(folder: Path) -> JudgedCorpus:
    """The pictures of a folder that have a .txt of their name beside them: a caption a line. Raises InvalidRequest."""
    broken = BrokenRows()
    captions: dict[str, list[str]] = {}
    files: dict[str, str] = {}
    alone = 0
    for picture in pictures_in(folder):
        beside = picture.with_suffix(".txt")
        if not beside.is_file():
            alone += 1
            continue
        with broken.set_aside():
            name = picture.relative_to(folder).as_posix()
            captions[name] = [line.strip() for line in text_of(beside).splitlines() if line.strip()]
            files[name] = str(picture)
    remarks = (f"{alone:,} pictures without a .txt beside them were left out",) if alone else ()
    return _corpus(folder.name, captions, files, broken, remarks)


def _captions(row: Mapping[str, Any], where: str) -> list[str]:
    if not isinstance(row, Mapping):
        raise InvalidRequest(f"{where}: a caption is no JSON object")
    for name in MANY_KEYS:
        if name in row:
            many = row[name]
            if not isinstance(many, list) or not all(isinstance(each, str) for each in many):
                raise InvalidRequest(f"{where}: `{name}` is no list of strings")
            return [each.strip() for each in many if each.strip()]
    caption = string_of(row, CAPTION_KEYS, where)
    if caption is None or not caption.strip():
        raise InvalidRequest(f"{where} has no caption: one of {', '.join((*CAPTION_KEYS, *MANY_KEYS))} is wanted")
    return [caption.strip()]


def _file(images: Path, folder: str, name: str) -> str:
    """COCO's files lie in folders that the JSON names (`filepath`), unless somebody moved them together."""
    nested = images / folder / name
    return str(nested if nested.is_file() or not (images / name).is_file() else images / name)


def _corpus(
    name: str,
    captions: Mapping[str, Sequence[str]],
    files: Mapping[str, str],
    broken: BrokenRows,
    remarks: Iterable[str] = (),
) -> JudgedCorpus:
    broken.check_some_good(captions)
    if not any(captions.values()):
        raise InvalidRequest(f"{name} holds no captions")
    check_there(files.values(), name)
    bare = sum(not texts for texts in captions.values())
    told = (
        (f"{bare:,} pictures have no caption: they are among the documents, and nobody asks for them",) if bare else ()
    )
    documents: list[JudgedDocument] = []
    queries: list[JudgedQuery] = []
    for picture, texts in captions.items():
        ids = [f"{picture}#{at}" for at in range(len(texts))]
        documents.append(JudgedDocument(picture, picture=files[picture]))
        documents += [JudgedDocument(each, text=text) for each, text in zip(ids, texts, strict=True)]
        together = dict.fromkeys((picture, *ids), 1.0)
        queries += [
            JudgedQuery(each, text=text, relevant=_without(together, each), itself=each)
            for each, text in zip(ids, texts, strict=True)
        ]
        if texts:
            asked = _without(together, picture)
            queries.append(JudgedQuery(picture, picture=files[picture], relevant=asked, itself=picture))
    return JudgedCorpus(name, documents, queries, (*remarks, *told), tuple(broken.sentences))


def _without(gains: Mapping[str, float], own: str) -> dict[str, float]:
    return {each: gain for each, gain in gains.items() if each != own}
