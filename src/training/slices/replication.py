"""Copies of images of rare classes, and the published split of the dual-task system, which leaks.

Copied before a split by slice (Fan et al., arXiv 2405.06814) an image and its copy land on both sides, and a
test image is recognised, not diagnosed. Copies within the training part, of a split by patient, are safe.
"""

import math

import numpy as np
import pandas as pd

from ...targets import Targets

TRAINING_SHARE, TEST_SHARE = 0.8, 0.1  # as published; the rest was for validation


def copies(labels: pd.DataFrame, targets: Targets) -> np.ndarray:
    """(n,) int: how often each row is taken, so that no class is rare; labels: the columns of the targets.

    Every site as often as it fits into the largest, then presence or absence, whichever is rarer, likewise:
    6,093 / 1,656 / 495 and 4,407 without bleeding make 30,222, which is the published number.
    """
    presence, *others = targets.heads
    times = np.ones(len(labels), np.int64)
    for head in others:
        own = labels[list(head.columns)].to_numpy() == 1
        sizes = own.sum(axis=0)
        factors = sizes.max() // np.maximum(sizes, 1)
        times = np.where(own.any(axis=1), (own * factors).sum(axis=1), times)
    present = labels[presence.columns[0]].to_numpy() == 1
    sizes = times[~present].sum(), times[present].sum()
    rarer = present if sizes[1] < sizes[0] else ~present
    return np.where(rarer, times * (max(sizes) // max(min(sizes), 1)), times)


def split_by_slice(times: np.ndarray, fold: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A split of all copies at random: how often each row is in training and in the test part, (n,) each.

    times: copies of each row, taken before the split; fold: which tenth is the test part.
    """
    rows = np.repeat(np.arange(len(times)), times)
    order = np.random.default_rng(seed).permutation(rows)
    test = math.ceil(TEST_SHARE * len(rows))
    order = np.roll(order, -fold * test)
    training = order[len(order) - round(TRAINING_SHARE * len(rows)) :]
    return np.bincount(training, minlength=len(times)), np.bincount(order[:test], minlength=len(times))


def twin_share(training: np.ndarray, test: np.ndarray) -> float:
    """Share of the rows of the test part of which a copy is in training; both as of `split_by_slice`."""
    return float(test[training > 0].sum() / test.sum())


def expected_twin_share(times: np.ndarray) -> float:
    """The same before the draw: a test row has times - 1 twins, each in training by the share of that."""
    return float((times * (1 - (1 - TRAINING_SHARE) ** (times - 1))).sum() / times.sum())
