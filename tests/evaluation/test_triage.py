"""Triage by hand: ten studies, three of them positive, with and without ties."""

import numpy as np
import pytest

from src.evaluation.triage import RECALLS, SHARES, triage

SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05])
Y = np.array([1, 0, 1, 0, 0, 0, 1, 0, 0, 0], bool)  # the first, third and seventh are positive
EVERYONE = np.arange(10)


def test_counts_by_hand():
    found = triage(Y, SCORES, EVERYONE, replicates=20)
    assert (found.cases, found.positives) == (10, 3)
    assert [row.share for row in found.read] == list(SHARES) == [0.05, 0.1, 0.2, 0.3, 0.5]
    assert [row.cases for row in found.read] == [1, 1, 2, 3, 5]  # a twentieth of ten is one, rounded up
    assert [row.found for row in found.read] == [1, 1, 1, 2, 2]
    assert [row.recall.estimate for row in found.read] == pytest.approx([1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert [row.recall for row in found.needed] == list(RECALLS) == [0.9, 0.95, 0.99]
    assert [row.cases for row in found.needed] == [7, 7, 7]  # 2.7 of three is three
    assert [row.share.estimate for row in found.needed] == pytest.approx([0.7, 0.7, 0.7])
    np.testing.assert_allclose(
        found.curve[:, [0, 1, 3, 7, 10]], [[0, 0.1, 0.3, 0.7, 1], [0, 1 / 3, 2 / 3, 1, 1]]
    )


def test_whole_shares_need_no_more_than_they_say():
    """Of ten positive ones nine are 90 %, though 0.9 x 10 is not always 9 in binary."""
    y = np.r_[np.ones(10, bool), np.zeros(30, bool)]
    found = triage(y, np.linspace(1, 0, 40), np.arange(40), replicates=20)
    assert [row.cases for row in found.needed] == [9, 10, 10]
    assert [row.cases for row in found.read] == [2, 4, 8, 12, 20]
    assert [row.recall.estimate for row in found.read] == [0.2, 0.4, 0.8, 1, 1]


def test_ties_count_as_their_expectation():
    """Four equal scores with one positive among them: reading two of the four finds half of it."""
    y, scores = np.array([1, 0, 0, 1, 0, 0, 0, 0, 0, 0], bool), np.array([9, *[5.0] * 4, 1, 1, 1, 1, 1])
    found = triage(y, scores, EVERYONE, replicates=20)
    assert [row.found for row in found.read] == pytest.approx([1, 1, 1.25, 1.5, 2])
    assert [row.cases for row in found.needed] == [5, 5, 5]  # 1 + .8 x 4 = 4.2, rounded up
    assert triage(y, np.zeros(10), EVERYONE, replicates=20).read[4].recall.estimate == pytest.approx(0.5)


def test_intervals_are_those_of_patients_drawn_anew():
    rng = np.random.default_rng(1)
    patients = np.sort(rng.integers(0, 30, 60))
    y, scores = rng.random(60) < 0.4, rng.random(60).round(1)
    found = triage(y, scores, patients, replicates=200, seed=5)
    draws = np.random.default_rng(5)
    names = np.unique(patients)
    recalls, shares = [], []
    for _ in range(200):
        drawn = draws.integers(0, len(names), len(names))
        rows = np.concatenate([np.flatnonzero(patients == names[one]) for one in drawn])
        again = triage(y[rows], scores[rows], np.arange(len(rows)), replicates=1)
        recalls.append(again.read[2].recall.estimate)
        shares.append(again.needed[0].share.estimate)
    for interval, values in ((found.read[2].recall, recalls), (found.needed[0].share, shares)):
        np.testing.assert_allclose(interval[1:], np.quantile(values, [0.025, 0.975]), rtol=1e-12)
    assert found.read[2].recall.low < found.read[2].recall.estimate < found.read[2].recall.high


def test_the_order_of_rows_does_not_count():
    order = np.random.default_rng(0).permutation(10)
    one, other = (triage(Y[o], SCORES[o], EVERYONE[o], replicates=50) for o in (EVERYONE, order))
    assert one.read == other.read and one.needed == other.needed


def test_where_nobody_bleeds_there_is_nothing_to_find():
    assert triage(np.zeros(10, bool), SCORES, EVERYONE) is None
