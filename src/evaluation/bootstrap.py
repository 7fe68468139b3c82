"""Patient-cluster bootstrap: slices of one patient are alike, so patients are drawn, not slices.

Whatever is a function of sums over images (log loss, Brier, ECE, sensitivity at a fixed threshold) is
resampled from per-patient sums, so a replicate costs one `bincount` of patients whatever the number of
images.  AUC sorts once and reweights the sorted rows.  Results depend on the seed and the patients, never on
the order of rows.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..errors import UserError
from ..labels import LABELS
from .alignment import label_values, probability_values, series_values
from .metrics import SCORING_EPS, WEIGHTS, row_losses
from .roc import Area, weighted_auc, weighted_average_precision

Statistic = Callable[[np.ndarray], np.ndarray]


class Interval(NamedTuple):
    """An estimate on all data with its percentile interval."""

    estimate: float
    low: float
    high: float


class PatientBootstrap:
    """Replicates that draw as many patients as there are, with replacement.

    patients: (n,) the patient of every row.  At least two patients are needed.
    """

    def __init__(self, patients: np.ndarray, replicates: int = 1000, seed: int = 0, alpha: float = 0.05):
        self.code, names = pd.factorize(patients, sort=True)
        self.patients = len(names)
        if self.patients < 2:
            raise UserError(f"a patient bootstrap needs at least 2 patients, got {self.patients}; add data")
        self.replicates, self.seed, self.alpha = replicates, seed, alpha

    def draws(self) -> Iterator[np.ndarray]:
        """How often each patient is drawn, (patients,), one array a replicate; the same on every call."""
        rng = np.random.default_rng(self.seed)
        for _ in range(self.replicates):
            yield np.bincount(rng.integers(0, self.patients, self.patients), minlength=self.patients)

    def interval(self, rows: np.ndarray, statistic: Statistic) -> Interval:
        """Interval of a scalar function of sums: `statistic` maps (..., k) sums of `rows` (n, k) to (...)."""
        return self.intervals(rows, lambda sums: statistic(sums)[..., None])[0]

    def intervals(self, rows: np.ndarray, statistic: Statistic) -> list[Interval]:
        """The same for a function with several values: (..., k) -> (..., m); one Interval for each."""
        sums = np.stack(
            [np.bincount(self.code, column, self.patients) for column in rows.T.astype(np.float64)], axis=1
        )
        replicates = np.stack([draw @ sums for draw in self.draws()])
        return self.summarise(statistic(sums.sum(axis=0)), statistic(replicates))

    def summarise(self, estimates: np.ndarray, replicates: np.ndarray) -> list[Interval]:
        """Percentile intervals of (replicates, m), without replicates where a value is undefined (NaN)."""
        bounds = [self.alpha / 2, 1 - self.alpha / 2]
        result = []
        for estimate, column in zip(estimates, replicates.T, strict=True):
            column = column[~np.isnan(column)]
            low, high = np.quantile(column, bounds) if len(column) else (np.nan, np.nan)
            result.append(Interval(float(estimate), float(low), float(high)))
        return result


def bootstrap_weighted_log_loss(
    labels: pd.DataFrame,
    probabilities: pd.DataFrame,
    patients: pd.Series,
    eps: float = SCORING_EPS,
    **options: float,
) -> Interval:
    """Weighted log loss with its interval.

    `patients` is image_id -> patient for at least the images of `labels`; `options` (replicates, seed, alpha)
    go to PatientBootstrap.
    """
    bootstrap = _bootstrap(labels, patients, options)
    loss = row_losses(labels, probabilities, eps) @ WEIGHTS
    return bootstrap.interval(np.stack([loss, np.ones_like(loss)], axis=1), _ratio)


def bootstrap_label_log_losses(
    labels: pd.DataFrame,
    probabilities: pd.DataFrame,
    patients: pd.Series,
    eps: float = SCORING_EPS,
    **options: float,
) -> pd.DataFrame:
    """Log loss of each label: index LABELS, columns estimate, low, high."""
    losses = row_losses(labels, probabilities, eps)
    rows = np.column_stack([losses, np.ones(len(losses))])
    bootstrap = _bootstrap(labels, patients, options)
    return pd.DataFrame(bootstrap.intervals(rows, lambda sums: sums[..., :-1] / sums[..., -1:]), list(LABELS))


def bootstrap_weighted_log_loss_difference(
    labels: pd.DataFrame,
    first: pd.DataFrame,
    second: pd.DataFrame,
    patients: pd.Series,
    eps: float = SCORING_EPS,
    **options: float,
) -> Interval:
    """Weighted log loss of first minus second, paired by patient: below 0 where the first is better."""
    losses = [row_losses(labels, table, eps) @ WEIGHTS for table in (first, second)]
    return difference_interval(*losses, _bootstrap(labels, patients, options))


def bootstrap_weighted_log_loss_ratio(
    labels: pd.DataFrame,
    first: pd.DataFrame,
    second: pd.DataFrame,
    patients: pd.Series,
    eps: float = SCORING_EPS,
    **options: float,
) -> Interval:
    """Weighted log loss of first over second, paired by patient: below 1 where the first is better."""
    losses = [row_losses(labels, table, eps) @ WEIGHTS for table in (first, second)]
    return _bootstrap(labels, patients, options).interval(np.stack(losses, axis=1), _ratio)


def difference_interval(first: np.ndarray, second: np.ndarray, bootstrap: PatientBootstrap) -> Interval:
    """Mean of the losses `first` (n,) minus mean of the losses `second` (n,) of the same rows."""
    return bootstrap.interval(np.stack([first - second, np.ones_like(first)], axis=1), _ratio)


def describe_gain(gain: Interval) -> str:
    """`gain 0.000500 [0.000300, 0.000700]`: how far a log loss falls, with its paired patient interval."""
    return f"gain {gain.estimate:.6f} [{gain.low:.6f}, {gain.high:.6f}]"


def bootstrap_auc(
    labels: pd.DataFrame, probabilities: pd.DataFrame, patients: pd.Series, **options: float
) -> pd.DataFrame:
    """AUC of each label: index LABELS and `macro` (mean over all six), columns estimate, low, high.  NaN for
    a label with one class only; it makes `macro` NaN too."""
    return _area_intervals(labels, [probabilities], patients, weighted_auc, options)


def bootstrap_average_precision(
    labels: pd.DataFrame, probabilities: pd.DataFrame, patients: pd.Series, **options: float
) -> pd.DataFrame:
    """As `bootstrap_auc`, for the average precision (area under the precision-recall steps)."""
    return _area_intervals(labels, [probabilities], patients, weighted_average_precision, options)


def bootstrap_auc_difference(
    labels: pd.DataFrame, first: pd.DataFrame, second: pd.DataFrame, patients: pd.Series, **options: float
) -> pd.DataFrame:
    """AUC of first minus AUC of second, paired by patient; index and columns as of `bootstrap_auc`."""
    return _area_intervals(labels, [first, second], patients, weighted_auc, options)


def _area_intervals(
    labels: pd.DataFrame,
    tables: list[pd.DataFrame],
    patients: pd.Series,
    area: Callable[..., Area],
    options: dict[str, float],
) -> pd.DataFrame:
    """An area of one table, or of the first minus the second."""
    bootstrap = _bootstrap(labels, patients, options)
    y = label_values(labels)
    estimates, replicates = [], []
    for column in range(len(LABELS)):
        values = 0.0
        for sign, table in zip((1, -1), tables, strict=False):
            p = probability_values(table, labels.index)[:, column]
            of_weights = area(y[:, column], p, bootstrap.code)
            everyone = np.ones(bootstrap.patients, np.int64)
            values = values + sign * np.array([of_weights(w) for w in (everyone, *bootstrap.draws())])
        estimates.append(values[0])
        replicates.append(values[1:])
    estimates.append(np.mean(estimates))
    replicates.append(np.mean(replicates, axis=0))
    intervals = bootstrap.summarise(np.array(estimates), np.stack(replicates, axis=1))
    return pd.DataFrame(intervals, [*LABELS, "macro"])


def _bootstrap(labels: pd.DataFrame, patients: pd.Series, options: dict[str, float]) -> PatientBootstrap:
    return PatientBootstrap(series_values(patients, labels.index, "patients"), **options)


def _ratio(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]
