"""`make demo`: the whole system on this machine, from an empty folder to a searchable table, told step by step.

Everything goes through the public door: the graph by `serve run`, documents and searches by the client over HTTP.
"""

import argparse
import hashlib
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from serve_app.cli.common import failure
from serve_app.cli.search import results_table
from serve_app.cli.serve import until_ready
from serve_app.client import Client, NewDocument
from serve_app.demo.corpus import PICTURES, DemoPicture, DemoText, demo_pictures, demo_texts
from serve_app.errors import CrossmodalError, NotReady
from serve_app.local_graph import LocalGraph, Process, default_serve_file, read_serve_file, serve_command
from serve_app.ways_in import best_way_in, way_in

MODEL = Path(__file__).parent / "model"
WAIT_S = 600.0
RESULTS_SHOWN = 3
QUESTIONS = (
    "two red boats at night",
    "a yellow star above a green tree",
    "three pink flowers in the meadow",
    "a blue car in the snow",
    "a rocket in the desert at sunset",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m serve_app.demo.run", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the searches, and leave no process behind")
    parser.add_argument("--port", type=int, default=None, help="serve on another port than 8000")
    parser.add_argument("--folder", type=Path, default=Path("var/demo"), help="where table, pictures and log lie")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    try:
        file = read_serve_file(default_serve_file(), profile="demo", port=options.port)
        with (
            way_in(best_way_in(own_ray=True)) as reached,
            LocalGraph(
                file, options.folder, {**reached, **settings(options.folder)}, serve_command(own_ray=True)
            ) as graph,
        ):
            return Demo(console, graph, options.folder).run(options.once)
    except CrossmodalError as error:
        console.print(failure(error))
        return 1
    except KeyboardInterrupt:
        console.print("The demo has ended; its table stays in", str(options.folder))
        return 0


