"""Confusion counts and what follows from them: accuracy, precision, recall, F1, specificity.

A matrix has the truth in its rows and the prediction in its columns; the counts of a binary one are
(TN, FP, FN, TP), its cells in that order.  A share of nothing (precision where nothing was called positive)
is NaN; `settled` replaces or leaves it out.
"""

from typing import NamedTuple

import numpy as np

from ..errors import UserError


class Counts(NamedTuple):
    """The cells of a binary confusion matrix."""

    tn: int
    fp: int
    fn: int
    tp: int


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """(n,) and (n,) class numbers -> (classes, classes) int; other values raise UserError."""
    truth, called = np.asarray(labels), np.asarray(predictions)
    if truth.ndim != 1 or truth.shape != called.shape:
        raise UserError(
            f"labels {truth.shape} and predictions {called.shape}: give one of each for every case"
        )
    for name, values in (("labels", truth), ("predictions", called)):
        wrong = np.flatnonzero(~np.isin(values, np.arange(classes)))
        if len(wrong):
            raise UserError(f"{name}: case {wrong[0]} is {values[wrong[0]]}; classes are 0 to {classes - 1}")
    cell = truth.astype(np.int64) * classes + called.astype(np.int64)
    return np.bincount(cell, minlength=classes**2).reshape(classes, classes)


def outcome_counts(labels: np.ndarray, predictions: np.ndarray) -> Counts:
    """(n,) and (n,) of 0/1 or bool -> (TN, FP, FN, TP)."""
    return Counts(*confusion_matrix(labels, predictions, 2).ravel().tolist())


def binary_metrics(counts: np.ndarray | tuple[int, ...]) -> dict[str, np.ndarray]:
    """(..., 4) counts -> accuracy, precision, recall = TP / (TP + FN), f1, specificity, each (...)."""
    tn, fp, fn, tp = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    shares = {
        "accuracy": (tn + tp, tn + fp + fn + tp),
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "f1": (2 * tp, 2 * tp + fp + fn),
        "specificity": (tn, tn + fp),
    }
    return {
        name: np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)
        for name, (part, whole) in shares.items()
    }


def settled(values: np.ndarray, undefined: str) -> np.ndarray:
    """(n,) with NaN set to 0 where `undefined` is "zero", left out where it is "dropped"."""
    if undefined not in ("zero", "dropped"):
        raise UserError(f"undefined is {undefined!r}; expected zero or dropped")
    return np.nan_to_num(values) if undefined == "zero" else values[~np.isnan(values)]


def one_against_rest(matrix: np.ndarray) -> np.ndarray:
    """(k, k) confusion matrix -> (k, 4) counts of each class against all others."""
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or len(set(matrix.shape)) != 1 or (matrix < 0).any():
        raise UserError(f"{matrix.tolist()} is no confusion matrix; give a square matrix of counts")
    tp = np.diag(matrix)
    fp, fn = matrix.sum(axis=0) - tp, matrix.sum(axis=1) - tp
    return np.stack([matrix.sum() - tp - fp - fn, fp, fn, tp], axis=1)


def macro_metrics(matrix: np.ndarray, undefined: str = "zero") -> dict[str, float]:
    """(k, k) confusion matrix -> share of correct cases, and the other metrics as plain means over classes.

    `undefined` as in `settled`, for classes without a case or a prediction; NaN where nothing is left.
    """
    matrix = np.asarray(matrix)
    by_class = {
        name: settled(values, undefined) for name, values in binary_metrics(one_against_rest(matrix)).items()
    }
    means = {name: float(values.mean()) if len(values) else np.nan for name, values in by_class.items()}
    return {**means, "accuracy": float(np.trace(matrix) / matrix.sum()) if matrix.sum() else np.nan}
