"""Step 1 on data that grow: what is stored stays where it is, and every patient keeps the fold."""

import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.data.preparation import packing
from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.prepared import Prepared
from src.data.volumes import open_volumes
from src.errors import UserError
from src.labels import LABELS
from tests.data.dicom_files import dataset, image_name, stored_values, write, write_rsna
from tests.data.preparation.test_prepare import contents, times

SMALL = Options(size=256, folds=2)


@pytest.fixture
def raw(tmp_path, monkeypatch) -> Path:
    """Five studies of four slices, the last one for testing; two studies a pack."""
    monkeypatch.setattr(packing, "STUDIES_PER_PACK", 2)
    return write_rsna(tmp_path / "raw", studies=4, slices=4, test_studies=1)


@pytest.fixture
def decoded(monkeypatch) -> Counter[str]:
    """How often each image is decoded."""
    count: Counter[str] = Counter()
    original = packing.decode_source

    def counting(source):
        count[Path(source).stem] += 1
        return original(source)

    monkeypatch.setattr(packing, "decode_source", counting)
    return count


def add_slices(raw: Path, numbers: list[int], patient: str | None = None, seed: int | None = None) -> None:
    """Training slices without bleeding; number 203 is slice 3 of study 2."""
    for number in numbers:
        study, place = divmod(number, 100)
        stored = stored_values(number if seed is None else seed)
        names = {"patient": patient or f"ID_p{study}", "study": f"ID_s{study}"}
        data = dataset(image_name(number), stored, z=5.0 * place, **names)
        write(raw / "stage_2_train" / f"{image_name(number)}.dcm", data)
    with open(raw / "stage_2_train.csv", "a") as table:
        table.writelines(f"{image_name(number)}_{label},0\n" for number in numbers for label in LABELS)


def volumes_of(clean: Path) -> dict[str, bytes]:
    return contents(clean / "volumes")


def assert_same_data(one: Path, other: Path) -> None:
    """Equal but for the place of the slices."""
    place = ["volume", "volume_index"]
    ours, theirs = (Prepared(folder).slices.drop(columns=place) for folder in (one, other))
    pd.testing.assert_frame_equal(ours, theirs)
    first, second = open_volumes(one), open_volumes(other)
    for study in first.study_ids:
        np.testing.assert_array_equal(first.study(study), second.study(study))


def test_a_new_study_leaves_every_old_pack_alone_and_alone_is_decoded(raw, tmp_path, decoded):
    clean = tmp_path / "clean"
    prepare(raw, clean, SMALL)
    before, stamps = volumes_of(clean), times(clean / "volumes")
    decoded.clear()
    add_slices(raw, [700, 701])
    prepare(raw, clean, SMALL)
    assert decoded == {image_name(700): 1, image_name(701): 1}
    after = volumes_of(clean)
    assert len(before) == 3 and len(after) == 4 and before.items() <= after.items()
    assert stamps.items() <= times(clean / "volumes").items()
    prepare(raw, tmp_path / "fresh", SMALL)
    assert_same_data(clean, tmp_path / "fresh")


def test_a_study_that_gains_slices_has_only_those_decoded(raw, tmp_path, decoded):
    clean = tmp_path / "clean"
    prepare(raw, clean, SMALL)
    before = volumes_of(clean)
    decoded.clear()
    add_slices(raw, [104, 105])
    prepare(raw, clean, SMALL)
    assert decoded == {image_name(104): 1, image_name(105): 1}
    assert before.items() <= volumes_of(clean).items()
    volumes = open_volumes(clean)
    assert volumes.study_images("ID_s1") == [image_name(number) for number in range(100, 106)]
    slices = Prepared(clean).slices.set_index("study_id").loc["ID_s1"]
    assert slices["volume"].nunique() == 2
    prepare(raw, tmp_path / "fresh", SMALL)
    assert_same_data(clean, tmp_path / "fresh")


