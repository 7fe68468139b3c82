"""The prepared object: tables as they were written, or an error; fingerprints of what is read, no more."""

import numpy as np
import pandas as pd
import pytest

from src.data.prepared import Prepared, study_digests
from src.errors import UserError
from src.files import read_json, write_json
from tests.training.prepared import image_name, rewrite, study_name, write_clean


@pytest.fixture
def clean(tmp_path):
    write_clean(tmp_path, masks=True)
    return tmp_path


def fingerprints(clean):
    prepared = Prepared(clean)
    return prepared.fingerprint, prepared.test_fingerprint


def test_tables_and_volumes_are_those_of_the_folder_and_are_read_once(clean):
    prepared = Prepared(clean)
    assert prepared.size == 64 and len(prepared.slices) == 40 and prepared.slices is prepared.slices
    assert prepared.studies["study_id"].tolist() == [study_name(n) for n in range(8)]
    assert dict(prepared.folds.to_numpy()) == {f"patient{n:02d}": n % 2 for n in range(6)}
    assert prepared.volumes.study_images(study_name(3)) == [image_name(3, k) for k in range(5)]
    assert prepared.masks.study_ids == [study_name(n) for n in (0, 2, 4, 6)]
    np.testing.assert_array_equal(
        prepared.masks.slice(image_name(2, 1)), prepared.volumes.slice(image_name(2, 1)) > 60
    )
    (clean / "slices.parquet").unlink()
    assert len(prepared.slices) == 40


def test_quarantined_slices_have_no_pixels(clean):
    def change(slices):
        slices.loc[slices["image_id"] == image_name(3, 0), "status"] = "quarantined"
        return slices

    rewrite(clean, "slices.parquet", change)
    assert Prepared(clean).volumes.study_images(study_name(3)) == [image_name(3, k) for k in range(1, 5)]


def test_a_folder_without_manifest_or_of_another_version_says_what_to_run(clean, tmp_path):
    with pytest.raises(UserError, match=r"no manifest.json, .* run: python prepare_data\.py"):
        Prepared(tmp_path / "nothing")
    manifest = read_json(clean / "manifest.json")
    write_json(clean / "manifest.json", {k: v for k, v in manifest.items() if k != "format"})
    with pytest.raises(UserError, match=r"of another version of this program; run prepare_data\.py again"):
        Prepared(clean)


@pytest.mark.parametrize("name", ["slices", "studies", "folds"])
@pytest.mark.parametrize("how", ["edited", "cut off", "missing"])
def test_a_table_that_is_not_as_it_was_written_is_refused(clean, name, how):
    (path,) = clean.glob(f"{name}.*")
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:-20] if how == "cut off" else data.replace(b"0", b"1"))
    said = "missing; run: python prep" if how == "missing" else "is not as prepare_data.py wrote it; run prep"
    with pytest.raises(UserError, match=rf"{path.name}: {said}"):
        getattr(Prepared(clean), name)


def test_a_data_set_without_masks_says_so(tmp_path):
    write_clean(tmp_path)
    with pytest.raises(UserError, match="this data set has no masks"):
        Prepared(tmp_path).masks  # noqa: B018


def first(slices, split):
    return slices.index[slices["split"] == split][0]


CHANGES = {  # what changes -> whether training, and whether prediction, reads it
    "a training label": (lambda s: s.assign(subdural=s["subdural"] * 0), (True, False)),
    "a training pixel": (lambda s: s.assign(pixel_hash=s["pixel_hash"].replace("0-0", "x")), (True, False)),
    "a test pixel": (lambda s: s.assign(pixel_hash=s["pixel_hash"].replace("7-0", "x")), (False, True)),
    "a test image less": (lambda s: s.drop(first(s, "test")), (False, True)),
    "a training image less": (lambda s: s.drop(first(s, "train")), (True, False)),
    "the place in the volumes": (lambda s: s.assign(volume="x.pack", volume_index=9), (False, False)),
    "the place of the masks": (lambda s: s.assign(mask_volume="x.pack", mask_index=9), (False, False)),
    "units": (lambda s: s.assign(units="gray"), (True, True)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_fingerprints_change_with_what_is_read_and_nothing_else(clean, name):
    change, expected = CHANGES[name]
    before = fingerprints(clean)
    rewrite(clean, "slices.parquet", change)
    assert tuple(a != b for a, b in zip(before, fingerprints(clean), strict=True)) == expected


def test_folds_are_part_of_what_is_trained_on(clean):
    before = fingerprints(clean)
    rewrite(clean, "folds.csv", lambda folds: folds.assign(fold=1 - folds["fold"]))
    after = fingerprints(clean)
    assert after[0] != before[0] and after[1] == before[1]


def test_a_quarantined_training_image_changes_nothing_that_is_read(clean):
    def add(slices):
        new = slices[slices["image_id"] == image_name(0, 0)].assign(image_id="new", status="quarantined")
        return pd.concat([slices, new])

    before = fingerprints(clean)
    rewrite(clean, "slices.parquet", add)
    assert fingerprints(clean) == before


def test_a_study_s_digest_changes_with_its_images_alone(clean):
    slices = Prepared(clean).slices
    before = study_digests(slices)
    assert list(before) == [study_name(n) for n in range(8)] and len(set(before.values())) == 8
    one = slices["study_id"] == study_name(2)
    labelled = slices.assign(any=1)  # labels are not read when predicting
    assert study_digests(labelled) == before
    for name, value in {
        "pixel_hash": "x",
        "order": 9,
        "position_mm": 1.5,
        "status": "quarantined",
        "window_center": 9.0,
    }.items():
        changed = slices.assign(**{name: slices[name].where(~one, value)})
        after = study_digests(changed)
        assert [study for study in before if after[study] != before[study]] == [study_name(2)], name
    assert study_digests(slices.drop(slices.index[one][0]))[study_name(2)] != before[study_name(2)]
