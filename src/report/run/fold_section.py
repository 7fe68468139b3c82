"""What the report says of the folds: how far they lie apart, member by member."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ...ensemble.experiment import Experiment
from ...evaluation.metrics import WEIGHTS, constant_predictions, prevalence, row_losses
from ..score_table import BASELINE


@dataclass(frozen=True)
class FoldRow:
    """Held-out losses of one set of predictions by fold."""

    name: str
    kind: str
    folds: Mapping[int, float]

    @property
    def mean(self) -> float:
        """Of the folds, each counting once."""
        return statistics.fmean(self.folds.values())

    @property
    def sd(self) -> float | None:
        """Sample standard deviation; None of one fold."""
        return statistics.stdev(self.folds.values()) if len(self.folds) > 1 else None


def loss_rows(experiment: Experiment) -> list[FoldRow]:
    """Prevalence of all held-out slices, members, their mean and the blend, each on the slices of a fold."""
    labels = experiment.labels
    constant = constant_predictions(prevalence(labels), labels.index)
    tables = {(BASELINE, "baseline"): constant}
    tables |= {(name, Path(name).parent.name): scored.oof for name, scored in experiment.members.items()}
    tables |= {(scored.name, scored.name): scored.oof for scored in (experiment.mean, experiment.blend)}
    fold = fold_of(experiment)
    rows = []
    for (name, kind), table in tables.items():
        losses = pd.Series(row_losses(labels, table) @ WEIGHTS, labels.index)
        rows.append(FoldRow(name, kind, losses.groupby(fold).mean().to_dict()))
    return rows


def fold_of(experiment: Experiment) -> pd.Series:
    """image_id -> the fold that held it out, read from the first run's predictions."""
    first = experiment.runs[0].name
    folds = [run for run in experiment.runs if run.name == first]
    return pd.concat([pd.Series(run.fold, run.predictions("oof").index) for run in folds])


def run_loss_rows(runs: Sequence[Mapping[str, Any]]) -> list[FoldRow]:
    """Of runs alone, by the scores in their metrics.json; rows as of `run_rows`."""
    return [FoldRow(row["name"], row["stage"], row["folds"]) for row in runs]
