"""Replicates compared: the published tables of ViViT and ConvNeXt to the printed digit, then what is ours."""

import json
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from src.errors import UserError
from src.evaluation.statistics import METRICS, compare_replicates, compare_values

# (TN, FP, FN, TP) of ten runs, Antonio-Tresol/from_pixels_to_diagnosis_ml_and_image_sequences
VIVIT = [
    (10, 3, 3, 9), (14, 2, 4, 5), (10, 4, 4, 7), (11, 2, 6, 6), (8, 8, 1, 8),
    (15, 0, 7, 3), (12, 3, 5, 5), (10, 2, 5, 8), (9, 5, 3, 8), (13, 1, 3, 8),
]  # fmt: skip
CONVNEXT = [
    (11, 0, 13, 1), (13, 2, 7, 3), (14, 0, 11, 0), (14, 0, 10, 1), (13, 0, 9, 3),
    (16, 1, 7, 1), (15, 0, 9, 1), (12, 0, 13, 0), (12, 2, 8, 3), (15, 0, 9, 1),
]  # fmt: skip
COLUMNS = ("n", "mean", "min", "max", "sd", "median")
SUMMARIES = {
    "accuracy": (
        ("10", "0.7160", "0.64", "0.84", "0.0580", "0.7000"),
        ("10", "0.5960", "0.48", "0.68", "0.0692", "0.6200"),
    ),
    "recall": (
        ("10", "0.6201", "0.30", "0.8889", "0.1660", "0.6259"),
        ("10", "0.1310", "0.00", "0.30", "0.1076", "0.1000"),
    ),
    "precision_zero": (
        ("10", "0.7280", "0.50", "1.00", "0.1453", "0.7321"),
        ("10", "0.6700", "0.00", "1.00", "0.4057", "0.8000"),
    ),
    "precision_dropped": (
        ("10", "0.7280", "0.50", "1.00", "0.1453", "0.7321"),
        ("8", "0.8375", "0.50", "1.00", "0.2264", "1.0"),
    ),
}
# p of Shapiro-Wilk (ViViT, ConvNeXt) and of Levene; t, its p and df; U, its p; Cohen's d; power at .5 and .05
TESTS = {
    "accuracy": (
        "0.2045", "0.0549", "0.6906", "Student t", "4.2054", "5.318e-04", "18", "95", "6.240e-04",
        "1.8807", "0.9998", "0.9779",
    ),
    "recall": (
        "0.9055", "0.1621", "0.2486", "Student t", "7.8191", "3.389e-07", "18", "99.5", "2.064e-04",
        "3.4968", "1.0000", "1.0000",
    ),
    "precision_zero": (
        "0.9133", "0.0084", "0.0170", "Welch t", "0.4256", "0.6784", "11.27", "50", "1.0",
        "0.1903", "0.5369", "0.0688",
    ),
    "precision_dropped": (
        "0.9133", "0.0019", "0.5067", "Welch t", "-1.1867", "0.2595", "11.41", "30", "0.3892",
        "-0.5914", "0.7413", "0.2164",
    ),
}  # fmt: skip


def printed(value: Any, like: str) -> str:
    """A number with as many digits as another was printed with."""
    if isinstance(value, str):
        return value
    kind = "e" if "e" in like else "f"
    return f"{value:.{len(like.partition('.')[2].partition('e')[0])}{kind}}"


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    return compare_replicates(VIVIT, CONVNEXT, names=("ViViT", "ConvNeXt"))


def test_the_vector_has_the_published_totals():
    assert np.sum(VIVIT, axis=0).tolist() == [112, 30, 41, 67]
    assert np.sum(CONVNEXT, axis=0).tolist() == [135, 5, 96, 14]
    assert [fn + tp for *_, fn, tp in VIVIT] == [12, 9, 11, 12, 9, 10, 10, 13, 11, 11]
    assert [fn + tp for *_, fn, tp in CONVNEXT] == [14, 10, 11, 11, 12, 8, 10, 13, 11, 10]


