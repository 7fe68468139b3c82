"""Values that no scanner makes, in every format that can hold them: refused with a cause, or bounded."""

import numpy as np
import pytest

from src.data.hu import to_hu
from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.prepared import Prepared
from tests.data.dicom_files import dataset, stored_values, write, write_rsna
from tests.data.incoming.studies import volume

nibabel = pytest.importorskip("nibabel")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_volume_with_values_that_are_no_numbers_is_left_out(tmp_path, value):
    hu = volume(6).astype(np.float32).transpose(2, 1, 0)
    hu[3, 3, 3] = value
    (tmp_path / "raw").mkdir()
    nibabel.save(nibabel.Nifti1Image(hu, np.diag((-1.7, -1.7, 5, 1))), tmp_path / "raw/a.nii")
    hu[3, 3, 3] = 0
    nibabel.save(nibabel.Nifti1Image(hu, np.diag((-1.7, -1.7, 5, 1))), tmp_path / "raw/b.nii")
    prepare(tmp_path / "raw", tmp_path / "clean", Options("nifti", size=256))
    slices = Prepared(tmp_path / "clean").slices.set_index("study_id")
    assert slices.loc["a", "cause"].str.startswith("bad values").all() and len(slices) == 12
    assert (slices.loc["b", "status"] == "ok").all()


def test_a_volume_beyond_int16_saturates_and_denormals_are_zero(tmp_path):
    hu = np.zeros((128, 128, 6), np.float32)
    hu[0, 0], hu[1, 1], hu[2, 2], hu[3, 3] = 3e38, -3e38, 1e-45, 32767.4
    (tmp_path / "raw").mkdir()
    nibabel.save(nibabel.Nifti1Image(hu, np.diag((-1.7, -1.7, 5, 1))), tmp_path / "raw/a.nii")
    prepare(tmp_path / "raw", tmp_path / "clean", Options("nifti", size=256))
    slices = Prepared(tmp_path / "clean").slices
    assert (slices["status"] == "ok").all()
    assert (slices["hu_min"] == -32768).all() and (slices["hu_max"] == 32767).all()


@pytest.mark.parametrize(
    ("slope", "intercept", "expected"),
    [(65536, 0, 32767), (-65536, 0, -32768), (1e-300, 0, 0), (1, 65536, 32767), (5e-324, -0.0, 0)],
)
def test_any_slope_that_is_accepted_gives_int16(slope, intercept, expected):
    found = to_hu(np.full((16, 16), 1000, np.int16), slope, intercept, 16, signed=True)
    assert found.values.dtype == np.int16 and (found.values == expected).all()


@pytest.mark.parametrize(
    ("keyword", "value", "said"),
    [
        ("RescaleSlope", "0", "bad tag: RescaleSlope is 0"),
        ("PixelSpacing", ["0", "0"], "bad tag: PixelSpacing is not positive"),
        ("PixelSpacing", ["-1", "1"], "bad tag: PixelSpacing is not positive"),
        ("ImageOrientationPatient", ["0"] * 6, "bad tag: ImageOrientationPatient is not two perpendicular"),
    ],
)
def test_numbers_that_lead_to_a_division_by_zero_are_refused(tmp_path, keyword, value, said):
    raw = write_rsna(tmp_path / "raw", test_studies=0)
    path = sorted(raw.rglob("*.dcm"))[0]
    write(path, dataset(path.stem, patient="ID_p0", study="ID_s0", **{keyword: value}))
    prepare(raw, tmp_path / "clean", Options(size=256, folds=2))
    slices = Prepared(tmp_path / "clean").slices.set_index("image_id")
    assert slices.loc[path.stem, "cause"].startswith(said)


def test_an_image_of_one_value_is_kept_and_called_blank(tmp_path):
    raw = write_rsna(tmp_path / "raw", test_studies=0)
    path = sorted(raw.rglob("*.dcm"))[0]
    write(path, dataset(path.stem, stored_values() * 0, patient="ID_p0", study="ID_s0"))
    prepare(raw, tmp_path / "clean", Options(size=256, folds=2, crop=True))
    row = Prepared(tmp_path / "clean").slices.set_index("image_id").loc[path.stem]
    assert row["status"] == "ok" and row["blank"] and (row["hu_min"], row["hu_max"]) == (-1024, -1024)
