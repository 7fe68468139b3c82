"""Folders of NIfTI volumes: a real template of the head in HU, and what can be wrong with a file."""

import gzip
import itertools
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from src.data.formats.nifti import header_rows, slice_values
from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.prepared import Prepared
from src.data.source import VolumeSlice
from src.data.square import extract, whole
from src.data.volumes import open_volumes
from src.errors import UserError

nibabel = pytest.importorskip("nibabel")

OPTIONS = Options(dataset="nifti", size=256)


def read_without_library(path: Path) -> np.ndarray:
    """(z, y, x) float32 of a little-endian float32 NIfTI-1 in plain values, by its header's bytes."""
    data = gzip.decompress(path.read_bytes())
    dimensions = struct.unpack_from("<8h", data, 40)
    datatype, bits = struct.unpack_from("<2h", data, 70)
    offset, slope, intercept = struct.unpack_from("<3f", data, 108)
    assert (dimensions[0], datatype, bits, data[344:347]) == (3, 16, 32, b"n+1")
    assert (slope, intercept) == (1, 0)
    count = int(np.prod(dimensions[1:4]))
    return np.frombuffer(data, "<f4", count, int(offset)).reshape(dimensions[3:0:-1])


def test_the_real_template_is_prepared_exactly_from_below_upwards(realdata, tmp_path):
    """Axes of the file: x from right to left, y from back to front, z upwards, 2 mm each."""
    folder = realdata / "ct_template_2mm"
    manifest = prepare(folder, tmp_path / "clean", OPTIONS)
    assert manifest["images"] == {"train": 0, "test": 128} and manifest["quarantined"] == {}
    stored = read_without_library(folder / "template_with_skull_2mm.nii.gz")
    images = np.rint(stored[:, ::-1, :]).astype(np.int16)  # rows from front to back
    slices = Prepared(tmp_path / "clean").slices
    name = "template_with_skull_2mm"
    assert slices["image_id"].tolist() == [f"{name}/{number}" for number in range(1, 129)]
    assert slices["order"].tolist() == list(range(128))
    assert slices["position_mm"].tolist() == [2.0 * number for number in range(128)]
    assert (slices[["rows", "columns"]] == 128).all(axis=None) and (slices["pixel_spacing_mm"] == 2).all()
    assert (slices["hu_min"] == images.min(axis=(1, 2))).all()
    assert (slices["hu_max"] == images.max(axis=(1, 2))).all()
    assert slices["hu_mean"].to_numpy() == pytest.approx(images.mean(axis=(1, 2)), abs=1e-6)
    volumes = open_volumes(tmp_path / "clean")
    for number in range(0, 128, 9):
        source = VolumeSlice(str(folder / f"{name}.nii.gz"), number)
        np.testing.assert_array_equal(slice_values(source), images[number])
        expected = extract(images[number], whole(128, 128), 256)
        np.testing.assert_array_equal(volumes.slice(f"{name}/{number + 1}"), expected)
    middle = volumes.study(name)[:, 88:168, 88:168]
    assert (middle[34:46] > 300).any()  # the bones of the skull's base lie below,
    assert not (middle[60:75] > 300).any()  # above them is brain


def save(path: Path, volume: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([0.5, 0.5, 5, 1]) if affine is None else affine), path)
    return path


def test_a_tilted_volume_has_its_own_normal(tmp_path):
    """The slices are turned by 20 degrees about the left-right axis, the front up, and stacked along their
    normal.
    """
    sine, cosine = np.sin(np.radians(20)), np.cos(np.radians(20))
    turned = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]]) * [0.5, 0.4, 3.0]
    affine = np.eye(4)
    affine[:3, :3] = turned
    save(tmp_path / "raw" / "a.nii", np.zeros((20, 24, 3), np.int16), affine)
    prepare(tmp_path / "raw", tmp_path / "clean", OPTIONS)
    slices = Prepared(tmp_path / "clean").slices
    assert slices["step_mm"].to_numpy() == pytest.approx(3.0)
    assert slices["tilt_deg"].to_numpy() == pytest.approx(20.0)
    header = header_rows(str(tmp_path / "raw" / "a.nii")).loc[0]
    assert header[["pixel_spacing_row", "pixel_spacing_column"]].tolist() == pytest.approx([0.4, 0.5])
    # DICOM's axes run to the left, to the back and up; the middle of the first slice lies right, in front
    assert header[["row_x", "row_y", "row_z"]].tolist() == pytest.approx([1, 0, 0])
    assert header[["column_x", "column_y", "column_z"]].tolist() == pytest.approx([0, cosine, -sine])
    middle = [-9.5 * 0.5, -11.5 * 0.4 * cosine, 11.5 * 0.4 * sine]
    assert header[["position_x", "position_y", "position_z"]].tolist() == pytest.approx(middle)


