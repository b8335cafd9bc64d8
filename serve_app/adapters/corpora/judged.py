"""Corpora with judgements of their own: documents, queries and qrels as BEIR and MixBench have them, and lists of queries.

A picture stands in `image`, a path from the folder or a URI; a document or a query with `text` and `image` is both together.
"""

import math
from collections.abc import Container, Sequence
from pathlib import Path

from serve_app.adapters.corpora.files import BrokenRows, check_there, json_lines, located, string_of, text_of
from serve_app.core.judgements import JudgedCorpus, JudgedDocument, JudgedQuery
from serve_app.errors import InvalidRequest

DOCUMENT_FILES = ("corpus.jsonl", "mixed_corpus.jsonl")
QUERY_FILES = ("queries.jsonl", "query.jsonl")
DOCUMENT_IDS = ("_id", "id", "corpus_id", "corpus-id", "did")
QUERY_IDS = ("_id", "id", "query_id", "query-id", "qid")
TEXT_KEYS = ("text", "contents", "txt")
PICTURE_KEYS = ("image", "image_path", "img_path")

Item = tuple[str | None, str | None]
"""The text and the picture of a document or a query."""


def is_judged(folder: Path) -> bool:
    """Whether the folder holds documents and queries."""
    return _first(folder, DOCUMENT_FILES) is not None and _first(folder, QUERY_FILES) is not None


def read_judged(folder: Path, images: Path | None, split: str) -> JudgedCorpus:
    """Documents, and the queries that the qrels of this split judge. Raises InvalidRequest."""
    documents_path, queries_path = _first(folder, DOCUMENT_FILES), _first(folder, QUERY_FILES)
    if documents_path is None or queries_path is None:
        raise InvalidRequest(f"{folder} has no {DOCUMENT_FILES[0]} or no {QUERY_FILES[0]}")
    broken = BrokenRows()
    documents = _items(documents_path, DOCUMENT_IDS, images or folder, broken)
    asked = _items(queries_path, QUERY_IDS, images or folder, broken)
    qrels_path = _qrels_path(folder, split)
    judged = {each: gains for each, gains in _qrels(qrels_path, asked, broken).items() if gains}
    for found in (documents, asked, judged):
        broken.check_some_good(found)
    if not judged:
        raise InvalidRequest(f"{qrels_path} judges nothing relevant")
    check_there([picture for _, picture in (*documents.values(), *asked.values()) if picture], folder.name)
    queries = [
        JudgedQuery(
            each, *asked[each], relevant=gains, itself=each if _is_itself(asked[each], documents.get(each)) else None
        )
        for each, gains in judged.items()
    ]
    unknown = sum(each not in documents for gains in judged.values() for each in gains)
    remarks = []
    if unknown:
        remarks.append(f"{unknown:,} judgements name documents that are not in the corpus: they count as not found")
    if left := len(asked) - len(queries):
        remarks.append(f"{left:,} queries were not asked: {qrels_path.name} has nothing that answers them")
    stored = [JudgedDocument(each, *content) for each, content in documents.items()]
    return JudgedCorpus(folder.name, stored, queries, tuple(remarks), tuple(broken.sentences))


def _is_itself(asked: Item, document: Item | None) -> bool:
    """Whether a query is the document of the same id, which then may not answer itself (BEIR's rule for identical ids).

    An id alone says nothing: where queries and documents are both numbered, all ids are alike.
    """
    if document is None:
        return False
    (asked_text, asked_picture), (text, picture) = asked, document
    return asked_picture == picture and (asked_text or "") in (text or "")


def read_queries(path: Path) -> JudgedCorpus:
    """Queries about documents that are in a service already: the service's JSON with `relevant`, a list of ids, a line each.

    An empty list says that nothing answers the query. Raises InvalidRequest for the first line that is wrong.
    """
    broken = BrokenRows()
    queries = []
    for where, line in json_lines(path, broken):
        item = dict(line)
        relevant = item.pop("relevant", None)
        if isinstance(relevant, list) and all(isinstance(each, str) for each in relevant):
            queries.append(JudgedQuery(where, body=item, relevant=dict.fromkeys(relevant, 1.0)))
        else:
            broken.append(f"{where}: `relevant` has to be there, as a list of ids")
    # Whoever writes queries by hand wants to correct them.
    if broken.sentences:
        raise InvalidRequest(broken.sentences[0])
    if not queries:
        raise InvalidRequest(f"{path} holds no queries")
    return JudgedCorpus(path.name, (), queries)


def _items(path: Path, ids: tuple[str, ...], images: Path, broken: BrokenRows) -> dict[str, Item]:
    """Text and picture of each document or query, by its id; BEIR's `title` stands before the text."""
    items: dict[str, Item] = {}
    for where, item in json_lines(path, broken):
        with broken.set_aside():
            own_id = string_of(item, ids, where)
            if own_id is None:
                raise InvalidRequest(f"{where} has no id: one of {', '.join(ids)} is wanted")
            if own_id in items:
                raise InvalidRequest(f"{where}: the id {own_id!r} stands there twice")
            title, text = string_of(item, ("title",), where), string_of(item, TEXT_KEYS, where)
            words = " ".join(each for each in (title, text) if each) or None
            picture = string_of(item, PICTURE_KEYS, where)
            if words is None and picture is None:
                raise InvalidRequest(f"{where} has neither `text` nor `image`")
            items[own_id] = (words, None if picture is None else located(picture, images))
    return items


def _qrels_path(folder: Path, split: str) -> Path:
    candidates = (
        folder / "qrels" / f"{split}.tsv",
        folder / "qrels.tsv",
        folder / "qrels" / "qrels.tsv",
        folder / f"qrels_{split}.tsv",
    )
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise InvalidRequest(f"{folder} has no judgements: qrels/{split}.tsv or qrels.tsv is wanted")
    return found


def _qrels(path: Path, asked: Container[str], broken: BrokenRows) -> dict[str, dict[str, float]]:
    """The gains of each query's answers. Lines as of BEIR (query, document, score) or TREC (query, 0, document, score)."""
    judged: dict[str, dict[str, float]] = {}
    for number, line in enumerate(text_of(path).splitlines(), 1):
        cells = [cell.strip() for cell in (line.split("\t") if "\t" in line else line.split())]
        if not any(cells):
            continue
        score = _score(cells)
        if score is None and number == 1:  # the names of the columns
            continue
        query_id, document_id = cells[0], cells[-2] if len(cells) > 1 else ""
        if score is None:
            broken.append(f"{path}:{number} is no judgement: query, document and score are wanted")
        elif query_id not in asked:
            broken.append(f"{path}:{number} judges the query {query_id!r}, which is not there")
        else:
            gains = judged.setdefault(query_id, {})
            if score > 0:
                gains[document_id] = score
    return judged


def _score(cells: Sequence[str]) -> float | None:
    """Of a judgement, None where the cells are none."""
    try:
        score = float(cells[-1])
    except ValueError:
        return None
    return score if len(cells) in (3, 4) and math.isfinite(score) else None


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)
