"""The synthetic data set: format, determinism, labels against masks, faults at stated places."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom import config

from src.data.phantom import generate, main
from src.data.synthetic_truth import read_masks
from src.errors import UserError
from src.labels import LABELS, SUBTYPES
from src.phantom.plan import PRESETS, make_plan

# datasets.md and the contest's files: these tags, no others
TAGS = (
    *("SOPInstanceUID", "Modality", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "StudyID"),
    *("ImagePositionPatient", "ImageOrientationPatient", "SamplesPerPixel", "PhotometricInterpretation"),
    *("Rows", "Columns", "PixelSpacing", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("WindowCenter", "WindowWidth", "RescaleIntercept", "RescaleSlope", "PixelData"),
)
SEED, STUDIES = 5, 16


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "raw"
    assert generate(folder, studies=STUDIES, seed=SEED, size=96)
    return folder


@pytest.fixture(scope="module")
def headers(data) -> pd.DataFrame:
    """Every header without its pixels, one row an image."""
    rows = {}
    for path in sorted(data.glob("stage_2_*/*.dcm")):
        file = read(path, stop_before_pixels=True)
        rows[path.stem] = {element.keyword: element.value for element in file}
        rows[path.stem] |= {"syntax": file.file_meta.TransferSyntaxUID.name, "path": path}
    table = pd.DataFrame.from_dict(rows, orient="index")
    table["split"] = table["path"].map(lambda path: path.parent.name.removeprefix("stage_2_"))
    return table


@pytest.fixture(scope="module")
def truth(data) -> pd.DataFrame:
    return pd.read_parquet(data.parent / "truth" / "slices.parquet").set_index("image_id")


def read(path: Path, **options) -> pydicom.Dataset:
    config.settings.reading_validation_mode = config.IGNORE
    return pydicom.dcmread(path, **options)


def digest(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def wide(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path)
    table[["image_id", "label"]] = table["ID"].str.rsplit("_", n=1, expand=True)
    return table.drop_duplicates("ID").pivot(index="image_id", columns="label", values="Label")[list(LABELS)]


# files


def test_files_carry_exactly_the_contest_tags(data):
    paths = sorted(data.glob("stage_2_*/*.dcm"))[::25]
    for path in paths:
        assert tuple(element.keyword for element in read(path)) == TAGS
    assert len(paths) > 15


def test_an_image_is_named_by_its_file_and_no_identifier_is_a_valid_uid(headers):
    assert (headers["SOPInstanceUID"] == headers.index).all()
    assert headers.index.str.fullmatch("ID_[0-9a-f]{9}").all() and headers.index.is_unique
    assert headers["PatientID"].str.fullmatch("ID_[0-9a-f]{8}").all()
    assert headers["StudyInstanceUID"].str.fullmatch("ID_[0-9a-f]{10}").all()
    assert headers.groupby("StudyInstanceUID")["SeriesInstanceUID"].nunique().eq(1).all()
    assert headers.groupby("StudyInstanceUID")["PatientID"].nunique().eq(1).all()


def test_both_transfer_syntaxes_and_several_number_formats_occur(headers):
    assert set(headers["syntax"]) == {"Explicit VR Little Endian", "Implicit VR Little Endian"}
    assert headers["WindowCenter"].map(lambda value: not isinstance(value, float | int)).any()  # multi-valued
    assert headers["WindowCenter"].map(lambda value: isinstance(value, float | int)).any()
    triples = set(
        zip(headers["BitsStored"], headers["PixelRepresentation"], headers["RescaleIntercept"], strict=True)
    )
    assert {(16, 1, -1024), (12, 0, -1024)} <= triples


def test_padding_fills_the_outside_of_the_scan_circle_of_some_signed_files(headers):
    corners = {}
    for path in headers["path"][(headers["PixelRepresentation"] == 1) & (headers["BitsStored"] == 16)][::9]:
        try:
            corners[path.stem] = int(read(path).pixel_array[0, 0])
        except ValueError:  # the truncated file
            continue
    assert -2000 in corners.values()


def test_slices_lie_on_a_line_at_even_steps_except_for_the_repeated_positions(headers):
    tilted = 0
    for _, study in headers.groupby("StudyInstanceUID"):
        across, down = np.split(np.array(study["ImageOrientationPatient"].iloc[0], float), 2)
        position = np.array(study["ImagePositionPatient"].tolist(), float)
        assert np.ptp(position[:, :2], axis=0) == pytest.approx([0, 0])  # the table moves along z
        steps = np.diff(np.sort(position @ np.cross(across, down)))
        steps = steps[steps > 1e-6]
        assert (
            steps == pytest.approx(np.full(len(steps), steps.mean()), abs=1e-4) and 4.4 < steps.mean() < 5.7
        )
        tilted += down[1] != 1
    assert tilted > STUDIES / 2


# tables


def test_training_table_has_six_rows_an_image_in_label_order(data, headers):
    text = (data / "stage_2_train.csv").read_text()
    assert text.startswith("ID,Label\n")
    table = pd.read_csv(data / "stage_2_train.csv")
    assert set(table["Label"]) == {0, 1}
    names = table["ID"].to_numpy().reshape(-1, 6)
    for row in names:
        image_id = row[0][:12]
        assert list(row) == [f"{image_id}_{label}" for label in LABELS]
    assert {row[0][:12] for row in names} == set(headers.index[headers["split"] == "train"])


def test_four_images_are_listed_twice_with_the_same_labels(data):
    table = pd.read_csv(data / "stage_2_train.csv")
    copies = table[table.duplicated("ID")]
    assert len(copies) == 4 * 6
    assert not table.drop_duplicates().duplicated("ID").any()


def test_hidden_labels_have_the_rows_of_the_sample_submission(data, headers):
    sample, hidden = (
        pd.read_csv(data / n) for n in ("stage_2_sample_submission.csv", "demo_test_labels.csv")
    )
    assert sample["ID"].equals(hidden["ID"]) and sample["ID"].is_unique
    assert (sample["Label"] == 0.5).all() and set(hidden["Label"]) == {0, 1}
    assert len(sample) == 6 * (headers["split"] == "test").sum()


def test_labels_are_the_volumes_of_the_masks(data, truth, headers):
    labels = pd.concat([wide(data / "stage_2_train.csv"), wide(data / "demo_test_labels.csv")])
    assert (labels["any"] == labels[list(SUBTYPES)].max(axis=1)).all()
    for study_id, slices in truth.groupby("study_id"):
        blood, _ = read_masks(data.parent / "truth", study_id)
        header = headers.loc[slices.index[0]]
        across, down = np.split(np.array(header["ImageOrientationPatient"], float), 2)
        positions = np.array(headers.loc[slices.index, "ImagePositionPatient"].tolist(), float)
        steps = np.diff(positions @ np.cross(across, down))
        voxel = float(header["PixelSpacing"][0]) ** 2 * steps.max() / 1000
        millilitres = blood.sum(axis=(2, 3)) * voxel
        clear = np.abs(millilitres - 0.2) > 1e-4
        given = labels.loc[slices.index, list(SUBTYPES)].to_numpy()
        assert ((millilitres >= 0.2) == given)[clear].all()


def test_blood_lies_inside_the_skull(data, truth):
    for study_id in truth["study_id"].unique():
        blood, cavity = read_masks(data.parent / "truth", study_id)
        assert not (blood.any(axis=1) & ~cavity).any()


def test_some_patients_have_studies_in_both_parts_and_some_several_in_one(truth):
    studies = truth.drop_duplicates("study_id")
    assert studies.groupby("patient_id")["split"].nunique().max() == 2
    assert studies[studies["split"] == "train"].groupby("patient_id").size().max() >= 2


def test_every_subtype_occurs_in_train_even_in_a_small_set(truth):
    assert truth[truth["split"] == "train"][list(LABELS)].any().all()


def test_demo_is_enriched_as_stated():
    shares = {label: 0.0 for label in LABELS}
    for recipe, share in PRESETS["demo"].recipes:
        for label in {*recipe, "any"} if recipe else ():
            shares[label] += share
    assert 0.45 <= shares["any"] <= 0.55
    assert all(0.07 <= shares[label] <= 0.20 for label in SUBTYPES)
    assert sum(share for _, share in PRESETS["demo"].recipes) == pytest.approx(1)


# faults


def test_one_training_file_is_cut_short(data):
    sizes = pd.Series({path: path.stat().st_size for path in data.glob("stage_2_*/*.dcm")})
    (short,) = sizes.index[sizes < 0.8 * sizes.median()]
    assert short.parent.name == "stage_2_train"
    with pytest.raises(ValueError, match="less than expected"):
        _ = read(short).pixel_array


def test_three_training_images_are_blank_and_negative(headers, truth):
    blank = []
    for image_id, path in headers["path"].items():
        values = np.frombuffer(path.read_bytes()[-2 * 96 * 96 :], np.int16)
        if len(np.unique(values[values != -2000])) == 1:
            blank.append(image_id)
    assert len(blank) == 3 and (truth.loc[blank, "split"] == "train").all()
    assert not truth.loc[blank, list(LABELS)].any().any()


def test_a_study_repeats_positions(headers):
    repeated = headers.groupby("StudyInstanceUID")["ImagePositionPatient"].apply(
        lambda positions: positions.map(tuple).duplicated().sum()
    )
    assert (repeated >= 4).sum() == 1


def test_twelve_bit_wrap_occurs_with_both_intercepts_and_can_be_undone(headers):
    wrap = headers[(headers["BitsStored"] == 12) & (headers["PixelRepresentation"] == 0)]
    wrap = wrap[wrap["RescaleIntercept"] > -100]
    assert set(wrap["RescaleIntercept"]) == {0, 1}
    for _, study in wrap.groupby("StudyInstanceUID"):
        middle = (
            study["ImagePositionPatient"]
            .map(lambda position: position[2])
            .rank()
            .sub(len(study) / 2)
            .abs()
            .idxmin()
        )
        values = read(study.loc[middle, "path"]).pixel_array.astype(int) + 1000
        values[values >= 4096] -= 4096
        hu = values - 1000
        assert np.median(hu[:4, :4]) == pytest.approx(-1000, abs=30) and 0 < np.median(hu[40:60, 40:60]) < 70


# the run


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_bytes_depend_on_the_seed_and_not_on_the_jobs(tmp_path, preset):
    for name, seed, jobs in (("a", 3, 1), ("b", 3, 2), ("c", 4, 1)):
        generate(tmp_path / name / "raw", studies=4, seed=seed, preset=preset, size=64, slices=10, jobs=jobs)
    a, b, c = (digest(tmp_path / name) for name in "abc")
    assert a == b and not set(a.values()) & set(c.values())


def test_an_interrupted_run_is_finished_by_the_same_command(tmp_path):
    arguments = {"studies": 4, "seed": 3, "size": 64, "slices": 10}
    generate(tmp_path / "raw", **arguments)
    whole = digest(tmp_path)
    (tmp_path / "raw" / "stage_2_train.csv").unlink()
    for path in [*sorted((tmp_path / "raw").glob("stage_2_*/*.dcm"))[::3]]:
        path.rename(path.with_name(f".{path.stem}.partial"))
    sorted((tmp_path / "truth" / "masks").iterdir())[0].unlink()
    assert generate(tmp_path / "raw", **arguments)
    assert digest(tmp_path) == whole


def test_a_finished_run_is_left_alone(data):
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    assert not generate(data, studies=STUDIES, seed=SEED, size=96)
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before


def test_other_arguments_for_a_folder_in_use_say_what_to_delete(data):
    before = digest(data)
    with pytest.raises(UserError, match=f"delete the folder {data}"):
        generate(data, studies=STUDIES, seed=SEED + 1, size=96)
    assert digest(data) == before


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not written by this command"):
        generate(tmp_path, studies=4, seed=0, truth=tmp_path.parent / "truth")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_command_line_reports_a_mistake_in_one_line(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "raw"), "--studies", "2", "--seed", "0"]) == 1
    error = capsys.readouterr().err
    assert "--studies 2" in error and error.count("\n") == 1
    assert not (tmp_path / "raw").exists()


def test_names_are_unique_over_a_set_as_large_as_the_contest():
    plans = make_plan(PRESETS["demo"], 300, seed=9, size=512, slices=None)
    names = {plan.image_id(k) for plan in plans for k in range(60)}
    assert len(names) == 300 * 60
    assert len({plan.study_id for plan in plans} | {plan.series_id for plan in plans}) == 600
