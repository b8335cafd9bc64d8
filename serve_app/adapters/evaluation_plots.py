"""The plots of an evaluation, as PNG, drawn by matplotlib without a screen. Knows no search: it is given figures.

Figures are made as objects, not by pyplot: that keeps every one it made until told otherwise, and asks for a screen.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure as Canvas

from serve_app.core.evaluation import Figure

DPI = 110
# Okabe and Ito's colours: told apart by those who see fewer.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
SHOWN_CLASSES = 40


def recall_plot(curves: Mapping[str, tuple[Sequence[int], Sequence[Figure]]], title: str, path: Path) -> None:
    """Recall against k, a line for each name, with the 95 % interval as a band."""
    canvas = Canvas(figsize=(7.5, 4.8), layout="constrained")
    axis = canvas.subplots()
    deepest = 1
    for at, (name, (cuts, figures)) in enumerate(curves.items()):
        colour = COLOURS[at % len(COLOURS)]
        axis.plot(cuts, [each.value for each in figures], "o-", markersize=3.5, color=colour, label=name)
        axis.fill_between(
            cuts, [each.low for each in figures], [each.high for each in figures], color=colour, alpha=0.16, linewidth=0
        )
        deepest = max(deepest, *cuts)
    axis.set_xscale("log")
    ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200) if k <= deepest]
    axis.set_xticks(ticks, [str(k) for k in ticks])
    axis.minorticks_off()
    # Good systems differ near 1: the axis begins below the worst of them, at 0 if that is bad.
    lowest = min(figure.low for _, figures in curves.values() for figure in figures)
    axis.set_ylim(max(0.0, math.floor(10 * lowest - 0.5) / 10), 1.01)
    axis.set_xlabel("k, results looked at")
    axis.set_ylabel("recall@k")
    axis.set_title(title, fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right", fontsize=9)
    _save(canvas, path)


def sweep_plot(
    lines: Mapping[str, Sequence[tuple[float, float, float, str]]],
    exact: tuple[float, float],
    title: str,
    path: Path,
) -> None:
    """Two panels over the latency: the nearest ten found, and the corpus' recall@10.

    `lines`: by name the points (latency in ms, share of the nearest, recall, the words at the point); `exact`: latency and recall
    of exact search, which finds all.
    """
    canvas = Canvas(figsize=(11, 4.6), layout="constrained")
    panes = canvas.subplots(1, 2, sharex=True)
    for pane, of_point, ideal, name in (
        (panes[0], 1, 1.0, "share of the ten nearest rows found"),
        (panes[1], 2, exact[1], "recall@10 of the corpus"),
    ):
        for at, (label, points) in enumerate(lines.items()):
            colour = COLOURS[at % len(COLOURS)]
            pane.plot(
                [each[0] for each in points], [each[of_point] for each in points], "o-", color=colour, label=label
            )
            for point in (points[0], points[-1]) if at == 0 else ():
                pane.annotate(
                    point[3],
                    (point[0], point[of_point]),
                    (4, -11),
                    textcoords="offset points",
                    fontsize=8,
                    color=colour,
                )
        pane.plot([exact[0]], [ideal], "*", markersize=14, color="#000000", label="exact")
        pane.set_xlabel("latency of one search, p50, ms")
        pane.set_ylabel(name)
        pane.grid(alpha=0.3)
        pane.set_xlim(left=0)
    canvas.legend(*panes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(lines) + 1, fontsize=9)
    canvas.suptitle(title, fontsize=10)
    _save(canvas, path)


def classes_plot(per_class: Mapping[str, float], overall: float, title: str, path: Path) -> None:
    """Top-1 accuracy of each class, the worst at the top; of very many classes the worst ones."""
    worst = sorted(per_class.items(), key=lambda item: (item[1], item[0]))[:SHOWN_CLASSES]
    canvas = Canvas(figsize=(7.5, 1.4 + 0.24 * len(worst)), layout="constrained")
    axis = canvas.subplots()
    names, values = [name for name, _ in worst], [value for _, value in worst]
    axis.barh(names, values, color=COLOURS[0], alpha=0.8)
    axis.axvline(overall, color=COLOURS[1], linestyle="--", linewidth=1.2, label=f"all pictures: {overall:.3f}")
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.set_xlabel("top-1 accuracy")
    axis.set_title(title, fontsize=10)
    axis.grid(alpha=0.3, axis="x")
    axis.legend(loc="lower left", fontsize=9)
    _save(canvas, path)


def _save(canvas: Canvas, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, dpi=DPI)
