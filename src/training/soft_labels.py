"""Soft labels: probabilities of a table stand for the labels of images that have none.

Such images join the training part of a fold, never what is held out, scored or predicted. Whoever is held out
stays out: an image of a held-out patient, or of one who shares a slice or a study with him, does not join.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ..config import Positive, StrictModel
from ..data.folds import link_patients
from ..data.prepared import Prepared
from ..data.probabilities import read_probabilities
from ..errors import UserError
from ..labels import LABELS

WEIGHT = "sample_weight"  # column of training rows
FOLD = "{fold}"  # in the name of a table, stands for the number of the fold


class SoftLabelOptions(StrictModel):
    """Images without labels that join training."""

    soft_labels: str | None = None
    """CSV or Parquet file of probabilities for unlabelled images: a submission, or image_id and the six
    labels, such as a test.parquet; they join the training part of every fold and are never scored. `{fold}`
    in the name stands for the fold's number"""
    soft_label_weight: Positive = 1.0
    """what such a slice counts in the loss, against 1 for a labelled one"""


def soft_label_files(options: SoftLabelOptions, fold: int) -> list[Path]:
    """The table that a fold reads, if any."""
    if options.soft_labels is None:
        return []
    return [Path(options.soft_labels.replace(FOLD, str(fold))).expanduser()]


def with_soft_labels(
    training: pd.DataFrame,
    held_out: pd.DataFrame,
    prepared: Prepared,
    options: SoftLabelOptions,
    fold: int,
    log: logging.Logger,
) -> pd.DataFrame:
    """The training slices of a fold and those that a table gives soft labels, with WEIGHT, studies together.

    Raises UserError for an image that is not there or that has labels, and where none is left to join.
    """
    for path in soft_label_files(options, fold):
        soft = soft_slices(read_probabilities(path), prepared, held_out, path, log)
        if FOLD not in options.soft_labels:
            log.info(
                "%s serves every fold: if what made it has learned from held-out patients, held-out scores "
                "are optimistic; a table a fold, with %s in its name, avoids that", path, FOLD,
            )  # fmt: skip
        soft = soft.assign(**{WEIGHT: options.soft_label_weight})
        joined = pd.concat([training.assign(**{WEIGHT: 1.0}), soft[[*training.columns, WEIGHT]]])
        training = joined.sort_values(["study_id", "order"], kind="stable", ignore_index=True)
    return training


def soft_slices(
    table: pd.DataFrame, prepared: Prepared, held_out: pd.DataFrame, path: Path, log: logging.Logger
) -> pd.DataFrame:
    """Rows of slices.parquet with the table's probabilities as labels; without images that could not be read
    and those of held-out patients, which are counted.
    """
    slices = prepared.slices
    unknown = table.index.difference(slices["image_id"])
    if len(unknown):
        raise UserError(
            f"{path}: {len(unknown)} images are not in {prepared}, such as {unknown[0]}; prepare them too, "
            "or strike their rows"
        )
    rows = slices[slices["image_id"].isin(table.index)]
    labelled = rows[list(LABELS)].notna().any(axis=1)
    if labelled.any():
        raise UserError(
            f"{path}: {labelled.sum()} images have labels, such as {rows['image_id'][labelled].iloc[0]}; "
            "soft labels stand only for labels that are missing: strike those rows"
        )
    groups = link_patients(slices)
    kept_out = rows["patient_id"].map(groups).isin(groups[held_out["patient_id"].unique()])
    usable = rows["status"] == "ok"
    joining = rows[usable & ~kept_out]
    if joining.empty:
        raise UserError(f"{path}: no image is left that could be read and whose patient is not held out")
    log.info(
        "%d slices of %s join with soft labels; left out: %d that could not be read, %d of held-out patients",
        len(joining), path, (~usable).sum(), (usable & kept_out).sum(),
    )  # fmt: skip
    labels = table.loc[joining["image_id"]].set_axis(joining.index)
    return joining.assign(**{label: labels[label] for label in LABELS})


def weights_of(batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """What the loss is told of the samples of a batch."""
    return {"weights": batch["sample_weights"]} if "sample_weights" in batch else {}
