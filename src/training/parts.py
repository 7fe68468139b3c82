"""Which slices a fold trains on, which it holds out, and which are the test part."""

from pathlib import Path

import pandas as pd

from ..data.tables import read_folds, read_slices
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
    """Training and held-out slices of a fold, by patient."""
    folds = read_folds(clean).set_index("patient_id")["fold"]
    known = sorted(folds.unique())
    if fold not in known:
        raise UserError(f"fold {fold}: folds.csv has the folds {', '.join(map(str, known))}")
    assigned = slices["patient_id"].map(folds)
    if assigned.isna().any():
        missing = slices.loc[assigned.isna(), "patient_id"].unique()
        raise UserError(
            f"{clean / 'folds.csv'}: lacks {len(missing)} patients ({missing[0]}, ...); run prepare_data.py"
        )
    held_out = assigned == fold
    if held_out.all() or not held_out.any():
        raise UserError(
            f"fold {fold}: no slices to {'train on' if held_out.all() else 'hold out'}; use fewer folds"
        )
    return slices[~held_out], slices[held_out]
