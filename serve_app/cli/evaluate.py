"""`crossmodal evaluate`: how well a corpus is searched, in this process or through the service. The job does the work."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from serve_app.cli.common import plain_failures, stderr, stdout


class Direction(StrEnum):
    """Directions, as one types them."""

    TEXT_TO_IMAGE = "text-to-image"
    IMAGE_TO_TEXT = "image-to-text"
    MIXED = "mixed"


class Ranking(StrEnum):
    COSINE = "cosine"
    CALIBRATED = "calibrated"
    HYBRID = "hybrid"


class Kind(StrEnum):
    """Kinds of corpora; docs/evaluate.md shows each."""

    CAPTIONS = "captions"
    KARPATHY = "karpathy"
    SIDECARS = "sidecars"
    JUDGED = "judged"
    QUERIES = "queries"
    CLASSES = "classes"


def evaluate(
    corpus: Annotated[
        Path,
        typer.Argument(
            metavar="CORPUS",
            help="Captions (.csv, .jsonl, Karpathy's .json), a folder of BEIR's or MixBench's, a folder for each class, or "
            "queries about stored documents (.jsonl with `relevant`).",
        ),
    ],
    kind: Annotated[Kind | None, typer.Option("--kind", help="What the corpus is, where that is not plain.")] = None,
    images: Annotated[Path | None, typer.Option("--images", help="The folder that paths of pictures begin in.")] = None,
    split: Annotated[str, typer.Option("--split", help="Of Karpathy's JSON, or of the judgements.")] = "test",
    direction: Annotated[
        list[Direction] | None, typer.Option("--direction", help="Who asks for what; by default all.")
    ] = None,
    ranking: Annotated[
        list[Ranking] | None, typer.Option("--ranking", help="By default what the direction wants.")
    ] = None,
    template: Annotated[
        list[str] | None, typer.Option("--template", help="For classes: a sentence with {} where the label goes.")
    ] = None,
    queries: Annotated[int | None, typer.Option("--queries", min=1, help="Ask so many, drawn from all.")] = None,
    depth: Annotated[int, typer.Option("--depth", min=10, max=199, help="Results that are looked at.")] = 50,
    seed: Annotated[int, typer.Option("--seed", help="Of all lots that are drawn.")] = 0,
    confidence: Annotated[
        float, typer.Option("--confidence", min=0, max=1, help="Below it a query counts as refused.")
    ] = 0.9,
    index: Annotated[bool, typer.Option("--index", help="Measure a vector index over the corpus, too.")] = False,
    profile: Annotated[str | None, typer.Option("--profile", help="In process: whose encoders.")] = None,
    url: Annotated[
        str | None, typer.Option("--url", help="Evaluate the service there, not a process of its own.")
    ] = None,
    stored: Annotated[
        bool, typer.Option("--stored", help="The service has the documents, under the corpus' ids.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave in the service what was added to it.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="A folder for report.json, report.md and plots.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Recall@1, 5 and 10, median rank, MRR and NDCG@10 with 95 % intervals, or zero-shot accuracy for a folder of classes.

    Without --url it runs in this process, with the profile's encoders and a table of its own that is thrown away. With it,
    the corpus is added to the service under ids of its own, asked, and deleted again.
    """
    # The one job that a command runs itself: it needs no cluster, and through a service no model either.
    from deployments.jobs.evaluate import TEMPLATES, Options, run
    from serve_app.services.evaluation_report import as_json, as_markdown

    options = Options(
        corpus=corpus,
        kind=kind,
        images=images,
        split=split,
        directions=tuple(direction or ()),
        rankings=tuple(ranking or ()),
        templates=tuple(template or TEMPLATES),
        most_queries=queries,
        depth=depth,
        seed=seed,
        confidence=confidence,
        index=index,
        profile=profile,
        url=url,
        stored=stored,
        keep=keep,
        out=out,
    )
    with plain_failures(), _progress() as tell:
        found = run(options, tell)
    if json:
        stdout().print_json(data=as_json(found))
        return
    from rich.markdown import Markdown

    stdout().print(Markdown(as_markdown(found)))
    if out is not None:
        stdout().print(f"report.md, report.json and plots are in {out}", markup=False, soft_wrap=True)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Takes what is going on, how much of it is done, and how much there is."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=stderr(), transient=True) as progress:
        tasks = {}

        def tell(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what)
            progress.update(tasks[what], completed=done, total=of)

        yield tell