@pytest.mark.parametrize(
    "options",
    [
        Options(size=256, folds=2, crop=True),  # a slice more may change the square
        Options(size=256, folds=2, correct_tilt=True),  # and with it the middle slice that stays in place
        Options(size=256, folds=2, crop=True, correct_tilt=True, remove_holder=True),
    ],
)
def test_a_study_that_is_cut_or_moved_as_a_whole_is_made_anew_and_its_neighbours_stay(
    raw, tmp_path, decoded, options
):
    clean = tmp_path / "clean"
    for number in range(100, 104):  # a tilted stack: its slices lie 2 mm lower each
        place = number - 100
        z, position = 5.0 * place, ["-125", f"{-125 + 2 * place}", f"{5 * place}"]
        data = dataset(
            image_name(number), stored_values(number), patient="ID_p1", study="ID_s1", z=z,
            ImagePositionPatient=position,
        )  # fmt: skip
        write(raw / "stage_2_train" / f"{image_name(number)}.dcm", data)
    prepare(raw, clean, options)
    before = volumes_of(clean)
    decoded.clear()
    add_slices(raw, [104])
    prepare(raw, clean, options)
    assert decoded == {image_name(number): 1 for number in range(100, 105)}
    assert before.items() <= volumes_of(clean).items()
    prepare(raw, tmp_path / "fresh", options)
    assert_same_data(clean, tmp_path / "fresh")


def test_a_cut_study_that_loses_a_slice_is_made_anew_and_an_uncut_one_is_not(raw, tmp_path, decoded):
    cut = Options(size=256, folds=2, crop=True)
    prepare(raw, tmp_path / "cut", cut)
    prepare(raw, tmp_path / "whole", SMALL)
    (raw / "stage_2_train" / f"{image_name(103)}.dcm").unlink()
    decoded.clear()
    prepare(raw, tmp_path / "whole", SMALL)
    assert not decoded
    prepare(raw, tmp_path / "cut", cut)
    assert decoded == {image_name(number): 1 for number in (100, 101, 102)}
    prepare(raw, tmp_path / "fresh", cut)
    assert_same_data(tmp_path / "cut", tmp_path / "fresh")


def test_one_changed_file_of_a_cut_study_has_the_whole_study_made_anew(raw, tmp_path, decoded):
    options = Options(size=256, folds=2, crop=True)
    prepare(raw, tmp_path / "clean", options)
    decoded.clear()
    path = raw / "stage_2_train" / f"{image_name(101)}.dcm"
    data = np.roll(stored_values(101), 6, axis=0)
    write(path, dataset(path.stem, data, patient="ID_p1", study="ID_s1", z=5.0, implicit=True))
    prepare(raw, tmp_path / "clean", options)
    assert decoded == {image_name(number): 1 for number in range(100, 104)}
    prepare(raw, tmp_path / "fresh", options)
    assert_same_data(tmp_path / "clean", tmp_path / "fresh")


def test_a_pack_goes_when_none_of_its_slices_is_in_use(raw, tmp_path):
    clean = tmp_path / "clean"
    prepare(raw, clean, SMALL)
    before = set(volumes_of(clean))
    for number in (0, 1):  # the two studies of the first pack
        for place in range(4):
            os.utime(raw / "stage_2_train" / f"{image_name(100 * number + place)}.dcm")
    add_slices(raw, [4])
    prepare(raw, clean, SMALL)
    assert len(before - set(volumes_of(clean))) == 1
    assert len(open_volumes(clean).study("ID_s0")) == 5


def killed_at(step: int, monkeypatch) -> list[str]:
    """From its `step`-th change of a name in the folder on, the process changes nothing any more."""
    done: list[str] = []

    def stopping(original):
        def change(path, *args, **kwargs):
            if len(done) == step:
                raise KeyboardInterrupt
            if original is unlink and not path.exists():
                return
            original(path, *args, **kwargs)
            done.append(f"{original.__name__} {path.name}")

        return change

    unlink = Path.unlink
    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, stopping(getattr(Path, name)))
    return done


