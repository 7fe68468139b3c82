"""One odd file beside a healthy study: it comes out right or gets a row, and the rest goes on."""

import os
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from src.data.formats.header import GDCM
from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.preparation.remedies import REMEDIES
from src.data.prepared import Prepared
from src.errors import UserError
from tests.data.dicom_files import (
    compressed,
    dataset,
    encodings,
    file_bytes,
    image_name,
    stored_values,
    with_bytes,
    write,
    write_rsna,
)

OPTIONS = Options(dataset="dicom", size=256)
RSNA = Options(size=256, folds=2)
STORED = stored_values()
PICTURE = cv2.imencode(".png", np.zeros((32, 32), np.uint8))[1].tobytes()


@pytest.fixture
def raw(tmp_path) -> Path:
    for place in range(3):
        data = dataset(f"1.9.{place}", stored_values(place + 90), patient="h", study="1.9", z=5.0 * place)
        write(tmp_path / "raw" / "healthy" / f"{place}.dcm", data)
    return tmp_path / "raw"


def prepared(raw: Path) -> pd.DataFrame:
    """The slices other than the healthy ones, by image id; every quarantined one has a row with a remedy."""
    clean = raw.parent / "clean"
    prepare(raw, clean, OPTIONS)
    slices = Prepared(clean).slices.set_index("image_id")
    healthy = slices.index.str.startswith("healthy")
    assert (slices["status"][healthy] == "ok").all() and healthy.sum() == 3
    quarantine = pd.read_csv(clean / "quarantine.csv").set_index("image_id")
    assert quarantine.notna().all(axis=None) and set(quarantine["remedy"]) <= set(REMEDIES.values())
    bad = slices[slices["status"] != "ok"]
    assert (quarantine.loc[bad.index, "cause"] == bad["cause"]).all()
    return slices[~healthy]


def only(raw: Path) -> pd.Series:
    slices = prepared(raw)
    assert len(slices) == 1
    return slices.iloc[0]


WANTED = {
    "RescaleIntercept": "a number from -65536 to 65536",
    "RescaleSlope": "a number from -65536 to 65536",
    "PixelSpacing": "2 numbers from -1000 to 1000",
    "ImagePositionPatient": "3 numbers from -1000000 to 1000000",
    "ImageOrientationPatient": "6 numbers",
}


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("RescaleIntercept", b"-1e10"), ("RescaleIntercept", b"-inf"), ("RescaleIntercept", b"1e400"),
        ("RescaleIntercept", b"nan"), ("RescaleSlope", b"inf"), ("RescaleSlope", b"1e9"),
        ("PixelSpacing", b"inf\\0.5"), ("PixelSpacing", b"0.5\\nan"),
        ("ImagePositionPatient", b"-125\\-125\\nan"), ("ImagePositionPatient", b"inf\\0\\0"),
        ("ImagePositionPatient", b"0\\0\\1e300"), ("ImageOrientationPatient", b"1\\0\\0\\0\\nan\\0"),
    ],
)  # fmt: skip
def test_numbers_that_are_not_finite_or_cannot_be_name_the_tag(raw, keyword, value):
    (raw / "bad.dcm").write_bytes(file_bytes(with_bytes(dataset("1.2.3"), keyword, value)))
    assert only(raw)["cause"] == f"bad tag: {keyword} is not {WANTED[keyword]}"


@pytest.mark.parametrize("name", sorted(encodings()))
def test_every_encoding_comes_out_exactly(raw, name):
    (raw / "odd.dcm").write_bytes(encodings()[name])
    row = only(raw)
    assert (row["status"], row["patient_id"], row["rows"]) == ("ok", "ID_p1", 32)
    assert (row["hu_min"], row["hu_max"]) == (STORED.min() - 1024, STORED.max() - 1024)


@pytest.mark.parametrize(
    "data",
    [
        dataset("1.2.3", stored=np.r_[STORED, np.zeros((2, 32), np.int16)], Rows=32),  # empty rows as padding
        dataset("1.2.3", bits=12, HighBit=15),
        with_bytes(dataset("1.2.3"), "WindowCenter", b"35,5"),
        with_bytes(dataset("1.2.3"), "WindowWidth", b"nan"),
        dataset("1.2.3", RescaleType="HU"),
    ],
    ids=["padding", "HighBit", "WindowCenter", "WindowWidth", "RescaleType"],
)
def test_good_images_are_not_refused(raw, data):
    write(raw / "odd.dcm", data)
    row = only(raw)
    values = STORED if data.BitsStored == 16 else (STORED << 4) >> 4
    assert (row["status"], row["hu_min"], row["hu_max"]) == ("ok", values.min() - 1024, values.max() - 1024)