def test_a_volume_stored_from_above_downwards_is_ordered_upwards(tmp_path):
    volume = np.zeros((20, 20, 3), np.int16) + np.array([30, 20, 10], np.int16)
    save(tmp_path / "raw" / "deep" / "a.nii.gz", volume, np.diag([-0.5, 0.5, -5, 1]))
    prepare(tmp_path / "raw", tmp_path / "clean", OPTIONS)
    volumes = open_volumes(tmp_path / "clean")
    assert volumes.study("deep/a")[:, 0, 0].tolist() == [10, 20, 30]


def test_the_order_in_which_axes_are_stored_changes_nothing(tmp_path):
    """All 48 orders and directions of the axes of one volume, each with the affine that says so."""
    volume = np.random.default_rng(0).integers(-1000, 1000, (20, 24, 5)).astype(np.int16)
    affine = np.array([[0.5, 0, 0, -3], [0, 0.45, 0.4, 8], [0, -0.05, 4, -7], [0, 0, 0, 1]])
    image, known = nibabel.Nifti1Image(volume, affine), None
    for axes in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            turned = image.as_reoriented(np.stack([axes, flips], axis=1))
            nibabel.save(turned, tmp_path / "a.nii")
            headers = header_rows(str(tmp_path / "a.nii"))
            slices = [slice_values(VolumeSlice(str(tmp_path / "a.nii"), n)) for n in range(5)]
            upwards = slice(None, None, 1 if headers["position_z"].is_monotonic_increasing else -1)
            numbers = headers.filter(regex="position|row|column").to_numpy(float)
            found = numbers[upwards], np.stack(slices)[upwards]
            known = known or found
            np.testing.assert_allclose(found[0], known[0], atol=1e-5)
            np.testing.assert_array_equal(found[1], known[1])


def test_values_are_rounded_and_saturated(tmp_path):
    volume = np.array([0.5, 1.5, -0.6, 40000, -1e12, 7], np.float64).repeat(400).reshape(20, 20, 6, order="F")
    path = save(tmp_path / "a.nii", volume)
    values = [int(slice_values(VolumeSlice(str(path), n))[0, 0]) for n in range(6)]
    assert values == [0, 2, -1, 32767, -32768, 7]


def test_broken_volumes_are_quarantined_with_their_cause_and_the_rest_goes_on(tmp_path):
    raw, small = tmp_path / "raw", np.arange(1200, dtype=np.int16).reshape(20, 20, 3)
    save(raw / "good.nii", small)
    save(raw / "one_time.nii", small[..., None])
    save(raw / "four.nii", np.stack([small, small], -1))
    save(raw / "flat.nii", small[..., 0])
    save(raw / "nan.nii", np.where(small == 7, np.nan, small).astype(np.float32))
    save(
        raw / "sagittal.nii", small, np.array([[0, 0, 5, 0], [0.5, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, 0, 1.0]])
    )
    noise = np.random.default_rng(0).integers(-1000, 1000, (20, 20, 3)).astype(np.int16)
    packed = save(raw / "packed.nii.gz", noise).read_bytes()
    for name, data in {
        "empty.nii": b"",
        "empty2.nii.gz": b"",
        "text.nii": b"no volume" * 50,
        "short.nii": (raw / "good.nii").read_bytes()[:700],
        "header.nii": (raw / "good.nii").read_bytes()[:100],
        "cut.nii.gz": packed[:-400],
        "stub.nii.gz": packed[:30],
        "bad.nii.gz": packed[:600] + bytes(300) + packed[900:],
    }.items():
        (raw / name).write_bytes(data)
    prepare(raw, tmp_path / "clean", OPTIONS)
    slices = Prepared(tmp_path / "clean").slices
    good = slices[slices["status"] == "ok"]
    assert set(good["study_id"]) == {"good", "one_time", "packed"} and len(good) == 9
    cause = slices[slices["status"] != "ok"].groupby("study_id")["cause"].first().str.split(":").str[0]
    assert cause.to_dict() == {
        "empty": "empty file",
        "empty2": "empty file",
        "text": "unreadable NIfTI",
        "header": "unreadable NIfTI",
        "short": "truncated",
        "cut": "truncated",
        "stub": "unreadable NIfTI",
        "bad": "unreadable file",
        "four": "not one volume",
        "flat": "not one volume",
        "nan": "bad values",
        "sagittal": "non-axial",
    }


