"""The pictures of the run report. Each is one small SVG; captions and legends are the page's text."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .data_overview import draw_histogram
from .run.fold_section import FoldRow
from .score_table import ScoreRow
from .svg import COLOURS, inline_svg

MARKERS = {"stage1": "o", "stage2": "s", "external": "^", "mean": "D", "blend": "D"}
LOSS = "weighted log loss"
KIND_COLOURS = {"baseline": "muted"}


def score_figure(rows: Sequence[ScoreRow], part: str, prefix: str, joined: bool = False) -> Markup:
    """Score and interval of every row against the baseline, the first row, a line each; empty without one.

    part: `oof` or `test`; the axes are those of both parts together, so that two pictures side by side
    compare.  joined: the rows are rungs, each a step on from the one above.
    """
    baseline = rows[0].part(part)[0]
    others = {line: row for line, row in enumerate(rows[1:]) if row.part(part)[0] is not None}

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        low, high = axes.set_xlim(*_score_range(rows))
        axes.axvline(baseline, color=COLOURS["muted"], linewidth=1.2, linestyle=(0, (4, 2)))
        right = baseline > (low + high) / 2
        axes.annotate(
            f"prevalence baseline {baseline:.4f}", (baseline, -1.05), (-4 if right else 4, 0),
            textcoords="offset points", ha="right" if right else "left", va="center", color=COLOURS["muted"],
        )  # fmt: skip
        if joined:
            scores = [row.part(part)[0] for row in others.values()]
            axes.plot(scores, list(others), color=COLOURS["grid"], linewidth=1.5)
        names = [""] * len(rows[1:])
        for line, row in others.items():
            score, interval, _ = row.part(part)
            colour = COLOURS[row.kind]
            if interval is not None:
                axes.plot(interval, [line, line], color=colour, linewidth=2)
            axes.plot(score, line, MARKERS[row.kind], color=colour, markersize=5.5)
            names[line] = f"{score:.4f}  {row.name.removeprefix(prefix)}"
        _name_lines(axes, names, LOSS)

    what = "rung from prevalence to the blend" if joined else "model"
    title = f"Weighted log loss of each {what} on the {'held-out' if part == 'oof' else 'hidden test'} slices"
    name = f"{'ladder' if joined else 'scores'}-{part}"
    return inline_svg(name, (360, 60 + 30 * len(rows)), title, draw)


def fold_figure(rows: Sequence[FoldRow], prefix: str, loss: str = LOSS) -> Markup:
    """Held-out losses by fold: a line each row, a dot each fold, a stroke at their mean."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for line, row in enumerate(rows):
            losses, colour = list(row.folds.values()), COLOURS[KIND_COLOURS.get(row.kind, row.kind)]
            axes.plot([min(losses), max(losses)], [line, line], color=colour, linewidth=1.2)
            axes.plot(losses, [line] * len(losses), "o", color=colour, markersize=4.5)
            axes.plot([row.mean] * 2, [line - 0.17, line + 0.17], color=COLOURS["ink"], linewidth=1.6)
        _name_lines(axes, [f"{row.mean:.4f}  {row.name.removeprefix(prefix)}" for row in rows], loss)

    return inline_svg("folds", (460, 60 + 30 * len(rows)), "Held-out log loss of each model by fold", draw)


def _name_lines(axes: Axes, names: Sequence[str], loss: str) -> None:
    """A name above every line 0, 1, ... from above; losses along x."""
    for line, name in enumerate(names):
        axes.text(0.005, line - 0.38, name, transform=axes.get_yaxis_transform(), va="center")
    axes.set(ylim=(len(names) - 0.4, -1.4), yticks=[], xlabel=f"{loss}, lower is better")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="x")
    axes.set_axisbelow(True)


def learning_figure(run: str, kind: str, histories: Mapping[int, Sequence[Mapping[str, Any]]]) -> Markup:
    """Training and held-out loss by epoch; histories: fold -> entries epoch, train_loss, valid_loss."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for history in histories.values():
            epochs = [entry["epoch"] for entry in history]
            marker = "o" if len(epochs) == 1 else None
            for key, colour, width in (("train_loss", "muted", 1.0), ("valid_loss", kind, 1.6)):
                values = [entry[key] for entry in history]
                style = (0, (2, 1.5)) if key == "train_loss" else "solid"
                axes.plot(
                    epochs, values, color=COLOURS[colour], linewidth=width,
                    linestyle=style, marker=marker, markersize=4,
                )  # fmt: skip
        axes.set(xlabel="epoch", ylabel="loss")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="y")

    return inline_svg(f"learning-{run}", (260, 180), f"Learning curves of {run}", draw)


def hu_figure(total: np.ndarray, gray: bool) -> Markup:
    """Pixels by value; `total` as `src.report.data_overview.hu_histogram` counts them."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        draw_histogram(axes, total, gray, COLOURS["stage1"])
        axes.yaxis.set_major_formatter(lambda pixels, _: f"{pixels:,.0f}")
        axes.minorticks_off()
        axes.grid(axis="y")
        axes.set_axisbelow(True)

    return inline_svg("histogram", (540, 200), "Histogram of the pixels of the prepared slices", draw)


def _score_range(rows: Sequence[ScoreRow]) -> tuple[float, float]:
    """The x axis of the score figures: all scores and intervals with a margin of a twentieth."""
    values = []
    for row in rows:
        for part in ("oof", "test"):
            score, interval, _ = row.part(part)
            values += [] if score is None else [score, *(interval or ())]
    margin = (max(values) - min(values)) / 20 or 0.01
    return min(values) - margin, max(values) + margin
