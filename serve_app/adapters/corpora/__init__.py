"""Opens whatever a user evaluates on: finds out which kind it is, and reads it. Knows no search and no service."""

from enum import StrEnum
from pathlib import Path

from serve_app.adapters.corpora.captioned import CAPTION_KEYS, read_captions, read_karpathy, read_sidecars
from serve_app.adapters.corpora.classes import read_classes
from serve_app.adapters.corpora.files import BrokenRows, json_lines, picture_bytes, pictures_in
from serve_app.adapters.corpora.judged import is_judged, read_judged, read_queries
from serve_app.core.judgements import JudgedCorpus, LabelledPictures
from serve_app.errors import InvalidRequest

__all__ = ["CorpusKind", "kind_of", "picture_bytes", "read_corpus"]

CAPTION_FILES = tuple(
    f"{name}.{suffix}" for name in ("captions", "metadata", "results") for suffix in ("csv", "tsv", "jsonl")
)


class CorpusKind(StrEnum):
    """What a path holds; docs/evaluate.md shows each."""

    CAPTIONS = "captions"  # .csv, .tsv, .jsonl, or a folder with such a file
    KARPATHY = "karpathy"  # .json of COCO or Flickr
    SIDECARS = "sidecars"  # a .txt beside each picture
    JUDGED = "judged"  # corpus.jsonl, queries.jsonl and qrels, as BEIR and MixBench have them
    QUERIES = "queries"  # .jsonl with `relevant`: documents that a service has already
    CLASSES = "classes"  # a folder for each class of pictures


def kind_of(path: Path) -> CorpusKind:
    """Which kind of corpus lies there. Raises InvalidRequest where it is none."""
    if path.is_file():
        return _kind_of_file(path)
    if not path.is_dir():
        raise InvalidRequest(f"{path} cannot be read: there is no such file or folder")
    if is_judged(path):
        return CorpusKind.JUDGED
    if _captions_in(path) is not None:
        return CorpusKind.CAPTIONS
    if _karpathy_in(path) is not None:
        return CorpusKind.KARPATHY
    pictures = pictures_in(path)
    if any(each.with_suffix(".txt").is_file() for each in pictures):
        return CorpusKind.SIDECARS
    if any(each.parent != path for each in pictures):
        return CorpusKind.CLASSES
    raise InvalidRequest(
        f"{path} is no corpus: there is no corpus.jsonl with queries.jsonl, no captions.csv or captions.jsonl, no dataset*.json, "
        "no .txt beside a picture, and no folder of pictures for each class"
    )


def read_corpus(path: Path, kind: CorpusKind, *, images: Path | None, split: str) -> JudgedCorpus | LabelledPictures:
    """The corpus. `images`: the folder that paths of pictures begin in, by default the corpus' own. Raises InvalidRequest."""
    match kind:
        case CorpusKind.CAPTIONS:
            return read_captions(path if path.is_file() else _found(_captions_in(path), path, "captions.csv"), images)
        case CorpusKind.KARPATHY:
            found = path if path.is_file() else _found(_karpathy_in(path), path, "dataset.json")
            return read_karpathy(found, images, split)
        case CorpusKind.SIDECARS:
            return read_sidecars(path)
        case CorpusKind.JUDGED:
            return read_judged(path, images, split)
        case CorpusKind.QUERIES:
            return read_queries(path)
        case CorpusKind.CLASSES:
            return read_classes(path)


def _kind_of_file(path: Path) -> CorpusKind:
    match path.suffix.lower():
        case ".json":
            return CorpusKind.KARPATHY
        case ".csv" | ".tsv":
            return CorpusKind.CAPTIONS
        case ".jsonl" | ".ndjson":
            first = next((item for _, item in json_lines(path, BrokenRows())), {})
            captioned = "relevant" not in first and any(key in first for key in ("captions", *CAPTION_KEYS))
            return (
                CorpusKind.CAPTIONS if captioned and ("image" in first or "file_name" in first) else CorpusKind.QUERIES
            )
        case suffix:
            raise InvalidRequest(
                f"{path} is no corpus: {suffix or 'a file without an ending'} is not .json, .jsonl, .csv or .tsv"
            )


def _captions_in(folder: Path) -> Path | None:
    return next((folder / name for name in CAPTION_FILES if (folder / name).is_file()), None)


def _karpathy_in(folder: Path) -> Path | None:
    found = sorted(folder.glob("dataset*.json"))
    return found[0] if len(found) == 1 else None


def _found(path: Path | None, folder: Path, wanted: str) -> Path:
    if path is None:
        raise InvalidRequest(f"{folder} has no {wanted}")
    return path
