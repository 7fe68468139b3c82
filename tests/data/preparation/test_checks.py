"""Every kind of unusable file gets a cause that says what is wrong."""

import pytest

from src.data.dicom import scan_headers
from src.data.preparation.checks import cause_of
from tests.data.dicom_files import dataset, write


def cause(path) -> str | None:
    found = cause_of(scan_headers([path]))[0]
    return found if isinstance(found, str) else None


@pytest.mark.parametrize("implicit", [False, True])
def test_a_good_file_has_no_cause(tmp_path, implicit):
    assert cause(write(tmp_path / "a.dcm", dataset(implicit=implicit))) is None


@pytest.mark.parametrize(
    ("tag", "named"),
    [
        ("SOPInstanceUID", "SOPInstanceUID"),
        ("Modality", "Modality"),
        ("StudyInstanceUID", "StudyInstanceUID"),
        ("SeriesInstanceUID", "SeriesInstanceUID"),
        ("ImagePositionPatient", "ImagePositionPatient"),
        ("ImageOrientationPatient", "ImageOrientationPatient"),
        ("SamplesPerPixel", "SamplesPerPixel"),
        ("PhotometricInterpretation", "PhotometricInterpretation"),
        ("Rows", "Rows"),
        ("Columns", "Columns"),
        ("PixelSpacing", "PixelSpacing"),
        ("BitsAllocated", "BitsAllocated"),
        ("BitsStored", "BitsStored"),
        ("PixelRepresentation", "PixelRepresentation"),
        ("RescaleIntercept", "RescaleIntercept"),
        ("RescaleSlope", "RescaleSlope"),
        ("PixelData", "PixelData"),
    ],
)
def test_each_missing_tag_is_named(tmp_path, tag, named):
    assert cause(write(tmp_path / "a.dcm", dataset(drop=(tag,)))) == f"missing tag: {named}"


@pytest.mark.parametrize("tag", ["PatientID", "WindowCenter", "WindowWidth", "StudyID", "HighBit"])
def test_tags_that_nothing_needs_may_be_missing(tmp_path, tag):
    assert cause(write(tmp_path / "a.dcm", dataset(drop=(tag,)))) is None


@pytest.mark.parametrize("tag", ["StudyInstanceUID", "RescaleSlope", "ImagePositionPatient"])
def test_an_empty_tag_is_as_bad_as_a_missing_one(tmp_path, tag):
    assert cause(write(tmp_path / "a.dcm", dataset(**{tag: ""}))) == f"missing tag: {tag}"


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer: ImageType says so"),
        ({"Modality": "MR"}, "not CT: Modality is MR"),
        ({"NumberOfFrames": "2"}, "multi-frame: 2 images in the file"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "colour image: RGB"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour image: PALETTE COLOR"),
        ({"Rows": 0}, "zero size: 0 x 32"),
        ({"Columns": 60000}, "absurd size: 32 x 60000"),
        ({"Rows": 4, "Columns": 4}, "absurd size: 4 x 4"),
        ({"Rows": 64}, "size mismatch: Rows x Columns is 64 x 32, PixelData has 2048 of 4096 bytes"),
        ({"Rows": 16}, "size mismatch: Rows x Columns is 16 x 32, PixelData has 2048 of 1024 bytes"),
        ({"BitsStored": 20}, "bad tag: BitsStored is 20 of 16"),
        ({"PixelRepresentation": 7}, "bad tag: PixelRepresentation is neither 0 nor 1"),
        ({"RescaleSlope": "0"}, "bad tag: RescaleSlope is 0"),
        ({"PixelSpacing": ["0.5", "0"]}, "bad tag: PixelSpacing is not positive"),
        ({"PixelSpacing": ["0.5"]}, "bad tag: PixelSpacing is not 2 numbers from -1000 to 1000"),
        ({"ImageOrientationPatient": list("100001")}, "non-axial: the slice normal is far from"),
        ({"ImageOrientationPatient": list("100100")}, "bad tag: ImageOrientationPatient is not two"),
    ],
)  # fmt: skip
def test_unusable_images_are_told_apart(tmp_path, tags, expected):
    assert cause(write(tmp_path / "a.dcm", dataset(**tags))).startswith(expected)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty file"),
        (b"patient;age\n" * 50, "not a DICOM file: no DICM at byte 128"),
        (b"\0" * 128 + b"DICM" + b"\xff" * 64, "truncated"),
    ],
)
def test_files_that_are_no_dicom(tmp_path, content, expected):
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    assert cause(path).startswith(expected)


@pytest.mark.parametrize("kept", [140, 300, 505])
def test_truncation_within_the_header_is_noticed(tmp_path, kept):
    path = write(tmp_path / "a.dcm", dataset())
    path.write_bytes(path.read_bytes()[:kept])
    assert cause(path) == "truncated: the file ends within its header"


def test_the_pixels_of_a_truncated_file_are_counted(tmp_path):
    path = write(tmp_path / "a.dcm", dataset())
    path.write_bytes(path.read_bytes()[:-1448])
    assert cause(path) == "truncated: PixelData has 600 of 2048 bytes"


def test_a_folder_with_the_name_of_an_image(tmp_path):
    (tmp_path / "a.dcm").mkdir()
    assert cause(tmp_path / "a.dcm") == "unreadable file: Is a directory"
