"""Which slices or studies a fold trains on, which it holds out, and which are the test part."""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ..data.folds import check_folds
from ..data.prepared import FOLDS, SLICES, Prepared, study_digests
from ..data.target_labels import target_labels
from ..errors import UserError
from ..files import fingerprint
from ..targets import HEMORRHAGE, Targets, Unit

PATIENT, SERIES, SLICE = "patient", "series", "slice"  # what is held out whole; all but the first leak


@dataclass(frozen=True)
class Part:
    """Usable slices of whole studies that complete folds predict, in the order of studies and slices.

    fingerprint: of whatever their predictions depend on; only: the stage-1 fold whose outputs a stacker may
    read for them, None where every one may.
    """

    prepared: Prepared
    slices: pd.DataFrame
    fingerprint: str
    only: int | None = None

    @cached_property
    def studies(self) -> dict[str, str]:
        """study_id -> digest of its slices."""
        return study_digests(self.slices)


def unlabelled_part(prepared: Prepared) -> Part:
    """The test part of a data set; may be empty."""
    return Part(prepared, unlabelled_slices(prepared), prepared.test_fingerprint)


def part_of(prepared: Prepared, studies: Collection[str], only: int | None = None) -> Part:
    """Any studies of a data set, labelled or not."""
    slices = prepared.slices
    rows = _usable(slices, slices["study_id"].isin(studies))
    return Part(prepared, rows, fingerprint([study_digests(rows), prepared.geometry, only]), only)


def labelled_slices(prepared: Prepared, targets: Targets = HEMORRHAGE) -> pd.DataFrame:
    """Usable training slices with the labels of the targets, in the order of studies and slices."""
    slices = prepared.slices
    if not ((slices["split"] == "train") & (slices["status"] == "ok")).any():
        raise UserError(
            f"{prepared.folder / SLICES}: no usable labelled slice; check RAW_DATA_DIR, run prepare_data.py"
        )
    labels = target_labels(prepared, targets, "image")
    usable = slices.drop(columns=slices.columns.intersection(labels.columns))
    usable = usable.join(labels, on="image_id", how="inner")
    return usable.sort_values(["study_id", "order"], kind="stable").reset_index(drop=True)


def labelled_studies(prepared: Prepared, targets: Targets) -> pd.DataFrame:
    """One row a study with usable training slices: study_id, patient_id, the labels of the targets."""
    labels = target_labels(prepared, targets, "study")
    patients = prepared.slices.drop_duplicates("study_id").set_index("study_id")["patient_id"]
    return labels.join(patients).reset_index().sort_values("study_id", ignore_index=True)


def unlabelled_slices(prepared: Prepared) -> pd.DataFrame:
    """Usable test slices, in the order of studies and slices; may be empty."""
    return _usable(prepared.slices, prepared.slices["split"] == "test")


def _usable(slices: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
    usable = slices[chosen & (slices["status"] == "ok")]
    return usable.sort_values(["study_id", "order"], kind="stable").reset_index(drop=True)


def split_fold(
    prepared: Prepared,
    fold: int,
    targets: Targets = HEMORRHAGE,
    unit: Unit = "image",
    split: str = PATIENT,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and held-out slices, or studies, of a fold, by patient or by series.

    Slices whose pixels stand elsewhere with other labels are held out and scored, but not trained on. A
    patient in two folds, or two patients with an identical slice in two, is a UserError.
    """
    rows = (labelled_slices if unit == "image" else labelled_studies)(prepared, targets)
    table, slices = prepared.folds, prepared.slices
    try:
        check_folds(slices, table)
    except UserError as error:
        raise UserError(f"{prepared.folder / FOLDS}: {error}; run prepare_data.py") from None
    folds = series_folds(prepared) if split == SERIES else table.set_index("patient_id")["fold"]
    known = sorted(table["fold"].unique())
    if fold not in known:
        raise UserError(f"fold {fold}: folds.csv has the folds {', '.join(map(str, known))}")
    held_out = rows[folds.index.name].map(folds) == fold
    training = ~held_out & ~rows["conflicting_copy"] if unit == "image" else ~held_out
    if not training.any() or not held_out.any():
        what = "slices" if unit == "image" else "studies"
        raise UserError(
            f"fold {fold}: no {what} to {'hold out' if training.any() else 'train on'}; use fewer folds"
        )
    return rows[training], rows[held_out]


def series_folds(prepared: Prepared) -> pd.Series:
    """study_id -> fold, of the training part: even shares of whole series, whoever their patient. A LEAK.

    warchildmd/ihd holds out the end of a list. The order of a table or of ids may follow the patients, so
    here it is drawn, once for both stages: whatever the seed of a run.
    """
    slices = prepared.slices
    series = sorted(slices.loc[slices["split"] == "train", "study_id"].dropna().unique())
    order = np.random.default_rng(0).permutation(series)
    known = np.sort(prepared.folds["fold"].unique())
    share = np.arange(len(order)) * len(known) // len(order)
    return pd.Series(known[share], pd.Index(order, name="study_id"))


def split_of(config: Any) -> str:
    """By what a configuration divides a fold; a kind without such a key knows patients only."""
    return getattr(config, "split", PATIENT)


def leak_of(split: str) -> str | None:
    """What every score of a run has to say whose patients were not kept apart; None where they were."""
    return None if split == PATIENT else f"leaky: split by {split}; a patient may be in training and held-out"


def warn_of_leak(split: str, training: pd.DataFrame, held_out: pd.DataFrame, log: logging.Logger) -> None:
    """Say how many patients are on both sides of a split that is not by patient."""
    if split != PATIENT:
        patients = held_out["patient_id"].drop_duplicates()
        shared = patients.isin(training["patient_id"])
        log.warning("%s: %d of the %d held-out patients are", leak_of(split), shared.sum(), len(patients))
