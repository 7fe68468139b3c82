"""Stacking by LightGBM: boosted trees on the members' probabilities, one model a label.

An alternative to weights: it can let one member correct another, and it can overfit.  It is scored like every
other way, on patients none of its trees saw.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from ...labels import LABELS
from ...models.studies.boosting import BoostedLabels, fit_boosting
from ...models.studies.boosting import Boosting as Trees
from .candidates import Problem
from .crossfit import Held
from .members import Members

TREES = Trees(rounds=200, learning_rate=0.05, leaves=7, slices_in_leaf=50, feature_share=0.7)


@dataclass(frozen=True)
class Stacking:
    """Fitted trees on the six probabilities of every member, members in the order they were fitted in."""

    members: tuple[str, ...]
    trees: BoostedLabels

    def apply(self, table: Members) -> np.ndarray:
        """(n, 6) probabilities of the images of `table`, whose members may come in any order."""
        return self.predict(member_columns(table, self.members))

    def predict(self, x: np.ndarray) -> np.ndarray:
        """(n, members * 6) columns -> (n, 6) probabilities"""
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


@dataclass(frozen=True)
class Boosting:
    """The way to combine by trees: a fit is a Stacking."""

    seed: int
    name = "boosting"

    def fit(self, problem: Problem, held: Sequence[Held]) -> list[Stacking]:
        names = tuple(problem.members.names)
        x, y = member_columns(problem.members, names), problem.y.astype(np.float32)
        rows = [problem.folds.rows_outside(folds) for folds in held]
        return [Stacking(names, _fit(x[own], y[own], self.seed)) for own in rows]

    def predict(self, problem: Problem, fits: Sequence[Stacking]) -> np.ndarray:
        x = member_columns(problem.members, tuple(problem.members.names))
        predictions = np.empty(problem.y.shape)
        for fold, stacking in enumerate(fits):
            own = problem.folds.fold == fold
            predictions[own] = stacking.predict(x[own])
        return predictions


def member_columns(table: Members, names: tuple[str, ...]) -> np.ndarray:
    """(n, members * 6) float32"""
    columns = [table.column(name, label) for name in names for label in LABELS]
    return np.stack(columns, 1).astype(np.float32)


def _fit(x: np.ndarray, y: np.ndarray, seed: int) -> BoostedLabels:
    return fit_boosting(lambda label: x, y, TREES, seed)