def test_pixels_after_the_image_leave_its_size_in_doubt(raw):
    write(raw / "bad.dcm", dataset("1.2.3", stored=stored_values(1, 40), Rows=38, Columns=40))
    assert only(raw)["cause"] == "size mismatch: Rows x Columns is 38 x 40, PixelData has 3200 of 3040 bytes"


@pytest.mark.parametrize(
    ("tags", "cause"),
    [
        ({"RescaleType": "US"}, "not HU: RescaleType is US"),
        ({"RescaleType": "ED"}, "not HU: RescaleType is ED"),
        ({"RescaleType": "Erika"}, "not HU: RescaleType is no term of the standard"),
        ({"Modality": "MUSTER"}, "not CT: Modality is no term of the standard"),
        ({"PhotometricInterpretation": "MUSTER"}, "colour image: no term of the standard"),
        ({"ModalityLUTSequence": []}, "not HU: the values are those of a ModalityLUTSequence"),
        ({"NumberOfFrames": "24", "drop": ("RescaleIntercept",)}, "multi-frame: 24 images in the file"),
        (
            {"SharedFunctionalGroupsSequence": [], "drop": ("RescaleIntercept", "ImagePositionPatient")},
            "multi-frame: an Enhanced CT file, made for many images",
        ),
        ({"Modality": "SR", "drop": ("Rows", "PixelData")}, "not CT: Modality is SR"),
        ({"SamplesPerPixel": 3, "drop": ("PixelSpacing",)}, "colour image: MONOCHROME2"),
        ({"PhotometricInterpretation": "RGB", "drop": ("PixelSpacing",)}, "colour image: RGB"),
        ({"drop": ("RescaleIntercept",)}, "missing tag: RescaleIntercept"),
    ],
)  # fmt: skip
def test_the_cause_is_what_the_file_is_not_what_it_lacks(raw, tags, cause):
    write(raw / "bad.dcm", dataset("1.2.3", **tags))
    assert only(raw)["cause"] == cause


def test_the_unit_that_gdcm_writes_where_none_was_stated_is_hu(raw):
    data = dataset("1.2.3", RescaleType="US")
    data.file_meta.ImplementationClassUID = GDCM + ".107.104"
    write(raw / "odd.dcm", data)
    assert only(raw)["status"] == "ok"


@pytest.mark.parametrize("tags", [{"patient": ""}, {"patient": "  "}, {"drop": ("PatientID",)}])
def test_without_patient_id_the_study_stands_for_the_patient(raw, tags):
    write(raw / "odd.dcm", dataset("1.2.3", study="1.2", **tags))
    assert only(raw)[["status", "patient_id"]].tolist() == ["ok", "1.2"]


def test_one_image_with_a_patient_id_tells_it_of_the_whole_study(raw):
    for place, patient in enumerate(("", "P1", "")):
        data = dataset(f"1.2.{place}", stored_values(place), patient=patient, study="1.2", z=float(place))
        write(raw / f"{place}.dcm", data)
    slices = prepared(raw)
    assert set(slices["patient_id"]) == {"P1"} and (slices["status"] == "ok").all()
    kept = Prepared(raw.parent / "clean").manifest["kept_defects"]
    assert kept["no PatientID, told by the study"] == 2


def test_blanks_around_an_id_and_escapes_in_it_do_not_make_another_patient(raw):
    japanese = {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "patient": "M\u5c71"}
    for place, patient in enumerate(("P1", " P1", "P1  ")):
        data = dataset(f"1.2.{place}", stored_values(place), patient=patient, study="1.2", z=float(place))
        write(raw / f"{place}.dcm", data)
    for place in (3, 4):  # on the quick path, and by an undefined length on the other
        data = dataset(f"1.3.{place}", stored_values(place), study="1.3", z=float(place), **japanese)
        if place == 4:
            data.ReferencedImageSequence = []
            data["ReferencedImageSequence"].is_undefined_length = True
        write(raw / f"{place}.dcm", data)
    slices = prepared(raw)
    assert (slices["status"] == "ok").all()
    assert slices["patient_id"].tolist() == ["P1"] * 3 + ["M\u5c71"] * 2


def test_names_that_would_collide_are_told_apart(raw):
    for place, name in enumerate(("a", "a.dcm", "a.dcm.dcm")):
        write(raw / name, dataset(f"1.2.{place}", stored_values(place), z=float(place)))
    slices = prepared(raw)
    assert slices["status"].to_dict() == dict.fromkeys(("a", "a.dcm", "a.dcm.dcm"), "ok")
    assert slices["pixel_hash"].nunique() == 3


