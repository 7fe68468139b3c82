"""Numbers at the edge: certain, equal, tiny, missing, of one class only. Each has a result that is stated."""

import warnings

import numpy as np
import pandas as pd
import pytest

from src.errors import UserError
from src.evaluation.agreement import cohen_kappa
from src.evaluation.blend import fit_blend
from src.evaluation.bootstrap import bootstrap_auc, bootstrap_weighted_log_loss
from src.evaluation.metrics import (
    held_out_scores,
    label_log_losses,
    prevalence_baseline,
    scores_by_group,
    study_maximum,
    weighted_log_loss,
)
from src.evaluation.operating import operating_points
from src.evaluation.reliability import brier, expected_calibration_error, reliability_curve
from src.evaluation.roc import auc, average_precision, delong, delong_paired
from src.evaluation.statistics import compare_replicates
from src.labels import LABELS

IDS = [f"i{k}" for k in range(8)]
PATIENTS = pd.Series([f"p{k // 2}" for k in range(8)], IDS)
Y = np.array([0, 1] * 4, bool)
MISS, HIT = -np.log(1e-15), -np.log(1 - 1e-15)  # cost of a certain answer, wrong and right


@pytest.fixture(autouse=True)
def nothing_is_only_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def table(values, dtype=np.float64) -> pd.DataFrame:
    """The same value, or one a row, in every column."""
    column = np.broadcast_to(np.asarray(values, dtype).reshape(-1, 1), (len(IDS), len(LABELS)))
    return pd.DataFrame(column.copy(), IDS, list(LABELS))


LABELLED, HEALTHY, BLEEDING = table(Y, int), table(0, int), table(1, int)


@pytest.mark.parametrize(
    "value", [np.nan, np.inf, -np.inf, -1e-300, np.nextafter(1, 2), np.float32(1.0000001)]
)
def test_what_is_no_probability_is_refused_by_its_image(value):
    bad = table(0.5)
    bad.loc["i3", "any"] = value
    for score in (weighted_log_loss, held_out_scores, label_log_losses):
        with pytest.raises(UserError, match=r"predictions: i3 has any = .*probabilities lie in"):
            score(LABELLED, bad)
    with pytest.raises(UserError, match=r"b: i3 has no probability in \[0, 1\] for any"):
        fit_blend(LABELLED, {"a": table(0.5), "b": bad}, PATIENTS)


@pytest.mark.parametrize("value", [np.nan, np.inf, 2, -1, 0.5])
def test_what_is_no_label_is_refused_by_its_image(value):
    bad = table(Y)
    bad.loc["i3", "any"] = value
    with pytest.raises(UserError, match=r"labels: i3 has any = .*labels are 0 or 1"):
        weighted_log_loss(bad, table(0.5))


@pytest.mark.parametrize("zero", [0.0, -0.0, 5e-324, 1e-310, 1e-16])
def test_what_is_smaller_than_eps_costs_what_eps_costs(zero):
    assert weighted_log_loss(BLEEDING, table(zero)) == MISS
    assert weighted_log_loss(HEALTHY, table(zero)) == HIT
    assert weighted_log_loss(LABELLED, table(zero)) == pytest.approx((MISS + HIT) / 2, rel=1e-15)


def test_certain_answers_cost_exactly_what_clipping_leaves():
    assert weighted_log_loss(LABELLED, LABELLED.astype(float)) == HIT
    both = (MISS - np.log(1 - (1 - 1e-15))) / 2  # 1 - 1e-15 is rounded
    assert weighted_log_loss(LABELLED, 1 - LABELLED.astype(float)) == pytest.approx(both, rel=1e-15)
    assert brier(Y, Y.astype(float)) == 0 and brier(Y, 1.0 - Y) == 1
    assert expected_calibration_error(Y, Y.astype(float)) == 0
    curve = reliability_curve(Y, Y.astype(float))
    assert curve["observed"].tolist() == curve["mean_probability"].tolist() == [0, 1]


def test_without_an_image_there_is_no_score():
    nothing = LABELLED.iloc[:0]
    for score in (weighted_log_loss, label_log_losses):
        with pytest.raises(UserError, match="no image is there to be scored"):
            score(nothing, nothing.astype(float))
    with pytest.raises(UserError, match="at least 2 patients, got 0"):
        bootstrap_weighted_log_loss(nothing, nothing.astype(float), PATIENTS.iloc[:0])


@pytest.mark.parametrize("labels", [HEALTHY, BLEEDING])
def test_one_class_has_a_loss_and_no_ranking(labels):
    p, y = table(np.linspace(0.1, 0.8, 8)), labels["any"].to_numpy() == 1
    assert prevalence_baseline(labels) == HIT
    assert np.isfinite(weighted_log_loss(labels, p))
    assert np.isnan(auc(y, p["any"].to_numpy())) and np.isnan(average_precision(y, p["any"].to_numpy()))
    found = delong(y, p["any"].to_numpy())
    assert np.isnan([found.auc, found.se, found.low, found.high]).all()
    assert (found.positives, found.negatives) == (int(y.sum()), int((~y).sum()))
    assert bootstrap_auc(labels, p, PATIENTS, replicates=3).isna().all(axis=None)
    points = operating_points(labels.astype(bool), p)["labels"]
    counts = {"positives": int(y.sum()), "negatives": int((~y).sum())}
    assert points == dict.fromkeys(LABELS, counts)
    assert held_out_scores(labels, p)["positives"] == dict.fromkeys(LABELS, int(y.sum()))


