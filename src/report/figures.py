"""The pictures of the run report. Each is one small SVG; captions and legends are the page's text."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from ..evaluation.operating import wilson
from ..evaluation.reliability import reliability_curve
from .data_overview import draw_histogram
from .score_table import ScoreRow
from .svg import COLOURS, inline_svg

MARKERS = {"stage1": "o", "stage2": "s", "external": "^", "mean": "D", "blend": "D"}
DASHES = {"stage1": (0, (1, 1.4)), "stage2": (0, (5, 1.6)), "blend": "solid"}
ROC_POINTS = 150  # drawn along each axis; the areas beside the curve use all points


def score_figure(rows: Sequence[ScoreRow], part: str, prefix: str) -> Markup:
    """Score and interval of every row against the baseline, one line a row; part is `oof` or `test`.

    The axes are those of both parts together, so that two pictures side by side compare.
    """
    baseline, others = rows[0].part(part)[0], rows[1:]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        low, high = axes.set_xlim(*_score_range(rows))
        axes.axvline(baseline, color=COLOURS["muted"], linewidth=1.2, linestyle=(0, (4, 2)))
        right = baseline > (low + high) / 2
        axes.annotate(
            f"prevalence baseline {baseline:.4f}", (baseline, -0.62), (-4 if right else 4, 0),
            textcoords="offset points", ha="right" if right else "left", va="center", color=COLOURS["muted"],
        )  # fmt: skip
        for line, row in enumerate(others):
            score, interval, _ = row.part(part)
            if score is None:
                continue
            colour = COLOURS[row.kind]
            if interval is not None:
                axes.plot(interval, [line, line], color=colour, linewidth=2)
            axes.plot(score, line, MARKERS[row.kind], color=colour, markersize=5.5)
            name = row.name.removeprefix(prefix)
            above = {"transform": axes.get_yaxis_transform(), "va": "center"}
            axes.text(0.005, line - 0.38, f"{score:.4f}  {name}", **above)
        axes.set(ylim=(len(others) - 0.4, -1), yticks=[], xlabel="weighted log loss, lower is better")
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="x")
        axes.set_axisbelow(True)

    title = f"Weighted log loss of each model on the {'held-out' if part == 'oof' else 'hidden test'} slices"
    return inline_svg(f"scores-{part}", (360, 60 + 30 * len(others)), title, draw)


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


def roc_figure(label: str, y: np.ndarray, models: Mapping[str, np.ndarray]) -> Markup | None:
    """ROC curves of one label; models: kind -> (n,) probabilities. None where a class is missing."""
    if y.all() or not y.any():
        return None

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=COLOURS["grid"], linewidth=1)
        for kind, p in models.items():
            false_rate, true_rate, _ = roc_curve(y, p)
            kept = _thinned(false_rate, true_rate)
            colour = COLOURS[kind]
            axes.plot(false_rate[kept], true_rate[kept], color=colour, linewidth=1.6, linestyle=DASHES[kind])
        _unit_square(axes, "1 - specificity", "sensitivity")

    return inline_svg(f"roc-{label}", (240, 240), f"ROC curves of {label}", draw)


def reliability_figure(label: str, y: np.ndarray, p: np.ndarray) -> Markup:
    """Observed share against mean probability by bin, with Wilson intervals, over the count of slices."""
    curve = reliability_curve(y, p)

    def draw(figure: Figure) -> None:
        axes, counts = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
        axes.plot([0, 1], [0, 1], color=COLOURS["muted"], linewidth=1, linestyle=(0, (4, 2)))
        for point in curve.itertuples():
            rate = wilson(round(point.observed * point.images), point.images)
            axes.plot(
                [point.mean_probability] * 2, [rate.low, rate.high], color=COLOURS["blend"], linewidth=1.2
            )
        axes.plot(curve["mean_probability"], curve["observed"], "o", color=COLOURS["blend"], markersize=4)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="observed share")
        axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
        axes.grid()
        widths = 0.9 * (curve["upper"] - curve["lower"])
        middle = (curve["upper"] + curve["lower"]) / 2
        counts.bar(middle, curve["images"], widths, color=COLOURS["muted"], linewidth=0)
        counts.set_yscale("log")
        counts.set(xlabel="probability given by the blend", ylabel="slices", ylim=(0.7, None))
        counts.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
        top = 10 ** int(np.log10(curve["images"].max()))
        counts.set_yticks([1, top], ["1", f"{top:,}"])
        counts.minorticks_off()

    return inline_svg(f"reliability-{label}", (240, 270), f"Reliability of the blend for {label}", draw)


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


def _thinned(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Indices of at most 2 * ROC_POINTS points of a rising curve, on a grid in x and a grid in y."""
    if len(x) <= 2 * ROC_POINTS:
        return np.arange(len(x))
    grid = np.linspace(0, 1, ROC_POINTS)
    kept = [np.searchsorted(values, grid).clip(max=len(x) - 1) for values in (x, y)]
    return np.unique(np.concatenate([*kept, [0, len(x) - 1]]))


def _unit_square(axes: Axes, x: str, y: str) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x, ylabel=y, aspect="equal")
    axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
    axes.grid()
