"""Confusion counts and what follows from them: accuracy, precision, recall, F1, specificity.

A matrix has the truth in its rows and the prediction in its columns; the counts of a binary one are
(TN, FP, FN, TP), its cells in that order.  A share of nothing (precision where nothing was called positive)
is NaN; `settled` replaces or leaves it out.
"""

from typing import NamedTuple

import numpy as np

from ..errors import UserError

UNDEFINED = ("zero", "dropped")


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
    return {name: _share(part, whole) for name, (part, whole) in shares.items()}


def settled(values: np.ndarray, undefined: str) -> np.ndarray:
    """(n,) with NaN set to 0 where `undefined` is "zero", left out where it is "dropped"."""
    if undefined not in UNDEFINED:
        raise UserError(f"undefined is {undefined!r}; expected zero or dropped")
    return np.nan_to_num(values) if undefined == "zero" else values[~np.isnan(values)]


def one_against_rest(matrix: np.ndarray) -> np.ndarray:
    """(..., k, k) confusion matrices -> (..., k, 4) counts of each class against all others."""
    matrix = np.asarray(matrix)
    if matrix.ndim < 2 or len(set(matrix.shape[-2:])) != 1 or (matrix < 0).any():
        raise UserError(f"{matrix.tolist()} is no confusion matrix; give a square matrix of counts")
    tp = np.diagonal(matrix, axis1=-2, axis2=-1)
    fp, fn = matrix.sum(axis=-2) - tp, matrix.sum(axis=-1) - tp
    return np.stack([matrix.sum(axis=(-2, -1))[..., None] - tp - fp - fn, fp, fn, tp], axis=-1)


def macro_metrics(matrix: np.ndarray, undefined: str = "zero") -> dict[str, np.ndarray]:
    """(..., k, k) confusion matrices -> (...) share of correct cases, and the others as means over classes.

    `undefined` as in `settled`, for classes without a case or a prediction, or "present": classes without a
    case are left out, and the precision of one that is never called is 0. NaN where nothing is left.
    """
    counts = one_against_rest(matrix)
    by_class = binary_metrics(counts)
    if undefined not in (*UNDEFINED, "present"):
        raise UserError(f"undefined is {undefined!r}; expected zero, dropped or present")
    if undefined == "present":
        occurs, undefined = counts[..., 2:].sum(axis=-1) > 0, "dropped"
        by_class["precision"] = np.nan_to_num(by_class["precision"])
        by_class = {name: np.where(occurs, values, np.nan) for name, values in by_class.items()}
    means = {name: _mean_of_classes(values, undefined) for name, values in by_class.items()}
    right, cases = counts[..., 3].sum(axis=-1), counts.sum(axis=-1)[..., 0]
    return {**means, "accuracy": _share(right, cases)}


def _mean_of_classes(values: np.ndarray, undefined: str) -> np.ndarray:
    known = np.ones_like(values) if undefined == "zero" else ~np.isnan(values)
    return _share(np.nan_to_num(values).sum(axis=-1), known.sum(axis=-1))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """NaN of nothing."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)
