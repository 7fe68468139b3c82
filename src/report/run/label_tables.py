"""What the report says label by label and group by group: tables of plain rows for the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...ensemble.experiment import Experiment, Scored
from ...evaluation.alignment import label_values, probability_values
from ...evaluation.bootstrap import (
    Interval,
    bootstrap_auc,
    bootstrap_average_precision,
    bootstrap_label_log_losses,
)
from ...evaluation.metrics import constant_predictions, label_log_losses, prevalence, scores_by_group
from ...evaluation.reliability import brier, expected_calibration_error
from ...labels import LABELS

UNKNOWN = "not known"


@dataclass(frozen=True)
class LabelRow:
    """One model on one label."""

    model: str
    kind: str
    log_loss: float
    interval: tuple[float, float]
    auc: Interval
    average_precision: Interval
    brier: float
    ece: float


@dataclass(frozen=True)
class LabelBlock:
    """The models on one label, with what does not depend on the model."""

    label: str
    positives: int
    slices: int
    baseline: float
    rows: list[LabelRow]


def shown_models(experiment: Experiment) -> dict[str, Scored]:
    """The blend and the best run of each stage (by held-out score): kind -> predictions."""
    stages = {run.name: run.stage for run in experiment.runs}
    models = {"blend": experiment.blend}
    for stage in ("stage2", "stage1"):
        own = [scored for name, scored in experiment.members.items() if stages.get(name) == stage]
        if own:
            models[stage] = min(own, key=lambda scored: scored.oof_score)
    return models


def label_blocks(experiment: Experiment, part: str) -> list[LabelBlock]:
    """One block a label, on the held-out (`oof`) or the hidden test (`test`) slices."""
    labels = experiment.labels if part == "oof" else experiment.test_labels
    constant = constant_predictions(prevalence(experiment.labels), labels.index)
    baseline = label_log_losses(labels, constant)
    y = label_values(labels)
    by_model = {
        kind: _label_rows(experiment, kind, scored, part, labels)
        for kind, scored in shown_models(experiment).items()
    }
    return [
        LabelBlock(
            label, int(y[:, i].sum()), len(y), baseline[label], [rows[i] for rows in by_model.values()]
        )
        for i, label in enumerate(LABELS)
    ]


def _label_rows(
    experiment: Experiment, kind: str, scored: Scored, part: str, labels: pd.DataFrame
) -> list[LabelRow]:
    table = scored.oof if part == "oof" else scored.test
    options = {"replicates": experiment.config.replicates, "seed": experiment.config.seed}
    losses = bootstrap_label_log_losses(labels, table, experiment.groups, **options)
    areas = bootstrap_auc(labels, table, experiment.groups, **options)
    precisions = bootstrap_average_precision(labels, table, experiment.groups, **options)
    y, p = label_values(labels), probability_values(table, labels.index)
    return [
        LabelRow(
            scored.name,
            kind,
            losses.loc[label, "estimate"],
            (losses.loc[label, "low"], losses.loc[label, "high"]),
            Interval(*areas.loc[label]),
            Interval(*precisions.loc[label]),
            brier(y[:, i], p[:, i]),
            expected_calibration_error(y[:, i], p[:, i]),
        )
        for i, label in enumerate(LABELS)
    ]


def padding_tables(experiment: Experiment, parts: Sequence[str]) -> dict[str, pd.DataFrame] | None:
    """Scores of the blend on slices of series with and without padding, by `scores_by_group`, for each part;
    None where no image has HU, which padding is seen by.
    """
    groups = padding_groups(experiment.slices)
    if (groups == UNKNOWN).all():
        return None
    sets = {
        "oof": (experiment.labels, experiment.blend.oof),
        "test": (experiment.test_labels, experiment.blend.test),
    }
    return {part: scores_by_group(*sets[part], groups) for part in parts}


def padding_groups(slices: pd.DataFrame) -> pd.Series:
    """image_id -> whether any slice of its series is padded; of a study where the series is not known."""
    series = slices["series_id"].fillna(slices["study_id"])
    padded = slices["padded"].astype("boolean").groupby(series).transform("any")
    known = slices["padded"].notna().groupby(series).transform("any")
    named = padded.map({True: "padded", False: "not padded"}).where(known, UNKNOWN)
    return named.set_axis(slices["image_id"]).rename("group")


def curves(experiment: Experiment) -> Mapping[str, tuple[np.ndarray, dict[str, np.ndarray]]]:
    """label -> (y, kind -> probabilities) on the held-out slices, for the figures."""
    y = label_values(experiment.labels)
    models = {
        kind: probability_values(scored.oof, experiment.labels.index)
        for kind, scored in shown_models(experiment).items()
    }
    return {label: (y[:, i], {k: p[:, i] for k, p in models.items()}) for i, label in enumerate(LABELS)}
