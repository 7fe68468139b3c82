"""Folds: whole patients, linked patients together, labels balanced, leaks refused."""

import numpy as np
import pandas as pd
import pytest

from src.data.folds import assign_folds, check_folds, link_patients, read_external_folds, read_fold_file
from src.errors import UserError
from src.labels import LABELS


def slices_of(patients: int = 60, seed: int = 0) -> pd.DataFrame:
    """Patients with 5 to 40 slices; epidural in every tenth patient, others more often."""
    rng = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        count = int(rng.integers(5, 41))
        labels = np.zeros((count, 6), dtype=int)
        for column, rate in enumerate((0.1, 0.3, 0.2, 0.3, 0.4)):
            if rng.random() < rate:
                labels[: rng.integers(1, count), column] = 1
        labels[:, 5] = labels[:, :5].max(axis=1)
        frame = pd.DataFrame(labels, columns=list(LABELS))
        rows.append(
            frame.assign(patient_id=f"P{patient:03d}", pixel_hash=[f"{patient}-{n}" for n in range(count)])
        )
    return pd.concat(rows, ignore_index=True).assign(split="train", blank=False)


def test_every_patient_has_one_fold_and_the_folds_are_even():
    slices = slices_of()
    folds = assign_folds(slices, 5, seed=0)
    check_folds(slices, folds)
    assert folds["patient_id"].is_unique and set(folds["fold"]) == set(range(5))
    joined = slices.merge(folds, on="patient_id")
    share = joined.groupby("fold")[list(LABELS)].sum() / slices[list(LABELS)].sum()
    assert share["any"].between(0.15, 0.25).all()
    assert (joined[joined["epidural"] == 1].groupby("fold").size() > 0).all()
    assert joined.groupby("fold").size().between(0.15 * len(slices), 0.25 * len(slices)).all()


def test_folds_depend_on_the_seed_and_on_nothing_else():
    slices = slices_of()
    folds = assign_folds(slices, 3, seed=1)
    shuffled = slices.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(folds, assign_folds(shuffled, 3, seed=1))
    assert not folds.equals(assign_folds(slices, 3, seed=2))


def test_patients_with_an_identical_slice_are_linked_through_others():
    slices = slices_of(6)
    slices.loc[slices["patient_id"] == "P001", "pixel_hash"] = "same"
    first = slices.index[slices["patient_id"] == "P003"]
    slices.loc[first[0], "pixel_hash"] = "same"
    slices.loc[first[1], "pixel_hash"] = "other"
    slices.loc[slices.index[slices["patient_id"] == "P005"][0], "pixel_hash"] = "other"
    groups = link_patients(slices)
    assert groups["P001"] == groups["P003"] == groups["P005"]
    assert groups.nunique() == 4
    folds = assign_folds(slices, 2, seed=0).set_index("patient_id")["fold"]
    assert folds[["P001", "P003", "P005"]].nunique() == 1


def test_blank_slices_link_nobody():
    slices = slices_of(4)
    firsts = slices.drop_duplicates("patient_id").index
    slices.loc[firsts, ["pixel_hash", "blank"]] = ["0", True]
    assert link_patients(slices).nunique() == 4


def test_test_slices_link_but_get_no_fold():
    """P000 and P002 share no slice with each other, but each of them shares one with a test patient."""
    slices = slices_of(6)
    slices.loc[slices["patient_id"] == "P005", "split"] = "test"
    for number, patient in enumerate(("P000", "P002")):
        of_test = slices.loc[slices["patient_id"] == "P005", "pixel_hash"].iloc[number]
        slices.loc[slices.index[slices["patient_id"] == patient][0], "pixel_hash"] = of_test
    assert link_patients(slices)["P000"] == link_patients(slices)["P002"]
    for seed in range(8):
        folds = assign_folds(slices, 4, seed).set_index("patient_id")["fold"]
        assert "P005" not in folds
        assert folds["P000"] == folds["P002"]
    folds["P002"] = (folds["P000"] + 1) % 4
    with pytest.raises(UserError, match="are spread over folds, such as P000, P002"):
        check_folds(slices, folds.reset_index())


def test_a_common_study_links_its_patients_and_a_missing_one_nobody():
    slices = slices_of(6)
    slices["study_id"] = "S" + slices["patient_id"].str[1:]
    slices.loc[slices.index[slices["patient_id"] == "P004"][0], "study_id"] = "S001"
    slices.loc[slices["patient_id"].isin(["P002", "P003"]), "study_id"] = None
    slices.loc[slices.index[slices["patient_id"] == "P005"][0], "pixel_hash"] = "4-1"  # a slice of P004's
    slices.loc[slices.index[slices["patient_id"] == "P003"][0], "pixel_hash"] = "0-1"  # one of P000's
    groups = link_patients(slices)
    assert groups["P001"] == groups["P004"] == groups["P005"]
    assert groups["P000"] == groups["P003"]
    assert groups.nunique() == 3
    folds = assign_folds(slices, 2, seed=0).set_index("patient_id")["fold"]
    assert folds[["P001", "P004", "P005"]].nunique() == 1
    moved = folds.where(folds.index != "P004", 1 - folds["P004"]).reset_index()
    with pytest.raises(UserError, match="1 groups of patients with identical slices or a common study"):
        check_folds(slices, moved)


