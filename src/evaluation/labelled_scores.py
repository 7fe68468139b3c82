"""Predictions of labelled data that nobody trained on, scored by image and by study; labels may be unknown.

Intervals are 95 %. Images: patients are drawn (see bootstrap.py). Studies: DeLong's for an area, patients
drawn for the loss; a study scores the maximum over its slices. What is undefined, for want of positives or of
patients, is None.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..labels import LABELS
from .bootstrap import Interval, PatientBootstrap, difference_interval
from .metrics import WEIGHTS, log_losses
from .reliability import brier, expected_calibration_error
from .roc import auc, delong, delong_paired, weighted_auc

COMPARED = ("difference", "low", "high", "z", "p")


@dataclass(frozen=True)
class Labelled:
    """Rows of images or of studies whose labels are known, at least one of them."""

    labels: pd.DataFrame  # columns LABELS, float64, NaN where not known
    patients: pd.Series  # by the same index: patients, or groups of linked ones
    by_study: bool
    replicates: int = 1000
    seed: int = 0

    def scores(self, probabilities: pd.DataFrame) -> dict[str, Any]:
        """patients, weighted_log_loss, labels: label -> positives, auc, interval, brier, ece."""
        p = probabilities.loc[self.labels.index, list(LABELS)].to_numpy(np.float64)
        return {
            "patients": int(self.patients.nunique()),
            "weighted_log_loss": self._loss(p),
            "labels": {label: self._label(column, p) for column, label in enumerate(LABELS)},
        }

    def difference(self, first: pd.DataFrame, second: pd.DataFrame) -> dict[str, Any]:
        """First minus second on the same rows: weighted_log_loss (below 0: the first is better) and, of
        studies, auc: label -> the two areas and DeLong's paired test (above 0: the first is better).
        """
        a, b = (t.loc[self.labels.index, list(LABELS)].to_numpy(np.float64) for t in (first, second))
        known = self._complete
        losses = [log_losses(self._y[known], p[known]) @ WEIGHTS for p in (a, b)]
        found = None
        if known.any() and (bootstrap := self._bootstrap(known)) is not None:
            found = _value(difference_interval(*losses, bootstrap))
        if not self.by_study:
            return {"rows": int(known.sum()), "weighted_log_loss": found}
        areas = {label: self._paired(column, a, b) for column, label in enumerate(LABELS)}
        return {"rows": int(known.sum()), "weighted_log_loss": found, "auc": areas}

    @property
    def baseline(self) -> float | None:
        """Weighted log loss of these rows' own prevalence, said of each."""
        y = self._y[self._complete]
        if not len(y):
            return None
        return float((log_losses(y, np.broadcast_to(y.mean(0), y.shape)) @ WEIGHTS).mean())

    @property
    def _y(self) -> np.ndarray:
        return self.labels[list(LABELS)].to_numpy(np.float64)

    @property
    def _complete(self) -> np.ndarray:
        """(n,) where all six labels are known, which the weighted log loss takes."""
        return np.isfinite(self._y).all(1)

    def _bootstrap(self, rows: np.ndarray) -> PatientBootstrap | None:
        patients = self.patients.loc[self.labels.index].to_numpy()[rows]
        if len(np.unique(patients)) < 2:
            return None
        return PatientBootstrap(patients, self.replicates, self.seed)

    def _loss(self, p: np.ndarray) -> dict[str, Any] | None:
        known = self._complete
        if not known.any():
            return None
        loss = log_losses(self._y[known], p[known]) @ WEIGHTS
        bootstrap = self._bootstrap(known)
        if bootstrap is None:
            return {"value": float(loss.mean()), "interval": None}
        return _value(difference_interval(loss, np.zeros_like(loss), bootstrap))

    def _label(self, column: int, p: np.ndarray) -> dict[str, Any]:
        known = np.isfinite(self._y[:, column])
        y, p = self._y[known, column] == 1, p[known, column]
        if not len(y):
            return {"positives": 0, "auc": None, "interval": None, "brier": None, "ece": None}
        area, low, high = delong_area(y, p) if self.by_study else self._drawn_area(known, y, p)
        return {
            "positives": int(y.sum()),
            "auc": _plain(area),
            "interval": _pair(low, high),
            "brier": brier(y, p),
            "ece": expected_calibration_error(y, p),
        }

    def _drawn_area(self, known: np.ndarray, y: np.ndarray, p: np.ndarray) -> tuple[float, float, float]:
        bootstrap = self._bootstrap(known)
        if bootstrap is None:
            return auc(y, p), np.nan, np.nan
        area = weighted_auc(y, p, bootstrap.code)
        drawn = np.array([area(weights) for weights in bootstrap.draws()])
        return bootstrap.summarise(np.array([auc(y, p)]), drawn[:, None])[0]

    def _paired(self, column: int, a: np.ndarray, b: np.ndarray) -> dict[str, float | None]:
        known = np.isfinite(self._y[:, column])
        y, first, second = self._y[known, column] == 1, a[known, column], b[known, column]
        found = delong_paired(y, first, second)._asdict()
        return {
            "positives": int(y.sum()),
            "first": _plain(auc(y, first)),
            "second": _plain(auc(y, second)),
            **{name: _plain(found[name]) for name in COMPARED},
        }


def delong_area(y: np.ndarray, p: np.ndarray) -> tuple[float, float, float]:
    found = delong(y, p)
    return found.auc, found.low, found.high


def _value(interval: Interval) -> dict[str, Any]:
    return {"value": interval.estimate, "interval": _pair(interval.low, interval.high)}


def _pair(low: float, high: float) -> list[float] | None:
    return [float(low), float(high)] if np.isfinite([low, high]).all() else None


def _plain(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return float(value) if np.isfinite(value) else None
