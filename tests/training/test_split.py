"""Which slices a fold trains on and holds out; parts that cannot be are refused with the remedy."""

import pytest

from src.data.prepared import Prepared
from src.errors import UserError
from src.training.split import labelled_slices, split_fold, unlabelled_slices
from tests.training.prepared import rewrite, write_clean


@pytest.fixture
def clean(tmp_path):
    write_clean(tmp_path)
    return tmp_path


def test_a_fold_trains_on_the_patients_it_does_not_hold_out(clean):
    training, held_out = split_fold(Prepared(clean), 1)
    assert set(held_out["patient_id"]) == {"patient01", "patient03", "patient05"}
    assert set(training["patient_id"]) == {"patient00", "patient02", "patient04"}
    assert set(unlabelled_slices(Prepared(clean))["patient_id"]) == {"patient06", "patient07"}


def test_quarantined_and_unlabelled_slices_are_in_no_part(clean):
    def change(slices):
        slices.loc[0, "status"] = "quarantined"
        slices.loc[1, "any"] = None
        return slices

    first, second = labelled_slices(Prepared(clean))["image_id"][:2]
    rewrite(clean, "slices.parquet", change)
    assert not {first, second} & set(labelled_slices(Prepared(clean))["image_id"])


def test_a_fold_without_slices_says_to_use_fewer(clean):
    def quarantined(slices):
        slices.loc[slices["patient_id"].isin(["patient01", "patient03", "patient05"]), "status"] = (
            "quarantined"
        )
        return slices

    rewrite(clean, "slices.parquet", quarantined)
    with pytest.raises(UserError, match="fold 1: no slices to hold out; use fewer folds"):
        split_fold(Prepared(clean), 1)
    with pytest.raises(UserError, match="fold 0: no slices to train on; use fewer folds"):
        split_fold(Prepared(clean), 0)


def test_a_slice_whose_copy_has_other_labels_is_scored_but_not_trained_on(clean):
    copy = "image02_3"  # patient02 is in fold 0
    rewrite(
        clean, "slices.parquet", lambda slices: slices.assign(conflicting_copy=slices["image_id"] == copy)
    )
    training, held_out = split_fold(Prepared(clean), 1)
    assert copy not in set(training["image_id"]) and len(training) == 14
    training, held_out = split_fold(Prepared(clean), 0)
    assert copy in set(held_out["image_id"]) and len(training) == len(held_out) == 15
    assert copy in set(labelled_slices(Prepared(clean))["image_id"])


def test_patients_whom_a_test_image_links_may_not_lie_in_two_folds(clean):
    def change(slices):
        same = {"0-0": "6-0", "1-0": "6-1"}  # patient00 and patient01 share a slice each with patient06
        return slices.replace({"pixel_hash": same})

    rewrite(clean, "slices.parquet", change)
    with pytest.raises(UserError, match=r"folds\.csv: .*spread over folds, such as patient00, patient01"):
        split_fold(Prepared(clean), 0)


def test_an_unknown_fold_and_a_patient_without_one_are_refused(clean):
    with pytest.raises(UserError, match=r"fold 5: folds.csv has the folds 0, 1"):
        split_fold(Prepared(clean), 5)
    rewrite(clean, "folds.csv", lambda folds: folds[1:])
    with pytest.raises(UserError, match=r"folds.csv: .*patient00.*run prepare_data.py"):
        split_fold(Prepared(clean), 0)


def test_data_without_a_usable_label_say_where_to_look(clean):
    rewrite(clean, "slices.parquet", lambda slices: slices.assign(any=None))
    with pytest.raises(UserError, match="no label any for these images"):
        labelled_slices(Prepared(clean))