def test_what_is_no_regular_file_gets_a_row_and_loops_are_not_followed(raw):
    write(raw / "s" / "x.dcm", dataset("1.2.3"))
    os.mkfifo(raw / "s" / "pipe")
    os.symlink(".", raw / "s" / "latest")
    os.symlink("gone", raw / "s" / "broken")
    causes = prepared(raw)["cause"]
    assert causes["s/pipe"] == "not a file: a pipe"
    assert causes["s/broken"] == "unreadable file: No such file or directory"
    assert pd.isna(causes["s/x"]) and len(causes) == 3


def test_pictures_get_a_row_and_dicom_under_another_suffix_is_read(raw):
    write(raw / "1.ct", dataset("1.2.1", stored_values(1), z=1.0))
    (raw / "2.img").write_bytes(encodings()["without preamble"])
    (raw / "icon.bmp").write_bytes(cv2.imencode(".bmp", np.zeros((9, 9), np.uint8))[1].tobytes())
    (raw / "notes.txt").write_text("viewer")
    slices = prepared(raw)
    assert slices["status"].to_dict() == {"1.ct": "ok", "2.img": "ok", "icon.bmp": "quarantined"}
    assert slices["cause"].dropna().tolist() == ["other format: .bmp is not read here"]


def test_a_damaged_codestream_is_one_row(raw):
    data = file_bytes(compressed("JPEGLosslessProcess14_1"))
    (raw / "bad.dcm").write_bytes(data[: len(data) * 199 // 200])
    row = only(raw)
    assert row["cause"] == "truncated: the file ends within its compressed pixels"
    assert row["patient_id"] == "ID_p1"  # the header could be read


def test_whatever_a_parser_raises_is_this_file_s_matter(raw, monkeypatch):
    write(raw / "bad.dcm", dataset("1.2.3"))
    from src.data.formats import header

    original = header.walk

    def fails(data: bytes) -> header.RawHeader | None:
        if b"1.2.3\0" in data:
            raise OverflowError("too large")
        return original(data)

    monkeypatch.setattr(header, "walk", fails)
    assert only(raw)["cause"] == "unreadable image: OverflowError"


@pytest.mark.parametrize("name", ["rsna", "dicom"])
def test_names_that_are_not_utf8_are_shown_and_lost_by_nobody(tmp_path, name):
    raw = write_rsna(tmp_path / "raw", studies=2, slices=1, test_studies=1)
    odd = os.fsencode(raw / "stage_2_train") + b"/Sch\xe4del.dcm"
    os.rename(write(raw / "x.dcm", dataset("1.2.3", stored_values(77))), odd)
    prepare(raw, tmp_path / "clean", Options(dataset=name, size=256, folds=2))
    slices = Prepared(tmp_path / "clean").slices.set_index("image_id")
    if name == "rsna":
        assert slices.loc["Sch\\xe4del", "cause"].startswith("not in the table")
    else:
        assert slices.loc["stage_2_train/Sch\\xe4del", "status"] == "ok"
    assert len(slices) == 4


def test_the_prepared_folder_is_no_file_and_does_not_lie_in_the_data(raw, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="file: a file, not a folder; set CLEAN_DATA_DIR"):
        prepare(raw, tmp_path / "file", OPTIONS)
    for clean in (raw, raw / "clean"):
        with pytest.raises(UserError, match=r"CLEAN_DATA_DIR lies in RAW_DATA_DIR .* never written to"):
            prepare(raw, clean, OPTIONS)
    assert [path.name for path in raw.iterdir()] == ["healthy"]


def test_nothing_usable_is_an_error_that_says_why(tmp_path):
    raw = write_rsna(tmp_path / "raw", studies=2, slices=1, test_studies=1)
    for path in raw.rglob("*.dcm"):
        path.with_suffix(".png").write_bytes(PICTURE)
        path.unlink()
    with pytest.raises(
        UserError, match=r"none of 3 images can be used \(other format 3\), such as .*\.png: "
    ):
        prepare(raw, tmp_path / "clean", RSNA)
    for path in raw.rglob("*.png"):
        path.unlink()
    with pytest.raises(UserError, match=r"none of 3 images can be used \(no file 3\), .*; download the file"):
        prepare(raw, tmp_path / "clean", RSNA)
    assert not (tmp_path / "clean").exists()


def test_a_picture_beside_its_dicom_file_does_not_condemn_it(tmp_path):
    raw = write_rsna(tmp_path / "raw", studies=2, slices=1, test_studies=1)
    name = image_name(0)
    (raw / "stage_2_train" / f"{name}.PNG").write_bytes(PICTURE)
    manifest = prepare(raw, tmp_path / "clean", RSNA)
    assert manifest["images"] == {"train": 2, "test": 1} and manifest["quarantined"] == {"other format": 1}
    quarantine = pd.read_csv(tmp_path / "clean" / "quarantine.csv").set_index("image_id")
    assert quarantine.loc[name, "path"] == f"stage_2_train/{name}.PNG"


def test_an_archive_made_on_macos_has_no_image_twice(tmp_path):
    raw = write_rsna(tmp_path / "raw", studies=2, slices=1, test_studies=1)
    with zipfile.ZipFile(tmp_path / "rsna.zip", "w") as archive:
        for path in sorted(raw.rglob("*.*")):
            archive.write(path, path.relative_to(raw))
            archive.writestr(f"__MACOSX/{path.relative_to(raw).parent}/._{path.name}", b"\0\5\x16\7")
    manifest = prepare(tmp_path / "rsna.zip", tmp_path / "clean", RSNA)
    assert manifest["images"] == {"train": 2, "test": 1} and manifest["quarantined"] == {}


def test_impossible_folds_are_refused_before_anything_is_stored(tmp_path):
    raw = write_rsna(tmp_path / "raw", studies=3, slices=1, test_studies=1)
    with pytest.raises(UserError, match="--folds 1: two folds at least are needed"):
        Options(folds=1)
    with pytest.raises(UserError, match="--folds 4: there are only 3 patients"):
        prepare(raw, tmp_path / "clean", Options(size=256, folds=4))
    (tmp_path / "folds.csv").write_text("patient_id,fold\nID_p0,0\nID_p1,1\n")
    with pytest.raises(
        UserError, match=r"folds\.csv: folds: 1 training patients have no fold, such as ID_p2"
    ):
        prepare(raw, tmp_path / "clean", Options(size=256, folds_file=str(tmp_path / "folds.csv")))
    assert not (tmp_path / "clean").exists()


def test_corrected_labels_are_noticed_whatever_their_size_and_date(tmp_path):
    raw, clean = write_rsna(tmp_path / "raw", studies=2, slices=1, test_studies=1), tmp_path / "clean"
    prepare(raw, clean, RSNA)
    table = raw / "stage_2_train.csv"
    before = table.stat()
    name = image_name(100)
    changed = table.read_text().replace(f"{name}_any,0", f"{name}_any,1")
    table.write_text(changed.replace(f"{name}_subdural,0", f"{name}_subdural,1"))
    os.utime(table, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert table.stat().st_size == before.st_size
    packs = sorted(path.name for path in (clean / "volumes").iterdir())
    prepare(raw, clean, RSNA)
    slices = Prepared(clean).slices.set_index("image_id")
    assert slices.loc[name, ["subdural", "any"]].tolist() == [1, 1]
    assert sorted(path.name for path in (clean / "volumes").iterdir()) == packs
    os.utime(table)  # a copy of the same table is no change
    manifest = (clean / "manifest.json").stat().st_mtime_ns
    prepare(raw, clean, RSNA)
    assert (clean / "manifest.json").stat().st_mtime_ns == manifest


def test_a_file_dated_in_the_future_is_decoded_once(tmp_path, monkeypatch):
    from src.data.preparation import packing

    raw, clean = write_rsna(tmp_path / "raw", studies=2, slices=1, test_studies=1), tmp_path / "clean"
    path = raw / "stage_2_train" / f"{image_name(0)}.dcm"
    os.utime(path, (4e9, 4e9))
    decoded = []
    original = packing.decode_source
    monkeypatch.setattr(packing, "decode_source", lambda file: (decoded.append(str(file)), original(file))[1])
    prepare(raw, clean, RSNA)
    written = (clean / "manifest.json").stat().st_mtime_ns
    decoded.clear()
    prepare(raw, clean, RSNA)
    assert decoded == [] and (clean / "manifest.json").stat().st_mtime_ns == written
    os.utime(path, (4.1e9, 4.1e9))  # changed since, still in the future
    prepare(raw, clean, RSNA)
    assert decoded == [str(path)]


def test_conflicting_copies_are_labelled_images_and_the_column_is_never_null(tmp_path):
    raw = write_rsna(tmp_path / "raw", studies=4, slices=3, test_studies=1)
    copies = {101: ("train", 1), 400: ("test", 1)}  # image 1 bleeds, 101 does not, 400 has no label
    for number, (split, original) in copies.items():
        study = number // 100
        place = {"patient": f"ID_p{study}", "study": f"ID_s{study}", "z": 5.0 * (number % 100)}
        data = dataset(image_name(number), stored_values(original), **place)
        write(raw / f"stage_2_{split}" / f"{image_name(number)}.dcm", data)
    (raw / "stage_2_train" / f"{image_name(200)}.dcm").write_bytes(b"")
    prepare(raw, tmp_path / "clean", RSNA)
    flags = Prepared(tmp_path / "clean").slices.set_index("image_id")["conflicting_copy"]
    assert flags.dtype == bool and flags.index[flags].tolist() == [image_name(1), image_name(101)]
