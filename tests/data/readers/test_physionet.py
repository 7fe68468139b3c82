"""PhysioNet ct-ich: NIfTI in HU, JPEG that is not HU, single slices, masks, tables."""

import shutil

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest

from src.data.preparation import packing
from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.prepared import Prepared
from src.data.readers.physionet import read_demographics, read_diagnoses
from src.data.volumes import open_volumes
from src.errors import UserError
from src.labels import SUBTYPES
from tests.data.dicom_files import dataset, stored_values, write

nibabel = pytest.importorskip("nibabel")

HEADER = (
    "PatientNumber,SliceNumber,Intraventricular,Intraparenchymal,Subarachnoid,Epidural,Subdural,"
    "No_Hemorrhage,Fracture_Yes_No"
)
OPTIONS = Options(dataset="physionet", size=512, folds=2)


def write_table(path, rows: dict[tuple[int, int], str]) -> None:
    """`rows`: patient, slice -> the rest of the row. With a BOM, as published."""
    lines = [HEADER, *(f"{patient},{number},{rest}" for (patient, number), rest in rows.items())]
    path.write_bytes(b"\xef\xbb\xbf" + ("\n".join(lines) + "\n").encode())


CLEAR, SUBDURAL = "0,0,0,0,0,1,0", "0,0,0,0,1,0,1"


@pytest.fixture
def volume() -> np.ndarray:
    """(x, y, z) HU with a bright spot towards the patient's left and back of slice 1."""
    hu = np.full((20, 24, 3), -1000, dtype=np.int16)
    hu[4:16, 4:20] = 35
    hu[5, 6, 1] = 1000
    return hu


