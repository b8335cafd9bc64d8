"""What a million, ten million, a hundred million and a billion documents need, reckoned from what was measured here.

    .venv/bin/python -m benchmarks.plan                                        # what docs/scale.md shows
    .venv/bin/python -m benchmarks.plan --documents 3e8 --dimension 768 --qps 200 --pictures-per-s 400 --workers 8

`--pictures-per-s` is what one worker does with your model, a core or a GPU: of GPUs there is no figure of ours.
Prints Markdown. The rules are in plan_model.py, the figures and where they stand in plan_figures.py.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence

from benchmarks.plan_figures import FIGURES
from benchmarks.plan_model import (
    ASSUMPTIONS,
    Loading,
    Month,
    OneTable,
    Shards,
    Storage,
    Wanted,
    loading,
    month,
    one_table,
    shards,
    storage,
)

DOCUMENTS = (1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
WIDTH = 128
Cells = dict[str, str]


def markdown(wanted: Sequence[Wanted]) -> str:
    """A column for each size, then what was assumed, and where each figure comes from."""
    columns = [_column(each) for each in wanted]
    asked = wanted[0]
    lines = [
        f"{asked.dimension} numbers a vector, {_number(asked.qps)} searches a second, {_share(asked.kept)} of the pictures kept, "
        f"{asked.workers} workers that",
        f"encode {_number(asked.pictures_per_s)} pictures a second each, {_share(asked.churn)} of the documents changed a month.",
        "",
        "| | " + " | ".join(f"{each.documents:,}" for each in wanted) + " |",
        "|---" * (len(wanted) + 1) + "|",
    ]
    for name in columns[0]:
        cells = [column[name] for column in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "What is assumed:", ""]
    lines += [line for each in ASSUMPTIONS for line in _folded(f"- {each}")]
    lines += ["", "What was measured, and where it stands:", "", "| figure | what | page |", "|---|---|---|"]
    lines += [f"| {_plain(each.value)} | {each.what} | `{each.page}` |" for each in FIGURES]
    return "\n".join(lines) + "\n"


def _column(wanted: Wanted) -> Cells:
    return {
        **_storage(storage(wanted)),
        **_one_table(one_table(wanted)),
        **_loading(loading(wanted)),
        **_month(month(wanted)),
        **_shards(shards(wanted)),
    }


def _storage(found: Storage) -> Cells:
    return {
        "**Storage**: vectors": _bytes(found.vectors),
        "texts, addresses, hashes": _bytes(found.columns),
        "indexes of ids and words": _bytes(found.scalar_indexes),
        "vector index": _bytes(found.vector_index),
        "room for all that": _bytes(found.room),
        "kept pictures": _bytes(found.pictures) if found.pictures else "–",
    }


def _one_table(found: OneTable) -> Cells:
    return {
        "**One table**: lists": f"{found.lists:,}",
        "building the index, two cores": _seconds(found.build_s),
        "at worst": _seconds(found.build_s_at_worst),
        "p50 of a search": f"{found.search_ms:,.0f} ms",
        "a Retriever with all of it in memory": _bytes(found.resident),
        "cores of Retrievers": _cores(found.retriever_cores),
        "cores of the rest of the graph": _cores(found.other_cores),
        "one commit": _seconds(found.commit_s),
    }


def _loading(found: Loading) -> Cells:
    return {
        "**Loading**: worker-hours": _hours(found.worker_hours),
        "encoding": _seconds(found.encoding_s),
        "merging, 1,024 rows a commit": _seconds(found.small_commits_s),
        "rows of a commit that keep up": f"{found.commit_rows:,}",
        "commits": f"{found.commits:,}",
        "a job's memory of what is done": _bytes(found.ledger_bytes),
    }


def _month(found: Month) -> Cells:
    return {
        "**A month**: documents changed": _number(found.documents),
        "worker-hours a month": _hours(found.worker_hours),
        "Indexer's time for it": _feasible(found.committing),
        "the same by jobs": _feasible(found.committing_in_bulk),
    }


def _shards(found: Shards) -> Cells:
    return {
        "**Shards, not built**: tables": f"{found.count:,}",
        "p50 of one shard's search": f"{found.search_ms:,.0f} ms",
        "cores of all their Retrievers": _cores(found.retriever_cores),
        "memory of one of them": _bytes(found.resident),
        "one commit of a shard": _seconds(found.commit_s),
    }


def _scaled(value: float, units: Sequence[tuple[float, str]]) -> str:
    """Two digits, or all before the point, in the largest unit that leaves one of them there."""
    size, unit = next((each for each in units if value >= each[0]), units[-1])
    amount = value / size
    return f"{amount:,.0f} {unit}" if amount >= 10 else f"{amount:.2g} {unit}"


def _bytes(value: float) -> str:
    return _scaled(value, ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB")))


def _seconds(value: float) -> str:
    return _scaled(
        value, ((2 * 365 * 86400, "years"), (2 * 86400, "days"), (7200, "h"), (120, "min"), (1, "s"), (0.001, "ms"))
    )


def _hours(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _cores(value: float) -> str:
    return f"{value:,.0f}" if value >= 9.5 else f"{value:.1f}"


def _share(value: float) -> str:
    return f"{value:.0%}".replace("%", " %")


def _feasible(share: float) -> str:
    """Of all its time, which it does not have more than once."""
    return "not possible" if share > 1 else "under 1 %" if share < 0.01 else _share(share)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def _folded(text: str) -> Iterator[str]:
    """Lines no longer than a page has them, of an entry of a list."""
    line = ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > WIDTH:
            yield line
            line = f"  {word}"
        else:
            line = f"{line} {word}" if line else word
    yield line


def _documents(text: str) -> int:
    return int(float(text))


def wanted_by(arguments: Sequence[str] | None = None) -> list[Wanted]:
    """What the command line asks for, a plan for each number of documents."""
    given = Wanted(1)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan", description=__doc__.partition("\n")[0])
    add: Callable[..., object] = parser.add_argument
    add("--documents", type=_documents, nargs="+", default=DOCUMENTS, help="1e6 and the like")
    add("--dimension", type=int, default=given.dimension, help="numbers of a vector")
    add("--pictures", type=float, default=given.kept, help="share of documents whose picture is kept, 0 to 1")
    add("--picture-bytes", type=float, default=given.picture_bytes, help="of a kept one")
    add("--qps", type=float, default=given.qps, help="searches a second")
    add("--pictures-per-s", type=float, default=given.pictures_per_s, help="of one worker, with your model")
    add("--workers", type=int, default=given.workers, help="cores or GPUs that encode")
    add("--churn", type=float, default=given.churn, help="share of the documents that changes in a month")
    add("--shard-rows", type=_documents, default=given.shard_rows, help="documents of one table, if there were several")
    options = parser.parse_args(arguments)
    try:
        return [
            Wanted(
                documents=documents,
                dimension=options.dimension,
                kept=options.pictures,
                picture_bytes=options.picture_bytes,
                qps=options.qps,
                workers=options.workers,
                pictures_per_s=options.pictures_per_s,
                churn=options.churn,
                shard_rows=options.shard_rows,
            )
            for documents in options.documents
        ]
    except ValueError as error:
        parser.error(str(error))


def main() -> None:
    """Command line."""
    print(markdown(wanted_by()), end="")


if __name__ == "__main__":
    main()
