"""The ways to combine members, each fitted without whatever folds of patients are asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pandas as pd

from ...labels import LABELS
from ..alignment import label_values, series_values
from ..metrics import WEIGHTS, log_losses
from .crossfit import NOTHING, Held, PatientFolds
from .members import SPACES, Members, Space
from .simplex import minimise

ROUNDS = 50  # of greedy selection


@dataclass(frozen=True, eq=False)
class Problem:
    """Members and labels in one order, with patient groups dealt into folds."""

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
        """groups: image_id -> patient group; None makes every image its own group."""
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

    @cached_property
    def member_losses(self) -> np.ndarray:
        """(folds, members, 6) summed log losses of single members."""
        sums = np.empty((self.folds.count, len(self.members), len(LABELS)))
        for column, label in enumerate(LABELS):
            likelihoods = self.agreement(SPACES["probability"], label)
            for fold, (start, stop) in enumerate(self.folds.parts):
                sums[fold, :, column] = -np.log(likelihoods[:, start:stop]).sum(axis=1, dtype=np.float64)
        return sums

    @property
    def member_scores(self) -> dict[str, float]:
        """Weighted log loss of each member."""
        scores = self.member_losses.sum(axis=0) @ WEIGHTS / len(self.y)
        return dict(zip(self.members.names, scores.tolist(), strict=True))


class Way(Protocol):
    """A way to combine members; what a fit is depends on the way."""

    @property
    def name(self) -> str: ...

    def fit(self, problem: Problem, held: Sequence[Held]) -> list[Any]:
        """One fit without each of the given sets of folds."""
        ...

    def predict(self, problem: Problem, fits: Sequence[Any]) -> np.ndarray:
        """(n, 6): the rows of fold k by fits[k]."""
        ...


@dataclass(frozen=True)
class Average:
    """Members averaged in a space: a fit is (members, 6) weights whose columns sum to 1."""

    space: Space = SPACES["probability"]

    def predict(self, problem: Problem, fits: Sequence[np.ndarray]) -> np.ndarray:
        return problem.members.mix(np.stack(fits), problem.folds.fold, self.space, problem.eps)


class BestSingle(Average):
    """The member with the lowest weighted log loss."""

    name = "best single"

    def fit(self, problem: Problem, held: Sequence[Held]) -> list[np.ndarray]:
        losses = problem.member_losses @ WEIGHTS  # (folds, members)
        best = [losses[problem.folds.outside(folds)].sum(axis=0).argmin() for folds in held]
        return [np.repeat(np.eye(losses.shape[1])[member][:, None], len(LABELS), axis=1) for member in best]


class Mean(Average):
    """All members alike."""

    @property
    def name(self) -> str:
        return "mean" if self.space.name == "probability" else f"mean, {self.space.name}"

    def fit(self, problem: Problem, held: Sequence[Held]) -> list[np.ndarray]:
        members = len(problem.members)
        return [np.full((members, len(LABELS)), 1 / members)] * len(held)


class ExactWeights(Average):
    """Per label, the weights on the simplex with the lowest log loss."""

    @property
    def name(self) -> str:
        return f"weights, {self.space.name}"

    def fit(self, problem: Problem, held: Sequence[Held]) -> list[np.ndarray]:
        weights = np.empty((len(held), len(problem.members), len(LABELS)))
        for column, label in enumerate(LABELS):
            values = problem.agreement(self.space, label)
            for k, folds in enumerate(held):
                parts = problem.folds.parts_outside(folds)
                weights[k, :, column] = minimise(values, parts, self.space.row_loss).weights
        return list(weights)


class Greedy(Average):
    """Greedy selection (Caruana et al., ICML 2004): weights that are multiples of 1/k.

    Coarser than the exact weights and never better on the rows they were fitted on: a check on them, and a
    plain alternative that cannot reach odd corners.
    """

    name = "greedy"

    def fit(self, problem: Problem, held: Sequence[Held]) -> list[np.ndarray]:
        weights = np.empty((len(held), len(problem.members), len(LABELS)))
        for column, label in enumerate(LABELS):
            likelihoods = problem.agreement(self.space, label)
            for k, folds in enumerate(held):
                parts = [likelihoods[:, start:stop] for start, stop in problem.folds.parts_outside(folds)]
                weights[k, :, column] = greedy_weights(np.concatenate(parts, axis=1), ROUNDS)
        return list(weights)


def greedy_weights(likelihoods: np.ndarray, rounds: int) -> np.ndarray:
    """(members, n) float32 -> (members,): add the member that helps the mean most, with replacement, and take
    the best of the first `rounds` means."""
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


class CrossFit:
    """A way to combine and its fits without whatever folds were asked for; each is made once."""

    def __init__(self, problem: Problem, way: Way):
        self.problem, self.way = problem, way
        self._fits: dict[Held, Any] = {}

    def fits(self, held: Sequence[Held]) -> list[Any]:
        todo = [folds for folds in dict.fromkeys(held) if folds not in self._fits]
        self._fits.update(zip(todo, self.way.fit(self.problem, todo), strict=True))
        return [self._fits[folds] for folds in held]

    def predictions(self, held: Held = NOTHING) -> np.ndarray:
        """(n, 6): every row by a fit that knows neither its own fold nor any in `held`."""
        count = self.problem.folds.count
        left_out = [held | {fold} for fold in range(count)]
        # of two folds one cannot be left out beside the other: nothing would be left to fit on
        fits = self.fits([folds if len(folds) < count else held for folds in left_out])
        return self.way.predict(self.problem, fits)

    def score(self, held: Held = NOTHING) -> float:
        """Weighted log loss of `predictions` on the folds outside `held`."""
        rows = self.problem.folds.rows_outside(held)
        losses = log_losses(self.problem.y[rows], self.predictions(held)[rows], self.problem.eps)
        return float((losses @ WEIGHTS).mean())