def write_nifti(root, volume, axes: str = "RAS") -> None:
    """Patient 49 with a mask, stored along the axes named; 50 without."""
    from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

    affine = np.diag([0.5, 0.5, 5.0, 1.0])
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axes))
    stored = nibabel.orientations.apply_orientation(volume, turn)
    placed = affine @ inv_ornt_aff(turn, volume.shape)
    for folder, patient, values in (
        ("ct_scans", "049", stored),
        ("ct_scans", "050", stored),
        ("masks", "049", ((stored == 1000) * 255).astype(np.uint8)),
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
        if patient == "050":
            values = values + 1  # another patient is never the same
        nibabel.save(nibabel.Nifti1Image(values, placed), root / folder / f"{patient}.nii")
    rows = {(patient, number): CLEAR for patient in (49, 50) for number in (1, 2, 3)} | {(49, 2): SUBDURAL}
    write_table(root / "hemorrhage_diagnosis_raw_ct.csv", rows)


@pytest.mark.parametrize("axes", ["RAS", "LAS", "LPS"])
def test_volumes_are_turned_to_image_rows_and_columns(tmp_path, volume, axes):
    """Row 0 is the front of the head, column 0 the patient's right, however the file is stored."""
    write_nifti(tmp_path / "raw", volume, axes)
    prepare(tmp_path / "raw", tmp_path / "clean", Options(dataset="physionet", size=256, folds=2))
    slices = Prepared(tmp_path / "clean").slices.set_index("image_id")
    bright = slices[slices["hu_max"] >= 1000]
    assert bright.index.tolist() == ["ct_scans/049/2", "ct_scans/050/2"]
    assert slices.loc["ct_scans/049/2", ["subdural", "any", "fracture"]].tolist() == [1, 1, 1]
    assert slices.loc["ct_scans/049/2", ["rows", "columns", "order", "step_mm"]].tolist() == [24, 20, 1, 5]
    assert slices.loc["ct_scans/049/2", ["pixel_spacing_mm", "units"]].tolist() == [0.5, "hu"]
    # the spot is at x = 5 of 20 (x grows to the right of the patient), y = 6 of 24 (y grows to the front)
    stored = open_volumes(tmp_path / "clean").slice("ct_scans/049/2")
    row, column = np.unravel_index(stored.argmax(), stored.shape)
    expected = (24 - 1 - 6 + 0.5, 20 - 1 - 5 + 2 + 0.5)  # the image is padded by 2 columns on each side
    assert (row, column) == pytest.approx([place * 256 / 24 for place in expected], abs=6)


def test_masks_are_cut_like_their_images(tmp_path, volume):
    write_nifti(tmp_path / "raw", volume)
    manifest = prepare(tmp_path / "raw", tmp_path / "clean", Options(dataset="physionet", size=256, folds=2))
    masks, volumes = Prepared(tmp_path / "clean").masks, open_volumes(tmp_path / "clean")
    assert len(masks.image_ids) == 3 and len(volumes.image_ids) == 6 and len(manifest["masks"]) == 1
    mask, image = masks.slice("ct_scans/049/2"), volumes.slice("ct_scans/049/2")
    assert set(np.unique(mask)) == {0, 1} and mask.sum() > 0
    assert (image[mask == 1] > 500).all() and (image[mask == 0] < 600).all()
    assert masks.slice("ct_scans/049/1").sum() == 0
    assert (
        prepare(tmp_path / "raw", tmp_path / "clean", Options(dataset="physionet", size=256, folds=2))
        == manifest
    )


def test_a_mask_drawn_later_is_added_and_nothing_else_is_read(tmp_path, volume, monkeypatch):
    raw, clean = tmp_path / "raw", tmp_path / "clean"
    options = Options(dataset="physionet", size=256, folds=2)
    write_nifti(raw, volume)
    prepare(raw, clean, options)
    before = {path: path.read_bytes() for path in clean.rglob("*.pack")}
    decoded = []
    for name in ("decode_mask", "decode_source"):
        original = getattr(packing, name)
        monkeypatch.setattr(packing, name, lambda file, f=original: (decoded.append(str(file)), f(file))[1])
    shutil.copy(raw / "masks" / "049.nii", raw / "masks" / "050.nii")
    prepare(raw, clean, options)
    assert decoded == [f"{raw}/masks/050.nii[{index}]" for index in range(3)]
    assert len(before) == 2 and all(path.read_bytes() == data for path, data in before.items())
    masks = Prepared(clean).masks
    assert len(masks.image_ids) == 6
    assert (masks.slice("ct_scans/050/2") == masks.slice("ct_scans/049/2")).all()


def test_masks_are_cut_anew_where_a_slice_more_changes_the_square(tmp_path):
    raw, options = tmp_path / "raw", Options(dataset="physionet", size=256, folds=2, crop=True)

    def add(patient: int, number: int, radius: float) -> None:
        row, column = np.mgrid[:128, :128] - 63.5
        head = np.where(np.hypot(row, column) < radius, number + 10 * patient, -1000).astype(np.int16)
        mask = np.where(np.hypot(row - 5, column) < 10, 32767, -32768).astype(np.int16)
        for folder, values in (("hemo_subset", head), ("Masks_subset", mask)):
            write(raw / folder / f"{patient:03d}_{number}.dcm", dataset("1.2", values))

    for patient in (49, 50):
        add(patient, 1, 30), add(patient, 2, 30)
    write_table(raw / "labels.csv", {(p, n): SUBDURAL for p in (49, 50) for n in (1, 2, 3)})
    prepare(raw, tmp_path / "clean", options)
    before = Prepared(tmp_path / "clean").masks.slice("hemo_subset/049_1")
    add(49, 3, 50)
    prepare(raw, tmp_path / "clean", options)
    prepare(raw, tmp_path / "fresh", options)
    grown, fresh = Prepared(tmp_path / "clean").masks, Prepared(tmp_path / "fresh").masks
    assert len(grown.image_ids) == 5 and grown.image_ids == fresh.image_ids
    assert all((grown.slice(name) == fresh.slice(name)).all() for name in fresh.image_ids)
    assert grown.slice("hemo_subset/049_1").sum() < before.sum() / 2


def test_jpeg_images_are_gray_and_say_so(realdata, tmp_path):
    """The real slices of release 1.0, in its layout."""
    source, raw = realdata / "physionet_ctich_jpg", tmp_path / "raw"
    for folder in (source / "dev").iterdir():
        shutil.copytree(folder, raw / "Patients_CT" / folder.name / "brain")
    shutil.copy(source / "Patient_demographics.csv", raw)
    given = pd.read_csv(source / "labels_dev.csv")
    given.drop(columns="file").to_csv(raw / "hemorrhage_diagnosis.csv", index=False)
    mask = np.zeros((650, 650), np.uint8)
    mask[100:200, 300:400] = 255
    cv2.imwrite(str(raw / "Patients_CT" / "049" / "brain" / "14_HGE_Seg.jpg"), mask)
    manifest = prepare(raw, tmp_path / "clean", OPTIONS)
    assert manifest["images"]["train"] == 277 and manifest["patients"] == 9 and manifest["quarantined"] == {}
    slices = Prepared(tmp_path / "clean").slices.set_index("image_id")
    assert (
        (slices["units"] == "gray").all() and slices["hu_min"].isna().all() and slices["padded"].isna().all()
    )
    given.index = [
        f"Patients_CT/{p:03d}/brain/{n}"
        for p, n in zip(given["PatientNumber"], given["SliceNumber"], strict=True)
    ]
    for label in SUBTYPES:
        assert (slices[label] == given[label.capitalize()].reindex(slices.index)).all()
    assert (slices["any"] == 1 - given["No_Hemorrhage"].reindex(slices.index)).all()
    assert 0 < slices["any"].sum() < 277
    order = (
        slices[slices["study_id"] == "049"].sort_values("order").index.str.rsplit("/", n=1).str[1].astype(int)
    )
    assert order.tolist() == list(range(2, 34))  # by number, not by text
    volumes = open_volumes(tmp_path / "clean")
    for image_id in slices.index[::10]:
        file = cv2.imread(str(raw / f"{image_id}.jpg"), cv2.IMREAD_GRAYSCALE).astype(np.int16)
        assert file.shape == (650, 650) and file.max() > 100
        np.testing.assert_array_equal(volumes.slice(image_id), cv2.resize(file, (512, 512)))
    masks = Prepared(tmp_path / "clean").masks
    assert masks.image_ids == ["Patients_CT/049/brain/14"]
    assert masks.slice(masks.image_ids[0]).mean() == pytest.approx(10000 / 650**2, rel=0.03)
    studies = Prepared(tmp_path / "clean").studies.set_index("study_id")
    assert studies.loc["049", ["age_years", "sex"]].tolist() == [35, "Male"]


def test_single_slices_in_hu_keep_their_values(real_bare, realdata, tmp_path):
    prepare(real_bare, tmp_path / "clean", OPTIONS)
    volumes, masks = open_volumes(tmp_path / "clean"), Prepared(tmp_path / "clean").masks
    labels = pd.read_csv(real_bare / "labels.csv")
    assert len(labels) == len(volumes.image_ids) == len(masks.image_ids) == 18
    for row in labels.itertuples():
        name = "hemo_subset/" + row.file.removesuffix(".dcm")
        path = next(real_bare.rglob(f"hemo_subset/{row.file}"))
        image, mask = volumes.slice(name), masks.slice(name)
        np.testing.assert_array_equal(image, np.rot90(pydicom.dcmread(path).pixel_array))
        drawn = pydicom.dcmread(next(real_bare.rglob(f"Masks_subset/{row.file}"))).pixel_array
        np.testing.assert_array_equal(mask, np.rot90(drawn) == 32767)
        assert mask.sum() == row.mask_pixels
        assert image[mask == 1].mean() == pytest.approx(row.mean_HU_in_mask, abs=0.1)


def test_the_demographics_table_with_its_header_of_several_lines(realdata):
    table = read_demographics(realdata / "physionet_ctich_jpg" / "Patient_demographics.csv")
    assert table.loc["049"].tolist() == [35, "Male"] and table.loc["050", "age_years"] == 0.583
    assert len(table) == 82


def test_a_slice_without_diagnosis_is_an_error(tmp_path, volume):
    write_nifti(tmp_path, volume)
    write_table(tmp_path / "hemorrhage_diagnosis_raw_ct.csv", {(49, 1): CLEAR})
    with pytest.raises(UserError, match=r"no row for .*049\.nii; every slice needs its diagnosis"):
        prepare(tmp_path, tmp_path / "clean", OPTIONS)


def test_a_diagnosis_without_slice_and_a_broken_volume_are_quarantined(tmp_path, volume):
    raw = tmp_path / "raw"
    write_nifti(raw, volume)
    table = raw / "hemorrhage_diagnosis_raw_ct.csv"
    table.write_text(table.read_text("utf-8-sig") + f"60,1,{SUBDURAL}\n")
    (raw / "ct_scans" / "051.nii").write_bytes(b"no volume")
    manifest = prepare(raw, tmp_path / "clean", OPTIONS)
    assert manifest["quarantined"] == {"no file": 1, "unreadable NIfTI": 1}
    slices = Prepared(tmp_path / "clean").slices.set_index("image_id")
    assert slices.loc["060/1", ["status", "subdural"]].tolist() == ["quarantined", 1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0,0,0,0,1,1,0", "No_Hemorrhage contradicts the five types"),
        ("0,0,0,0,3,0,0", "a label is neither 0 nor 1"),
    ],
)
def test_wrong_diagnoses_are_refused(tmp_path, row, message):
    write_table(tmp_path / "t.csv", {(49, 1): row})
    with pytest.raises(UserError, match=message):
        read_diagnoses(tmp_path / "t.csv")


