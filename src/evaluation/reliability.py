"""Do the probabilities mean what they say?  Brier score, expected calibration error, reliability curve.

y is (n,) bool, p (n,) float in [0, 1], one binary label.  Bins are equally wide, [k/bins, (k+1)/bins), the
last one closed on both sides.
"""

import numpy as np
import pandas as pd

BINS = 15


def brier(y: np.ndarray, p: np.ndarray) -> float:
    """Mean squared difference of probability and outcome."""
    return float(np.mean((np.asarray(p, np.float64) - y) ** 2))


def calibration_sums(y: np.ndarray, p: np.ndarray, bins: int = BINS) -> np.ndarray:
    """(n, 3 * bins): for each image, in its own bin, [1, p, y].  Summed over images they give the curve and
    the error, so a patient bootstrap of the error needs nothing else."""
    rows = np.zeros((len(p), 3, bins))
    bin_of = np.minimum((np.asarray(p, np.float64) * bins).astype(np.int64), bins - 1)
    everyone = np.arange(len(p))
    rows[everyone, 0, bin_of] = 1
    rows[everyone, 1, bin_of] = p
    rows[everyone, 2, bin_of] = y
    return rows.reshape(len(p), 3 * bins)


def error_from_sums(sums: np.ndarray) -> np.ndarray:
    """(..., 3 * bins) sums of `calibration_sums` -> (...) expected calibration error."""
    count, probability, outcome = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, -1), -2, 0)
    return np.abs(probability - outcome).sum(axis=-1) / count.sum(axis=-1)


def expected_calibration_error(y: np.ndarray, p: np.ndarray, bins: int = BINS) -> float:
    """Mean over images of |mean probability - observed share| of the image's bin (Guo et al., ICML 2017)."""
    return float(error_from_sums(_bin_sums(y, p, bins)))


def reliability_curve(y: np.ndarray, p: np.ndarray, bins: int = BINS) -> pd.DataFrame:
    """One row a non-empty bin: lower, upper, images, mean_probability, observed."""
    count, probability, outcome = _bin_sums(y, p, bins).reshape(3, bins)
    edges = np.arange(bins + 1) / bins
    filled = count > 0
    return pd.DataFrame(
        {
            "lower": edges[:-1][filled],
            "upper": edges[1:][filled],
            "images": count[filled].astype(np.int64),
            "mean_probability": probability[filled] / count[filled],
            "observed": outcome[filled] / count[filled],
        }
    )


def _bin_sums(y: np.ndarray, p: np.ndarray, bins: int) -> np.ndarray:
    """The sums of `calibration_sums` without making its rows."""
    p = np.asarray(p, np.float64)
    bin_of = np.minimum((p * bins).astype(np.int64), bins - 1)
    return np.concatenate([np.bincount(bin_of, values, bins) for values in (np.ones(len(p)), p, y)])
