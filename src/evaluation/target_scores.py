"""The scores of a run's targets: the contest's metric for the six labels, log loss and shares for others."""

from typing import Any

import numpy as np
import pandas as pd

from ..targets import HEMORRHAGE, Head, Targets
from .alignment import positions, series_values
from .bootstrap import Interval, PatientBootstrap
from .confusion import binary_metrics, confusion_matrix, macro_metrics, outcome_counts
from .metrics import SCORING_EPS, held_out_scores, log_losses
from .roc import auc

SHARES = ("accuracy", "precision", "recall", "f1", "specificity")
LOCATION = "location"  # what the columns of an exclusive head are called together


def scores_of(targets: Targets, labels: pd.DataFrame, probabilities: pd.DataFrame) -> dict[str, Any]:
    """What metrics.json says of predictions: `score`, `baseline` (the rates of the labels themselves), more.

    Tables are indexed alike, in any order; a label that is not known or not asked is NaN.
    """
    if targets is HEMORRHAGE:
        return held_out_scores(labels, probabilities)
    order = positions(labels.index, probabilities.index, "predictions")
    probabilities = probabilities if order is None else probabilities.iloc[order]
    heads = [head_scores(head, labels, probabilities) for head in targets.heads]
    return {
        "targets": targets.name,
        "score": sum(head["log_loss"] for head in heads),
        "baseline": sum(head["baseline"] for head in heads),
        "eps": SCORING_EPS,
        "heads": heads,
        "rows": len(labels),
    }


def score_interval(
    targets: Targets, labels: pd.DataFrame, probabilities: pd.DataFrame, patients: pd.Series, **options: float
) -> Interval:
    """The `score` of `scores_of` with its patient-cluster bootstrap interval.

    `patients` is key -> patient for at least the rows of `labels`; `options` go to PatientBootstrap.
    """
    order = positions(labels.index, probabilities.index, "predictions")
    probabilities = probabilities if order is None else probabilities.iloc[order]
    sums = []
    for head in targets.heads:
        asked, y, p = _asked(head, labels, probabilities)
        losses = np.zeros(len(labels))
        losses[asked] = _row_losses(head, y, p)
        sums += [losses, asked.astype(np.float64)]
    bootstrap = PatientBootstrap(series_values(patients, labels.index, "patients"), **options)
    return bootstrap.interval(np.stack(sums, axis=1), _sum_of_means)


def _sum_of_means(sums: np.ndarray) -> np.ndarray:
    """(..., 2 heads) of loss and rows by turns -> (...); a head that nothing asks costs nothing."""
    losses, rows = sums[..., ::2], sums[..., 1::2]
    return np.divide(losses, rows, out=np.zeros_like(losses), where=rows > 0).sum(-1)


def head_scores(head: Head, labels: pd.DataFrame, probabilities: pd.DataFrame) -> dict[str, Any]:
    """Log loss and the shares at a threshold of .5, or of the likeliest class, over the rows asked."""
    columns = list(head.columns)
    _, y, p = _asked(head, labels, probabilities)
    if not len(y):
        return {"columns": columns, "rows": 0, "log_loss": 0.0, "baseline": 0.0}
    rates = np.broadcast_to(y.mean(0), y.shape)
    found = {
        "columns": columns,
        "rows": len(y),
        "log_loss": float(_row_losses(head, y, p).mean()),
        "baseline": float(_row_losses(head, y, rates).mean()),
    }
    if head.exclusive:
        matrix = confusion_matrix(y.argmax(1), p.argmax(1), len(columns))
        return found | {"confusion": matrix.tolist(), **_plain(macro_metrics(matrix, "present"))}
    for column, name in enumerate(columns):
        counts = outcome_counts(y[:, column], p[:, column] >= 0.5)
        area = auc(y[:, column] == 1, p[:, column])
        found[name] = {"counts": list(counts), **_plain(binary_metrics(counts)), **_plain({"auc": area})}
    return found


