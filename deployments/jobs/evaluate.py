"""The job `evaluate`: how well a corpus is searched, or classified, in this process or through a service.

ray job submit --working-dir . -- python -m deployments.jobs.evaluate coco/ --out report
crossmodal evaluate coco/ --out report                          # here
crossmodal evaluate coco/ --url http://127.0.0.1:8000           # through the service

Composes and writes; what is measured is serve_app.services.evaluation, the figures are serve_app.core.evaluation. The models and
the table are imported only where this process needs them: through a service it needs neither.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import typer

from configs.load import default_profile, load_config, service_url
from deployments.jobs.evaluation_files import write_files
from serve_app.adapters.corpora import CorpusKind, kind_of, picture_bytes, read_corpus
from serve_app.adapters.evaluated_service import EvaluatedService, prefix_of
from serve_app.client import Client
from serve_app.core.judgements import FINDABLE, Direction, JudgedCorpus, LabelledPictures, limited, queries_of
from serve_app.errors import CrossmodalError, InvalidRequest
from serve_app.services.evaluation import Asked, Evaluator, Settings, Tell, classify
from serve_app.services.evaluation_report import Evaluation
from serve_app.services.index_sweep import Sweep, sweep
from serve_app.types import Modality, Ranking

if TYPE_CHECKING:
    from deployments.jobs.evaluated_locally import LocalSystem

TEMPLATES = ("a photo of a {}.",)
SWEPT_QUERIES = 256
ALL_RANKINGS = (Ranking.COSINE, Ranking.CALIBRATED, Ranking.HYBRID)

Corpus = JudgedCorpus | LabelledPictures


@dataclass(frozen=True, slots=True)
class Options:
    """What a user asks for, as it is typed. Empty `directions` and `rankings`: those that the corpus is made for.

    `url`: evaluate the service there; None: in this process, with the encoders of `profile`. `stored`: the service has the
    documents already, under the corpus' own ids. `keep`: leave what was added. `index`: build a vector index and sweep it.
    `confidence`: below it a query counts as refused. `out`: a folder for files.
    """

    corpus: Path
    kind: str | None = None
    images: Path | None = None
    split: str = "test"
    directions: Sequence[str] = ()
    rankings: Sequence[str] = ()
    templates: Sequence[str] = TEMPLATES
    most_queries: int | None = None
    depth: int = 50
    seed: int = 0
    confidence: float = 0.9
    url: str | None = None
    stored: bool = False
    keep: bool = False
    profile: str | None = None
    index: bool = False
    out: Path | None = None

    @property
    def settings(self) -> Settings:
        return Settings(depth=self.depth, seed=self.seed, confidence=self.confidence)


def run(options: Options, tell: Tell) -> Evaluation:
    """Do all of it, and write what `out` wants. Raises errors of serve_app.errors."""
    kind = CorpusKind(options.kind) if options.kind else kind_of(options.corpus)
    if options.index and (options.url or kind in (CorpusKind.QUERIES, CorpusKind.CLASSES)):
        raise InvalidRequest("--index builds an index of its own: it wants a corpus with documents, and no --url")
    if options.stored and not options.url:
        raise InvalidRequest("--stored speaks of a service: name it with --url")
    corpus = read_corpus(options.corpus, kind, images=options.images, split=options.split)
    if isinstance(corpus, JudgedCorpus) and options.most_queries is not None:
        corpus = limited(corpus, options.most_queries, options.seed)
    # Of queries about stored documents the documents are in the service, and nowhere else.
    remote = options.url or (service_url() if kind is CorpusKind.QUERIES else None)
    if remote is None:
        return asyncio.run(_in_process(options, corpus, tell))
    with Client(remote) as client:
        return asyncio.run(_through_service(options, corpus, client, tell))


async def _in_process(options: Options, corpus: Corpus, tell: Tell) -> Evaluation:
    # Here and not above: through a service neither torch nor LanceDB is needed, and they take seconds to import.
    from deployments.jobs.evaluated_locally import LocalSystem

    profile = options.profile or default_profile() or "demo"
    with TemporaryDirectory(prefix="crossmodal-evaluate-") as folder:
        system = LocalSystem(load_config(profile), Path(folder))
        card = system.encoder.card
        facts = _facts(options, f"in process, profile {profile}", card.model, card.fingerprint)
        if isinstance(corpus, LabelledPictures):
            found = await classify(system, corpus, options.templates, options.settings, tell)
            return _written(options, corpus, Evaluation(corpus.name, facts, classified=found), None)
        evaluator = Evaluator(system, corpus, options.settings, tell)
        remarks = [*corpus.remarks, *await evaluator.add_documents()]
        asked = await _ask_all(options, corpus, evaluator)
        swept = await _sweep(corpus, system, options.seed, tell) if options.index else None
        evaluation = Evaluation(corpus.name, facts, asked, sweep=swept, remarks=remarks, broken=corpus.broken)
        return _written(options, corpus, evaluation, None)


async def _through_service(options: Options, corpus: Corpus, client: Client, tell: Tell) -> Evaluation:
    described = (await asyncio.to_thread(client.models)).get("data", [{}])[0]
    facts = _facts(options, f"the service at {client.url}", str(described.get("id")), str(described.get("fingerprint")))
    if isinstance(corpus, LabelledPictures):
        found = await classify(EvaluatedService(client), corpus, options.templates, options.settings, tell)
        return _written(options, corpus, Evaluation(corpus.name, facts, classified=found), None)
    there = options.stored or not corpus.documents
    system = EvaluatedService(client, "" if there else prefix_of(corpus))
    evaluator = Evaluator(system, corpus, options.settings, tell)
    remarks = [*corpus.remarks]
    try:
        if not there:
            remarks += await evaluator.add_documents()
        if options.keep and not there:
            remarks.append(f"the documents stay in the service, under ids that begin with {prefix_of(corpus)}")
        asked = await _ask_all(options, corpus, evaluator)
        evaluation = Evaluation(corpus.name, facts, asked, remarks=remarks, broken=corpus.broken)
        return _written(options, corpus, evaluation, client)
    finally:
        if not (there or options.keep):
            await system.clear()


async def _ask_all(options: Options, corpus: JudgedCorpus, evaluator: Evaluator) -> list[Asked]:
    directions = [Direction(each) for each in options.directions] or _directions(corpus)
    rankings = [Ranking(each) for each in options.rankings]
    return [
        await evaluator.ask(direction, ranking)
        for direction in directions
        for ranking in rankings or _rankings(corpus, direction)
    ]


def _directions(corpus: JudgedCorpus) -> list[Direction]:
    """All in which something is asked."""
    return [direction for direction in Direction if queries_of(corpus, direction)]


def _rankings(corpus: JudgedCorpus, direction: Direction) -> tuple[Ranking, ...]:
    """All of them where kinds meet in one order; else the service's own choice, which is the cosine."""
    findable = {each.modality for each in corpus.documents} & set(FINDABLE[direction])
    return (Ranking.COSINE,) if len(findable) == 1 else ALL_RANKINGS


