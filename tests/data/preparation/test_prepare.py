"""Step 1 as a whole, on contest folders of small images."""

import errno
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest

from src.data.folds import link_patients
from src.data.preparation import packing
from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.prepared import Prepared
from src.data.volumes import open_volumes
from src.errors import UserError
from src.labels import LABELS
from tests.data.dicom_files import dataset, image_name, pydicom_hu, stored_values, write, write_rsna

SMALL = Options(size=256, folds=2)


@pytest.fixture
def raw(tmp_path) -> Path:
    return write_rsna(tmp_path / "raw", studies=4, slices=3, test_studies=1)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def cause_of(clean: Path, image_id: str) -> str:
    row = Prepared(clean).slices.set_index("image_id").loc[image_id]
    assert row["status"] == "quarantined" and pd.isna(row["order"]) and pd.isna(row["volume"])
    quarantine = pd.read_csv(clean / "quarantine.csv").set_index("image_id")
    assert quarantine.loc[image_id, "cause"] == row["cause"]
    return row["cause"]


def test_every_image_comes_out_with_its_study_order_labels_and_fold(raw, tmp_path):
    manifest = prepare(raw, tmp_path / "clean", SMALL)
    slices = Prepared(tmp_path / "clean").slices
    assert manifest["images"] == {"train": 12, "test": 3} and manifest["quarantined"] == {}
    assert slices["image_id"].is_unique and len(slices) == 15 and (slices["status"] == "ok").all()
    assert slices.loc[slices["study_id"] == "ID_s2", "order"].tolist() == [0, 1, 2]
    assert slices.loc[slices["study_id"] == "ID_s2", "position_mm"].tolist() == [0, 5, 10]
    bleeding = slices[slices["any"].fillna(0) == 1]
    assert bleeding["image_id"].tolist() == [image_name(1), image_name(201)]
    assert (bleeding["subdural"] == 1).all() and (bleeding["epidural"] == 0).all()
    assert slices.loc[slices["split"] == "test", list(LABELS)].isna().all(axis=None)
    assert sorted(Prepared(tmp_path / "clean").folds["fold"]) == [0, 0, 1, 1]
    assert Prepared(tmp_path / "clean").studies["study_id"].tolist() == [f"ID_s{n}" for n in range(5)]


def test_what_is_not_resampled_is_stored_exactly(tmp_path):
    stored = np.random.default_rng(0).integers(-32768, 31744, (512, 512)).astype(np.int16)
    raw = write_rsna(tmp_path / "raw", studies=2, slices=1, test_studies=0)
    name = image_name(0)
    write(raw / "stage_2_train" / f"{name}.dcm", dataset(name, stored, patient="ID_p0", study="ID_s0"))
    prepare(raw, tmp_path / "clean", Options(folds=2))
    expected = np.clip(stored.astype(int) - 1024, -32768, 32767)
    assert (open_volumes(tmp_path / "clean").slice(name) == expected).all()


def test_volumes_give_slices_batches_and_studies(raw, tmp_path):
    prepare(raw, tmp_path / "clean", SMALL)
    volumes = open_volumes(tmp_path / "clean")
    assert volumes.size == 256 and volumes.slice(image_name(101)).shape == (256, 256)
    names = [image_name(n) for n in (402, 0, 101, 0)]
    batch = volumes.slices(names)
    assert all((batch[place] == volumes.slice(name)).all() for place, name in enumerate(names))
    study = volumes.study("ID_s3")
    assert volumes.study_images("ID_s3") == [image_name(n) for n in (300, 301, 302)]
    assert (study == volumes.slices(volumes.study_images("ID_s3"))).all()
    assert volumes.slices([]).shape == (0, 256, 256)
    with pytest.raises(UserError, match="no usable image 'ID_x'"):
        volumes.slices([image_name(0), "ID_x"])
    with pytest.raises(UserError, match="no usable study 'ID_x'"):
        volumes.study("ID_x")


