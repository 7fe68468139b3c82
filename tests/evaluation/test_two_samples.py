"""Tests of two samples against SciPy's own, statsmodels and numbers by hand."""

import numpy as np
import pytest
from scipy import stats

from src.evaluation.two_samples import (
    cohen_d,
    corrected_t,
    differences,
    levene,
    mann_whitney,
    paired_t,
    power,
    shapiro_wilk,
    two_sample_t,
    variance,
    wilcoxon,
)

pytestmark = pytest.mark.filterwarnings("error")
A, B = np.random.default_rng(0).normal(0.7, 0.1, 9), np.random.default_rng(1).normal(0.6, 0.2, 7)


def t_values(found: dict) -> list[float]:
    return [found[key] for key in ("statistic", "p", "df", "low", "high")]


@pytest.mark.parametrize("equal, name", [(True, "Student t"), (False, "Welch t")])
def test_t_tests_equal_scipy(equal, name):
    found, expected = two_sample_t(A, B, equal, alpha=0.1), stats.ttest_ind(A, B, equal_var=equal)
    assert found["test"] == name
    values = [expected.statistic, expected.pvalue, expected.df, *expected.confidence_interval(0.9)]
    assert t_values(found) == pytest.approx(values, rel=1e-12)


def test_paired_t_equals_scipy():
    expected = stats.ttest_rel(A[:7], B)
    values = [expected.statistic, expected.pvalue, expected.df, *expected.confidence_interval(0.95)]
    assert t_values(paired_t(differences(A[:7], B))) == pytest.approx(values, rel=1e-9)


def test_corrected_t_by_hand():
    # differences 1, 2, 3: variance 1; a third of the patients tested: 1 / 3 + 1 / 2 = 5 / 6 of it
    found = corrected_t(np.array([1.0, 2, 3]), test_to_train=1 / 2)
    half = 4.302652729911275 * np.sqrt(5 / 6)  # the .975 quantile of t with 2 degrees of freedom
    assert found["statistic"] == pytest.approx(2 / np.sqrt(5 / 6))
    assert (found["df"], found["low"], found["high"]) == pytest.approx((2, 2 - half, 2 + half))
    assert found["p"] == pytest.approx(1 - np.sqrt(4.8 / 6.8))  # of t = sqrt(4.8): 1 - t / sqrt(2 + t * t)
    assert paired_t(np.array([1.0, 2, 3]))["statistic"] == pytest.approx(2 * np.sqrt(3))


def test_ranks_by_hand():
    # of nine pairs the first model wins seven and one half; of |1|, |2|, |3|, |4| only 2 is negative
    assert mann_whitney(np.array([0.9, 0.8, 0.5]), np.array([0.5, 0.6, 0.4]))["statistic"] == 7.5
    found = wilcoxon(np.array([1.0, -2, 3, 4]))
    assert (found["statistic"], found["p"]) == (2, 2 * 3 / 16)  # 3 of 16 signs give 2 or less


def test_equal_differences_stay_tied_whatever_their_rounding():
    a, b = np.array([0.64, 0.68, 0.60]), np.array([0.60, 0.72, 0.68])  # .04, -.04, -.08
    assert len(set(np.abs(a - b)[:2])) == 2
    assert wilcoxon(differences(a, b))["statistic"] == 1.5
    always = differences(np.array([0.64, 0.72, 0.68]), np.array([0.60, 0.68, 0.64]))
    assert paired_t(always)["reason"] == corrected_t(always, 0.5)["reason"]
    assert paired_t(always)["reason"] == "the difference is the same in every pair"
    assert wilcoxon(always)["p"] == 0.25


def test_pairs_without_a_value_are_left_out():
    assert differences(np.array([0.5, np.nan, 0.9]), np.array([0.25, 0.3, np.nan])).tolist() == [0.25]


@pytest.mark.parametrize(
    "d, n_a, n_b, alpha", [(1.8807, 10, 10, 0.05), (-0.5914, 10, 8, 0.5), (0, 4, 9, 0.01)]
)
def test_power_equals_statsmodels(d, n_a, n_b, alpha):
    statsmodels = pytest.importorskip("statsmodels.stats.power", reason="statsmodels is not installed")
    expected = statsmodels.TTestIndPower().power(d, n_a, alpha, n_b / n_a)
    assert power(d, n_a, n_b, alpha) == pytest.approx(expected, rel=1e-10)


def test_power_of_no_effect_is_alpha_and_of_a_huge_one_is_1():
    assert power(0, 10, 8, 0.05) == pytest.approx(0.05)
    assert [power(d, 10, 10) for d in (10, -10, 1e12)] == [1, 1, 1]


def test_cohen_d_weighs_the_variances_by_their_degrees_of_freedom():
    a, b = np.array([1.0, 3]), np.array([0.0, 0, 3])  # squares 2 and 6 over 3
    assert cohen_d(a, b) == {"value": pytest.approx(1 / np.sqrt(8 / 3)), "reason": None}


def test_equal_values_have_no_variance_whatever_their_mean_is_rounded_to():
    assert np.full(10, 0.6).var() > 0
    assert variance(np.full(10, 0.6)) == 0


SAME, OTHER, FEW = np.full(10, 0.6), np.full(10, 0.4), np.array([0.6])
FLAT, NEITHER = "the values are all the same", "the values of neither model vary"


@pytest.mark.parametrize(
    "found, reason",
    [
        (shapiro_wilk(SAME), FLAT),
        (shapiro_wilk(A[:2]), "at least 3 values are needed, not 2"),
        (levene(SAME, OTHER), "the values of each model lie equally far from their median"),
        (
            levene(np.array([0.5, 0.7] * 3), OTHER),
            "the values of each model lie equally far from their median",
        ),
        (levene(A[:2], B), "at least 3 values are needed, not 2 and 7"),
        (two_sample_t(SAME, OTHER, True), NEITHER),
        (two_sample_t(SAME, OTHER, False), NEITHER),
        (two_sample_t(A, FEW, True), "at least 2 values are needed, not 9 and 1"),
        (two_sample_t(FEW[:0], FEW[:0], True), "at least 2 values are needed, not 0 and 0"),
        (mann_whitney(FEW, OTHER), "at least 2 values are needed, not 1 and 10"),
        (paired_t(FEW), "at least 2 values are needed, not 1"),
        (corrected_t(A, None), "how many cases are tested on for each trained on is not given"),
        (wilcoxon(np.zeros(10)), "no pair differs"),
        (wilcoxon(FEW), "at least 2 values are needed, not 1"),
        (cohen_d(SAME, OTHER), NEITHER),
    ],
)
def test_what_is_not_possible_is_none_with_a_reason(found, reason):
    assert found.pop("reason") == reason
    assert {value for key, value in found.items() if key != "test"} == {None}


def test_one_constant_model_can_be_compared():
    assert levene(SAME, B)["reason"] is None
    found = two_sample_t(SAME, B, False)
    assert found["df"] == pytest.approx(len(B) - 1)
    assert found["statistic"] == pytest.approx((0.6 - B.mean()) / (B.std(ddof=1) / np.sqrt(7)))
    assert mann_whitney(SAME, OTHER)["statistic"] == 100
    assert mann_whitney(SAME, SAME)["p"] == 1