def test_a_folder_of_another_kind_is_refused(tmp_path):
    with pytest.raises(UserError, match="neither ct_scans/ nor Patients_CT/"):
        prepare(tmp_path, tmp_path / "clean", OPTIONS)


def test_masks_that_do_not_fit_their_scans_are_rows_and_are_not_stored(tmp_path, volume):
    """Of another slice count, of another size, damaged, and without a scan."""
    raw, options = tmp_path / "raw", Options(dataset="physionet", size=256, folds=2)
    write_nifti(raw, volume)
    affine = np.diag([0.5, 0.5, 5.0, 1.0])
    for folder, patient, values in (
        ("ct_scans", "051", volume + 2),
        ("ct_scans", "052", volume + 3),
        ("masks", "050", np.zeros((20, 24, 2), np.uint8)),
        ("masks", "051", np.zeros((20, 20, 3), np.uint8)),
        ("masks", "060", np.zeros((20, 24, 3), np.uint8)),
    ):
        nibabel.save(nibabel.Nifti1Image(values, affine), raw / folder / f"{patient}.nii")
    (raw / "masks" / "052.nii").write_bytes(b"no volume")
    rows = {(patient, number): CLEAR for patient in range(49, 53) for number in (1, 2, 3)} | {
        (49, 2): SUBDURAL
    }
    write_table(raw / "hemorrhage_diagnosis_raw_ct.csv", rows)
    manifest = prepare(raw, tmp_path / "clean", options)
    assert manifest["images"]["train"] == 12 and manifest["quarantined"] == {"mask": 6}
    assert set(Prepared(tmp_path / "clean").masks.image_ids) == {f"ct_scans/049/{n}" for n in (1, 2, 3)}
    quarantine = pd.read_csv(tmp_path / "clean" / "quarantine.csv").set_index("image_id")["cause"]
    assert quarantine["masks/050.nii"] == "mask: it has 2 slices, its scan 3"
    assert quarantine["ct_scans/051/2"] == "mask: it is 20 x 20, its image 24 x 20"
    assert quarantine["masks/052.nii"].startswith("mask: unreadable NIfTI")
    assert quarantine["masks/060.nii"] == "mask: its image is not there"
    assert prepare(raw, tmp_path / "clean", options) == manifest