@pytest.mark.parametrize("metric", SUMMARIES)
@pytest.mark.parametrize("model", [0, 1])
def test_published_summaries(published, metric, model):
    expected, found = SUMMARIES[metric][model], published[metric]["ab"[model]]
    assert tuple(printed(found[key], like) for key, like in zip(COLUMNS, expected, strict=True)) == expected


@pytest.mark.parametrize("metric", TESTS)
def test_published_tests(published, metric):
    found = published[metric]["published"]
    t, u = found["t_test"], found["mann_whitney"]
    assert [power["alpha"] for power in found["power"]] == [0.5, 0.05]
    values = (
        found["shapiro"]["a"]["p"], found["shapiro"]["b"]["p"], found["levene"]["p"],
        t["test"], t["statistic"], t["p"], t["df"], u["statistic"], u["p"],
        found["cohen_d"]["value"], *(power["value"] for power in found["power"]),
    )  # fmt: skip
    expected = TESTS[metric]
    assert tuple(printed(value, like) for value, like in zip(values, expected, strict=True)) == expected


def test_runs_without_a_positive_prediction(published):
    zero, dropped = published["precision_zero"]["b"], published["precision_dropped"]["b"]
    assert zero["values"] == [1, 0.6, 0, 1, 1, 0.5, 1, 0, 0.6, 1]
    assert dropped["values"] == [1, 0.6, None, 1, 1, 0.5, 1, None, 0.6, 1]
    assert (zero["undefined"], dropped["undefined"]) == (2, 2)


def test_the_choice_of_the_t_test_is_explained(published):
    choices = [published[metric]["published"]["t_test"]["choice"] for metric in TESTS]
    assert choices == [
        "Levene's test does not reject equal variances",
        "Levene's test does not reject equal variances",
        "Levene's test rejects equal variances",
        "Levene's test rejects equal variances with 0 for undefined values",
    ]


def test_f1_and_specificity(published):
    assert published["f1"]["a"]["values"][0] == 18 / 24
    assert published["f1"]["b"]["values"][2] == 0
    assert published["specificity"]["a"]["values"][0] == 10 / 13
    t = stats.ttest_ind(
        [tn / (tn + fp) for tn, fp, _, _ in VIVIT], [tn / (tn + fp) for tn, fp, _, _ in CONVNEXT]
    )
    assert published["specificity"]["published"]["t_test"]["statistic"] == pytest.approx(t.statistic)


def test_the_published_splits_were_not_shared(published):
    paired = published["accuracy"]["paired"]
    reason = (
        "the test parts differ: in run 0 the first model has 12 positives of 25 cases, the second 14 of 25"
    )
    assert [paired[key]["reason"] for key in ("t_test", "corrected_t_test", "wilcoxon")] == [reason] * 3
    assert (paired["pairs"], paired["difference"]) == (0, None)


def test_published_verdicts(published):
    assert published["accuracy"]["verdict"] == (
        "ViViT is better in accuracy: ViViT 0.716, ConvNeXt 0.596, difference +0.120 [+0.060, +0.180], "
        "p = 0.0005 by the Student t test, which takes the runs for independent."
    )
    assert published["specificity"]["verdict"].startswith("ConvNeXt is better in specificity: ")
    assert published["recall"]["verdict"].startswith(
        "ViViT is better in recall: ViViT 0.620, ConvNeXt 0.131, "
    )
    assert "p < 0.0001" in published["recall"]["verdict"]
    assert published["precision_zero"]["verdict"].startswith(
        "No clear difference in precision (0 where nothing is called positive): ViViT 0.728, ConvNeXt 0.670, "
    )


