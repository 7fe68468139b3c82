"""Stacking by LightGBM: boosted trees on the members' probabilities, one model a label.

An alternative to weights: it can let one member correct another, and it can overfit.  It is scored like every
other candidate, on patients none of its trees saw.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from ..labels import LABELS
from ..models.boosting import BoostedLabels, Boosting, fit_boosting
from .candidates import Candidate, Problem
from .members import Members
from .metrics import WEIGHTS, log_losses
from .spaces import SPACES

TREES = Boosting(rounds=200, learning_rate=0.05, leaves=7, slices_in_leaf=50, feature_share=0.7)


@dataclass(frozen=True)
class Stacking:
    """Fitted trees on the six probabilities of every member, members in the order they were fitted in."""

    members: tuple[str, ...]
    trees: BoostedLabels

    def apply(self, table: Members) -> np.ndarray:
        """(n, 6) probabilities of the images of `table`, whose members may come in any order."""
        x = member_columns(table, self.members)
        return expit(self.trees.predict(lambda label: x))

    def shares(self) -> np.ndarray:
        """(members, 6): each member's share of what the trees of a label gained; they sum to 1."""
        columns = []
        for gain in self.trees.gains().values():
            total = np.ones(len(self.members)) if gain is None else gain.reshape(-1, len(LABELS)).sum(1)
            columns.append(total / total.sum() if total.sum() > 0 else np.full(len(total), 1 / len(total)))
        return np.stack(columns, 1)

    def to_dict(self) -> dict[str, Any]:
        return {"members": list(self.members), "trees": self.trees.to_text()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Stacking":
        return cls(tuple(values["members"]), BoostedLabels.from_text(values["trees"]))


def stacking_candidate(problem: Problem, seed: int) -> Candidate:
    """Trees fitted without each fold's patients, and last on all."""
    names, folds = tuple(problem.members.names), problem.folds
    x = member_columns(problem.members, names)
    predictions = np.empty((len(x), len(LABELS)))
    for fold in range(folds.count):
        held = folds.fold == fold
        trees = _fit(x[~held], problem.y[~held], seed)
        own = x[held]
        predictions[held] = expit(trees.predict(lambda label, own=own: own))
    stacking = Stacking(names, _fit(x, problem.y, seed))
    losses = log_losses(problem.y, predictions, problem.eps) @ WEIGHTS
    space = SPACES["probability"]
    return Candidate("boosting", space, stacking.shares(), predictions, losses, stacking)


def member_columns(table: Members, names: tuple[str, ...]) -> np.ndarray:
    """(n, members * 6) float32"""
    columns = [table.column(name, label) for name in names for label in LABELS]
    return np.stack(columns, 1).astype(np.float32)


def _fit(x: np.ndarray, y: np.ndarray, seed: int) -> BoostedLabels:
    return fit_boosting(lambda label: x, y.astype(np.float32), TREES, seed)
