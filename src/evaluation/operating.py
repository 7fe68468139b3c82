"""Operating points: a threshold is chosen on one set of cases and judged on another.

A case is called positive when its score is at least the threshold.  y is (n,) bool, scores (n,) float.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtri

from ..labels import LABELS
from .bootstrap import Interval, PatientBootstrap
from .confusion import Counts, binary_metrics

POINTS = "operating_points.json"  # what step 5 leaves of them
RATES = (0.90, 0.95)  # sensitivities and specificities that a threshold is stated for


class Rate(NamedTuple):
    """A proportion with its Wilson interval; NaN where there is no case."""

    value: float
    low: float
    high: float
    cases: int


class OperatingPoint(NamedTuple):
    """The 2 x 2 table at one threshold and its rates.  State the positives, tp + fn, beside them."""

    threshold: float
    tp: int
    fp: int
    tn: int
    fn: int
    sensitivity: Rate
    specificity: Rate
    ppv: Rate
    npv: Rate


class Judged(NamedTuple):
    """The confusion counts at one threshold, and their rates with the intervals of a patient bootstrap."""

    threshold: float
    counts: Counts
    sensitivity: Interval
    specificity: Interval
    ppv: Interval


def threshold_at_specificity(y: np.ndarray, scores: np.ndarray, specificity: float) -> float:
    """The threshold of the ROC point of highest sensitivity among those with at least this specificity."""
    thresholds, sensitivities, specificities = _roc_points(y, scores)
    return float(thresholds[_best(specificities >= specificity, sensitivities, specificities)])


def threshold_at_sensitivity(y: np.ndarray, scores: np.ndarray, sensitivity: float) -> float:
    """The threshold of the ROC point of highest specificity among those with at least this sensitivity."""
    thresholds, sensitivities, specificities = _roc_points(y, scores)
    return float(thresholds[_best(sensitivities >= sensitivity, specificities, sensitivities)])


def at_threshold(y: np.ndarray, scores: np.ndarray, threshold: float, alpha: float = 0.05) -> OperatingPoint:
    """Judge a threshold that was fixed on other data (pass the same data for a published in-sample table)."""
    called = scores >= threshold
    tp, fp = int((called & y).sum()), int((called & ~y).sum())
    fn, tn = int((~called & y).sum()), int((~called & ~y).sum())
    return OperatingPoint(
        float(threshold), tp, fp, tn, fn,
        sensitivity=wilson(tp, tp + fn, alpha), specificity=wilson(tn, tn + fp, alpha),
        ppv=wilson(tp, tp + fp, alpha), npv=wilson(tn, tn + fn, alpha),
    )  # fmt: skip


def judge(
    y: np.ndarray, scores: np.ndarray, thresholds: Sequence[float], patients: np.ndarray, **options: float
) -> list[Judged]:
    """Several thresholds on cases of which a patient has many. patients: (n,) the patient of every case;
    options (replicates, seed, alpha) go to PatientBootstrap.
    """
    called, truth = scores[:, None] >= np.asarray(thresholds), y[:, None]
    cells = np.stack([~truth & ~called, ~truth & called, truth & ~called, truth & called], axis=-1)
    rows = cells.reshape(len(y), -1)  # a threshold's four cells beside each other
    intervals = PatientBootstrap(patients, **options).intervals(rows, _rates)
    counts, count = cells.sum(axis=0), len(thresholds)
    return [
        Judged(float(threshold), Counts(*counts[i].tolist()), *intervals[i::count])
        for i, threshold in enumerate(thresholds)
    ]


def _rates(sums: np.ndarray) -> np.ndarray:
    """(..., 4 * thresholds) -> (..., 3 * thresholds): every sensitivity, every specificity, every PPV."""
    rates = binary_metrics(sums.reshape(*sums.shape[:-1], -1, 4))
    return np.concatenate([rates[name] for name in ("recall", "specificity", "precision")], axis=-1)


def wilson(successes: int, cases: int, alpha: float = 0.05) -> Rate:
    """A proportion with Wilson's score interval."""
    if not cases:
        return Rate(float("nan"), float("nan"), float("nan"), 0)
    rate, z = successes / cases, float(-ndtri(alpha / 2))
    centre = rate + z * z / (2 * cases)
    half = z * np.sqrt(rate * (1 - rate) / cases + (z / (2 * cases)) ** 2)
    scale = 1 + z * z / cases
    return Rate(
        rate, max(float((centre - half) / scale), 0.0), min(float((centre + half) / scale), 1.0), cases
    )


def predictive_values(sensitivity: float, specificity: float, prevalence: float) -> tuple[float, float]:
    """(PPV, NPV) at a stated prevalence, by Bayes' rule: a study's is rarely the clinic's."""
    true, false = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    missed, cleared = (1 - sensitivity) * prevalence, specificity * (1 - prevalence)
    return true / (true + false), cleared / (cleared + missed)


def _roc_points(y: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct thresholds from above the highest score to the lowest, sensitivities, specificities."""
    if y.all() or not y.any():
        raise ValueError("a threshold cannot be chosen where all cases are of one class")
    values, group = np.unique(-scores, return_inverse=True)
    true, false = np.cumsum(np.bincount(group, y)), np.cumsum(np.bincount(group, ~y))
    thresholds = np.append(np.inf, -values)
    return thresholds, np.append(0, true) / true[-1], 1 - np.append(0, false) / false[-1]


def _best(allowed: np.ndarray, first: np.ndarray, second: np.ndarray) -> int:
    """Position of the highest `first` among the allowed points, then of the highest `second`."""
    return int(np.lexsort((second, first, allowed))[-1])


def operating_points(labels: pd.DataFrame, answers: pd.DataFrame) -> dict[str, Any]:
    """Thresholds of every label on held-out slices, each with the rates found there: a little higher than on
    other patients where `answers` are of a blend that was fitted on the same slices.

    Tables with the same index, columns LABELS; content of operating_points.json.
    """
    return {
        "unit": "slice",
        "slices": len(labels),
        "labels": {label: _points(labels[label].to_numpy(), answers[label].to_numpy()) for label in LABELS},
    }


def _points(y: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """Nothing but the counts where one of the classes is absent."""
    counts = {"positives": int(y.sum()), "negatives": int((~y).sum())}
    if not counts["positives"] or not counts["negatives"]:
        return counts
    finders = {"sensitivity": threshold_at_sensitivity, "specificity": threshold_at_specificity}
    for name, find in finders.items():
        for rate in RATES:
            point = at_threshold(y, scores, find(y, scores, rate))
            counts[f"{name}_{round(100 * rate)}"] = {
                # the highest ROC point calls nothing positive: no score reaches it
                "threshold": point.threshold if np.isfinite(point.threshold) else None,
                "sensitivity": point.sensitivity[:3],
                "specificity": point.specificity[:3],
            }
    return counts