def settings(folder: Path) -> dict[str, str]:
    """Environment of the graph: table and pictures of the demo lie in the demo's folder, and Ray sends no statistics.

    A table belongs to one encoder, so each version of the demo model has a table of its own.
    """
    home = folder.resolve()
    model = hashlib.sha256()
    for path in sorted(MODEL.glob("open_clip_*")):
        model.update(path.read_bytes())
    return {
        "CROSSMODAL_TABLE__URI": str(home / f"table-{model.hexdigest()[:8]}"),
        "CROSSMODAL_STORAGE__URI": str(home / "pictures"),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


class Demo:
    """One run of the demo against a graph that is starting."""

    def __init__(self, console: Console, graph: LocalGraph, folder: Path) -> None:
        self._console = console
        self._graph = graph
        self._drawn = folder / "drawn"
        self._seconds: dict[str, float] = {}
        # The table holds no words for a picture; the terminal shows what was drawn, so that a reader can judge.
        self._captions = {picture.id: picture.caption for picture in demo_pictures()}

    def run(self, once: bool) -> int:
        """Start, draw, index, search, tell; then serve until Ctrl-C, unless `once`."""
        self._wait()
        texts = list(demo_texts())
        pictures = self._draw()
        with Client(self._graph.url) as client:
            failed = self._index(client, texts, pictures)
            self._search(client, texts)
        self._tell()
        if failed or once:
            return 1 if failed else 0
        self._console.print(f"\n[bold]The search page: {self._graph.url}/[/bold]   (Ctrl-C ends the demo)")
        self._graph.wait()
        self._console.print(self._graph.log_tail(), markup=False, soft_wrap=True)
        raise NotReady(f"`serve run` ended by itself; its log is {self._graph.log_path}")

    def _wait(self) -> None:
        started = time.monotonic()
        until_ready(self._console, self._graph, WAIT_S)
        self._seconds["start until /readyz"] = time.monotonic() - started
        self._console.print(f"The graph is ready at {self._graph.url}.")

    def _draw(self) -> dict[DemoPicture, Path]:
        """The corpus as files, drawn where they are missing: the same seed always gives the same pixels."""
        started = time.monotonic()
        self._drawn.mkdir(parents=True, exist_ok=True)
        files = {picture: self._drawn / picture.file_name for picture in demo_pictures()}
        with _progress(self._console) as progress:
            for picture, path in progress.track(files.items(), description="drawing the picture-book"):
                if not path.exists():
                    # Under another name first: a run that was broken off leaves no half file.
                    partial = path.with_suffix(".partial")
                    partial.write_bytes(picture.encoded())
                    partial.replace(path)
        self._seconds["drawing"] = time.monotonic() - started
        return files

    def _index(self, client: Client, texts: Sequence[DemoText], pictures: dict[DemoPicture, Path]) -> int:
        started = time.monotonic()
        counts: dict[str, int] = defaultdict(int)
        total = len(texts) + len(pictures)
        with _progress(self._console) as progress:
            task = progress.add_task("indexing", total=total)
            for done, added in enumerate(client.add(_documents(texts, pictures)), 1):
                counts[added.status or "failed"] += 1
                if added.error is not None:
                    progress.console.print(f"{escape(added.document.label)}: {failure(added.error)}")
                rate = done / (time.monotonic() - started)
                progress.update(task, advance=1, description=f"indexing, {rate:.0f} documents/s")
        self._seconds["indexing"] = time.monotonic() - started
        told = ", ".join(f"{count:,} {status}" for status, count in sorted(counts.items()))
        rate = total / self._seconds["indexing"]
        self._console.print(f"{told}: {total:,} documents in {self._seconds['indexing']:.1f} s, {rate:.0f}/s")
        return counts["failed"]

    def _search(self, client: Client, texts: Sequence[DemoText]) -> None:
        started = time.monotonic()
        told = [text.text for text in texts[: len(QUESTIONS)]]
        # Pictures that the table does not hold: its own would find only themselves.
        asked = list(demo_pictures(count=PICTURES + len(QUESTIONS)))[PICTURES:]
        self._heading("text → picture")
        for text in QUESTIONS:
            self._show(client, text, modalities=("image",))
        self._heading("picture → picture")
        for picture in asked:
            self._show(client, None, picture, modalities=("image",))
        self._heading("picture → text")
        for picture in asked:
            self._show(client, None, picture, modalities=("text",))
        self._heading("text → text")
        for text in told:
            self._show(client, text, modalities=("text",))
        self._heading("mixed: words → pictures and texts in one calibrated order")
        for text in QUESTIONS:
            self._show(client, text)
        self._seconds[f"{5 * len(QUESTIONS)} searches"] = time.monotonic() - started

    def _heading(self, kind: str) -> None:
        self._console.rule(f"[bold]{kind}[/bold]", align="left")

    def _show(
        self, client: Client, text: str | None, picture: DemoPicture | None = None, modalities: Sequence[str] = ()
    ) -> None:
        image = picture.encoded() if picture else None
        answer = client.search(text, image=image, modalities=modalities, limit=RESULTS_SHOWN)
        asked = f"a picture of: {picture.caption}" if picture else f"“{text}”"
        self._console.print(results_table(answer, escape(asked), self._captions))

    def _tell(self) -> None:
        self._console.rule("[bold]seconds and memory[/bold]", align="left")
        for name, seconds in self._seconds.items():
            self._console.print(f"{seconds:8.1f} s  {name}")
        processes = sorted(self._graph.processes(), key=lambda process: -process.resident_bytes)
        for process in processes:
            self._console.print(f"{process.resident_bytes / 2**20:8.0f} MiB  {escape(_named(process))}")
        total = sum(process.resident_bytes for process in processes)
        self._console.print(f"{total / 2**20:8.0f} MiB  all {len(processes)} (shared pages counted in each)")


def _documents(texts: Sequence[DemoText], pictures: Mapping[DemoPicture, Path]) -> Iterator[NewDocument]:
    for text in texts:
        yield NewDocument(id=text.id, text=text.text)
    for picture, path in pictures.items():
        yield NewDocument(id=picture.id, image=path)


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def _named(process: Process) -> str:
    """Ray's actors by the name that Ray gives them; of other command lines the program, or what the interpreter runs."""
    words = process.name.split()
    if words[0].startswith("ray"):
        return words[0]
    program = Path(words[0]).name
    if not program.startswith("python"):
        return program
    # `python -m ray.serve.scripts run`, `python -u .../log_monitor.py`, `python -c from multiprocessing.forkserver ...`
    told = (word for word in words[1:] if word.endswith(".py") or word.startswith(("ray.", "multiprocessing.")))
    return Path(next(told, program)).name.rstrip(";")


if __name__ == "__main__":
    raise SystemExit(main())