# five shared splits of 13 negatives and 12 positives
FIRST = [(12, 1, 2, 10), (11, 2, 3, 9), (12, 1, 1, 11), (10, 3, 2, 10), (13, 0, 4, 8)]
SECOND = [(11, 2, 3, 9), (11, 2, 5, 7), (10, 3, 2, 10), (10, 3, 4, 8), (12, 1, 4, 8)]


def test_shared_splits_are_compared_in_pairs_and_corrected():
    found = compare_replicates(FIRST, SECOND, test_to_train=25 / 57)["accuracy"]
    paired, difference = found["paired"], np.array([2, 2, 3, 2, 1]) / 25  # more cases right
    assert (paired["pairs"], paired["difference"]) == (5, pytest.approx(0.08))
    assert paired["t_test"]["statistic"] == pytest.approx(stats.ttest_1samp(difference, 0).statistic)
    assert paired["wilcoxon"]["p"] == 2 / 32  # all five in one direction
    se = np.sqrt(difference.var(ddof=1) * (1 / 5 + 25 / 57))
    assert paired["corrected_t_test"]["statistic"] == pytest.approx(0.08 / se)
    low, high = 0.08 + np.array([-1, 1]) * stats.t.ppf(0.975, 4) * se
    assert found["interval"] == {
        "test": "corrected resampled t", "level": 0.95, "difference": pytest.approx(0.08),
        "low": pytest.approx(low), "high": pytest.approx(high), "reason": None,
    }  # fmt: skip
    assert found["verdict"] == (
        "A is better in accuracy: A 0.848, B 0.768, difference +0.080 [+0.017, +0.143], p = 0.0240 by the "
        "corrected resampled t test."
    )


def test_any_number_of_a_run_is_compared_alike():
    counts = compare_replicates(FIRST, SECOND, test_to_train=25 / 57)["accuracy"]
    shares = [[(tn + tp) / 25 for tn, _, _, tp in runs] for runs in (FIRST, SECOND)]
    assert compare_values(*shares, "accuracy", test_to_train=25 / 57) == counts
    losses = compare_values(*shares, "loss", test_to_train=25 / 57, lower_is_better=True)
    assert losses["verdict"].startswith("B is better in loss: A 0.848, B 0.768, difference +0.080 [+0.017, ")
    assert {**losses, "verdict": ""} == {**counts, "verdict": ""}
    gap = compare_values([0.1, np.nan, 0.3], [0.2, 0.2, 0.1], "loss")
    assert (gap["a"]["values"], gap["a"]["n"], gap["paired"]["pairs"]) == ([0.1, None, 0.3], 2, 2)
    uneven = compare_values([0.1, 0.3], [0.2, 0.2, 0.1], "loss")
    assert uneven["paired"]["t_test"]["reason"] == "2 and 3 runs are no pairs"
    own = compare_values(*shares, "accuracy", shared_splits=False)
    assert own["paired"]["t_test"]["reason"] == "the models were tested on splits of their own"
    with pytest.raises(UserError, match="alpha is 5"):
        compare_values([], [], "loss", 5)


def test_without_the_ratio_the_paired_test_decides():
    found = compare_replicates(FIRST, SECOND)["accuracy"]
    assert found["paired"]["corrected_t_test"]["p"] is None
    assert found["interval"]["test"] == "paired t"
    own = compare_replicates(FIRST, SECOND, shared_splits=False, test_to_train=25 / 57)["accuracy"]
    assert own["interval"]["test"] == "Student t"
    assert own["paired"]["t_test"]["reason"] == "the models were tested on splits of their own"


def test_a_pair_needs_both_values():
    never = [(13, 0, 12, 0), *SECOND[1:]]
    found = compare_replicates(FIRST, never)
    assert found["precision_zero"]["paired"]["pairs"] == 5
    assert found["precision_dropped"]["paired"]["pairs"] == 4
    shares = [9 / 11 - 7 / 9, 11 / 12 - 10 / 13, 10 / 13 - 8 / 11, 1 - 8 / 9]
    assert found["precision_dropped"]["paired"]["difference"] == pytest.approx(np.mean(shares))
    assert f"difference {np.mean(shares):+.3f} [" in found["precision_dropped"]["verdict"]


