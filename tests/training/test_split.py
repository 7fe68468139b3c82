"""Which slices a fold trains on and holds out; parts that cannot be are refused with the remedy."""

import pandas as pd
import pytest

from src.errors import UserError
from src.training.split import labelled_slices, split_fold, unlabelled_slices
from tests.training.prepared import write_clean


@pytest.fixture
def clean(tmp_path):
    write_clean(tmp_path)
    return tmp_path


def rewrite(clean, file, change):
    path = clean / file
    if path.suffix == ".csv":
        change(pd.read_csv(path)).to_csv(path, index=False)
    else:
        change(pd.read_parquet(path)).to_parquet(path)


def test_a_fold_trains_on_the_patients_it_does_not_hold_out(clean):
    training, held_out = split_fold(labelled_slices(clean), 1, clean)
    assert set(held_out["patient_id"]) == {"patient01", "patient03", "patient05"}
    assert set(training["patient_id"]) == {"patient00", "patient02", "patient04"}
    assert set(unlabelled_slices(clean)["patient_id"]) == {"patient06", "patient07"}


def test_quarantined_and_unlabelled_slices_are_in_no_part(clean):
    def change(slices):
        slices.loc[0, "status"] = "quarantined"
        slices.loc[1, "any"] = None
        return slices

    first, second = labelled_slices(clean)["image_id"][:2]
    rewrite(clean, "slices.parquet", change)
    assert not {first, second} & set(labelled_slices(clean)["image_id"])


def test_a_fold_without_slices_says_to_use_fewer(clean):
    def quarantined(slices):
        slices.loc[slices["patient_id"].isin(["patient01", "patient03", "patient05"]), "status"] = (
            "quarantined"
        )
        return slices

    rewrite(clean, "slices.parquet", quarantined)
    with pytest.raises(UserError, match="fold 1: no slices to hold out; use fewer folds"):
        split_fold(labelled_slices(clean), 1, clean)
    with pytest.raises(UserError, match="fold 0: no slices to train on; use fewer folds"):
        split_fold(labelled_slices(clean), 0, clean)


def test_an_unknown_fold_and_a_patient_without_one_are_refused(clean):
    with pytest.raises(UserError, match=r"fold 5: folds.csv has the folds 0, 1"):
        split_fold(labelled_slices(clean), 5, clean)
    rewrite(clean, "folds.csv", lambda folds: folds[1:])
    with pytest.raises(UserError, match=r"folds.csv: .*patient00.*run prepare_data.py"):
        split_fold(labelled_slices(clean), 0, clean)


def test_data_without_a_usable_label_say_where_to_look(clean):
    rewrite(clean, "slices.parquet", lambda slices: slices.assign(any=None))
    with pytest.raises(UserError, match="no usable labelled slice; check RAW_DATA_DIR"):
        labelled_slices(clean)
