"""Ranking metrics of one binary label: AUC with DeLong's standard error, paired DeLong, average precision.

y is (n,) bool, scores (n,) float; a higher score means positive; ties count one half.  With one class only,
an area is undefined and NaN is returned.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri


class Auc(NamedTuple):
    """AUC with DeLong's standard error and normal interval, cut to [0, 1]; state `positives` beside it."""

    auc: float
    se: float
    low: float
    high: float
    positives: int
    negatives: int


class AucDifference(NamedTuple):
    """AUC of the first scores minus AUC of the second on the same cases; p is two-sided."""

    difference: float
    se: float
    low: float
    high: float
    z: float
    p: float


def auc(y: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve by midranks (Mann-Whitney)."""
    positives, negatives = int(y.sum()), int((~y).sum())
    if not positives or not negatives:
        return float("nan")
    ranks = _ranks(scores)[y].sum() - positives * (positives + 1) / 2
    return float(ranks / (positives * negatives))


def average_precision(y: np.ndarray, scores: np.ndarray) -> float:
    """Area under the precision-recall steps, as scikit-learn's average_precision_score."""
    return weighted_average_precision(y, scores, np.arange(len(y)))(np.ones(len(y), np.int64))


def delong(y: np.ndarray, scores: np.ndarray, alpha: float = 0.05) -> Auc:
    """AUC with interval (DeLong et al., Biometrics 1988, by the midranks of Sun and Xu, IEEE SPL 2014)."""
    areas, covariance = _delong_covariance(y, [scores])
    half = -ndtri(alpha / 2) * (se := float(np.sqrt(covariance[0, 0])))
    area = float(areas[0])
    low, high = np.clip([area - half, area + half], 0, 1)
    return Auc(area, se, float(low), float(high), int(y.sum()), int((~y).sum()))


def delong_paired(y: np.ndarray, first: np.ndarray, second: np.ndarray, alpha: float = 0.05) -> AucDifference:
    """Do two models that scored the same cases differ in AUC?  Equal scores give z = 0, p = 1."""
    areas, covariance = _delong_covariance(y, [first, second])
    difference = float(areas[0] - areas[1])
    se = float(np.sqrt(max(np.array([1, -1]) @ covariance @ np.array([1, -1]), 0.0)))
    half = -ndtri(alpha / 2) * se
    z = difference / se if se else float(np.copysign(np.inf, difference)) if difference else 0.0
    return AucDifference(difference, se, difference - half, difference + half, z, float(2 * ndtr(-abs(z))))


def _delong_covariance(y: np.ndarray, models: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """AUCs (k,) and their covariance (k, k); NaN where a class has fewer than two cases."""
    positives, negatives = int(y.sum()), int((~y).sum())
    if positives < 2 or negatives < 2:
        return np.array([auc(y, s) for s in models]), np.full((len(models), len(models)), np.nan)
    from_positives, from_negatives = [], []
    for scores in models:
        everyone = _ranks(scores)
        # the share of the other class that each case beats
        from_positives.append((everyone[y] - _ranks(scores[y])) / negatives)
        from_negatives.append(1 - (everyone[~y] - _ranks(scores[~y])) / positives)
    covariance = np.atleast_2d(np.cov(from_positives)) / positives
    return np.mean(from_positives, axis=1), covariance + np.atleast_2d(np.cov(from_negatives)) / negatives


Area = Callable[[np.ndarray], float]  # of weights (clusters,)


def weighted_auc(y: np.ndarray, scores: np.ndarray, cluster: np.ndarray) -> Area:
    """Sort once, then give the AUC for any whole weights of clusters.

    cluster: (n,) int, the patient of every row.  Equal to scikit-learn's with sample_weight =
    weights[cluster]; a pass over the rows only gathers and sums, the rest is done for the positives.
    """
    y, cluster, first, last = _sorted_rows(y, scores, cluster)
    positive = np.flatnonzero(y)
    above, upto = first[positive], last[positive] + 1  # rows of higher scores, and of the same ones too

    def area(weights: np.ndarray) -> float:
        weight = weights[cluster]
        true = weight[positive]
        weight[positive] = 0
        false = np.append(0, np.cumsum(weight))
        total = true.sum() * false[-1]
        if total == 0:
            return float("nan")
        return float(true @ (false[-1] - (false[above] + false[upto]) / 2) / total)

    return area


def weighted_average_precision(y: np.ndarray, scores: np.ndarray, cluster: np.ndarray) -> Area:
    """As `weighted_auc`, for the area under the precision-recall steps."""
    y, cluster, _, last = _sorted_rows(y, scores, cluster)
    positive = np.flatnonzero(y)
    upto = last[positive]  # rows of this score or a higher one end here
    true_upto = np.searchsorted(positive, upto, side="right") - 1  # and positives among them here

    def area(weights: np.ndarray) -> float:
        weight = weights[cluster]
        true, flagged = weight[positive], np.cumsum(weight)
        found = np.cumsum(true)
        if not len(found) or found[-1] in (0, flagged[-1]):
            return float("nan")
        drawn = true > 0
        return float(true[drawn] @ (found[true_upto[drawn]] / flagged[upto[drawn]]) / found[-1])

    return area


def _sorted_rows(
    y: np.ndarray, scores: np.ndarray, cluster: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """y and cluster from the highest score to the lowest; the first and the last row of each row's tie."""
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    starts = np.flatnonzero(np.append(True, scores[1:] != scores[:-1]))
    sizes = np.diff(np.append(starts, len(scores)))
    return y[order], cluster[order], np.repeat(starts, sizes), np.repeat(starts + sizes - 1, sizes)


def _ranks(values: np.ndarray) -> np.ndarray:
    """From 1, of ties the mean."""
    from scipy.stats import rankdata  # a second to import, which who asks a network need not wait for

    return rankdata(values)
