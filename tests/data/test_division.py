"""Patients divided into a test part, a validation part and the rest."""

import pandas as pd
import pytest

from src.data.division import Division
from src.data.prepared import TEST, Prepared
from src.errors import UserError
from src.labels import LABELS
from src.targets import HEMORRHAGE
from tests.training.prepared import rewrite, write_clean

BLEEDING = 36  # of 82 patients, as in the data of the published comparison


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    clean = tmp_path_factory.mktemp("clean")
    write_clean(clean, studies=109, slices=2)

    def change(slices):
        study = slices["study_id"].str[5:].astype(int)
        slices.loc[study.between(BLEEDING, 81), list(LABELS)] = 0
        return slices

    rewrite(clean, "slices.parquet", change)
    return clean


def drawn(clean, seed=0, **options):
    """patient number -> fold"""
    parts = Division(HEMORRHAGE, "any", **options).draw(Prepared(clean), seed)
    return parts.set_index(parts["patient_id"].str[7:].astype(int))["fold"]


def sizes(folds):
    return [(folds == TEST).sum(), (folds == 0).sum(), (folds > 0).sum()]


def test_the_shares_hold_among_positive_patients_and_among_others(clean):
    folds = drawn(clean)
    assert sorted(folds.index) == list(range(82))
    assert sizes(folds[folds.index < BLEEDING]) == [11, 4, 21]  # of 36, 30 %; of 25, 15 %; rounded up
    assert sizes(folds[folds.index >= BLEEDING]) == [14, 5, 27]
    assert folds[folds > 0].value_counts().sort_index().tolist() == [16, 16, 16]


def test_without_strata_they_hold_among_all(clean):
    folds = drawn(clean, stratified=False)
    assert sizes(folds) == [25, 9, 48]
    positives = [(drawn(clean, k, stratified=False)[:BLEEDING] == TEST).sum() for k in range(5)]
    assert len(set(positives)) > 1


def test_other_shares(clean):
    assert sizes(drawn(clean, stratified=False, test_share=0.5, validation_share=0.1)) == [41, 5, 36]


def test_a_seed_gives_the_same_split_and_another_one_another(clean):
    assert drawn(clean, 3).equals(drawn(clean, 3))
    assert not drawn(clean, 3).equals(drawn(clean, 4))


def test_linked_patients_stay_together_and_count_as_one(tmp_path):
    write_clean(tmp_path, studies=16, slices=2)
    pairs = {f"image{a + 1:02d}_0": f"image{a:02d}_0" for a in range(0, 12, 2)}

    def change(slices):
        slices.loc[slices["study_id"].between("study06", "study11"), list(LABELS)] = 0
        return slices.assign(pixel_hash=slices["image_id"].replace(pairs))

    rewrite(tmp_path, "slices.parquet", change)
    for seed in range(5):
        folds = drawn(tmp_path, seed)
        assert [folds[a] == folds[a + 1] for a in range(0, 12, 2)] == [True] * 6
        assert sizes(folds) == [4, 4, 4]  # of three groups of either kind one each


def test_too_few_patients_of_a_kind_are_named(clean):
    def only(count):
        def change(slices):
            study = slices["study_id"].str[5:].astype(int)
            slices.loc[study.between(count, 81), list(LABELS)] = 0
            return slices

        return change

    prepared = Prepared(clean)
    prepared.slices = only(2)(prepared.slices.copy())
    with pytest.raises(
        UserError, match=r"^2 patients positive for `any` \(linked .* too few for a test, a validation and"
    ):
        Division(HEMORRHAGE, "any").draw(prepared, 0)
    assert len(Division(HEMORRHAGE, "any", stratified=False).draw(prepared, 0)) == 82
    prepared.slices = only(0)(prepared.slices)
    with pytest.raises(UserError, match=r"^0 patients positive for `any`"):
        Division(HEMORRHAGE, "any").draw(prepared, 0)


def test_divided_data_are_prepared_data(clean):
    prepared = Prepared(clean)
    parts = Division(HEMORRHAGE, "any").draw(prepared, 0)
    divided, other = prepared.divided(parts), prepared.divided(Division(HEMORRHAGE, "any").draw(prepared, 1))
    tested = set(parts.loc[parts["fold"] == TEST, "patient_id"])
    assert set(divided.slices.loc[divided.slices["split"] == "test", "patient_id"]) == tested
    assert set(divided.slices["patient_id"]) == set(prepared.folds["patient_id"])  # not the old test part
    assert divided.folds.set_index("patient_id")["fold"].equals(
        parts[parts["fold"] != TEST].set_index("patient_id")["fold"]
    )
    assert (prepared.volumes.study("study00") == divided.volumes.study("study00")).all()
    marks = {(one.fingerprint, one.test_fingerprint) for one in (prepared, divided, other)}
    assert len({a for a, _ in marks}) == len({b for _, b in marks}) == 3
    again = Prepared(clean).divided(parts)
    assert (again.fingerprint, again.test_fingerprint) == (divided.fingerprint, divided.test_fingerprint)
    pd.testing.assert_frame_equal(prepared.slices, Prepared(clean).slices)
