"""Calibrators and bounds, each on rows worked out by hand."""

import numpy as np
import pytest

from src.evaluation.blending.adjustments import (
    Isotonic,
    LogitLine,
    MeetAny,
    RaiseAny,
    fit_isotonic,
    fit_platt,
    fit_temperature,
    step_from_dict,
)
from src.labels import LABELS

ROW = np.array([[0.1, 0.2, 0.0, 0.0, 0.1, 0.6]])  # subtypes sum to .4, the largest is .2


def test_any_is_raised_to_the_largest_subtype_only():
    low = ROW.copy()
    low[0, -1] = 0.15
    np.testing.assert_array_equal(RaiseAny().apply(low), [[0.1, 0.2, 0, 0, 0.1, 0.2]])
    np.testing.assert_array_equal(RaiseAny().apply(ROW), ROW)


def test_any_and_subtypes_meet_at_their_average():
    # average of .6 and .4 is .5; subtypes keep their proportions 1 : 2 : 1
    np.testing.assert_allclose(MeetAny().apply(ROW), [[0.125, 0.25, 0, 0, 0.125, 0.5]], rtol=1e-14)
    low = ROW.copy()
    low[0, -1] = 0.3  # between the largest and the sum: consistent, unchanged
    np.testing.assert_array_equal(MeetAny().apply(low), low)
    nothing = np.array([[0, 0, 0, 0, 0, 0.3]])
    np.testing.assert_array_equal(MeetAny().apply(nothing), nothing)


def test_a_step_touches_its_label_only_and_not_its_input():
    before = ROW.copy()
    after = LogitLine("subdural", 2.0, 0.0).apply(ROW)
    np.testing.assert_array_equal(ROW, before)
    changed = [label for k, label in enumerate(LABELS) if after[0, k] != ROW[0, k]]
    assert changed == ["subdural"]
    assert after[0, 4] == pytest.approx(0.1**2 / (0.1**2 + 0.9**2))


def test_an_intercept_is_added_to_the_logit():
    """Odds of 1 : 9, times 3."""
    assert LogitLine("subdural", 1.0, np.log(3)).apply(ROW)[0, 4] == pytest.approx(1 / 4)


def distorted(slope: float, shift: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    z = rng.normal(-1, 2, 40_000)
    y = rng.random(len(z)) < 1 / (1 + np.exp(-z))
    return y, 1 / (1 + np.exp(-(z - shift) / slope))


def test_a_known_distortion_is_undone():
    y, p = distorted(2.0, 0.0)
    temperature = fit_temperature("any", y, p)
    assert temperature.slope == pytest.approx(2.0, abs=0.05)
    assert temperature.intercept == 0
    y, p = distorted(0.5, 1.0)
    platt = fit_platt("any", y, p)
    assert (platt.slope, platt.intercept) == (pytest.approx(0.5, abs=0.02), pytest.approx(1.0, abs=0.05))


def test_few_cases_do_not_make_a_line_as_steep_as_can_be():
    """Two values, perfectly ranked: the line meets Platt's targets, 4/5 for 3 positives, 1/9 for 7 others."""
    y = np.arange(10) < 3
    line = fit_platt("any", y, 1 / (1 + np.exp(np.where(y, -1.0, 1.0))))
    high, low = np.log(4), np.log(1 / 8)  # logits of 4/5 and 1/9
    assert line.slope == pytest.approx((high - low) / 2, rel=1e-6)
    assert line.intercept == pytest.approx((high + low) / 2, rel=1e-6)
    temperature = fit_temperature("any", y, 1 / (1 + np.exp(np.where(y, -1.0, 1.0))))
    mean = (3 * 4 / 5 + 7 * 8 / 9) / 10  # of the targets, seen from the side each case lies on
    assert temperature.slope == pytest.approx(np.log(mean / (1 - mean)), rel=1e-6)


def test_isotonic_curves_rise_and_stay_off_the_ends():
    y, p = distorted(2.0, 1.0)
    step = fit_isotonic("any", y, p)
    assert (np.diff(step.calibrated) >= 0).all()
    assert step.calibrated[0] >= 1 / 40_002 and step.calibrated[-1] <= 1 - 1 / 40_002
    table = np.tile(p[:, None], (1, 6))
    bins = np.quantile(p, [0.2, 0.4, 0.6, 0.8])
    group = np.digitize(p, bins)
    after = step.apply(table)[:, -1]
    for k in range(5):
        assert after[group == k].mean() == pytest.approx(y[group == k].mean(), abs=0.01)


@pytest.mark.parametrize(
    "step", [LogitLine("any", 1.5, -0.25), Isotonic("any", (0.1, 0.9), (0.2, 0.8)), RaiseAny(), MeetAny()]
)
def test_steps_survive_json(step):
    values = step.to_dict()
    assert step_from_dict({k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}) == step