def share_intervals(
    head: Head, labels: pd.DataFrame, probabilities: pd.DataFrame, patients: pd.Series, **options: float
) -> dict[str, dict[str, Interval]]:
    """Accuracy, precision, recall, F1 and specificity as in `head_scores`, with patient-cluster bootstrap
    intervals, of every column; of an exclusive head of all columns together, by the name LOCATION.

    labels and probabilities as in `scores_of`, in one order; patients and options as in `score_interval`.
    """
    bootstrap = PatientBootstrap(series_values(patients, labels.index, "patients"), **options)
    return {
        name: dict(zip(SHARES, bootstrap.intervals(cells, _shares), strict=True))
        for name, cells in _cells(head, labels, probabilities).items()
    }


def head_differences(
    head: Head,
    labels: pd.DataFrame,
    first: pd.DataFrame,
    second: pd.DataFrame,
    patients: pd.Series,
    **options: float,
) -> dict[str, Interval]:
    """First minus second, paired by patient, of the head's `log_loss` and of its SHARES, which an exclusive
    head or one of a single column has; tables as in `share_intervals`.
    """
    bootstrap = PatientBootstrap(series_values(patients, labels.index, "patients"), **options)
    asked, y, p = _asked(head, labels, first)
    gaps = np.zeros(len(labels))
    gaps[asked] = _row_losses(head, y, p) - _row_losses(head, y, _asked(head, labels, second)[2])
    loss = bootstrap.interval(np.stack([gaps, asked], axis=1), _sum_of_means)
    tables = [next(iter(_cells(head, labels, table).values())) for table in (first, second)]

    def differences(sums: np.ndarray) -> np.ndarray:
        one, other = np.split(sums, 2, axis=-1)
        return _shares(one) - _shares(other)

    shares = bootstrap.intervals(np.concatenate(tables, axis=1), differences)
    return {"log_loss": loss, **dict(zip(SHARES, shares, strict=True))}


def _cells(head: Head, labels: pd.DataFrame, probabilities: pd.DataFrame) -> dict[str, np.ndarray]:
    """Of each column, or of the exclusive head: (n, k * k), 1 in the cell of the confusion matrix that a row
    falls into, nowhere where it is not asked.
    """
    asked, y, p = _asked(head, labels, probabilities)
    if head.exclusive:
        places = {LOCATION: (len(head.columns), y.argmax(1), p.argmax(1))}
    else:
        places = {name: (2, y[:, k] == 1, p[:, k] >= 0.5) for k, name in enumerate(head.columns)}
    found = {}
    for name, (classes, truth, called) in places.items():
        found[name] = np.zeros((len(labels), classes**2))
        found[name][np.flatnonzero(asked), classes * truth + called] = 1
    return found


def _shares(cells: np.ndarray) -> np.ndarray:
    """(..., k * k) sums of `_cells` -> (..., 5) SHARES; of more than two classes means over those present."""
    classes = round(cells.shape[-1] ** 0.5)
    if classes == 2:
        found = binary_metrics(cells)
    else:
        found = macro_metrics(cells.reshape(*cells.shape[:-1], classes, classes), "present")
    return np.stack([found[name] for name in SHARES], axis=-1)


def _asked(
    head: Head, labels: pd.DataFrame, probabilities: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n,) bool: rows that this head is asked, and the (m, columns) labels and probabilities of those."""
    columns = list(head.columns)
    asked = labels[columns].notna().all(axis=1).to_numpy()
    return asked, *(table.loc[asked, columns].to_numpy(np.float64) for table in (labels, probabilities))


def _row_losses(head: Head, y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """(n, columns) twice -> (n,) log losses."""
    if head.exclusive:
        return -(y * np.log(np.clip(p, SCORING_EPS, 1))).sum(1)
    return log_losses(y, p) @ np.array(head.shares)


def _plain(values: dict[str, Any]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {name: None if np.isnan(value) else float(value) for name, value in values.items()}
