"""An experiment of other targets than the six labels: its runs are scored and reported, never blended."""

from dataclasses import dataclass
from math import isnan
from typing import Any

import pandas as pd

from ..data.folds import link_patients
from ..data.prepared import Prepared
from ..data.synthetic_truth import is_synthetic
from ..data.target_labels import target_labels, with_locations
from ..evaluation.bootstrap import Interval
from ..evaluation.metrics import SCORING_EPS
from ..evaluation.target_scores import score_interval, scores_of, share_intervals
from ..settings import Settings
from ..targets import KEYS, Targets, Unit
from ..training.kinds import kind_of
from ..training.runs import Run
from ..training.split import leak_of
from .ensemble_config import EnsembleConfig
from .gather import experiment_runs, run_predictions


@dataclass(frozen=True)
class TargetMember:
    """A run's held-out predictions and their scores."""

    targets: Targets
    unit: Unit  # what a row is; runs on images and on studies may stand side by side
    labels: pd.DataFrame
    oof: pd.DataFrame
    found: dict[str, Any]  # as in metrics.json, over all folds
    score: Interval  # 95 % patient-cluster bootstrap
    shares: dict[str, dict[str, Interval]]  # column -> metric, likewise
    groups: pd.Series  # key -> patients that are linked
    split: str  # what was held out whole

    @property
    def patients(self) -> int:
        return self.groups.nunique()

    @property
    def leak(self) -> str | None:
        """What its scores have to say; None where patients were kept apart."""
        return leak_of(self.split)

    def to_json(self) -> dict[str, Any]:
        return {
            "unit": self.unit,
            "patients": self.patients,
            "oof": self.score.estimate,
            "interval": [self.score.low, self.score.high],
            "leak": self.leak,
            "shares": {
                column: {name: [None if isnan(x) else x for x in share] for name, share in shares.items()}
                for column, shares in self.shares.items()
            },
            **{key: self.found[key] for key in ("rows", "baseline", "heads")},
        }


@dataclass(frozen=True)
class TargetExperiment:
    """What scores.json and the report of such an experiment are made from."""

    name: str
    config: EnsembleConfig
    targets: Targets
    synthetic: bool
    runs: list[Run]
    members: dict[str, TargetMember]
    studies: pd.Series  # image_id -> study_id

    def scores(self) -> dict[str, Any]:
        """The content of scores.json."""
        return {
            "experiment": self.name,
            "targets": self.targets.name,
            "data": "synthetic" if self.synthetic else "real",
            "eps": SCORING_EPS,
            "members": {name: member.to_json() for name, member in self.members.items()},
        }


def evaluate_target_experiment(
    settings: Settings, name: str, config: EnsembleConfig, targets: Targets
) -> TargetExperiment:
    """Score the held-out predictions of every run; all have the same folds, or it is a UserError."""
    prepared = Prepared(settings.clean)
    runs = experiment_runs(settings, prepared, name, config)
    groups = prepared.slices["patient_id"].map(link_patients(prepared.slices))
    options = {"replicates": config.replicates, "seed": config.seed}

    first = {run.name: run for run in reversed(runs)}
    members = {
        name: score_member(first[name], oof, settings, prepared, groups, **options)
        for name, (oof, _) in run_predictions(runs).items()
    }
    studies = prepared.slices.set_index("image_id")["study_id"]
    return TargetExperiment(name, config, targets, is_synthetic(settings.raw), runs, members, studies)


def score_member(
    run: Run, oof: pd.DataFrame, settings: Settings, prepared: Prepared, groups: pd.Series, **options: float
) -> TargetMember:
    """Held-out predictions of a run, some of its folds or all; groups: of the rows of `prepared.slices`."""
    config = run.read_config(kind_of(run).config)
    targets, unit = config.predicted, next(unit for unit, key in KEYS.items() if key == oof.index.name)
    located = with_locations(prepared, config.site_labels, settings.raw)
    labels = target_labels(located, targets, unit).loc[oof.index]
    keys = prepared.slices[oof.index.name]
    own = groups.set_axis(keys)[~keys.duplicated().to_numpy()].loc[oof.index]
    shares: dict[str, dict[str, Interval]] = {}
    for head in targets.heads:
        shares |= share_intervals(head, labels, oof, own, **options)
    return TargetMember(
        targets, unit, labels, oof, scores_of(targets, labels, oof),
        score_interval(targets, labels, oof, own, **options), shares, own,
        split=run.split,
    )  # fmt: skip
