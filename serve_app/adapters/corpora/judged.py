"""Corpora with judgements of their own: documents, queries and qrels as BEIR and MixBench have them, and lists of queries.

A picture stands in `image`, a path from the folder or a URI; a document or a query with `text` and `image` is both together.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serve_app.adapters.corpora.files import check_there, json_lines, located, string_of, text_of
from serve_app.core.judgements import JudgedCorpus, JudgedDocument, JudgedQuery
from serve_app.errors import InvalidRequest

DOCUMENT_FILES = ("corpus.jsonl", "mixed_corpus.jsonl")
QUERY_FILES = ("queries.jsonl", "query.jsonl")
DOCUMENT_IDS = ("_id", "id", "corpus_id", "corpus-id", "did")
QUERY_IDS = ("_id", "id", "query_id", "query-id", "qid")
TEXT_KEYS = ("text", "contents", "txt")
PICTURE_KEYS = ("image", "image_path", "img_path")


def is_judged(folder: Path) -> bool:
    """Whether the folder holds documents and queries."""
    return _first(folder, DOCUMENT_FILES) is not None and _first(folder, QUERY_FILES) is not None


def read_judged(folder: Path, images: Path | None, split: str) -> JudgedCorpus:
    """Documents, and the queries that the qrels of this split judge. Raises InvalidRequest."""
    documents_path, queries_path = _first(folder, DOCUMENT_FILES), _first(folder, QUERY_FILES)
    if documents_path is None or queries_path is None:
        raise InvalidRequest(f"{folder} has no {DOCUMENT_FILES[0]} or no {QUERY_FILES[0]}")
    documents: dict[str, JudgedDocument] = {}
    for number, item in json_lines(documents_path):
        where = f"{documents_path}:{number}"
        document_id, text, picture = _item(item, DOCUMENT_IDS, where, images or folder)
        if document_id in documents:
            raise InvalidRequest(f"{where}: the id {document_id!r} stands there twice")
        documents[document_id] = JudgedDocument(document_id, text, picture)
    asked = {}
    for number, item in json_lines(queries_path):
        query_id, text, picture = _item(item, QUERY_IDS, f"{queries_path}:{number}", images or folder)
        asked[query_id] = (text, picture)
    qrels_path = _qrels_path(folder, split)
    judged = _qrels(qrels_path)
    for query_id, gains in judged.items():
        if query_id not in asked:
            raise InvalidRequest(f"{qrels_path} judges the query {query_id!r}, which {queries_path.name} does not hold")
        if unknown := next((each for each in gains if each not in documents), None):
            raise InvalidRequest(
                f"{qrels_path} names the document {unknown!r}, which {documents_path.name} does not hold"
            )
    pictures = [each.picture for each in documents.values()] + [picture for _, picture in asked.values()]
    check_there({each: each for each in pictures if each is not None}, folder.name)
    # What asks with an id of a document is that document: it may not answer itself (BEIR ignores identical ids, too).
    queries = [
        JudgedQuery(each, *asked[each], relevant=gains, itself=each if each in documents else None)
        for each, gains in judged.items()
        if gains
    ]
    if not queries:
        raise InvalidRequest(f"{qrels_path} judges nothing relevant")
    left = len(asked) - len(queries)
    remarks = (f"{left:,} queries were not asked: {qrels_path.name} has nothing that answers them",) if left else ()
    return JudgedCorpus(folder.name, list(documents.values()), queries, remarks)


def read_queries(path: Path) -> JudgedCorpus:
    """Queries about documents that are in a service already: the service's JSON with `relevant`, a list of ids, a line each.

    An empty list says that nothing answers the query. Raises InvalidRequest for the first line that is wrong.
    """
    queries = []
    for number, line in json_lines(path):
        item = dict(line)
        relevant = item.pop("relevant", None)
        if not isinstance(relevant, list) or not all(isinstance(each, str) for each in relevant):
            raise InvalidRequest(f"{path}:{number}: `relevant` has to be there, as a list of ids")
        queries.append(JudgedQuery(f"line {number}", body=item, relevant=dict.fromkeys(relevant, 1.0)))
    if not queries:
        raise InvalidRequest(f"{path} holds no queries")
    return JudgedCorpus(path.name, (), queries)


def _item(
    item: Mapping[str, Any], ids: tuple[str, ...], where: str, images: Path
) -> tuple[str, str | None, str | None]:
    """Id, text and picture; BEIR's `title` stands before the text."""
    own_id = string_of(item, ids, where)
    if own_id is None:
        raise InvalidRequest(f"{where} has no id: one of {', '.join(ids)} is wanted")
    title, text = string_of(item, ("title",), where), string_of(item, TEXT_KEYS, where)
    words = " ".join(each for each in (title, text) if each) or None
    picture = string_of(item, PICTURE_KEYS, where)
    if words is None and picture is None:
        raise InvalidRequest(f"{where} has neither `text` nor `image`")
    return own_id, words, None if picture is None else located(picture, images)


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


def _qrels(path: Path) -> dict[str, dict[str, float]]:
    """The gains of each query's answers. Lines as of BEIR (query, document, score) or TREC (query, 0, document, score)."""
    judged: dict[str, dict[str, float]] = {}
    for number, line in enumerate(text_of(path).splitlines(), 1):
        cells = [cell.strip() for cell in (line.split("\t") if "\t" in line else line.split())]
        if not any(cells):
            continue
        try:
            query_id, *_, document_id, score = cells
            gain = float(score)
            if len(cells) not in (3, 4):
                raise ValueError(f"{len(cells)} cells")
        except ValueError as error:
            if number == 1:  # the names of the columns
                continue
            raise InvalidRequest(f"{path}:{number} is no judgement: query, document and score are wanted") from error
        gains = judged.setdefault(query_id, {})
        if gain > 0:
            gains[document_id] = gain
    return judged


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)
