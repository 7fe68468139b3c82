"""Shares of both heads with intervals by patient, against published matrices and a plain bootstrap."""

import numpy as np
import pandas as pd
import pytest

from src.evaluation.bootstrap import PatientBootstrap
from src.evaluation.target_scores import head_differences, share_intervals
from src.targets import find_targets
from tests.evaluation.test_confusion import HEAD_1, HEAD_2

TARGETS = find_targets("presence_and_location")
PRESENCE, LOCATION = TARGETS.heads


def tables(presence, location):
    """Labels and predictions with these confusion matrices; all that bleed and are no part of `location`
    have no known place.
    """
    rows = [(truth, called, None, None) for truth in (0, 1) for called in (0, 1)
            for _ in range(presence[truth][called])]  # fmt: skip
    bleeding = [number for number, row in enumerate(rows) if row[0]]
    places = [(t, c) for t in range(3) for c in range(3) for _ in range(location[t][c])]
    for number, place in zip(bleeding, places, strict=False):
        rows[number] = (*rows[number][:2], *place)
    labels = pd.DataFrame(np.nan, range(len(rows)), list(TARGETS.columns))
    p = pd.DataFrame(0.2, range(len(rows)), list(TARGETS.columns))
    for number, (truth, called, site, said) in enumerate(rows):
        labels.at[number, "presence"], p.at[number, "presence"] = truth, 0.4 + 0.2 * called
        if site is not None:
            labels.loc[number, list(LOCATION.columns)] = np.eye(3)[site]
            p.iat[number, 1 + said] = 0.6
    return labels, p, pd.Series(np.arange(len(rows)) % 97, range(len(rows)))


def test_the_published_matrices_give_the_shares_computed_from_them_not_those_printed():
    labels, p, patients = tables(HEAD_1, HEAD_2)
    presence = share_intervals(PRESENCE, labels, p, patients, replicates=200)["presence"]
    estimates = {name: round(share.estimate, 4) for name, share in presence.items()}
    # recall is TP / (TP + FN); the paper prints .987 and, in words, TP / (TP + TN)
    assert estimates == {
        "accuracy": 0.9907, "precision": 0.9964, "recall": 0.9871, "f1": 0.9917, "specificity": 0.9955,
    }  # fmt: skip
    location = share_intervals(LOCATION, labels, p, patients, replicates=200)["location"]
    found = [round(location[name].estimate, 4) for name in ("accuracy", "precision", "recall")]
    assert found == [0.9798, 0.9807, 0.9788]
    assert all(s.low < s.estimate < s.high for s in (*presence.values(), *location.values()))


def test_intervals_are_those_of_the_metrics_computed_anew_for_every_draw_of_patients():
    rng = np.random.default_rng(0)
    labels, p, _ = tables([[30, 6], [8, 40]], [[12, 2, 1], [3, 9, 2], [0, 1, 4]])
    patients = pd.Series(rng.integers(0, 12, len(labels)), labels.index)
    found = share_intervals(PRESENCE, labels, p, patients, replicates=50, seed=3)["presence"]["recall"]
    code, names = pd.factorize(patients, sort=True)
    recalls = []
    for drawn in PatientBootstrap(patients.to_numpy(), 50, 3).draws():
        rows = np.repeat(np.arange(len(labels)), drawn[code])
        y, called = labels["presence"].to_numpy()[rows] == 1, p["presence"].to_numpy()[rows] >= 0.5
        recalls.append((y & called).sum() / y.sum())
    assert len(names) == 12
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(recalls, [0.025, 0.975])))


def test_a_location_that_is_not_known_and_a_class_that_nobody_has_do_not_count():
    labels, p, patients = tables([[5, 0], [0, 9]], [[4, 0, 0], [1, 3, 0], [0, 0, 0]])
    location = share_intervals(LOCATION, labels, p, patients, replicates=20)["location"]
    assert location["accuracy"].estimate == 7 / 8
    assert location["recall"].estimate == pytest.approx((1 + 3 / 4) / 2)


def test_a_difference_is_that_of_the_shares_and_of_the_losses():
    """70 of 84 cases are right, of the opposite 14; what is right was said with .6, what is wrong with .4."""
    labels, p, patients = tables([[30, 6], [8, 40]], np.zeros((3, 3), int))
    opposite = p.assign(presence=1 - p["presence"])
    found = head_differences(PRESENCE, labels, p, opposite, patients, replicates=20)
    assert found["accuracy"].estimate == pytest.approx((70 - 14) / 84)
    assert found["recall"].estimate == pytest.approx((40 - 8) / 48)
    assert found["log_loss"].estimate == pytest.approx((70 - 14) / 84 * np.log(0.4 / 0.6))
    assert all(one.low <= one.estimate <= one.high for one in found.values())