def test_a_folder_without_volumes_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no \.nii or \.nii\.gz file there"):
        prepare(tmp_path, tmp_path / "clean", OPTIONS)


def test_volumes_of_one_name_are_called_by_their_whole_names(tmp_path):
    for suffix, value in ((".nii", 1), (".nii.gz", 2)):
        save(tmp_path / "raw" / f"a{suffix}", np.full((20, 20, 2), value, np.int16))
    prepare(tmp_path / "raw", tmp_path / "clean", OPTIONS)
    volumes = open_volumes(tmp_path / "clean")
    assert volumes.study_ids == ["a.nii", "a.nii.gz"]
    assert (volumes.slice("a.nii/2") == 1).all() and (volumes.slice("a.nii.gz/2") == 2).all()


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (
            lambda data: data[:42] + (-5).to_bytes(2, "little", signed=True) + data[44:],
            "not one volume: its sh",
        ),
        (
            lambda data: data[:70] + (32).to_bytes(2, "little") + data[72:],
            "not HU: the voxels are complex val",
        ),
        (
            lambda data: data[:70] + (128).to_bytes(2, "little") + data[72:],
            "not HU: the voxels are colour val",
        ),
        (
            lambda data: data[:280] + np.full(12, np.nan, "<f4").tobytes() + data[328:],
            "bad header: its affine",
        ),
        (lambda data: data[:280] + bytes(48) + data[328:], "bad header: its affine matrix places no voxels"),
        (
            lambda data: data[:42] + (30000).to_bytes(2, "little") + data[44:],
            "truncated: the file has 2752 of",
        ),
        (lambda data: data[:344] + b"nope" + data[348:], "unreadable NIfTI: "),
        (lambda data: data[:70] + (9999).to_bytes(2, "little") + data[72:], "unreadable NIfTI: "),
    ],
    ids=["negative", "complex", "colour", "NaN", "flat", "large", "magic", "type"],
)
def test_headers_that_cannot_be_are_one_row(tmp_path, change, cause):
    raw = tmp_path / "raw"
    good = save(raw / "good.nii", np.arange(1200, dtype=np.int16).reshape(20, 20, 3)).read_bytes()
    bad = change(good)
    if cause.startswith("not HU"):  # as large as its type
        bits = 64 if "complex" in cause else 24
        bad = bad[:72] + bits.to_bytes(2, "little") + bad[74:] + bytes(20 * 20 * 3 * 8)
    (raw / "bad.nii").write_bytes(bad)
    prepare(raw, tmp_path / "clean", OPTIONS)
    slices = Prepared(tmp_path / "clean").slices
    assert (slices["status"] == "ok").sum() == 3
    (found,) = slices["cause"].dropna()
    assert found.startswith(cause)


def test_other_files_among_volumes_have_a_row_and_a_pipe_is_not_waited_for(tmp_path):
    raw = tmp_path / "raw"
    save(raw / "good.nii", np.arange(1200, dtype=np.int16).reshape(20, 20, 3))
    os.rename(save(raw / "x.nii", np.ones((20, 20, 2), np.int16)), os.fsencode(raw) + b"/Sch\xe4del.nii")
    for name in ("old.hdr", "old.img", "scan.dcm"):
        (raw / name).write_bytes(b"x")
    os.mkfifo(raw / "pipe.nii")
    prepare(raw, tmp_path / "clean", OPTIONS)
    slices = Prepared(tmp_path / "clean").slices.set_index("image_id")
    assert slices["status"].eq("ok").sum() == 5 and slices.loc["Sch\\xe4del/2", "status"] == "ok"
    assert slices["cause"].dropna().to_dict() == {
        "old.hdr": "other format: .hdr is not read here",
        "old.img": "other format: .img is not read here",
        "scan": "other format: .dcm is not read here",
        "pipe/1": "not a file: a pipe",
    }