def test_volumes_may_be_shared_by_threads_and_sent_to_processes(raw, tmp_path):
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

    prepare(raw, tmp_path / "clean", SMALL)
    volumes = open_volumes(tmp_path / "clean")
    expected = {name: volumes.slice(name) for name in volumes.image_ids}
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(volumes.slice, volumes.image_ids * 10))
    assert all((a == expected[name]).all() for a, name in zip(found, volumes.image_ids * 10, strict=True))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:  # opens the packs anew
        assert (pool.submit(volumes.slice, image_name(0)).result() == expected[image_name(0)]).all()


def test_jobs_do_not_change_a_byte(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "STUDIES_PER_PACK", 2)
    prepare(raw, tmp_path / "one", SMALL, jobs=1)
    prepare(raw, tmp_path / "two", SMALL, jobs=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_finished_run_verifies_and_writes_nothing(raw, tmp_path):
    first = prepare(raw, tmp_path / "clean", SMALL)
    before = times(tmp_path / "clean")
    assert prepare(raw, tmp_path / "clean", SMALL) == first
    assert times(tmp_path / "clean") == before


@pytest.mark.parametrize("stop_after", [0, 1, 2])
def test_a_run_killed_and_started_again_ends_with_the_same_bytes(tmp_path, monkeypatch, stop_after):
    raw = write_rsna(tmp_path / "raw", studies=5, slices=2, test_studies=1)
    monkeypatch.setattr(packing, "STUDIES_PER_PACK", 2)
    prepare(raw, tmp_path / "straight", SMALL)
    written = []
    original = packing.study_entries

    def killed(study, options):
        if len(written) == 2 * stop_after + 1:  # in the middle of a pack
            raise KeyboardInterrupt
        written.append(study.study_id)
        return original(study, options)

    monkeypatch.setattr(packing, "study_entries", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare(raw, tmp_path / "stopped", SMALL)
    with pytest.raises(UserError, match=r"no manifest\.json"):
        Prepared(tmp_path / "stopped")
    monkeypatch.setattr(packing, "study_entries", original)
    done = times(tmp_path / "stopped")
    prepare(raw, tmp_path / "stopped", SMALL)
    assert contents(tmp_path / "straight") == contents(tmp_path / "stopped")
    after = times(tmp_path / "stopped")
    assert len(done) == stop_after and all(after[name] == then for name, then in done.items())


def test_a_killed_write_leaves_no_trace_in_the_end(raw, tmp_path):
    folder = tmp_path / "clean" / "volumes"
    folder.mkdir(parents=True)
    (folder / ".0123.pack.77.partial").write_bytes(b"half")
    prepare(raw, tmp_path / "clean", SMALL)
    assert not list(folder.glob(".*"))


def test_a_changed_file_is_read_again(raw, tmp_path):
    prepare(raw, tmp_path / "clean", SMALL)
    name = image_name(101)
    path = raw / "stage_2_train" / f"{name}.dcm"
    changed = dataset(name, stored_values() * 0 + 1324, patient="ID_p1", study="ID_s1", z=5.0, implicit=True)
    write(path, changed)
    prepare(raw, tmp_path / "clean", SMALL)
    assert (open_volumes(tmp_path / "clean").slice(name) == 300).all()


def test_an_older_file_of_another_size_is_read_again(raw, tmp_path):
    """A replacement that was copied with its date."""
    prepare(raw, tmp_path / "clean", SMALL)
    name = image_name(101)
    path = raw / "stage_2_train" / f"{name}.dcm"
    write(path, dataset(name, stored_values(size=64) * 0 + 1324, patient="ID_p1", study="ID_s1", z=5.0))
    os.utime(path, (1e9, 1e9))
    prepare(raw, tmp_path / "clean", SMALL)
    assert (open_volumes(tmp_path / "clean").slice(name) == 300).all()


def test_changed_settings_are_named_and_what_depends_on_them_redone(raw, tmp_path, caplog):
    caplog.set_level("INFO", logger="ich")
    first = prepare(raw, tmp_path / "clean", SMALL)
    volumes = times(tmp_path / "clean" / "volumes")
    second = prepare(raw, tmp_path / "clean", Options(size=256, folds=3))
    assert "settings changed: folds 2 -> 3;" in caplog.text
    assert times(tmp_path / "clean" / "volumes") == volumes
    third = prepare(raw, tmp_path / "clean", Options(size=384, folds=3))
    assert "settings changed: size 256 -> 384;" in caplog.text
    assert not set(times(tmp_path / "clean" / "volumes")) & set(volumes)
    assert open_volumes(tmp_path / "clean").size == 384
    assert len({first["fingerprint"], second["fingerprint"], third["fingerprint"]}) == 3


def test_a_changed_fold_file_is_noticed(raw, tmp_path):
    path = tmp_path / "folds.csv"
    options = Options(size=256, folds_file=str(path))
    for folds in ([0, 1, 0, 1], [1, 0, 0, 1]):
        rows = [f"ID_p{patient},{fold}" for patient, fold in enumerate(folds)]
        path.write_text("\n".join(["patient_id,fold", *rows]) + "\n")
        prepare(raw, tmp_path / "clean", options)
        assert Prepared(tmp_path / "clean").folds["fold"].tolist() == folds
    path.unlink()
    with pytest.raises(UserError, match=r"folds\.csv"):
        prepare(raw, tmp_path / "clean", options)


def test_folds_that_were_edited_in_place_are_refused_and_a_changed_table_is_made_again(raw, tmp_path):
    clean = tmp_path / "clean"
    prepare(raw, clean, SMALL)
    before, folds = contents(clean), (clean / "folds.csv").read_text()
    (clean / "folds.csv").write_text(folds.replace(",0", ",9").replace(",1", ",0").replace(",9", ",1"))
    with pytest.raises(UserError, match=r"folds\.csv: was changed since .* by --folds-file, or delete it"):
        prepare(raw, clean, SMALL)
    (clean / "folds.csv").write_text(folds)
    slices = pd.read_parquet(clean / "slices.parquet")
    slices.assign(any=1).to_parquet(clean / "slices.parquet")
    prepare(raw, clean, SMALL)
    assert contents(clean) == before


def test_a_damaged_volume_is_made_again(raw, tmp_path):
    prepare(raw, tmp_path / "clean", SMALL)
    before = contents(tmp_path / "clean")
    pack = next((tmp_path / "clean" / "volumes").glob("*.pack"))
    data = bytearray(pack.read_bytes())
    data[200] ^= 1
    pack.write_bytes(data)
    prepare(raw, tmp_path / "clean", SMALL)
    assert contents(tmp_path / "clean") == before


def test_a_limit_takes_a_few_studies_and_no_others(raw, tmp_path):
    manifest = prepare(raw, tmp_path / "clean", Options(size=256, folds=2, limit=3))
    slices = Prepared(tmp_path / "clean").slices
    assert manifest["studies"] == slices["study_id"].nunique() == 3 and len(slices) == 9
    full = prepare(raw, tmp_path / "clean", SMALL)
    assert full["studies"] == 5


def test_the_zip_archive_gives_the_same_as_the_folder(raw, tmp_path):
    prepare(raw, tmp_path / "folder", SMALL)
    zipped = tmp_path / "zipped"
    zipped.mkdir()
    with zipfile.ZipFile(zipped / "rsna.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(raw.rglob("*")):
            archive.write(path, f"rsna/{path.relative_to(raw)}")
    prepare(zipped, tmp_path / "clean", SMALL)
    ours, theirs = Prepared(tmp_path / "clean").slices, Prepared(tmp_path / "folder").slices
    pd.testing.assert_frame_equal(ours, theirs)
    assert contents(tmp_path / "clean" / "volumes") == contents(tmp_path / "folder" / "volumes")


def test_a_damaged_zip_member_is_quarantined(raw, tmp_path):
    archive = tmp_path / "rsna.zip"
    victim = image_name(101)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as out:
        for path in sorted(raw.rglob("*.*")):
            out.write(path, path.relative_to(raw))
        place = out.getinfo(f"stage_2_train/{victim}.dcm").header_offset
    data = bytearray(archive.read_bytes())
    data[place + 2000] ^= 255
    archive.write_bytes(data)
    prepare(archive, tmp_path / "clean", SMALL)
    assert cause_of(tmp_path / "clean", victim) == "damaged zip member: its checksum does not agree"
    assert Prepared(tmp_path / "clean").manifest["images"]["train"] == 11


def test_the_older_folder_names_are_accepted(raw, tmp_path):
    expected = prepare(raw, tmp_path / "a", SMALL)
    for split in ("train", "test"):
        (raw / f"stage_2_{split}").rename(raw / f"stage_2_{split}_images")
    assert prepare(raw, tmp_path / "b", SMALL)["fingerprint"] == expected["fingerprint"]


def test_broken_files_are_quarantined_and_the_rest_goes_on(raw, tmp_path):
    train = raw / "stage_2_train"
    (train / f"{image_name(0)}.dcm").write_bytes(b"")
    (train / f"{image_name(1)}.dcm").write_text("no image")
    cut = train / f"{image_name(2)}.dcm"
    cut.write_bytes(cut.read_bytes()[:-1024])
    (train / f"{image_name(100)}.dcm").unlink()
    extra = image_name(0xFFF)
    write(train / f"{extra}.dcm", dataset(extra, patient="ID_p9", study="ID_s9"))
    other = image_name(201)
    write(train / f"{other}.dcm", dataset("ID_other", patient="ID_p2", study="ID_s2"))
    manifest = prepare(raw, tmp_path / "clean", SMALL)
    causes = {
        image_name(0): "empty file",
        image_name(1): "not a DICOM file: no DICM at byte 128",
        image_name(2): "truncated: PixelData has 1024 of 2048 bytes",
        image_name(100): "no file: named in stage_2_train.csv",
        extra: "not in the table: stage_2_train.csv does not name it",
        other: f"wrong name: the file is called {other}, SOPInstanceUID is ID_other",
    }
    assert {name: cause_of(tmp_path / "clean", name) for name in causes} == causes
    assert manifest["quarantined"] == dict.fromkeys(
        ("empty file", "no file", "not a DICOM file", "not in the table", "truncated", "wrong name"), 1
    )
    assert manifest["images"] == {"train": 7, "test": 3}
    slices = Prepared(tmp_path / "clean").slices.set_index("image_id")
    assert slices.loc[image_name(1), "any"] == 1  # the label of an unreadable image is kept
    assert slices.loc[[image_name(101), image_name(102)], "order"].tolist() == [0, 1]
    paths = pd.read_csv(tmp_path / "clean" / "quarantine.csv").set_index("image_id")["path"]
    assert paths[image_name(2)] == f"stage_2_train/{image_name(2)}.dcm"


def test_a_test_image_without_file_stays_in_the_table(raw, tmp_path):
    (raw / "stage_2_test" / f"{image_name(401)}.dcm").unlink()
    prepare(raw, tmp_path / "clean", SMALL)
    assert cause_of(tmp_path / "clean", image_name(401)) == "no file: named in stage_2_sample_submission.csv"
    assert Prepared(tmp_path / "clean").slices.set_index("image_id").loc[image_name(401), "split"] == "test"


def test_a_study_of_two_patients_is_quarantined(raw, tmp_path):
    name = image_name(101)
    path = raw / "stage_2_train" / f"{name}.dcm"
    write(path, dataset(name, stored_values(101), patient="ID_p0", study="ID_s1", z=5.0))
    prepare(raw, tmp_path / "clean", SMALL)
    for number in (100, 101, 102):
        assert cause_of(tmp_path / "clean", image_name(number)) == "study of several patients: ID_s1"
    folds = Prepared(tmp_path / "clean").folds.set_index("patient_id")["fold"]
    assert link_patients(Prepared(tmp_path / "clean").slices)[["ID_p0", "ID_p1"]].nunique() == 1
    assert "ID_p1" not in folds or folds["ID_p0"] == folds["ID_p1"]


def test_copies_link_patients_though_they_are_quarantined(raw, tmp_path):
    """The copy of a slice of patient 0 stands in a study that names patients 1 and 2."""
    for number, patient, values in ((100, "ID_p1", 0), (101, "ID_p2", 7)):
        data = dataset(image_name(number), stored_values(values), patient=patient, study="ID_s1", z=5.0)
        write(raw / "stage_2_train" / f"{image_name(number)}.dcm", data)
    prepare(raw, tmp_path / "clean", SMALL)
    slices = Prepared(tmp_path / "clean").slices.set_index("image_id")
    copied, original = image_name(100), image_name(0)
    assert cause_of(tmp_path / "clean", copied) == "study of several patients: ID_s1"
    assert slices.loc[copied, "pixel_hash"] == slices.loc[original, "pixel_hash"]
    assert not slices.loc[copied, "blank"]
    groups = link_patients(slices.reset_index())
    assert groups[["ID_p0", "ID_p1", "ID_p2"]].nunique() == 1 and groups.nunique() == 3
    folds = Prepared(tmp_path / "clean").folds.set_index("patient_id")["fold"]
    assert folds["ID_p0"] == folds["ID_p2"]


def test_a_quarantined_file_that_cannot_be_decoded_has_no_hash(raw, tmp_path):
    path = raw / "stage_2_train" / f"{image_name(1)}.dcm"
    path.write_bytes(path.read_bytes()[:-100])
    infinite = dataset(image_name(2), stored_values(2), patient="ID_p0", study="ID_s0", intercept="inf")
    write(raw / "stage_2_train" / f"{image_name(2)}.dcm", infinite)
    prepare(raw, tmp_path / "clean", SMALL)
    slices = Prepared(tmp_path / "clean").slices.set_index("image_id").loc[[image_name(1), image_name(2)]]
    assert (slices["status"] == "quarantined").all() and slices[["pixel_hash", "blank"]].isna().all(axis=None)


def test_a_copy_in_the_other_folder_is_told_by_its_pixels(raw, tmp_path):
    older = raw / "stage_2_train_images"
    older.mkdir()
    same, other = image_name(0), image_name(101)
    shutil.copy(raw / "stage_2_train" / f"{same}.dcm", older / f"{same}.dcm")
    write(older / f"{other}.dcm", dataset(other, stored_values(5), patient="ID_p1", study="ID_s1"))
    prepare(raw, tmp_path / "clean", SMALL)
    quarantine = pd.read_csv(tmp_path / "clean" / "quarantine.csv")
    assert quarantine["image_id"].value_counts().to_dict() == {other: 2, same: 1}
    assert "the same pixels" in quarantine.set_index("image_id").loc[same, "cause"]
    slices = Prepared(tmp_path / "clean").slices.set_index("image_id")
    assert slices.loc[same, "status"] == "ok"
    assert "has other pixels" in slices.loc[other, "cause"]


def test_mixed_sizes_and_shapes_in_a_study_become_one(raw, tmp_path):
    name = image_name(101)
    stored = stored_values(7, 64)[:48]
    write(raw / "stage_2_train" / f"{name}.dcm", dataset(name, stored, patient="ID_p1", study="ID_s1", z=5.0))
    prepare(raw, tmp_path / "clean", SMALL)
    assert open_volumes(tmp_path / "clean").study("ID_s1").shape == (3, 256, 256)
    row = Prepared(tmp_path / "clean").slices.set_index("image_id").loc[name]
    assert (row["rows"], row["columns"]) == (48, 64)
    assert (row["square_top"], row["square_left"], row["square_side"]) == (-8, 0, 64)
    stored = open_volumes(tmp_path / "clean").slice(name)
    assert (stored[:24] == -1024).all()


def test_identical_slices_link_patients_and_conflicting_labels_are_flagged(raw, tmp_path):
    copied, original = image_name(101), image_name(1)  # the original bleeds
    path = raw / "stage_2_train" / f"{copied}.dcm"
    write(path, dataset(copied, stored_values(1), patient="ID_p1", study="ID_s1", z=5.0))
    prepare(raw, tmp_path / "clean", SMALL)
    folds = Prepared(tmp_path / "clean").folds.set_index("patient_id")["fold"]
    assert folds["ID_p0"] == folds["ID_p1"]
    slices = Prepared(tmp_path / "clean").slices.set_index("image_id")
    assert slices.index[slices["conflicting_copy"]].tolist() == [original, copied]
    assert slices.loc[original, "pixel_hash"] == slices.loc[copied, "pixel_hash"]


def test_one_slice_and_a_thousand_slices_make_a_study(tmp_path):
    raw = write_rsna(tmp_path / "raw", studies=2, slices=1, test_studies=0)
    big = write_rsna(tmp_path / "big", studies=1, slices=1000, test_studies=0, size=16, first=50)
    for path in sorted((big / "stage_2_train").iterdir()):
        path.rename(raw / "stage_2_train" / path.name)
    table = raw / "stage_2_train.csv"
    table.write_text(table.read_text() + (big / "stage_2_train.csv").read_text().split("\n", 1)[1])
    prepare(raw, tmp_path / "clean", Options(size=256, folds=2))
    volumes = open_volumes(tmp_path / "clean")
    assert volumes.study("ID_s0").shape == (1, 256, 256)
    assert volumes.study("ID_s50").shape == (1000, 256, 256)
    slices = Prepared(tmp_path / "clean").slices
    assert slices.loc[slices["study_id"] == "ID_s50", "order"].tolist() == list(range(1000))


def test_an_empty_test_part_is_allowed(tmp_path):
    raw = write_rsna(tmp_path / "raw", studies=2, slices=2, test_studies=0)
    (raw / "stage_2_sample_submission.csv").unlink()
    assert prepare(raw, tmp_path / "clean", SMALL)["images"] == {"train": 4, "test": 0}


def test_crop_holder_and_tilt_are_recorded_and_can_be_inverted(tmp_path):
    raw = write_rsna(tmp_path / "raw", studies=2, slices=3, test_studies=0, size=128)
    options = Options(size=256, folds=2, crop=True, remove_holder=True, correct_tilt=True)
    manifest = prepare(raw, tmp_path / "clean", options)
    assert manifest["settings"]["crop"] and manifest["settings"]["remove_holder"]
    slices = Prepared(tmp_path / "clean").slices
    assert (slices["square_side"] < 128).all() and slices.groupby("study_id")["square_top"].nunique().eq(
        1
    ).all()
    from src.data.square import Square

    row = slices.iloc[0]
    square = Square(row["square_top"], row["square_left"], row["square_side"])
    stored = open_volumes(tmp_path / "clean").slice(row["image_id"])
    skull = np.argwhere(stored[128] > 500)[0, 0]  # the left edge of the skull in the middle row
    original = pydicom_hu(pydicom.dcmread(raw / "stage_2_train" / f"{row['image_id']}.dcm"))
    middle, column = square.to_original(128, skull, 256)
    assert np.argwhere(original[round(middle)] > 500)[0, 0] == pytest.approx(column, abs=1)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line_and_the_run_goes_on_later(raw, tmp_path, monkeypatch, code):
    def full(*_: object) -> bytes:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr("src.data.pack.compress", full)
        with pytest.raises(UserError, match="make room and run again"):
            prepare(raw, tmp_path / "clean", SMALL)
    assert not list((tmp_path / "clean").rglob("*.pack"))
    assert prepare(raw, tmp_path / "clean", SMALL)["images"]["train"] == 12


def test_a_folder_that_cannot_be_read_is_named(raw, tmp_path, monkeypatch):
    original = os.scandir

    def refuse(path: str):
        if str(path).endswith("stage_2_train"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return original(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(
        UserError, match=r"stage_2_train: cannot be listed .*check the path and its permissions"
    ):
        prepare(raw, tmp_path / "clean", SMALL)


def test_a_file_that_cannot_be_read_is_quarantined(raw, tmp_path, monkeypatch):
    name = image_name(101)
    original = os.open

    def refuse(path, *args, **kwargs):
        if name in str(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return original(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    prepare(raw, tmp_path / "clean", SMALL)
    assert cause_of(tmp_path / "clean", name) == "unreadable file: Permission denied"


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("stage_2_train.csv", r"12 train images but no stage_2_train\.csv"),
        ("stage_2_sample_submission.csv", r"3 test images but no stage_2_sample_submission\.csv"),
    ],
)
def test_a_missing_table_is_named(raw, tmp_path, missing, message):
    (raw / missing).unlink()
    with pytest.raises(UserError, match=message):
        prepare(raw, tmp_path / "clean", SMALL)


def test_a_wrong_folder_is_named(tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(UserError, match="set RAW_DATA_DIR"):
        prepare(tmp_path / "raw", tmp_path / "clean", SMALL)
    with pytest.raises(UserError, match="no such folder"):
        prepare(tmp_path / "gone", tmp_path / "clean", SMALL)


def test_an_image_in_both_tables_is_refused(raw, tmp_path):
    sample = raw / "stage_2_sample_submission.csv"
    rows = [f"{image_name(0)}_{label},0.5" for label in LABELS]
    sample.write_text(sample.read_text() + "\n".join(rows) + "\n")
    with pytest.raises(UserError, match=r"is in stage_2_train[.]csv and in stage_2_sample_submission[.]csv"):
        prepare(raw, tmp_path / "clean", SMALL)


def test_the_real_studies_are_prepared_exactly(real_train, real_test, realdata, tmp_path):
    """10 training studies, 29 single slices and a test study of RSNA: every voxel and every label."""
    raw = tmp_path / "raw"
    for split, paths in {"train": real_train, "test": real_test}.items():
        (raw / f"stage_2_{split}").mkdir(parents=True)
        for path in paths:
            (raw / f"stage_2_{split}" / path.name).symlink_to(path)
    shutil.copy(realdata / "rsna2019_dicom_dev" / "stage_2_train_subset.csv", raw / "stage_2_train.csv")
    rows = [f"{path.stem}_{label},0.5" for path in real_test for label in LABELS]
    (raw / "stage_2_sample_submission.csv").write_text("\n".join(["ID,Label", *rows]) + "\n")
    manifest = prepare(raw, tmp_path / "clean", Options())
    assert manifest["images"] == {"train": 375, "test": 32} and manifest["quarantined"] == {}
    volumes = open_volumes(tmp_path / "clean")
    for path in [*real_train, *real_test]:
        np.testing.assert_array_equal(volumes.slice(path.stem), pydicom_hu(pydicom.dcmread(path)))
    slices = Prepared(tmp_path / "clean").slices.set_index("image_id")
    given = pd.read_csv(realdata / "rsna2019_dicom_dev" / "slices.csv").set_index("Image")
    train = slices.loc[given.index]
    for label in LABELS:
        assert (train[label] == given[label]).all()
    assert (train["study_id"] == given["study"]).all() and (train["patient_id"] == given["patient_id"]).all()
    # 28 positions for 36 slices
    odd = slices[slices["study_id"] == "ID_4fef99f0df"]
    assert len(odd) == 36 and (odd.loc[odd["order"] > 0, "step_mm"] == 0).sum() == 8
