"""The page of a comparison: verdict, box plots, confusion matrices, every run, the whole chain of tests.

It shows compare.json and nothing else: one self-contained HTML file, the same bytes for the same comparison.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..ensemble.compare import short_names
from .pages import render_page
from .score_table import SYNTHETIC
from .svg import COLOURS, inline_svg

MODELS = {"a": "stage1", "b": "stage2"}  # colours of the two models
ABSENT = "–"
CELLS = (("TN", 0, 0), ("FP", 0, 1), ("FN", 1, 0), ("TP", 1, 1))  # row: truth, column: call
PALEST = 0.45  # opacity of a full cell, under text


def render_comparison(result: dict[str, Any]) -> str:
    """compare.json -> the page as text."""
    names = dict(zip("ab", short_names(result["a"], result["b"]), strict=True))
    counts = {model: np.array([one[model]["counts"] for one in result["replicates"]]) for model in MODELS}
    filters = {"number": number, "p": p_value, "whole": lambda value: f"{value:,}"}
    return render_page(
        "compare_page.html",
        filters,
        result=result,
        names=names,
        colours=MODELS,
        synthetic=SYNTHETIC if result["data"] == "synthetic" else None,
        facts=facts(result),
        boxes={
            key: box_figure(key, metric, list(names.values()), result["splits"]["shared"])
            for key, metric in result["metrics"].items()
            if metric["a"]["n"] and metric["b"]["n"]
        },
        matrices={model: matrix_figure(model, names[model], counts[model].mean(0)) for model in MODELS},
        totals={model: counts[model].sum(0).tolist() for model in MODELS},
    )


def number(value: float | None, digits: int = 3, sign: str = "") -> str:
    """Fixed decimals, a dash for what does not exist."""
    return ABSENT if value is None else f"{value:{sign}.{digits}f}"


def p_value(value: float | None) -> str:
    """Four decimals, or `< 0.0001`."""
    return ABSENT if value is None else f"{value:.4f}" if value >= 1e-4 else "< 0.0001"


def facts(result: dict[str, Any]) -> dict[str, str]:
    """What stands above the numbers."""
    splits, outcomes = result["splits"], [one[model] for one in result["replicates"] for model in MODELS]
    patients = {
        part: _range([outcome["patients"][part] for outcome in outcomes])
        for part in ("training", "validation", "test")
    }
    seeds = [_range([one[model]["seed"] for one in result["replicates"]]) for model in MODELS]
    return {
        "judged": f"{result['label']}, by study",
        "replicates": str(len(result["replicates"])),
        "splits": "the same for both" if splits["shared"] else "each model its own",
        "drawn": f"by patient, {'stratified' if splits['stratified'] else 'not stratified'}",
        "patients trained on, validated, tested": ", ".join(patients.values()),
        "studies tested on": _range([sum(outcome["counts"]) for outcome in outcomes]),
        "seeds": seeds[0] if splits["shared"] else f"{seeds[0]} and {seeds[1]}",
        "data": result["data_fingerprint"],
    }


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def box_figure(key: str, metric: dict[str, Any], names: Sequence[str], shared: bool) -> Markup:
    """Both models' values as boxes (quartiles, whiskers to the furthest) under their points; runs of the same
    split are joined.
    """
    values = [metric[model]["values"] for model in MODELS]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        if shared:
            _join(axes, *values)
        for place, (colour, runs) in enumerate(zip(MODELS.values(), values, strict=True)):
            _box(axes, place, [value for value in runs if value is not None], COLOURS[colour])
        axes.set(xlim=(-0.6, 1.6))
        axes.set_xticks([0, 1], ["A", "B"])
        axes.grid(axis="y")
        axes.set_axisbelow(True)

    title = f"{metric['words']} of {names[0]} (A) and {names[1]} (B)"
    return inline_svg(f"box-{key}", (230, 190), title, draw)


def _join(axes: Axes, first: Sequence[float | None], second: Sequence[float | None]) -> None:
    for pair in zip(first, second, strict=True):
        if None not in pair:
            axes.plot([0, 1], pair, color=COLOURS["grid"], linewidth=1)


def _box(axes: Axes, place: int, values: Sequence[float], colour: str) -> None:
    line = {"color": colour, "linewidth": 1.4}
    parts = dict.fromkeys(("boxprops", "medianprops", "whiskerprops", "capprops"), line)
    axes.boxplot([values], positions=[place], widths=0.5, whis=(0, 100), **parts)
    spread = np.linspace(-0.12, 0.12, len(values)) if len(values) > 1 else np.zeros(len(values))
    axes.plot(place + spread, values, "o", color=colour, markersize=3.5)


def matrix_figure(model: str, name: str, mean: np.ndarray) -> Markup:
    """Mean counts (TN, FP, FN, TP) a run; shade and share are those of the row, of all that is truly so."""
    rows = mean.reshape(2, 2).sum(1)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for (cell, row, column), count in zip(CELLS, mean, strict=True):
            share = count / rows[row] if rows[row] else 0.0
            corner = (column, 1 - row)
            style = {"facecolor": COLOURS[MODELS[model]], "alpha": PALEST * share, "linewidth": 0}
            axes.add_patch(Rectangle(corner, 1, 1, **style))
            text = f"{cell}\n{count:.1f}\n{100 * share:.0f} %"
            axes.text(corner[0] + 0.5, corner[1] + 0.5, text, ha="center", va="center")
        axes.set(xlim=(0, 2), ylim=(0, 2), aspect="equal", xlabel="called")
        axes.set_xticks([0.5, 1.5], ["negative", "positive"])
        axes.set_yticks([1.5, 0.5], ["negative", "positive"], rotation=90, va="center")
        axes.set_ylabel("true")
        axes.tick_params(length=0)

    return inline_svg(f"matrix-{model}", (230, 230), f"Mean confusion matrix of {name}", draw)