def test_models_that_never_vary_are_compared_by_ranks():
    found = compare_replicates([(13, 0, 0, 12)] * 6, [(12, 1, 1, 11)] * 6, test_to_train=25 / 57)["accuracy"]
    assert found["a"]["sd"] == found["b"]["sd"] == 0
    assert found["published"]["t_test"]["reason"] == "the values of neither model vary"
    assert found["published"]["power"][0] == {
        "alpha": 0.5, "value": None, "reason": "the values of neither model vary"
    }  # fmt: skip
    assert found["interval"]["reason"] == "the Wilcoxon signed-rank test has none"
    assert found["verdict"] == (
        "A is better in accuracy: A 1.000, B 0.920, difference +0.080, p = 0.0312 by the "
        "Wilcoxon signed-rank test, which takes the runs for independent."
    )


def test_equal_models_do_not_differ():
    found = compare_replicates(FIRST, FIRST, test_to_train=0.5)["accuracy"]
    assert found["published"]["t_test"]["p"] == 1
    assert found["paired"]["wilcoxon"]["reason"] == "no pair differs"
    assert found["verdict"].startswith(
        "No clear difference in accuracy: A 0.848, B 0.848, difference +0.000 ["
    )


def test_too_few_values_give_no_verdict():
    one = compare_replicates(FIRST[:1], SECOND[:1])["accuracy"]
    assert one["verdict"] == "No verdict on accuracy: at least 2 values are needed, not 1 and 1."
    assert (one["a"]["mean"], one["a"]["sd"], one["a"]["reason"]) == (0.88, None, "one value has no spread")
    never = compare_replicates(FIRST, [(13, 0, 12, 0)] * 5)["precision_dropped"]
    assert (never["b"]["n"], never["b"]["mean"], never["b"]["reason"]) == (0, None, "no run has a value")
    assert never["difference"] is None
    assert never["verdict"].endswith("at least 2 values are needed, not 5 and 0.")
    assert compare_replicates([], [])["recall"]["a"]["values"] == []


def check_reasons(found: Any) -> None:
    """Where there is a reason something is None, and the other way round."""
    for value in found.values() if isinstance(found, dict) else found:
        if isinstance(value, dict | list):
            check_reasons(value)
    if isinstance(found, dict) and "reason" in found:
        missing = [key for key, value in found.items() if value is None and key != "reason"]
        assert bool(missing) == (found["reason"] is not None), found


RUNS = st.lists(st.tuples(*[st.integers(0, 3)] * 4), max_size=5)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(RUNS, RUNS, st.booleans())
def test_any_runs_give_json_with_a_reason_for_every_gap(a, b, same_cases):
    if same_cases:  # the second model calls everything the other way round
        b = [(fp, tn, tp, fn) for tn, fp, fn, tp in a]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = compare_replicates(a, b, test_to_train=0.4)
    assert list(found) == list(METRICS)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for metric in found.values():
        check_reasons(metric)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([(1, 2, 3)], []), r"a: run 0 is \(1, 2, 3\); a run has four counts"),
        (([], [(1, 2, 3, 4), (1, 2, -3, 4)]), r"b: run 1 is \(1, 2, -3, 4\)"),
        (([(1, 2, 3, 0.5)], []), "a: run 0"),
        (([], [], 5), "alpha is 5"),
    ],
)
def test_what_is_no_run_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        compare_replicates(*arguments)


@pytest.mark.parametrize("ratio", [0, -1, np.inf, np.nan])
def test_the_ratio_of_patients_is_above_zero(ratio):
    with pytest.raises(UserError, match="patients tested on over patients trained on"):
        compare_replicates(FIRST, SECOND, test_to_train=ratio)
