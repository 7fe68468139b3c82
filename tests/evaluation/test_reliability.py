"""Brier score, calibration error and the reliability curve by hand."""

import numpy as np
import pytest

from src.evaluation.reliability import (
    brier,
    calibration_sums,
    error_from_sums,
    expected_calibration_error,
    reliability_curve,
)

Y = np.array([False, True, True, False, True])
P = np.array([0.1, 0.4, 0.5, 0.5, 1.0])


def test_brier_by_hand():
    assert brier(Y, P) == pytest.approx((0.01 + 0.36 + 0.25 + 0.25 + 0) / 5)


def test_calibration_error_by_hand():
    # two bins: [0, .5) holds .1 and .4 (one true), [.5, 1] holds .5, .5 and 1 (two true)
    assert expected_calibration_error(Y, P, bins=2) == pytest.approx((abs(0.5 - 1) + abs(2.0 - 2)) / 5)


def test_the_curve_lists_filled_bins():
    curve = reliability_curve(Y, P, bins=4)
    assert curve["lower"].tolist() == [0, 0.25, 0.5, 0.75]
    assert curve["images"].tolist() == [1, 1, 2, 1]
    assert curve["mean_probability"].tolist() == [0.1, 0.4, 0.5, 1.0]
    assert curve["observed"].tolist() == [0, 1, 0.5, 1]
    assert reliability_curve(Y, P, bins=10)["lower"].tolist() == [0.1, 0.4, 0.5, 0.9]


def test_the_error_is_a_function_of_sums_over_images():
    rng = np.random.default_rng(0)
    p = rng.random(200)
    y = rng.random(200) < p
    sums = calibration_sums(y, p).sum(axis=0)
    assert error_from_sums(sums) == pytest.approx(expected_calibration_error(y, p), rel=1e-13)
