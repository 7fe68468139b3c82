"""Which slices a fold trains on, which it holds out, and which are the test part."""

from pathlib import Path

import pandas as pd

from ..data.folds import check_folds
from ..data.prepared import read_folds, read_slices
from ..errors import UserError


def labelled_slices(clean: Path) -> pd.DataFrame:
    """Usable training slices with their labels, in the order of studies and slices."""
    slices = read_slices(clean)
    usable = slices[(slices["split"] == "train") & (slices["status"] == "ok") & slices["any"].notna()]
    if usable.empty:
        raise UserError(
            f"{clean / 'slices.parquet'}: no usable labelled slice; check RAW_DATA_DIR, run prepare_data.py"
        )
    return usable.sort_values(["study_id", "order"], kind="stable").reset_index(drop=True)


def unlabelled_slices(clean: Path) -> pd.DataFrame:
    """Usable test slices, in the order of studies and slices; may be empty."""
    slices = read_slices(clean)
    usable = slices[(slices["split"] == "test") & (slices["status"] == "ok")]
    return usable.sort_values(["study_id", "order"], kind="stable").reset_index(drop=True)


def split_fold(slices: pd.DataFrame, fold: int, clean: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and held-out slices of a fold, by patient.

    A patient in two folds, or two patients with an identical slice in two, is a UserError.
    """
    table = read_folds(clean)
    try:
        check_folds(slices, table)
    except UserError as error:
        raise UserError(f"{clean / 'folds.csv'}: {error}; run prepare_data.py") from None
    folds = table.set_index("patient_id")["fold"]
    known = sorted(folds.unique())
    if fold not in known:
        raise UserError(f"fold {fold}: folds.csv has the folds {', '.join(map(str, known))}")
    held_out = slices["patient_id"].map(folds) == fold
    if held_out.all() or not held_out.any():
        raise UserError(
            f"fold {fold}: no slices to {'train on' if held_out.all() else 'hold out'}; use fewer folds"
        )
    return slices[~held_out], slices[held_out]