async def _sweep(corpus: JudgedCorpus, system: "LocalSystem", seed: int, tell: Tell) -> Sweep:
    """Over the queries of one kind that there are most of."""
    one_kind = (Direction.TEXT_TO_IMAGE, Direction.IMAGE_TO_TEXT)
    direction = max(one_kind, key=lambda each: len(queries_of(corpus, each)))
    queries = limited(replace(corpus, queries=queries_of(corpus, direction)), SWEPT_QUERIES, seed).queries
    if not queries:
        raise InvalidRequest(
            "--index asks in words for pictures, or by pictures for texts: the corpus has no such queries"
        )
    tell("measuring the index", 0, 1)
    wanted = Modality.IMAGE if direction is Direction.TEXT_TO_IMAGE else Modality.TEXT
    vectors = np.stack(await system.vectors_of(queries))
    swept = await sweep(system.table, vectors, wanted, [each.relevant for each in queries])
    tell("measuring the index", 1, 1)
    return swept


def _facts(options: Options, where: str, model: str, fingerprint: str) -> dict[str, str | int]:
    settings = options.settings
    return {
        "where": where,
        "model": model,
        "fingerprint": fingerprint[:12],
        "depth": settings.depth,
        "bootstrap": f"{settings.draws} draws, seed {settings.seed}",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _written(options: Options, corpus: Corpus, evaluation: Evaluation, thumbnails: Client | None) -> Evaluation:
    """The evaluation, after its files are there. Pictures come from the corpus, and what that lacks from the service."""
    if options.out is None:
        return evaluation
    documents = {} if isinstance(corpus, LabelledPictures) else {each.id: each for each in corpus.documents}

    def picture_of(document_id: str) -> bytes | None:
        document = documents.get(document_id)
        if document is not None:
            return None if document.picture is None else picture_bytes(document.picture)
        return _thumbnail(thumbnails, document_id)

    def text_of(document_id: str) -> str | None:
        document = documents.get(document_id)
        return None if document is None else document.text

    write_files(options.out, evaluation, picture_of, text_of)
    return evaluation


def _thumbnail(client: Client | None, document_id: str) -> bytes | None:
    if client is None:
        return None
    try:
        return client.thumbnail(document_id)
    except CrossmodalError:
        return None  # A text, or gone: the sheet shows its words, or its id.


def main() -> None:
    """Command line: that of `crossmodal evaluate`."""
    from serve_app.cli.evaluate import evaluate

    typer.run(evaluate)


if __name__ == "__main__":
    main()
