"""Curves of the run report, label by label: ROC, precision and recall, reliability, triage."""

from collections.abc import Mapping

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from ..evaluation.operating import wilson
from ..evaluation.reliability import reliability_curve
from ..evaluation.triage import Triage
from .svg import COLOURS, inline_svg

DASHES = {"stage1": (0, (1, 1.4)), "stage2": (0, (5, 1.6)), "blend": "solid"}
POINTS = 150  # drawn along each axis; the areas beside the curve use all points
FEW_DASHES = (0, (4, 2))


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


def pr_figure(label: str, y: np.ndarray, models: Mapping[str, np.ndarray]) -> Markup | None:
    """Precision against recall of one label, over the share of positives; as `roc_figure`."""
    if y.all() or not y.any():
        return None

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.axhline(y.mean(), color=COLOURS["muted"], linewidth=1, linestyle=FEW_DASHES)
        for kind, p in models.items():
            recall, precision = precision_steps(y, p)
            kept = _thinned(recall, np.arange(len(recall)) / len(recall))
            axes.step(
                recall[kept], precision[kept], where="pre", color=COLOURS[kind], linewidth=1.6,
                linestyle=DASHES[kind],
            )  # fmt: skip
        _unit_square(axes, "recall", "precision")

    return inline_svg(f"pr-{label}", (240, 240), f"Precision and recall of {label}", draw)


def precision_steps(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall, rising from 0, and the precision that holds from the recall before up to each."""
    precision, recall, _ = precision_recall_curve(y, p)
    first = int(np.searchsorted(-recall, -1, side="right")) - 1  # below it recall is 1 and precision falls
    return recall[first:][::-1], precision[first:][::-1]


def reliability_figure(label: str, y: np.ndarray, p: np.ndarray) -> Markup:
    """Observed share against mean probability by bin, with Wilson intervals, over the count of slices."""
    curve = reliability_curve(y, p)

    def draw(figure: Figure) -> None:
        axes, counts = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
        axes.plot([0, 1], [0, 1], color=COLOURS["muted"], linewidth=1, linestyle=FEW_DASHES)
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


def triage_figure(part: str, found: Triage) -> Markup:
    """Share of the bleeding studies found against the share of all studies read; dots: `found.needed`."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=COLOURS["muted"], linewidth=1, linestyle=FEW_DASHES)
        best = found.positives / found.cases
        axes.plot([0, best, 1], [0, 1, 1], color=COLOURS["muted"], linewidth=1)
        read, recall = found.curve[:, _thinned(*found.curve)]
        axes.plot(read, recall, color=COLOURS["blend"], linewidth=1.8)
        for needed in found.needed:
            share = needed.cases / found.cases
            axes.plot(share, np.interp(share, *found.curve), "o", color=COLOURS["blend"], markersize=5)
        _unit_square(axes, "share of the studies read", "share of the bleeding ones found")
        axes.set_aspect("auto")

    title = f"Bleeding studies found against studies read, {part}"
    return inline_svg(f"triage-{part}", (360, 260), title, draw)


def _thinned(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Indices of at most 2 * POINTS points of a rising curve, on a grid in x and a grid in y."""
    if len(x) <= 2 * POINTS:
        return np.arange(len(x))
    grid = np.linspace(0, 1, POINTS)
    kept = [np.searchsorted(values, grid).clip(max=len(x) - 1) for values in (x, y)]
    return np.unique(np.concatenate([*kept, [0, len(x) - 1]]))


def _unit_square(axes: Axes, x: str, y: str) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x, ylabel=y, aspect="equal")
    axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
    axes.grid()