@pytest.mark.parametrize("changes", ["grown", "settings"])
def test_a_second_run_killed_at_any_step_and_started_again_ends_with_the_same_bytes(
    raw, tmp_path, monkeypatch, changes
):
    prepare(raw, tmp_path / "first", SMALL)
    add_slices(raw, [104, 700, 800, 900])
    options = SMALL if changes == "grown" else Options(size=256, folds=3, seed=1, crop=True)

    def start(name: str) -> Path:
        shutil.copytree(tmp_path / "first", tmp_path / name)
        return tmp_path / name

    with monkeypatch.context() as patch:
        steps = killed_at(-1, patch)
        prepare(raw, start("straight"), options)
    expected = contents(tmp_path / "straight")
    assert len(steps) >= 8
    for step in range(len(steps)):
        clean = start(f"stopped{step}")
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            killed_at(step, patch)
            prepare(raw, clean, options)
        prepare(raw, clean, options)
        assert contents(clean) == expected, steps[step]
        stamps = times(clean)
        prepare(raw, clean, options)
        assert times(clean) == stamps


def test_every_patient_keeps_the_fold_when_the_data_grow(raw, tmp_path):
    clean = tmp_path / "clean"
    first = prepare(raw, clean, SMALL)
    before = Prepared(clean).folds.set_index("patient_id")["fold"]
    add_slices(raw, [104, *range(700, 740), 800, 900, 1000])
    second = prepare(raw, clean, SMALL)
    after = Prepared(clean).folds.set_index("patient_id")["fold"]
    assert len(after) == 8 and (after[before.index] == before).all()
    prepare(raw, tmp_path / "fresh", SMALL)
    fresh = Prepared(tmp_path / "fresh").folds.set_index("patient_id")["fold"]
    assert (fresh[before.index] != before).any()  # without the old table some of them would have moved
    assert (first["folds_grew"], second["folds_grew"]) == (False, True)
    assert second["fingerprint"] != first["fingerprint"]  # runs trained on the old data are refused


def test_a_new_patient_with_a_known_slice_joins_that_patients_fold(raw, tmp_path):
    prepare(raw, tmp_path / "clean", SMALL)
    add_slices(raw, [700], seed=103)
    add_slices(raw, [800], seed=203)
    prepare(raw, tmp_path / "clean", SMALL)
    folds = Prepared(tmp_path / "clean").folds.set_index("patient_id")["fold"]
    assert folds["ID_p7"] == folds["ID_p1"] and folds["ID_p8"] == folds["ID_p2"]


def test_a_slice_that_joins_patients_of_two_folds_is_an_error_with_a_way_out(raw, tmp_path):
    clean = tmp_path / "clean"
    prepare(raw, clean, SMALL)
    folds = Prepared(clean).folds.set_index("patient_id")["fold"]
    other = next(patient for patient in folds.index if folds[patient] != folds["ID_p0"])
    add_slices(raw, [100 * int(other[-1]) + 4], seed=3)  # the last slice of study 0 once more
    message = rf"ID_p0 \(fold {folds['ID_p0']}\) and {other} .*delete folds\.csv"
    with pytest.raises(UserError, match=message):
        prepare(raw, clean, SMALL)
    (clean / "folds.csv").unlink()
    prepare(raw, clean, SMALL)
    folds = Prepared(clean).folds.set_index("patient_id")["fold"]
    assert folds["ID_p0"] == folds[other]


def test_folds_are_made_anew_where_the_choice_of_patients_or_folds_changes(raw, tmp_path):
    for changed in ({"seed": 5}, {"folds": 3}, {"limit": 4}):
        clean = tmp_path / str(changed)
        prepare(raw, clean, SMALL)
        options = Options(**{"size": 256, "folds": 2} | changed)
        prepare(raw, clean, options)
        prepare(raw, clean / "fresh", options)
        assert (clean / "folds.csv").read_text() == (clean / "fresh" / "folds.csv").read_text()


def test_a_table_that_is_gone_is_made_again(raw, tmp_path):
    prepare(raw, tmp_path / "clean", SMALL)
    expected = contents(tmp_path / "clean")
    for name in ("folds.csv", "slices.parquet", "studies.parquet", "quarantine.csv"):
        (tmp_path / "clean" / name).unlink()
        prepare(raw, tmp_path / "clean", SMALL)
        assert contents(tmp_path / "clean") == expected
