"""Any folder of DICOM series: what a hospital exports."""

import itertools

import numpy as np
import pandas as pd
import pydicom
import pytest

from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.prepared import Prepared
from src.data.volumes import open_volumes
from src.errors import UserError
from tests.data.dicom_files import dataset, pydicom_hu, stored_values, write

OPTIONS = Options(dataset="dicom", size=512)


def test_a_real_tilted_series_is_prepared_exactly(real_ge, tmp_path):
    manifest = prepare(real_ge[0].parent, tmp_path / "clean", OPTIONS)
    assert manifest["images"] == {"train": 0, "test": 28} and manifest["studies"] == 1
    slices = Prepared(tmp_path / "clean").slices
    assert slices["image_id"].tolist() == [f"{number:02d}" for number in range(1, 29)]
    assert slices["tilt_deg"].to_numpy() == pytest.approx(18.5, abs=1e-4)
    assert {4, 7} <= set(slices["step_mm"].round())
    volumes = open_volumes(tmp_path / "clean")
    for path in real_ge:
        np.testing.assert_array_equal(volumes.slice(path.stem), pydicom_hu(pydicom.dcmread(path)))
    assert len(Prepared(tmp_path / "clean").folds) == 0


def test_correcting_the_tilt_of_a_real_series_aligns_its_slices(real_ge, tmp_path):
    """The table moved upright, so neighbours are shifted; undone, they agree better."""
    likeness = {}
    for tilt in (False, True):
        clean = tmp_path / str(tilt)
        prepare(real_ge[0].parent, clean, Options(dataset="dicom", size=256, correct_tilt=tilt))
        volumes = open_volumes(clean)
        study = np.clip(volumes.study(volumes.study_ids[0])[8:24].astype(float), -100, 300)
        likeness[tilt] = np.mean(
            [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in itertools.pairwise(study)]
        )
    assert likeness[True] > likeness[False] + 0.01


@pytest.fixture
def export(tmp_path):
    """One study with two axial series, a localizer and a document, another study; files without suffix."""
    root = tmp_path / "raw"
    for series, step in (("e1", 5.0), ("e2", 1.0)):
        for place in range(3):
            uid = f"1.2.{series[1]}.{place}"
            data = dataset(uid, stored_values(place), study="1.2", z=step * place, SeriesInstanceUID=series)
            write(root / "DISK" / series / f"IM{place}", data)
    scout = dataset(
        "1.2.9", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], study="1.2", SeriesInstanceUID="e3"
    )
    write(root / "DISK" / "e3" / "IM0", scout)
    write(root / "OTHER" / "1.2.840.1", dataset("1.5.1", stored_values(50), patient="q", study="1.5"))
    write(root / "OTHER" / "1.2.840.2", dataset("1.5.2", stored_values(51), patient="q", study="1.5", z=5.0))
    (root / "README.txt").write_text("viewer included")
    write(root / "DICOMDIR", dataset("1.9"))
    return root


def test_every_axial_series_is_a_stack(export, tmp_path):
    manifest = prepare(export, tmp_path / "clean", OPTIONS)
    slices = Prepared(tmp_path / "clean").slices
    stacks = slices[slices["status"] == "ok"].groupby("study_id").size().to_dict()
    assert stacks == {"1.2/e1": 3, "1.2/e2": 3, "1.5": 2}
    assert manifest["quarantined"] == {"localizer": 1}
    assert manifest["kept_defects"]["other files in the folder"] == 2
    assert {"OTHER/1.2.840.1", "DISK/e1/IM0"} <= set(slices["image_id"])
    log = pd.read_csv(tmp_path / "clean" / "series.csv")
    assert log["series_id"].tolist() == ["e1", "e2", "1.5"]


def test_repeated_uids_are_told_by_their_pixels(export, tmp_path):
    write(export / "COPY" / "a", dataset("1.5.1", stored_values(50), patient="q", study="1.5"))
    write(export / "COPY" / "b", dataset("1.5.2", stored_values(99), patient="q", study="1.5", z=5.0))
    prepare(export, tmp_path / "clean", OPTIONS)
    causes = Prepared(tmp_path / "clean").slices.set_index("image_id")["cause"]
    assert pd.isna(causes["COPY/a"])
    assert causes["OTHER/1.2.840.1"] == "duplicate: SOPInstanceUID and pixels of COPY/a"
    assert (
        causes["OTHER/1.2.840.2"]
        == causes["COPY/b"]
        == "duplicate SOPInstanceUID: 1.5.2 with different pixels"
    )


def test_compressed_files_are_decoded(tmp_path):
    packed = dataset("1.1", stored_values(3))
    packed.compress(pydicom.uid.JPEG2000Lossless)
    write(tmp_path / "raw" / "a.dcm", packed)
    broken = dataset("1.2", stored_values(4), z=5.0)
    broken.compress(pydicom.uid.RLELossless)
    path = write(tmp_path / "raw" / "b.dcm", broken)
    path.write_bytes(path.read_bytes()[:-700])
    prepare(tmp_path / "raw", tmp_path / "clean", Options(dataset="dicom", size=256))
    slices = Prepared(tmp_path / "clean").slices.set_index("image_id")
    assert slices["status"].to_dict() == {"a": "ok", "b": "quarantined"}
    assert slices.loc["a", ["hu_min", "hu_max"]].tolist() == [
        stored_values(3).min() - 1024,
        stored_values(3).max() - 1024,
    ]


def test_a_folder_without_dicom_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="no DICOM file there"):
        prepare(tmp_path, tmp_path / "clean", OPTIONS)
