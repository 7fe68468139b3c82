"""The curves of the run report: their points by hand, their pictures by what is in them."""

import re

import numpy as np
import pytest

from src.evaluation.roc import average_precision
from src.evaluation.triage import triage
from src.report.curve_figures import pr_figure, precision_steps, roc_figure, triage_figure

Y = np.array([True, False, True, False, True, False])
P = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])


def test_precision_steps_by_hand():
    recall, precision = precision_steps(Y, P)
    # one of one is right, one of two, two of three, two of four, three of five
    np.testing.assert_allclose(recall, [0, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 1])
    np.testing.assert_allclose(precision, [1, 1, 1 / 2, 2 / 3, 2 / 4, 3 / 5])


@pytest.mark.parametrize("seed", range(3))
def test_the_area_below_the_drawn_steps_is_the_average_precision(seed):
    rng = np.random.default_rng(seed)
    y, p = rng.random(300) < 0.2, rng.random(300).round(2)
    recall, precision = precision_steps(y, p)
    assert (np.diff(recall) >= 0).all() and recall[-1] == 1
    assert np.diff(recall) @ precision[1:] == pytest.approx(average_precision(y, p), rel=1e-12)


@pytest.mark.parametrize("figure", [roc_figure, pr_figure])
def test_a_label_of_one_class_has_no_curve(figure):
    for y in (np.ones(6, bool), np.zeros(6, bool)):
        assert figure("any", y, {"blend": P}) is None
    assert 'aria-label="' in figure("any", Y, {"blend": P})


def test_the_prevalence_is_drawn_at_its_height():
    """Dashed, between the lines of precision 0 and 1."""
    picture = pr_figure("any", np.array([True, False, False, False]), {"blend": np.array([4, 3, 2, 1.0])})
    dashed = [
        line for line in re.findall(r"<path [^>]*>", picture) if "var(--muted)" in line and "dash" in line
    ]
    heights = [float(y) for _, y in re.findall(r"[ML] ([\d.]+) ([\d.]+)", dashed[0])]
    grid = [
        re.findall(r"[ML] ([\d.]+) ([\d.]+)", line)
        for line in re.findall(r"<path [^>]*>", picture)
        if "var(--grid)" in line
    ]
    flat = sorted({float(ends[0][1]) for ends in grid if ends[0][1] == ends[1][1]})
    one, half, zero = flat
    assert heights[0] == heights[1] == pytest.approx(zero - 0.25 * (zero - one), abs=0.05)
    assert half == pytest.approx((one + zero) / 2, abs=0.05)


def test_a_triage_picture_has_a_dot_for_every_recall():
    found = triage(Y, P, np.arange(6), replicates=20)
    assert triage_figure("oof", found).count("<use ") == 3 + 2 * 3  # dots, ticks of two axes
