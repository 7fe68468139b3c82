"""AUC, DeLong and operating points against scikit-learn, statsmodels and definitions written out."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from src.evaluation.metrics import study_maximum
from src.evaluation.operating import (
    at_threshold,
    predictive_values,
    threshold_at_sensitivity,
    threshold_at_specificity,
    wilson,
)
from src.evaluation.roc import (
    auc,
    average_precision,
    delong,
    delong_paired,
    weighted_auc,
    weighted_average_precision,
)


def cases(n: int, seed: int, levels: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and two correlated scores with many ties."""
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.3
    common = y + rng.normal(0, 1, n)
    first, second = (np.round((common + rng.normal(0, s, n)) * levels / 4) for s in (0.3, 1.0))
    return y, first, second


def placements(y: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DeLong's structural components by their definition: every positive against every negative."""
    positive, negative = scores[y][:, None], scores[~y][None]
    wins = (positive > negative) + 0.5 * (positive == negative)
    return wins.mean(axis=1), wins.mean(axis=0)


def test_four_cases_by_hand():
    y = np.array([True, True, False, False])
    # pairs: .9 beats both, .4 beats .1 and loses to .6
    assert auc(y, np.array([0.9, 0.4, 0.6, 0.1])) == 0.75
    assert auc(y, np.array([0.9, 0.5, 0.5, 0.1])) == 0.875  # a tie counts one half
    # components of positives 1 and .5, of negatives .5 and 1: variance 1/8 each, divided by 2 and added
    assert delong(y, np.array([0.9, 0.4, 0.6, 0.1])).se == pytest.approx(np.sqrt(1 / 16 + 1 / 16))


@pytest.mark.parametrize("seed", range(3))
def test_areas_equal_scikit_learn_with_ties_and_weights(seed):
    y, scores, _ = cases(400, seed)
    assert auc(y, scores) == pytest.approx(roc_auc_score(y, scores), rel=1e-14)
    assert average_precision(y, scores) == pytest.approx(average_precision_score(y, scores), rel=1e-13)
    patient = np.random.default_rng(seed).integers(0, 50, 400)
    weights = np.random.default_rng(seed + 1).integers(0, 4, 50)
    for ours, theirs in (
        (weighted_auc, roc_auc_score),
        (weighted_average_precision, average_precision_score),
    ):
        expected = theirs(y, scores, sample_weight=weights[patient])
        assert ours(y, scores, patient)(weights) == pytest.approx(expected, rel=1e-13)
        assert np.isnan(ours(y, scores, y.astype(int))(np.array([0, 1])))  # one class drawn only
        assert np.isnan(ours(y, scores, y.astype(int))(np.array([1, 0])))


def test_delong_equals_its_definition():
    y, first, second = cases(300, 4)
    components = [placements(y, scores) for scores in (first, second)]
    covariance = sum(np.cov([c[side] for c in components]) / len(components[0][side]) for side in (0, 1))
    single, paired = delong(y, first), delong_paired(y, first, second)
    assert single.auc == pytest.approx(components[0][0].mean(), rel=1e-13)
    assert single.se == pytest.approx(np.sqrt(covariance[0, 0]), rel=1e-10)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert paired.difference == pytest.approx(auc(y, first) - auc(y, second), rel=1e-12)
    assert paired.se == pytest.approx(np.sqrt(variance), rel=1e-10)
    assert paired.z == pytest.approx(paired.difference / np.sqrt(variance), rel=1e-10)


def test_paired_delong_of_four_cases_by_hand():
    y = np.array([True, True, False, False])
    found = delong_paired(y, np.array([0.9, 0.4, 0.6, 0.1]), np.array([0.9, 0.8, 0.2, 0.1]))
    # .75 against 1; the second's components are all 1, so only the first's variances 1/8, halved, remain
    assert (found.difference, found.se) == (-0.25, pytest.approx(np.sqrt(1 / 8)))
    assert found.p == pytest.approx(0.4795, abs=5e-5)  # z = -.7071
    assert (found.low, found.high) == pytest.approx((-0.9430, 0.4430), abs=5e-5)  # 1.96 standard errors
    swapped = delong_paired(y, np.array([0.9, 0.8, 0.2, 0.1]), np.array([0.9, 0.4, 0.6, 0.1]))
    assert (swapped.difference, swapped.z, swapped.p) == (0.25, -found.z, found.p)


def jackknife_variance(y: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """Variance of an AUC difference by leaving out one study at a time, positives and negatives apart."""
    without = [np.arange(len(y)) != case for case in range(len(y))]
    left = np.array([roc_auc_score(y[w], first[w]) - roc_auc_score(y[w], second[w]) for w in without])
    return sum(left[group].var() * (group.sum() - 1) for group in (y, ~y))


def test_paired_delong_of_study_scores_equals_the_jackknife():
    rng = np.random.default_rng(9)
    study = np.repeat(np.arange(60), rng.integers(1, 9, 60))
    truth = rng.random(len(study)) < np.where(rng.random(60) < 0.4, 0.4, 0)[study]
    common = truth + rng.normal(0, 1, len(study))
    slices = pd.DataFrame(
        {"truth": truth, **{k: np.round(common + rng.normal(0, 1, len(study)), 1) for k in "ab"}}
    )
    studies = study_maximum(slices, pd.Series(study))
    y, first, second = studies["truth"].to_numpy(bool), studies["a"].to_numpy(), studies["b"].to_numpy()
    found, se = delong_paired(y, first, second), np.sqrt(jackknife_variance(y, first, second))
    assert len(y) == 60
    assert found.difference == pytest.approx(roc_auc_score(y, first) - roc_auc_score(y, second), rel=1e-12)
    assert found.se == pytest.approx(se, rel=1e-10)
    assert found.p == pytest.approx(2 * norm.sf(abs(found.difference) / se), rel=1e-10)
    assert se < np.hypot(delong(y, first).se, delong(y, second).se)  # the pairing is worth something


def test_paired_delong_agrees_with_a_bootstrap_of_cases():
    y, first, second = cases(1500, 5)
    rng = np.random.default_rng(0)
    everyone = np.arange(len(y))
    areas = [weighted_auc(y, scores, everyone) for scores in (first, second)]
    draws = (np.bincount(rng.integers(0, len(y), len(y)), minlength=len(y)) for _ in range(1000))
    replicates = [areas[0](w) - areas[1](w) for w in draws]
    found = delong_paired(y, first, second)
    assert np.std(replicates) == pytest.approx(found.se, rel=0.1)
    assert np.quantile(replicates, 0.025) == pytest.approx(found.low, abs=0.2 * found.se)


def test_equal_models_do_not_differ():
    y, first, _ = cases(200, 6)
    found = delong_paired(y, first, first)
    assert (found.difference, found.z, found.p) == (0, 0, 1)


def test_one_class_has_no_area():
    nobody = np.zeros(5, bool)
    assert np.isnan(auc(nobody, np.arange(5.0)))
    assert np.isnan(average_precision(nobody, np.arange(5.0)))
    assert np.isnan(delong(nobody, np.arange(5.0)).se)
    one = np.array([True, False, False, False])  # one positive: an area, but no variance
    assert delong(one, np.array([3.0, 1, 2, 0])).auc == 1
    assert np.isnan(delong(one, np.array([3.0, 1, 2, 0])).se)


def test_operating_points_by_hand():
    y = np.array([True, True, True, False, False, False, False, False, False, False])
    scores = np.array([0.9, 0.8, 0.3, 0.85, 0.6, 0.5, 0.3, 0.2, 0.1, 0.0])
    threshold = threshold_at_specificity(y, scores, 0.8)  # one false alarm of seven is allowed, two are not
    assert threshold == 0.8
    point = at_threshold(y, scores, threshold)
    assert (point.tp, point.fp, point.tn, point.fn) == (2, 1, 6, 1)
    assert (point.sensitivity.value, point.specificity.value) == (2 / 3, 6 / 7)
    assert (point.ppv.value, point.npv.value) == (2 / 3, 6 / 7)
    assert threshold_at_sensitivity(y, scores, 1.0) == 0.3
    assert at_threshold(y, scores, 0.3).specificity.value == 3 / 7
    assert threshold_at_specificity(y, -scores, 1.0) == np.inf  # nobody can be called
    assert at_threshold(y, scores, np.inf).ppv.cases == 0


def test_a_threshold_is_judged_on_other_cases():
    y, scores, _ = cases(500, 7)
    other, others, _ = cases(500, 8)
    point = at_threshold(other, others, threshold_at_specificity(y, scores, 0.9))
    assert point.tp + point.fn == other.sum()
    assert point.specificity.value == np.mean(others[~other] < point.threshold)


@pytest.mark.parametrize("successes, cases_", [(0, 10), (10, 10), (7, 10), (205, 491)])
def test_wilson_equals_statsmodels(successes, cases_):
    statsmodels = pytest.importorskip("statsmodels.stats.proportion", reason="statsmodels is not installed")
    found = wilson(successes, cases_)
    expected = statsmodels.proportion_confint(successes, cases_, method="wilson")
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-12)


def test_wilson_by_its_formula():
    found = wilson(81, 263)  # Newcombe, Statistics in Medicine 1998: 0.2553 to 0.3662
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    assert np.isnan(wilson(0, 0).value)


def test_predictive_values_of_an_external_test():
    # Abrigo et al. 2023: 62 of 84 found, 1018 of 1288 cleared, PPV 18.6 %, NPV 97.8 % at 84 / 1372
    ppv, npv = predictive_values(62 / 84, 1 - 270 / 1288, 84 / 1372)
    assert ppv == pytest.approx(62 / (62 + 270), rel=1e-12)
    assert npv == pytest.approx(1018 / (1018 + 22), rel=1e-12)
    assert (round(ppv, 3), round(npv, 3)) == (0.187, 0.979)
