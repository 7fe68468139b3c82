"""Scores of predictions on one part of the data, alone and against each other, with their intervals."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..evaluation.bootstrap import (
    Interval,
    bootstrap_weighted_log_loss,
    bootstrap_weighted_log_loss_difference,
)


@dataclass(frozen=True)
class Part:
    """The held-out training slices, or the test slices where their labels are at hand."""

    labels: pd.DataFrame  # index image_id, columns LABELS
    groups: pd.Series  # image_id -> group of linked patients, what the bootstrap draws
    replicates: int = 1000
    seed: int = 0

    def score(self, p: pd.DataFrame) -> Interval:
        """Weighted log loss."""
        return bootstrap_weighted_log_loss(self.labels, p, self.groups, **self.options)

    def difference(self, first: pd.DataFrame, second: pd.DataFrame) -> Interval:
        """Weighted log loss of the first minus that of the second, the same patients drawn for both."""
        return bootstrap_weighted_log_loss_difference(self.labels, first, second, self.groups, **self.options)

    @property
    def options(self) -> dict[str, int]:
        """Of the bootstrap."""
        return {"replicates": self.replicates, "seed": self.seed}


@dataclass(frozen=True)
class Scored:
    """One set of predictions on the held-out training slices and on the test slices."""

    name: str
    oof: pd.DataFrame  # indexed by image_id, columns LABELS; by models that did not see the patient
    test: pd.DataFrame
    oof_score: float
    interval: tuple[float, float]  # 95 % patient-cluster bootstrap
    test_score: float | None  # where the test labels are at hand
    test_interval: tuple[float, float] | None

    @classmethod
    def of(
        cls, name: str, oof: pd.DataFrame, test: pd.DataFrame, held_out: Part, hidden: Part | None
    ) -> "Scored":
        own = held_out.score(oof)
        other = None if hidden is None else hidden.score(test)
        return cls(
            name, oof, test, own.estimate, (own.low, own.high),
            None if other is None else other.estimate, None if other is None else (other.low, other.high),
        )  # fmt: skip

    def to_json(self) -> dict:
        return {
            "oof": self.oof_score,
            "interval": list(self.interval),
            "test": self.test_score,
            "test_interval": None if self.test_interval is None else list(self.test_interval),
        }


@dataclass(frozen=True)
class Comparison:
    """The held-out score of the first predictions minus that of the second; below 0 the first are better."""

    first: str
    second: str
    difference: float
    interval: tuple[float, float]  # 95 % patient-cluster bootstrap, paired

    @classmethod
    def of(cls, first: Scored, second: Scored, held_out: Part) -> "Comparison":
        found = held_out.difference(first.oof, second.oof)
        return cls(first.name, second.name, found.estimate, (found.low, found.high))


def compare_stages(members: Mapping[str, Scored], held_out: Part) -> Comparison | None:
    """The best stage-2 run against the best stage-1 run; None where a stage has none."""
    stages = [[m for name, m in members.items() if Path(name).parent.name == s] for s in ("stage2", "stage1")]
    if not all(stages):
        return None
    return Comparison.of(*map(best, stages), held_out)


def blend_gains(
    blend: Scored, mean: Scored, members: Mapping[str, Scored], held_out: Part
) -> tuple[Comparison, ...]:
    """The blend against the mean and against the best single member, which was chosen on the rows it is
    scored on: to the member's advantage.  Of a single member there is nothing to compare.
    """
    if len(members) == 1:
        return ()
    return tuple(Comparison.of(blend, other, held_out) for other in (mean, best(members.values())))


def best(scored: Iterable[Scored]) -> Scored:
    """The lowest held-out score."""
    return min(scored, key=lambda one: one.oof_score)
