"""Agreement of readers with their majority and with each other."""

from itertools import combinations

import numpy as np
import pandas as pd

from .operating import at_threshold


def majority(reads: pd.DataFrame) -> pd.Series:
    """True where more than half of the readers (columns, 0/1) say positive; an even split is negative."""
    return (2 * reads.sum(axis=1) > reads.shape[1]).rename("majority")


def cohen_kappa(first: np.ndarray, second: np.ndarray) -> float:
    """Agreement of two binary readers beyond chance; NaN where chance agreement is perfect."""
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    observed = np.mean(first == second)
    a, b = first.mean(), second.mean()
    chance = a * b + (1 - a) * (1 - b)
    return float((observed - chance) / (1 - chance)) if chance < 1 else float("nan")


def against_majority(reads: pd.DataFrame) -> pd.DataFrame:
    """One row a reader: sensitivity, specificity, kappa against the majority, which includes the reader, so
    all three are optimistic."""
    truth = majority(reads).to_numpy()
    rows = {}
    for reader in reads:
        point = at_threshold(truth, reads[reader].to_numpy(), 1)
        rows[reader] = {
            "sensitivity": point.sensitivity.value,
            "specificity": point.specificity.value,
            "kappa": cohen_kappa(truth, reads[reader]),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def pairwise_kappa(reads: pd.DataFrame) -> pd.Series:
    """Kappa of every pair of readers, indexed `first-second`."""
    return pd.Series({f"{a}-{b}": cohen_kappa(reads[a], reads[b]) for a, b in combinations(reads, 2)})
