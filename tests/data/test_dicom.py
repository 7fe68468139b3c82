"""Headers as a table and pixels in HU, for plain, odd, compressed and broken files."""

import warnings

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from src.data.dicom import read_hu, scan_headers
from src.errors import UserError
from tests.data.dicom_files import dataset, pydicom_hu, stored_values, write


def test_hu_of_every_real_file_equal_pydicoms(real_train, real_test, real_ge):
    for path in [*real_train, *real_test, *real_ge]:
        np.testing.assert_array_equal(read_hu(path), pydicom_hu(pydicom.dcmread(path)))


def test_headers_of_real_files_are_those_of_the_given_table(real_train, realdata):
    import pandas as pd

    table = pd.read_csv(realdata / "rsna2019_dicom_dev" / "slices.csv").set_index("Image")
    headers = scan_headers(real_train)
    table = table.loc[headers["sop_instance_uid"]]
    for ours, theirs in {"study_id": "study", "series_id": "series", "patient_id": "patient_id"}.items():
        assert (headers[ours].to_numpy() == table[theirs].to_numpy()).all()
    numbers = {
        "position_z": "z",
        "pixel_spacing_row": "pixel_spacing",
        "rescale_intercept": "rescale_intercept",
    }
    numbers |= {"bits_stored": "bits_stored", "pixel_representation": "pixel_representation"}
    for ours, theirs in numbers.items():
        np.testing.assert_allclose(headers[ours].to_numpy(float), table[theirs].to_numpy(float))
    assert headers["error"].isna().all()


def test_rows_come_in_the_order_of_the_paths_whatever_the_jobs(tmp_path, monkeypatch):
    monkeypatch.setattr("src.data.dicom.FILES_PER_TASK", 3)
    paths = [write(tmp_path / f"{n}.dcm", dataset(f"ID_{n}", z=n)) for n in (3, 1, 2, 0, 5, 4, 6)]
    one, two = scan_headers(paths, jobs=1), scan_headers(paths, jobs=2)
    assert one["sop_instance_uid"].tolist() == ["ID_3", "ID_1", "ID_2", "ID_0", "ID_5", "ID_4", "ID_6"]
    assert one.equals(two)
    assert one["position_z"].tolist() == [3, 1, 2, 0, 5, 4, 6]


def test_values_are_read_as_numbers(tmp_path):
    header = scan_headers([write(tmp_path / "a.dcm", dataset(z=-7.25))]).iloc[0]
    assert header["position_x"] == -125 and header["position_z"] == -7.25
    assert (header["row_x"], header["row_y"], header["column_y"]) == (1, 0, 1)
    assert header["window_center"] == 40 and header["window_width"] == 80  # the first of ['00040', '00040']
    assert (header["rows"], header["bits_stored"], header["samples_per_pixel"]) == (32, 16, 1)


def test_long_headers_are_read(tmp_path):
    paths = [
        write(tmp_path / f"{size}.dcm", dataset(ImageComments="x" * 9000, DerivationDescription="y" * size))
        for size in (10, 900, 1000)
    ]
    for path in paths[1:]:  # beyond 4 KB and, by a private block, beyond 64 KB
        data = pydicom.dcmread(path)
        data.add_new((0x0009, 0x0010), "LO", "TEST")
        data.add_new((0x0009, 0x1001), "OB", b"\0" * (70000 if "1000" in path.name else 20))
        write(path, data)
    headers = scan_headers(paths)
    assert headers["error"].isna().all() and (headers["rows"] == 32).all()


def test_text_beyond_ascii_is_read_by_pydicom(tmp_path):
    path = write(tmp_path / "a.dcm", dataset(patient="Müller", SpecificCharacterSet="ISO_IR 100"))
    assert scan_headers([path])["patient_id"].tolist() == ["Müller"]


def test_a_number_that_is_none_is_an_error_of_that_file_only(tmp_path):
    good, bad = write(tmp_path / "a.dcm", dataset()), write(tmp_path / "b.dcm", dataset(intercept="-1024"))
    bad.write_bytes(bad.read_bytes().replace(b"-1024 ", b"-10x4 "))
    headers = scan_headers([good, bad])
    assert headers["error"].isna().tolist() == [True, False]
    assert headers["error"][1] == "bad tag: RescaleIntercept is not a number from -65536 to 65536"
    assert headers["rescale_intercept"][0] == -1024


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "693_J2KI.dcm",
        "J2K_pixelrep_mismatch.dcm",
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "image_dfl.dcm",
    ],
)
def test_other_transfer_syntaxes_are_decoded_like_pydicom_does(name, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = pydicom.dcmread(get_testdata_file(name, download=False))
        for keyword, value in {"RescaleSlope": "1", "RescaleIntercept": "-1024"}.items():
            if keyword not in data:
                setattr(data, keyword, value)
        data.save_as(tmp_path / name)
        expected = pydicom_hu(data)
    np.testing.assert_array_equal(read_hu(tmp_path / name), expected)


def test_lossless_compression_changes_nothing(tmp_path):
    plain = dataset(stored=stored_values(1))
    expected = pydicom_hu(plain)
    for syntax in (pydicom.uid.RLELossless, pydicom.uid.JPEG2000Lossless):
        packed = dataset(stored=stored_values(1))
        packed.compress(syntax)
        np.testing.assert_array_equal(read_hu(write(tmp_path / "a.dcm", packed)), expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"not an image\n" * 40, "not a DICOM file"),
        (b"\0" * 128 + b"DICM", "truncated"),
    ],
)
def test_files_that_are_no_images_are_named(tmp_path, content, message):
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"a.dcm: .*{message}"):
        read_hu(path)


def test_a_truncated_file_is_named(tmp_path):
    path = write(tmp_path / "a.dcm", dataset())
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UserError, match="truncated: PixelData has 1548 of 2048 bytes"):
        read_hu(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.dcm"):
        read_hu(tmp_path / "gone.dcm")
    assert scan_headers([tmp_path / "gone.dcm"])["error"].tolist() == [
        "unreadable file: No such file or directory"
    ]


def test_no_files_give_an_empty_table():
    headers = scan_headers([])
    assert len(headers) == 0 and "study_id" in headers
