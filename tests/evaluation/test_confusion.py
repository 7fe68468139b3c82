"""Confusion counts and metrics by hand, against scikit-learn, and against published matrices."""

import numpy as np
import pytest
from sklearn import metrics

from src.errors import UserError
from src.evaluation.confusion import (
    binary_metrics,
    confusion_matrix,
    macro_metrics,
    one_against_rest,
    outcome_counts,
    settled,
)

# Figure 4 of the dual-task ViT (arXiv 2405.06814): hemorrhage (TN, FP / FN, TP), then its location
HEAD_1 = np.array([[1317, 6], [22, 1678]])
HEAD_2 = np.array([[556, 0, 12], [13, 476, 4], [2, 3, 614]])


def rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in values.items()}


def test_counts_by_hand():
    labels, predictions = np.array([0, 0, 0, 1, 1, 1, 1]), np.array([0, 1, 0, 0, 1, 1, 1])
    counts = outcome_counts(labels, predictions)
    assert counts == (2, 1, 1, 3)
    assert (counts.tn, counts.fp, counts.fn, counts.tp) == (2, 1, 1, 3)
    assert outcome_counts(labels.astype(bool), predictions.astype(bool)) == counts
    assert outcome_counts(np.zeros(0), np.zeros(0)) == (0, 0, 0, 0)


def test_metrics_by_hand():
    expected = {"accuracy": 5 / 7, "precision": 3 / 4, "recall": 3 / 4, "f1": 3 / 4, "specificity": 2 / 3}
    assert binary_metrics((2, 1, 1, 3)) == pytest.approx(expected)


def test_shares_of_nothing_are_undefined():
    never_called, no_positive, nobody = binary_metrics([(3, 0, 2, 0), (4, 1, 0, 0), (0, 0, 0, 0)])["f1"]
    assert (never_called, no_positive) == (0, 0)
    assert np.isnan(nobody)
    found = binary_metrics([(3, 0, 2, 0), (4, 1, 0, 0), (0, 0, 0, 2)])
    assert np.isnan(found["precision"]).tolist() == [True, False, False]
    assert np.isnan(found["recall"]).tolist() == [False, True, False]
    assert np.isnan(found["specificity"]).tolist() == [False, False, True]


def test_undefined_values_count_as_zero_or_are_left_out():
    values = np.array([0.5, np.nan, 1.0])
    assert settled(values, "zero").tolist() == [0.5, 0, 1]
    assert settled(values, "dropped").tolist() == [0.5, 1]
    with pytest.raises(UserError, match="undefined is 'ignored'; expected zero or dropped"):
        settled(values, "ignored")


def test_published_hemorrhage_head():
    expected = {
        "accuracy": 0.9907,
        "precision": 0.9964,
        "recall": 0.9871,
        "f1": 0.9917,
        "specificity": 0.9955,
    }
    assert rounded(binary_metrics(HEAD_1.ravel())) == expected


def test_published_location_head():
    found = rounded(macro_metrics(HEAD_2))
    assert (found["accuracy"], found["precision"], found["recall"]) == (0.9798, 0.9807, 0.9788)
    # of 1680 cases: 568, 493 and 619 of a class; 15, 3 and 16 others are called so
    assert one_against_rest(HEAD_2).tolist() == [[1097, 15, 12, 556], [1184, 3, 17, 476], [1045, 16, 5, 614]]
    assert found["specificity"] == round((1097 / 1112 + 1184 / 1187 + 1045 / 1061) / 3, 4)
    assert found["f1"] == round((1112 / 1139 + 952 / 972 + 1228 / 1249) / 3, 4)


def test_macro_metrics_equal_scikit_learn():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 200)
    called = np.where(rng.random(200) < 0.6, truth, rng.integers(0, 4, 200))  # 4 is seldom called
    matrix = confusion_matrix(truth, called, 6)  # 5 never occurs
    assert (matrix == metrics.confusion_matrix(truth, called, labels=range(6))).all()
    found = macro_metrics(matrix)
    options = {"labels": range(6), "average": "macro", "zero_division": 0}
    expected = metrics.precision_recall_fscore_support(truth, called, **options)[:3]
    assert (found["precision"], found["recall"], found["f1"]) == pytest.approx(expected)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(truth, called))


def test_classes_without_cases_may_be_left_out():
    matrix = np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    assert macro_metrics(matrix)["recall"] == pytest.approx((3 / 4 + 1) / 3)
    assert macro_metrics(matrix, "dropped")["recall"] == pytest.approx((3 / 4 + 1) / 2)
    assert np.isnan(list(macro_metrics(np.zeros((2, 2), int), "dropped").values())).all()


def test_a_class_that_does_not_occur_may_be_left_out_and_one_that_is_never_called_kept():
    matrix = np.array([[3, 1, 0, 0], [0, 4, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]])
    found = macro_metrics(matrix, "present")
    assert found["recall"] == pytest.approx((3 / 4 + 1 + 0) / 3)
    assert found["precision"] == pytest.approx((3 / 5 + 4 / 5 + 0) / 3)
    assert found["specificity"] == pytest.approx((4 / 6 + 5 / 6 + 1) / 3)
    assert found["accuracy"] == pytest.approx(7 / 10)
    assert np.isnan(macro_metrics(np.array([[3, 1], [0, 0]]), "present")["specificity"])
    with pytest.raises(UserError, match="expected zero, dropped or present"):
        macro_metrics(matrix, "all")


def test_many_matrices_at_once_are_each_by_itself():
    matrices = np.stack([HEAD_2, HEAD_2.T, np.eye(3, dtype=int)])
    for undefined in ("zero", "dropped", "present"):
        together = macro_metrics(matrices, undefined)
        for number, matrix in enumerate(matrices):
            alone = macro_metrics(matrix, undefined)
            assert {name: values[number] for name, values in together.items()} == pytest.approx(
                {name: float(value) for name, value in alone.items()}
            )


@pytest.mark.parametrize(
    "labels, predictions, message",
    [
        ([0, 1], [0], r"labels \(2,\) and predictions \(1,\)"),
        ([0, 1], [0, 2], "predictions: case 1 is 2; classes are 0 to 1"),
        ([0, np.nan], [0, 1], "labels: case 1 is nan"),
        ([0, 1], [0, 0.7], "predictions: case 1 is 0.7"),
    ],
)
def test_other_values_are_refused(labels, predictions, message):
    with pytest.raises(UserError, match=message):
        outcome_counts(np.array(labels), np.array(predictions))


@pytest.mark.parametrize("matrix", [[[1, 2, 3], [4, 5, 6]], [[1, -1], [0, 2]], [1, 2, 3]])
def test_a_confusion_matrix_is_square_and_counts(matrix):
    with pytest.raises(UserError, match="square matrix of counts"):
        macro_metrics(np.array(matrix))
