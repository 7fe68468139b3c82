"""Thresholds judged on cases of which a patient has many: counts by hand, intervals by drawing patients."""

import numpy as np
import pytest

from src.evaluation.confusion import Counts
from src.evaluation.operating import at_threshold, judge

Y = np.array([1, 1, 1, 0, 0, 0, 0, 0], bool)
SCORES = np.array([0.9, 0.5, 0.1, 0.8, 0.5, 0.2, 0.1, 0.05])
PATIENTS = np.array(list("abcdefgh"))


def test_counts_and_rates_by_hand():
    half, low = judge(Y, SCORES, [0.5, 0.1], PATIENTS, replicates=20)
    assert (half.threshold, half.counts) == (0.5, Counts(tn=3, fp=2, fn=1, tp=2))  # a score of .5 is positive
    assert half.sensitivity.estimate == pytest.approx(2 / 3)
    assert half.specificity.estimate == pytest.approx(3 / 5)
    assert half.ppv.estimate == pytest.approx(2 / 4)
    assert low.counts == Counts(tn=1, fp=4, fn=0, tp=3)
    for judged in (half, low):
        point = at_threshold(Y, SCORES, judged.threshold)
        assert judged.counts == (point.tn, point.fp, point.fn, point.tp)


def test_intervals_are_those_of_patients_drawn_anew():
    rng = np.random.default_rng(2)
    patients = np.sort(rng.integers(0, 25, 200))
    y, scores = rng.random(200) < 0.3, rng.random(200)
    _, judged = judge(y, scores, [0.2, 0.7], patients, replicates=300, seed=3)
    draws, names, found = np.random.default_rng(3), np.unique(patients), []
    for _ in range(300):
        drawn = draws.integers(0, len(names), len(names))
        rows = np.concatenate([np.flatnonzero(patients == names[one]) for one in drawn])
        point = at_threshold(y[rows], scores[rows], 0.7)
        found.append((point.sensitivity.value, point.specificity.value, point.ppv.value))
    expected = np.quantile(found, [0.025, 0.975], axis=0).T
    np.testing.assert_allclose([judged.sensitivity[1:], judged.specificity[1:], judged.ppv[1:]], expected)


def test_a_rate_of_nothing_is_undefined():
    (nobody,) = judge(np.zeros(8, bool), SCORES, [2.0], PATIENTS, replicates=20)
    assert nobody.counts == Counts(tn=8, fp=0, fn=0, tp=0)
    assert np.isnan(nobody.sensitivity).all() and np.isnan(nobody.ppv).all()
    assert nobody.specificity == (1, 1, 1)
