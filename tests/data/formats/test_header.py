"""The quick header reader gives what pydicom gives, and steps aside where it must."""

from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from src.data.formats.header import EXPLICIT, FIELDS, IMPLICIT, NUMBERS, EndOfData, read_with_pydicom, walk
from tests.data.dicom_files import dataset, write


def named(raw) -> dict[str, bytes | None]:
    """Values as text for comparison: padding differs between files and pydicom, the content must not."""
    values = zip(FIELDS, raw.values, strict=True)
    return {n: v if v is None or n in NUMBERS else v.rstrip(b" \0") for n, v in values}


def assert_equal_to_pydicom(path: Path) -> None:
    data = path.read_bytes()
    raw, reference = walk(data), read_with_pydicom(data)
    assert named(raw) == named(reference)
    assert raw.transfer_syntax == reference.transfer_syntax
    assert raw.pixel_length == reference.pixel_length
    pixels = pydicom.dcmread(path, force=True).PixelData
    assert data[raw.pixel_offset : raw.pixel_offset + raw.pixel_length] == pixels


@pytest.mark.parametrize("implicit", [False, True])
def test_both_plain_syntaxes_are_walked(tmp_path, implicit):
    path = write(tmp_path / "a.dcm", dataset("ID_0a1b2c3d4", z=12.5, implicit=implicit))
    assert_equal_to_pydicom(path)
    raw = walk(path.read_bytes())
    assert raw.transfer_syntax == (IMPLICIT if implicit else EXPLICIT)
    assert named(raw)["position"] == b"-125\\-125\\12.500000"
    assert named(raw)["rows"] == b"\x20\0"


def test_a_file_without_the_length_of_its_meta_group_is_walked(tmp_path):
    """All implicit files of RSNA lack (0002,0000)."""
    data = write(tmp_path / "a.dcm", dataset(implicit=True)).read_bytes()
    assert data[132:136] == b"\x02\0\0\0"
    shorter = data[:132] + data[144:]
    assert walk(shorter).values == walk(data).values
    assert walk(shorter).pixel_offset == walk(data).pixel_offset - 12


def test_the_walk_equals_pydicom_tag_by_tag_on_every_real_file(real_train, real_test, real_ge):
    for path in [*real_train, *real_test, *real_ge]:
        assert_equal_to_pydicom(path)
    assert len(real_train) + len(real_test) + len(real_ge) == 435


def test_other_files_are_left_to_pydicom(tmp_path):
    data = write(tmp_path / "a.dcm", dataset()).read_bytes()
    assert walk(data[128:]) is None  # no preamble
    item = Dataset()
    item.PatientID = "x"
    nested = dataset(ReferencedImageSequence=Sequence([item]))
    nested["ReferencedImageSequence"].is_undefined_length = True
    assert walk(write(tmp_path / "b.dcm", nested).read_bytes()) is None
    compressed = dataset()
    compressed.compress(pydicom.uid.RLELossless)
    assert walk(write(tmp_path / "c.dcm", compressed).read_bytes()) is None


def test_an_unexpected_vr_is_left_to_pydicom(tmp_path):
    data = write(tmp_path / "a.dcm", dataset()).read_bytes()
    at = data.index(b"\x28\0\x10\0US")
    assert walk(data[: at + 4] + b"SS" + data[at + 6 :]) is None


def test_a_header_cut_off_is_noticed(tmp_path):
    data = write(tmp_path / "a.dcm", dataset()).read_bytes()
    with pytest.raises(EndOfData):
        walk(data[:400])


def test_a_length_that_reads_like_a_vr_is_left_to_pydicom(tmp_path):
    """The first element of an implicit file is 16705 bytes long, 0x4141, and pydicom takes AA for a VR."""
    data = write(tmp_path / "a.dcm", dataset(implicit=True)).read_bytes()
    start = data.index(b"\x08\0\x18\0")
    long = b"\x08\0\x01\0" + (0x4141).to_bytes(4, "little") + bytes(0x4141)
    assert walk(data) is not None
    assert walk(data[:start] + long + data[start:]) is None