def test_a_mask_stored_from_the_other_end_is_laid_on_the_right_slices(tmp_path, volume):
    raw = tmp_path / "raw"
    write_nifti(raw, volume)
    lesion = np.zeros((20, 24, 3), np.uint8)
    lesion[5, 6, 0] = 255  # the first slice
    turned = nibabel.Nifti1Image(lesion[..., ::-1], np.array(
        [[0.5, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, -5.0, 10.0], [0, 0, 0, 1]]
    ))  # fmt: skip
    nibabel.save(turned, raw / "masks" / "049.nii")
    prepare(raw, tmp_path / "clean", Options(dataset="physionet", size=256, folds=2))
    masks = Prepared(tmp_path / "clean").masks
    assert [bool(masks.slice(f"ct_scans/049/{n}").any()) for n in (1, 2, 3)] == [True, False, False]


def picture(path, side: int = 40, level: int = 7) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(level).integers(0, 256, (side, side)).astype(np.uint8))


def test_suffixes_and_names_of_the_jpeg_release(tmp_path):
    raw = tmp_path / "raw"
    brain = raw / "Patients_CT" / "049" / "brain"
    picture(brain / "14.JPG", level=1)
    picture(brain / "14_HGE_Seg.jpg")
    picture(brain / "15.jpg", level=2)
    picture(brain / "15_HGE_Seg.jpg", side=30)
    picture(brain / "16_HGE_Seg.jpg")
    picture(brain / "cover.jpg")
    picture(raw / "Patients_CT" / "049" / "bone" / "14.jpg")
    picture(raw / "Patients_CT" / "050" / "brain" / "1.jpg", level=3)
    (brain / "17.bmp").write_bytes(b"BM")
    rows = {(49, 14): SUBDURAL, (49, 15): CLEAR, (50, 1): CLEAR}
    write_table(raw / "hemorrhage_diagnosis.csv", rows)
    prepare(raw, tmp_path / "clean", Options(dataset="physionet", size=256, folds=2))
    prepared = Prepared(tmp_path / "clean")
    assert prepared.masks.image_ids == ["Patients_CT/049/brain/14"]
    assert prepared.slices["status"].eq("ok").sum() == 3
    quarantine = pd.read_csv(tmp_path / "clean" / "quarantine.csv").set_index("image_id")["cause"]
    assert quarantine.str.replace("Patients_CT/", "").to_dict() == {
        "Patients_CT/049/brain/15": "mask: it is 30 x 30, its image 40 x 40",
        "Patients_CT/049/brain/16_HGE_Seg.jpg": "mask: its image is not there",
        "Patients_CT/049/brain/17.bmp": "other format: .bmp is not read here",
        "Patients_CT/049/brain/cover.jpg": (
            "wrong name: 049/brain/cover is no number, as the data set's names are"
        ),
        "Patients_CT/049/bone/14.jpg": "other series: the brain window is used",
    }


