"""The ways to combine members, each with predictions that no patient's own labels had a part in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..labels import LABELS
from .alignment import label_values, series_values
from .crossfit import PatientFolds
from .members import Members
from .metrics import WEIGHTS, log_losses
from .simplex import RowLoss, minimise
from .spaces import SPACES, Space


@dataclass(frozen=True, eq=False)
class Problem:
    """Members and labels in one order, with patients dealt into folds."""

    members: Members
    y: np.ndarray  # (n, 6) bool
    folds: PatientFolds
    eps: float

    @classmethod
    def of(
        cls,
        labels: pd.DataFrame,
        members: Mapping[str, pd.DataFrame],
        groups: pd.Series | None,
        folds: int,
        seed: int,
        eps: float,
    ) -> "Problem":
        """groups: image_id -> patient; None makes every image its own patient."""
        y = label_values(labels)
        patients = np.arange(len(y)) if groups is None else series_values(groups, labels.index, "groups")
        return cls(Members(members, labels.index), y, PatientFolds(y, patients, folds, seed), eps)

    def agreement(self, space: Space, label: str) -> np.ndarray:
        """(members, n) float32, the members' values for what came true, rows sorted by fold."""
        order = self.folds.order
        y = self.y[order, LABELS.index(label)]
        values = np.empty((len(self.members), len(y)), np.float32)
        for m, name in enumerate(self.members.names):
            values[m] = space.agreement(y, self.members.column(name, label)[order], self.eps)
        return values


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to combine the members."""

    name: str
    space: Space
    weights: np.ndarray  # (members, 6), fitted on all rows
    predictions: np.ndarray  # (n, 6), every row by weights fitted without its patient
    losses: np.ndarray  # (n,) weighted over labels
    stacking: Any = None  # the fitted trees of a candidate that is no average; its weights are their gains

    @property
    def score(self) -> float:
        return float(self.losses.mean())


@dataclass(frozen=True, eq=False)
class Candidates:
    """`simple`: the best single member and, of several, their mean.  `weighted`: one for each space."""

    member_scores: dict[str, float]
    simple: list[Candidate]
    weighted: list[Candidate]


def fit_candidates(problem: Problem, spaces: Sequence[str]) -> Candidates:
    """Fit each space's weights and score everything on the same rows; one member has no weights to fit."""
    sums, weights = _fit(problem, spaces if len(problem.members) > 1 else ())
    simple = [cross_fitted(problem, "best single", SPACES["probability"], _best_member(sums))]
    if len(problem.members) > 1:
        uniform = np.full((len(sums) + 1, *sums.shape[1:]), 1 / len(problem.members))
        simple.append(cross_fitted(problem, "mean", SPACES["probability"], uniform))
    scores = sums.sum(axis=0) @ WEIGHTS / len(problem.y)
    return Candidates(
        member_scores=dict(zip(problem.members.names, scores.tolist(), strict=True)),
        simple=simple,
        weighted=[cross_fitted(problem, f"weights, {name}", SPACES[name], weights[name]) for name in weights],
    )


def _fit(problem: Problem, spaces: Sequence[str]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(folds, members, 6) summed log losses of single members; space -> (folds + 1, members, 6) weights."""
    shape = (problem.folds.count, len(problem.members), len(LABELS))
    sums = np.empty(shape)
    weights = {name: np.empty((shape[0] + 1, *shape[1:])) for name in spaces}
    for column, label in enumerate(LABELS):
        likelihoods = problem.agreement(SPACES["probability"], label)
        for fold, (start, stop) in enumerate(problem.folds.parts):
            sums[fold, :, column] = -np.log(likelihoods[:, start:stop]).sum(axis=1, dtype=np.float64)
        for name in spaces:
            values = likelihoods if name == "probability" else problem.agreement(SPACES[name], label)
            weights[name][:, :, column] = _label_weights(values, problem.folds, SPACES[name].row_loss)
    return sums, weights


def _label_weights(values: np.ndarray, folds: PatientFolds, row_loss: RowLoss) -> np.ndarray:
    """(folds + 1, members): fitted without each fold, and last on all rows."""
    everything = minimise(values, folds.parts, row_loss).weights
    held_out = [minimise(values, folds.others(k), row_loss, everything).weights for k in range(folds.count)]
    return np.stack([*held_out, everything])


def _best_member(sums: np.ndarray) -> np.ndarray:
    """(folds + 1, members, 6) weights of 0 and 1: the member that is best without each fold, and of all."""
    total = sums.sum(axis=0)
    best = [(rest @ WEIGHTS).argmin() for rest in (*(total - sums), total)]
    return np.repeat(np.eye(len(total))[best][:, :, None], len(LABELS), axis=2)


def cross_fitted(problem: Problem, name: str, space: Space, weights: np.ndarray) -> Candidate:
    """weights (folds + 1, members, 6): fitted without each fold, and last on all rows."""
    predictions = problem.members.mix(weights[:-1], problem.folds.fold, space, problem.eps)
    losses = log_losses(problem.y, predictions, problem.eps) @ WEIGHTS
    return Candidate(name, space, weights[-1], predictions, losses)