def test_a_leak_is_refused():
    slices = slices_of(6)
    folds = assign_folds(slices, 2, seed=0)
    for patient in ("P000", "P001"):
        slices.loc[slices.index[slices["patient_id"] == patient][0], "pixel_hash"] = "shared"
    folds.loc[folds["patient_id"].isin(["P000", "P001"]), "fold"] = [0, 1]
    with pytest.raises(UserError, match="a common study are spread over folds, such as P000, P001"):
        check_folds(slices, folds)


def test_missing_and_repeated_patients_are_refused():
    slices = slices_of(6)
    folds = assign_folds(slices, 2, seed=0)
    with pytest.raises(UserError, match="1 training patients have no fold, such as P000"):
        check_folds(slices, folds.iloc[1:])
    with pytest.raises(UserError, match="patient P000 has two rows"):
        check_folds(slices, pd.concat([folds, folds.iloc[:1]]))


def test_more_folds_than_patients_are_refused():
    with pytest.raises(UserError, match="only 3 patient groups"):
        assign_folds(slices_of(3), 5, seed=0)


def test_labels_may_be_missing_altogether():
    slices = slices_of(10).drop(columns=list(LABELS))
    assert assign_folds(slices, 5, seed=0)["fold"].value_counts().tolist() == [2] * 5


def test_external_folds_are_read_and_checked(tmp_path):
    slices = slices_of(6)
    path = tmp_path / "folds.csv"
    ours = assign_folds(slices, 2, seed=3)
    extra = pd.DataFrame({"patient_id": ["unknown"], "fold": [0]})
    pd.concat([ours, extra]).to_csv(path, index=False)
    pd.testing.assert_frame_equal(read_external_folds(path, slices), ours)
    for text, message in {
        "patient,fold\nP000,0\n": "its columns are patient, fold",
        "patient_id,fold\nP000,x\n": "a fold is not a whole number",
        "patient_id,fold\nP000,2\nP001,0\n": r"its folds are \[0, 2\]",
        "patient_id,fold\nP000,0\nP001,1\n": "4 training patients have no fold",
    }.items():
        path.write_text(text)
        with pytest.raises(UserError, match=rf"folds\.csv: .*{message}"):
            read_external_folds(path, slices)


@pytest.mark.parametrize("name", ["NA", "null", "nan", "None", ""])
def test_a_patient_may_be_called_like_a_missing_value(tmp_path, name):
    path = tmp_path / "folds.csv"
    path.write_text(f"patient_id,fold\n{name},0\n007,1\n")
    assert read_fold_file(path)["patient_id"].tolist() == [name, "007"]


def test_2213_real_studies_are_divided_evenly_in_seconds(realdata):
    import time

    slices = pd.read_csv(realdata / "rsna2019_tables" / "stage1_test_slices_meta_labels.csv.xz")
    slices = slices.rename(columns={"PatientID": "patient_id"})
    started = time.perf_counter()
    folds = assign_folds(slices, 5, seed=0)
    check_folds(slices, folds)
    assert time.perf_counter() - started < 10
    joined = slices.merge(folds, on="patient_id")
    share = joined.groupby("fold")[list(LABELS)].sum() / slices[list(LABELS)].sum()
    assert ((share - 0.2).abs() < 0.01).all(
        axis=None
    )  # each fold within 1 % of all positives, epidural included
    assert ((joined.groupby("fold").size() / len(slices) - 0.2).abs() < 0.01).all()


def test_patients_with_a_fold_keep_it_and_the_new_ones_even_the_folds_out():
    slices = slices_of()
    old = slices[slices["patient_id"] < "P030"]
    before = assign_folds(old, 5, seed=0).assign(fold=lambda table: table["fold"].replace({4: 3}))  # uneven
    folds = assign_folds(slices, 5, seed=0, before=before)
    kept = before.merge(folds, on="patient_id", suffixes=("", "_now"))
    assert len(kept) == 30 and (kept["fold"] == kept["fold_now"]).all()
    per_fold = slices.merge(folds, on="patient_id").groupby("fold").size() / len(slices)
    assert per_fold.between(0.14, 0.27).all()
    pd.testing.assert_frame_equal(folds, assign_folds(slices, 5, seed=0, before=folds))


def test_the_given_folds_must_fit():
    slices = slices_of(6)
    before = pd.DataFrame({"patient_id": ["P001", "P002", "gone"], "fold": [0, 2, 9]})
    with pytest.raises(UserError, match=r"not one of 0 to 1; delete folds\.csv"):
        assign_folds(slices, 2, seed=0, before=before)
    before["fold"] = [0, 1, 9]  # a patient who is not there any more does not matter
    assert set(assign_folds(slices, 2, seed=0, before=before)["patient_id"]) == set(slices["patient_id"])
    slices.loc[slices["patient_id"].isin(["P001", "P002"]), "pixel_hash"] = "same"
    with pytest.raises(
        UserError, match=r"P001 \(fold 0\) and P002 \(fold 1\) share an identical slice or a study"
    ):
        assign_folds(slices, 2, seed=0, before=before)
