"""Which slices a fold trains on, which it holds out, and which are the test part."""

import pandas as pd

from ..data.folds import check_folds
from ..data.prepared import FOLDS, SLICES, Prepared
from ..errors import UserError


def labelled_slices(prepared: Prepared) -> pd.DataFrame:
    """Usable training slices with their labels, in the order of studies and slices."""
    slices = prepared.slices
    usable = slices[(slices["split"] == "train") & (slices["status"] == "ok") & slices["any"].notna()]
    if usable.empty:
        raise UserError(
            f"{prepared.folder / SLICES}: no usable labelled slice; check RAW_DATA_DIR, run prepare_data.py"
        )
    return usable.sort_values(["study_id", "order"], kind="stable").reset_index(drop=True)


def unlabelled_slices(prepared: Prepared) -> pd.DataFrame:
    """Usable test slices, in the order of studies and slices; may be empty."""
    slices = prepared.slices
    usable = slices[(slices["split"] == "test") & (slices["status"] == "ok")]
    return usable.sort_values(["study_id", "order"], kind="stable").reset_index(drop=True)


def split_fold(prepared: Prepared, fold: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and held-out slices of a fold, by patient.

    Slices whose pixels stand elsewhere with other labels are held out and scored, but not trained on. A
    patient in two folds, or two patients with an identical slice in two, is a UserError.
    """
    slices, table = labelled_slices(prepared), prepared.folds
    try:
        check_folds(prepared.slices, table)
    except UserError as error:
        raise UserError(f"{prepared.folder / FOLDS}: {error}; run prepare_data.py") from None
    folds = table.set_index("patient_id")["fold"]
    known = sorted(folds.unique())
    if fold not in known:
        raise UserError(f"fold {fold}: folds.csv has the folds {', '.join(map(str, known))}")
    held_out = slices["patient_id"].map(folds) == fold
    training = ~held_out & ~slices["conflicting_copy"]
    if not training.any() or not held_out.any():
        raise UserError(
            f"fold {fold}: no slices to {'hold out' if training.any() else 'train on'}; use fewer folds"
        )
    return slices[training], slices[held_out]
