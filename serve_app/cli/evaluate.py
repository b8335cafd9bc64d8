"""`crossmodal evaluate`: how well the service ranks one's own documents for one's own queries, by each ranking."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve_app.cli.common import Url, open_client, plain_failures, stdout

if TYPE_CHECKING:
    from serve_app.client import Client, SearchResults

FIRST = 10
RANKINGS = ("cosine", "calibrated", "hybrid")
SEARCHES_PER_REQUEST = 32


@dataclass(frozen=True, slots=True)
class Judged:
    """A query as the service's JSON has it, and the ids of the documents that answer it; none: it has no answer."""

    query: Mapping[str, Any]
    relevant: frozenset[str]


def evaluate(
    queries: Annotated[
        Path,
        typer.Argument(
            metavar="QUERIES.jsonl", help='A query a line: {"text": "...", "relevant": ["id", ...]}; [] has no answer.'
        ),
    ],
    confidence: Annotated[
        float, typer.Option("--confidence", min=0, max=1, help="Below it a query counts as refused.")
    ] = 0.9,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    url: Url = None,
) -> None:
    """Measure NDCG@10, recall@10 and the share of pictures for each ranking, and how well unanswerable queries are refused.

    The documents are those in the service (`crossmodal add`); the queries and their answers come from the file.
    """
    with plain_failures(), open_client(url) as client:
        judged = list(read_queries(queries))
        rows = [
            {"ranking": ranking, **figures(judged, list(answers(client, judged, ranking)), confidence)}
            for ranking in RANKINGS
        ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        _show(rows, len(judged), confidence)


def read_queries(path: Path) -> Iterator[Judged]:
    """The lines of the file. Raises InvalidRequest for the first that is wrong."""
    from serve_app.errors import InvalidRequest

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}") from error
    if not any(line.strip() for line in lines):
        raise InvalidRequest(f"{path} holds no queries")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            item = dict(json.loads(line))
            relevant = item.pop("relevant")
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidRequest(f"line {number} is no JSON object with a query and `relevant`") from error
        if not isinstance(relevant, list) or not all(isinstance(each, str) for each in relevant):
            raise InvalidRequest(f"line {number}: `relevant` is a list of ids")
        yield Judged(item, frozenset(relevant))


def answers(client: "Client", judged: Sequence[Judged], ranking: str) -> Iterator["SearchResults"]:
    """What the service finds for each query. Raises the error of the first query that fails."""
    for start in range(0, len(judged), SEARCHES_PER_REQUEST):
        part = judged[start : start + SEARCHES_PER_REQUEST]
        searches = [{"query": each.query, "limit": FIRST, "ranking": ranking} for each in part]
        for answer in client.search_many(searches):
            if isinstance(answer, Exception):
                raise answer
            yield answer


def figures(judged: Sequence[Judged], found: Sequence["SearchResults"], confidence: float) -> dict[str, float | None]:
    """NDCG@10 and recall@10 of queries with an answer, pictures among their results, and of refusing the others.

    `pictures`: share of the results that show one; what a fair ranking has stands beside it, `pictures_relevant`, as far as the
    relevant ones were found at all. `refused_*` are None where no query lacks an answer.
    """
    import math

    answered = [(each, result) for each, result in zip(judged, found, strict=True) if each.relevant]
    shown = [[hit.id in each.relevant for hit in result.results] for each, result in answered]
    wanted = [min(FIRST, len(each.relevant)) for each, _ in answered]
    discount = [1.0 / math.log2(place + 2) for place in range(FIRST)]
    gains = [sum(worth for worth, good in zip(discount, hits, strict=False) if good) for hits in shown]
    results = [hit for _, result in answered for hit in result.results]
    right = [hit for each, result in answered for hit in result.results if hit.id in each.relevant]
    refused = [not any((hit.confidence or 0.0) >= confidence for hit in result.results) for result in found]
    hopeless = [not each.relevant for each in judged]
    both = sum(no and without for no, without in zip(refused, hopeless, strict=True))
    return {
        "ndcg@10": _mean([gain / sum(discount[:count]) for gain, count in zip(gains, wanted, strict=True)]),
        "recall@10": _mean([sum(hits) / count for hits, count in zip(shown, wanted, strict=True)]),
        "pictures": _mean([float(hit.modality != "text") for hit in results]),
        "pictures_relevant": _mean([float(hit.modality != "text") for hit in right]),
        "refused_precision": both / sum(refused) if any(hopeless) and any(refused) else None,
        "refused_recall": both / sum(hopeless) if any(hopeless) else None,
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _show(rows: Sequence[Mapping[str, Any]], count: int, confidence: float) -> None:
    from rich.table import Table

    table = Table(title=f"{count} queries; refused below confidence {confidence:g}", title_justify="left")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="left" if name == "ranking" else "right")
    for row in rows:
        cells = (
            value if isinstance(value, str) else "-" if value is None else f"{value:.3f}" for value in row.values()
        )
        table.add_row(*cells)
    stdout().print(table)
