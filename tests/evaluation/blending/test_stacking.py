"""Alternatives to weights: greedy and boosted stacking are used only where they win on other patients."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from src.evaluation.blend import Blend, fit_blend
from src.evaluation.blending.stacking import Stacking
from src.evaluation.metrics import weighted_log_loss
from src.labels import LABELS


def simulate(images, seed, veto):
    """Two members; with `veto` the second says when the first is to be believed, which no weights express."""
    rng = np.random.default_rng(seed)
    index = pd.Index([f"ID_{k}" for k in range(images)], name="image_id")
    first, second = rng.normal(0, 2, (images, 6)), rng.normal(0, 2, (images, 6))
    if veto:
        z = np.where(second > 0, 2 * first, -2 * first)
    else:
        z, second = first, first + second / 5
        first = first + rng.normal(0, 0.4, first.shape)
    labels = pd.DataFrame((rng.random(z.shape) < expit(z)).astype(int), index, list(LABELS))
    members = {n: pd.DataFrame(expit(x), index, list(LABELS)) for n, x in (("a", first), ("b", second))}
    return labels, members, pd.Series(np.arange(images) // 4, index)


def test_trees_are_used_where_no_weights_can_say_it_and_survive_json():
    labels, members, patients = simulate(3000, 0, veto=True)
    blend = fit_blend(labels, members, patients, folds=3, alternatives=("boosting",))
    assert blend.stacking is not None
    assert blend.nested_score < 0.85 * min(blend.nested["mean"], blend.nested["weights, probability"])
    assert blend.optimistic_score < blend.nested_score
    assert blend.weights.sum().tolist() == pytest.approx([1] * 6)  # shares of gain
    fresh, others, _ = simulate(2000, 1, veto=True)
    p = blend.apply(others)
    assert weighted_log_loss(fresh, p) == pytest.approx(blend.nested_score, rel=0.1)
    again = Blend.from_dict(json.loads(json.dumps(blend.to_dict())))
    swapped = {"b": others["b"].sample(frac=1, random_state=0), "a": others["a"]}
    pd.testing.assert_frame_equal(again.apply(swapped).loc[p.index], p, atol=1e-9)


def test_trees_are_refused_where_an_average_says_it_all():
    labels, members, patients = simulate(1500, 0, veto=False)
    blend = fit_blend(
        labels, members, patients, folds=3, spaces=("probability", "logit"),
        alternatives=("greedy", "boosting"),
    )  # fmt: skip
    assert blend.stacking is None
    assert min(blend.nested["greedy"], blend.nested["boosting"]) > blend.nested["mean, logit"]


def test_greedy_weights_are_cross_fitted_and_close_to_the_exact_ones():
    labels, members, patients = simulate(1500, 2, veto=False)
    blend = fit_blend(labels, members, patients, folds=3, alternatives=("greedy",))
    assert blend.nested["greedy"] == pytest.approx(blend.nested["weights, probability"], abs=2e-3)


def test_of_equal_simple_ensembles_the_single_member_is_taken():
    labels, members, patients = simulate(300, 3, veto=False)
    twins = {"a": members["a"], "twin": members["a"].copy()}
    blend = fit_blend(labels, twins, patients, folds=3)
    assert blend.weights.loc["a"].tolist() == [1] * 6


def test_shares_are_those_of_what_the_trees_gained_and_alike_where_they_gained_nothing():
    gain = np.zeros(12)
    gain[[0, 5, 6]] = 0.1, 0.2, 0.1  # of the first member .3, of the second .1
    gains = {"epidural": gain, "subdural": np.zeros(12), "any": None}
    stacking = Stacking(("a", "b"), SimpleNamespace(gains=lambda: gains))
    np.testing.assert_allclose(stacking.shares(), [[0.75, 0.5, 0.5], [0.25, 0.5, 0.5]])
