"""Other ways to an ensemble: greedy selection (Caruana et al., ICML 2004) and backward elimination."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..labels import LABELS
from .alignment import label_values
from .bootstrap import Interval, PatientBootstrap, difference_interval
from .candidates import Candidate, Problem, cross_fitted, fit_candidates
from .members import Members
from .metrics import SCORING_EPS, WEIGHTS, likelihood
from .spaces import SPACES

ROUNDS = 50  # of greedy selection


def greedy_weights(
    labels: pd.DataFrame, members: Mapping[str, pd.DataFrame], rounds: int = ROUNDS, eps: float = SCORING_EPS
) -> pd.DataFrame:
    """Members x LABELS weights that are multiples of 1/k: per label, add the member that helps the mean most,
    with replacement, and keep the best of the first `rounds` means.

    Coarser than the exact weights and never better on the rows it was fitted on: a check on them, and a plain
    alternative that cannot reach odd corners.
    """
    table, y = Members(members, labels.index), label_values(labels)
    weights = np.zeros((len(table), len(LABELS)))
    for column, label in enumerate(LABELS):
        right = [likelihood(y[:, column], table.column(name, label), eps) for name in table.names]
        weights[:, column] = _greedy(np.stack(right).astype(np.float32), rounds)
    return pd.DataFrame(weights, table.names, list(LABELS))


def greedy_candidate(problem: Problem) -> Candidate:
    """Greedy weights as a candidate for the blend: fitted without each fold's patients, and last on all."""
    weights = np.empty((problem.folds.count + 1, len(problem.members), len(LABELS)))
    space = SPACES["probability"]
    for column, label in enumerate(LABELS):
        likelihoods = problem.agreement(space, label)  # rows sorted by fold
        for fold, (start, stop) in enumerate(problem.folds.parts):
            others = np.concatenate([likelihoods[:, :start], likelihoods[:, stop:]], 1)
            weights[fold, :, column] = _greedy(others, ROUNDS)
        weights[-1, :, column] = _greedy(likelihoods, ROUNDS)
    return cross_fitted(problem, "greedy", space, weights)


def _greedy(likelihoods: np.ndarray, rounds: int) -> np.ndarray:
    """likelihoods: (members, n) float32 -> (members,)"""
    counts = np.zeros(len(likelihoods))
    total = np.zeros(likelihoods.shape[1], np.float32)
    best, best_loss = counts, np.inf
    for size in range(1, rounds + 1):
        losses = [-np.log((total + row) / size).mean(dtype=np.float64) for row in likelihoods]
        chosen = int(np.argmin(losses))
        counts[chosen] += 1
        total += likelihoods[chosen]
        if losses[chosen] < best_loss:
            best, best_loss = counts / size, losses[chosen]
    return best


@dataclass(frozen=True)
class Elimination:
    """One ensemble on the way down: its members, its nested score, and how much it loses against the best of
    all (difference with paired patient interval; not above noise where `low` <= 0)."""

    members: tuple[str, ...]
    nested_score: float
    loss: Interval


def backward_elimination(
    labels: pd.DataFrame,
    members: Mapping[str, pd.DataFrame],
    groups: pd.Series | None,
    *,
    folds: int = 5,
    seed: int = 0,
    eps: float = SCORING_EPS,
    replicates: int = 1000,
) -> tuple[list[Elimination], tuple[str, ...]]:
    """Drop the member with the least weight, fit again, until one is left; then take the smallest ensemble
    that is not worse than the best one outside the noise.

    Returns every ensemble tried, the largest first, and the members of the chosen one.  Choosing by the
    nested score makes that score slightly optimistic: the price is bounded by the interval.
    """
    path: list[Candidate] = []
    names: list[tuple[str, ...]] = []
    left = dict(members)
    while left:
        problem = Problem.of(labels, left, groups, folds, seed, eps)
        fitted = fit_candidates(problem, ("probability",))
        path.append((fitted.weighted or fitted.simple)[0])
        names.append(tuple(left))
        left.pop(names[-1][int((path[-1].weights @ WEIGHTS).argmin())])
    bootstrap = PatientBootstrap(problem.folds.patient, replicates, seed)
    trials = compare_with_best(names, path, bootstrap)
    return trials, min((t for t in trials if t.loss.low <= 0), key=lambda t: len(t.members)).members


def compare_with_best(
    names: Sequence[tuple[str, ...]], path: Sequence[Candidate], bootstrap: PatientBootstrap
) -> list[Elimination]:
    """Every ensemble's nested score and its difference to the lowest one."""
    best = min(path, key=lambda candidate: candidate.score)
    return [
        Elimination(members, candidate.score, difference_interval(candidate.losses, best.losses, bootstrap))
        for members, candidate in zip(names, path, strict=True)
    ]
