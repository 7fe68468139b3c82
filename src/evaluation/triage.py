"""Triage: cases are read from the highest score down; how much reading finds how much.

y is (n,) bool, scores (n,) float.  Cases of equal scores are read in no particular order: what is found among
them is counted as its expectation.  Intervals are those of a patient bootstrap.
"""

from typing import NamedTuple

import numpy as np

from .bootstrap import Interval, PatientBootstrap

SHARES = (0.05, 0.10, 0.20, 0.30, 0.50)  # of the cases that are read
RECALLS = (0.90, 0.95, 0.99)  # shares of the positive cases that are to be found
ROUNDING = 1e-9  # a share of a count that is whole by hand is so here


class Read(NamedTuple):
    """The first `cases` of the order, a `share` of all: the positive ones among them, and their recall."""

    share: float
    cases: int
    found: float
    recall: Interval


class Needed(NamedTuple):
    """The fewest `cases` of the order that reach a `recall`, and their share of all cases."""

    recall: float
    cases: int
    share: Interval


class Triage(NamedTuple):
    """What reading in the order of the scores costs and finds.

    curve: share of the cases read, rising from 0, and the recall there: (2, points)
    """

    cases: int
    positives: int
    read: list[Read]
    needed: list[Needed]
    curve: np.ndarray


def triage(y: np.ndarray, scores: np.ndarray, patients: np.ndarray, **options: float) -> Triage | None:
    """None where no case is positive. patients: (n,); options (replicates, seed, alpha): of the bootstrap."""
    if not y.any():
        return None
    bootstrap = PatientBootstrap(patients, **options)
    order = _Order(y, scores, bootstrap.code)
    once = order.counts(np.ones(bootstrap.patients, np.int64))
    replicates = np.stack([_statistics(*order.counts(draw)) for draw in bootstrap.draws()])
    intervals = bootstrap.summarise(_statistics(*once), replicates)
    return Triage(
        len(y), int(y.sum()), _read(*once, intervals[: len(SHARES)]),
        _needed(*once, intervals[len(SHARES) :]), np.stack([counted / counted[-1] for counted in once]),
    )  # fmt: skip


class _Order:
    """Cases from the highest score down."""

    def __init__(self, y: np.ndarray, scores: np.ndarray, cluster: np.ndarray):
        order = np.argsort(-scores, kind="stable")
        self.y, self.cluster, scores = y[order], cluster[order], scores[order]
        self.ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))  # the last case of each score

    def counts(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cases and positive cases down to each score, from 0; a cluster counts as often as its weight."""
        weight = weights[self.cluster]
        both = np.cumsum(weight), np.cumsum(weight * self.y)
        return tuple(np.append(0, counted[self.ends]) for counted in both)


def _statistics(read: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Recall at SHARES, then the share that RECALLS need; NaN where nobody positive was drawn."""
    if not found[-1]:
        return np.full(len(SHARES) + len(RECALLS), np.nan)
    recalls = [_found(read, found, _first(read, share)) / found[-1] for share in SHARES]
    return np.array(recalls + [_cases_for(read, found, recall) / read[-1] for recall in RECALLS])


def _read(read: np.ndarray, found: np.ndarray, recalls: list[Interval]) -> list[Read]:
    firsts = [_first(read, share) for share in SHARES]
    counted = [_found(read, found, first) for first in firsts]
    return [Read(*row) for row in zip(SHARES, firsts, counted, recalls, strict=True)]


def _needed(read: np.ndarray, found: np.ndarray, shares: list[Interval]) -> list[Needed]:
    cases = [_cases_for(read, found, recall) for recall in RECALLS]
    return [Needed(*row) for row in zip(RECALLS, cases, shares, strict=True)]


def _first(read: np.ndarray, share: float) -> int:
    """How many cases a share is, rounded up."""
    return int(np.ceil(share * read[-1] - ROUNDING))


def _found(read: np.ndarray, found: np.ndarray, cases: int) -> float:
    return float(np.interp(cases, read, found))


def _cases_for(read: np.ndarray, found: np.ndarray, recall: float) -> int:
    """The fewest cases with so many positive ones among them."""
    asked = recall * found[-1] - ROUNDING
    end = int(np.searchsorted(found, asked))
    start = end - 1
    share = (asked - found[start]) / (found[end] - found[start])
    return int(np.ceil(read[start] + share * (read[end] - read[start]) - ROUNDING))