def test_a_group_of_one_class_has_a_baseline_of_nothing():
    groups = pd.Series(np.where(Y, "bleeding", "healthy"), IDS)
    found = scores_by_group(LABELLED, table(0.5), groups)
    assert found["baseline"].tolist() == [HIT, HIT] and found["positives"].to_dict() == {
        "bleeding": 4,
        "healthy": 0,
    }


def test_equal_predictions_rank_nothing():
    p = table(0.3)
    assert auc(Y, p["any"].to_numpy()) == 0.5 and average_precision(Y, p["any"].to_numpy()) == 0.5
    assert delong(Y, p["any"].to_numpy())[:4] == (0.5, 0, 0.5, 0.5)
    assert delong_paired(Y, p["any"].to_numpy(), p["any"].to_numpy())[:6] == (0, 0, 0, 0, 0, 1)
    points = operating_points(LABELLED.astype(bool), p)["labels"]["any"]
    assert points["sensitivity_90"]["threshold"] == 0.3 and points["specificity_90"]["threshold"] is None


def test_infinite_scores_are_the_ends_of_a_ranking():
    assert auc(Y, np.where(Y, np.inf, -np.inf)) == 1 and auc(Y, np.where(Y, -np.inf, 0)) == 0


@pytest.mark.parametrize("spaces", [("probability",), ("probability", "logit")])
@pytest.mark.parametrize(
    ("labels", "first", "second", "weight", "score"),
    [
        (LABELLED, Y, ~Y, [1, 0], HIT),  # certain and right, certain and wrong
        (LABELLED, 0.3, 0.3, [1, 0], -(np.log(0.3) + np.log(0.7)) / 2),  # equal: the first
        (HEALTHY, 0.3, 0.3, [1, 0], -np.log(0.7)),
        (HEALTHY, 0, 1, [1, 0], HIT),
    ],
)
def test_a_blend_of_members_at_the_edge(labels, first, second, weight, score, spaces):
    members = {"a": table(first), "b": table(second)}
    blend = fit_blend(labels, members, PATIENTS, folds=2, spaces=spaces, alternatives=("greedy",))
    assert blend.weights["any"].tolist() == weight
    assert blend.nested_score == pytest.approx(score, rel=1e-9) == blend.optimistic_score
    np.testing.assert_array_equal(blend.apply(members), members["a"])


def test_a_blend_of_members_that_are_certain_and_never_agree_is_their_mean():
    members = {"a": table(0), "b": table(1)}
    blend = fit_blend(LABELLED, members, PATIENTS, folds=2)
    assert (blend.apply(members) == 0.5).all(axis=None)
    assert blend.optimistic_score == pytest.approx(np.log(2))


@pytest.mark.parametrize("step", ["temperature", "platt", "isotonic", "raise_any", "meet_any"])
@pytest.mark.parametrize("labels", [LABELLED, HEALTHY])
def test_a_step_keeps_certain_probabilities_probabilities(labels, step):
    members = {"a": table(np.linspace(0, 1, 8))}
    found = fit_blend(labels, members, PATIENTS, folds=2, steps=(step,)).apply(members).to_numpy()
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1


def test_replicates_without_variance_or_cases_have_reasons_instead_of_numbers():
    options = {"shared_splits": True, "test_to_train": 0.5, "names": ("a", "b")}
    same = compare_replicates([(5, 1, 1, 5)] * 4, [(5, 1, 1, 5)] * 4, **options)["accuracy"]
    assert same["paired"]["corrected_t_test"]["reason"] == "the difference is the same in every pair"
    assert same["paired"]["corrected_t_test"]["p"] is None
    none = compare_replicates([(0, 0, 0, 0)] * 4, [(0, 0, 0, 0)] * 4, **options)
    assert none["accuracy"]["verdict"] == "No verdict on accuracy: at least 2 values are needed, not 0 and 0."
    assert none["recall"]["a"]["mean"] is None


def test_readers_who_always_say_the_same_agree_by_chance_alone():
    assert np.isnan(cohen_kappa(Y | True, Y | True)) and np.isnan(cohen_kappa(~(Y | True), ~(Y | True)))
    assert cohen_kappa(Y, Y | True) == 0 and cohen_kappa(Y, Y) == 1 and cohen_kappa(Y, ~Y) == -1


def test_a_study_of_one_slice_scores_as_its_slice():
    studies = pd.Series([f"s{k}" for k in range(8)], IDS)
    p = table(np.linspace(0, 1, 8))
    np.testing.assert_array_equal(study_maximum(p, studies), p)
    one = study_maximum(p.iloc[:1], studies)
    assert one.index.tolist() == ["s0"] and (one == 0).all(axis=None)


def test_one_patient_has_a_score_and_no_interval():
    alone = PATIENTS * 0 + "p"
    with pytest.raises(UserError, match="at least 2 patients, got 1"):
        bootstrap_weighted_log_loss(LABELLED, table(0.5), alone)