def test_single_slices_have_the_size_of_their_files(tmp_path):
    raw = tmp_path / "raw"
    for patient in (49, 50):
        values = np.arange(256 * 200, dtype=np.int16).reshape(256, 200) // 100 + patient
        write(raw / "hemo_subset" / f"{patient:03d}_21.dcm", dataset(f"1.{patient}", values))
    (raw / "hemo_subset" / "051_1.dcm").write_bytes(b"")
    write(raw / "hemo_subset" / "notes.dcm", dataset("1.9", stored_values(5)))
    write_table(raw / "labels.csv", {(49, 21): CLEAR, (50, 21): CLEAR})
    prepare(raw, tmp_path / "clean", Options(dataset="physionet", size=256, folds=2))
    slices = Prepared(tmp_path / "clean").slices.set_index("image_id")
    assert slices.loc["hemo_subset/049_21", ["rows", "columns"]].tolist() == [
        200,
        256,
    ]  # turned by 90 degrees
    assert slices.loc["hemo_subset/051_1", "cause"] == "empty file"
    assert slices.loc["hemo_subset/notes", "cause"].startswith("wrong name: notes is no number")


def test_numbers_and_repeated_rows_of_the_tables_are_read_as_they_are_meant(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text(f"{HEADER}\n49.0,1,{CLEAR}\n49,2.0,{SUBDURAL}\n49,2,{SUBDURAL}\n")
    labels = read_diagnoses(table)
    assert labels.index.tolist() == [(49, 1), (49, 2)] and labels["any"].tolist() == [0, 1]
    table.write_text(f"{HEADER}\n49,1,{CLEAR}\n49,1,{SUBDURAL}\n")
    with pytest.raises(UserError, match="patient 49, slice 1 has two rows that differ; keep one"):
        read_diagnoses(table)
    table.write_text(f"{HEADER}\nforty,1,{CLEAR}\n")
    with pytest.raises(UserError, match="data row 1: PatientNumber is not a whole number; correct"):
        read_diagnoses(table)


def test_demographics_in_other_units_twice_and_without_a_column(tmp_path):
    path = tmp_path / "Patient_demographics.csv"
    rows = [
        "49,35,Male",
        "50.0,3 months,Female",
        "51,2 weeks,",
        "52,unknown,Male",
        "49,35,Male",
        "53,1,Male",
        "53,2,Male",
    ]
    path.write_text("\n".join(['"Patient Number","Age\n(years)",Gender', *rows, "total,,"]) + "\n")
    table = read_demographics(path)
    assert table["age_years"].dropna().to_dict() == pytest.approx(
        {"049": 35, "050": 0.25, "051": 14 / 365.25}
    )
    assert table["sex"].dropna().to_dict() == {"049": "Male", "050": "Female", "052": "Male", "053": "Male"}
    assert table.index.is_unique and len(table) == 5
    path.write_text("Patient Number\n49\n")
    assert read_demographics(path).loc["049"].isna().all()
    path.write_text("Number,Gender\n49,Male\n")
    with pytest.raises(UserError, match="the column Patient Number is missing"):
        read_demographics(path)


def test_two_files_of_one_patient_both_have_rows(tmp_path, volume):
    raw = tmp_path / "raw"
    write_nifti(raw, volume)
    shutil.copy(raw / "ct_scans" / "050.nii", raw / "ct_scans" / "50x.nii")
    nibabel.save(nibabel.load(raw / "ct_scans" / "050.nii"), raw / "ct_scans" / "050.nii.gz")
    manifest = prepare(raw, tmp_path / "clean", Options(dataset="physionet", size=256, folds=2))
    assert manifest["images"]["train"] == 6
    assert manifest["quarantined"] == {"duplicate image": 3, "wrong name": 1}
    assert Prepared(tmp_path / "clean").slices["image_id"].is_unique
