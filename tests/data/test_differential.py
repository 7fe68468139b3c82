"""The quick path, the careful one and pydicom itself, on every encoding and on thousands of damaged files."""

import io
import random
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_modality_lut

from src.data import dicom
from src.data.dicom import NATIVE
from src.data.formats.header import FIELDS, NUMBERS, EndOfData, RawHeader, read_with_pydicom, walk
from src.data.hu import Slice
from tests.data.dicom_files import dataset, encodings, file_bytes, stored_values

MUTATIONS = 6000
# What a pydicom that reads all the same does not look at.
REFUSED = (
    "truncated",
    "bad tag",
    "missing tag",
    "not HU",
    "size mismatch",
    "colour image",
    "damaged pixels",
    "absurd size",
)
PIECES = (
    *(b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xfe\xff\x0d\xe0", b"\xfe\xff\x00\xe0", b"\x28\0\0\x30"),
    *(b"\xe0\x7f\x10\0", b"\x08\0\x05\0", b"US", b"SQ", b"UN", b"OB", b"DS", b"LO", b"ZZ", b"\x1b$B"),
)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    alphabets = {
        "ISO 2022": {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "patient": "M\u5c71"},
        "Latin-1": {"SpecificCharacterSet": "ISO_IR 100", "patient": "M\xfcller"},
    }
    return encodings() | {name: file_bytes(dataset(**tags)) for name, tags in alphabets.items()}


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One to three bytes or pieces of the first 900 bytes changed, taken out, put in, or the file cut."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(min(len(found), 900))
        what = rng.randrange(7)
        if what == 0:
            found[at] = rng.randrange(256)
        elif what == 1:
            found[at] ^= 1 << rng.randrange(8)
        elif what == 2:
            del found[at : at + rng.choice((1, 2, 4, 8))]
        elif what == 3:
            found[at:at] = rng.randbytes(rng.choice((1, 2, 4, 8)))
        elif what == 4:
            piece = rng.choice(PIECES)
            found[at : at + len(piece)] = piece
        elif what == 5:
            start = rng.randrange(min(len(found), 900))
            found[at:at] = found[start : start + rng.choice((8, 16, 40))]
        else:
            del found[rng.randrange(24, len(found) + 24) :]
    return bytes(found)


def quick(data: bytes) -> RawHeader | None:
    try:
        return walk(data)
    except EndOfData:
        return None


def careful(data: bytes) -> RawHeader | None:
    try:
        return read_with_pydicom(data)
    except ValueError:
        return None


def comparable(raw: RawHeader) -> list[bytes | None]:
    """Values without their padding; text that needs an alphabet is left to the careful path by the scan."""
    values = []
    for name, value in zip(FIELDS, raw.values, strict=True):
        value = (value or b"") if name in NUMBERS else (value or b"").strip(b" \0")
        plain = name in NUMBERS or (value.isascii() and b"\x1b" not in value)
        values.append(value if plain else None)
    return values


def pydicoms(data: bytes) -> np.ndarray | None:
    """HU as pydicom has them, rounded and saturated like ours; None where it reads no image."""
    try:
        read = pydicom.dcmread(io.BytesIO(data), force=True)
        values = apply_modality_lut(read.pixel_array, read) if "RescaleSlope" in read else None
    except Exception:  # of any kind: that is what is asked
        return None
    return None if values is None else np.clip(np.rint(values), -32768, 32767)


def assert_agreement(data: bytes) -> None:
    found, reference = quick(data), careful(data)
    if found is not None:
        assert reference is not None
        ours, theirs = comparable(found), comparable(reference)
        assert [a for a, b in zip(ours, theirs, strict=True) if a != b and a is not None] == []
        assert found[1:] == reference[1:]
    try:
        image = dicom.decode(data)
    except ValueError as error:
        # damaged codestreams may end the process of pydicom's decoders
        expected = pydicoms(data) if reference is not None and reference.transfer_syntax in NATIVE else None
        assert expected is None or expected.ndim > 2 or str(error).startswith(REFUSED)
        return
    expected = pydicoms(data)
    if expected is not None and not image.wrap_fixed:
        np.testing.assert_array_equal(image.values, expected)


def test_every_encoding_gives_the_same_image(files):
    hu = stored_values().astype(np.int16) - 1024
    for name, data in files.items():
        np.testing.assert_array_equal(dicom.decode(data).values, hu, name)
        assert_agreement(data)


def test_all_three_agree_on_damaged_files(files):
    """Whatever the damage, nothing but a ValueError is raised."""
    rng, sources = random.Random(20260101), list(files.values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(MUTATIONS):
            assert_agreement(mutated(rng.choice(sources), rng))


def test_a_file_and_its_bytes_give_the_same(files, tmp_path):
    """Whether its pixels are read into their place or taken out of the whole file."""
    rng, path = random.Random(20260102), tmp_path / "a.dcm"
    fewer_rows = [file_bytes(dataset(Rows=stored_values().shape[0] - rows)) for rows in (1, 2)]
    sources = [*files.values(), *fewer_rows, file_bytes(dataset(stored=stored_values()[:0]))]
    damaged = [mutated(rng.choice(sources), rng) for _ in range(MUTATIONS // 3)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for data in (*sources, *damaged, *(data + b"\0" for data in sources), *(d[:-1] for d in sources)):
            path.write_bytes(data)
            assert outcome(lambda: dicom.read_slice(path)) == outcome(lambda data=data: dicom.decode(data))


def outcome(read: Callable[[], Slice]) -> tuple | str:
    try:
        image = read()
    except ValueError as error:
        return str(error)
    return (image.values.shape, image.values.tobytes(), *image[1:])


def test_all_three_agree_on_pydicoms_own_files():
    paths = sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"))
    assert len(paths) > 60
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in paths:
            data = path.read_bytes()
            found, reference = quick(data), careful(data)
            assert found is None or comparable(found) == comparable(reference), path
            expected = pydicoms(data)
            if expected is None or expected.ndim != 2:
                continue
            try:
                image = dicom.decode(data)
            except ValueError as error:
                assert str(error).startswith((*REFUSED, "multi-frame")), path
            else:
                np.testing.assert_array_equal(image.values, expected, str(path))


def test_all_real_slices_equal_pydicoms(realdata):
    """Every DICOM file of the real data: plain and JPEG Lossless, several scanners."""
    counts = {"equal": 0, "without rescale": 0}
    for archive in sorted(realdata.glob("*/*.tar*")):
        with tarfile.open(archive) as tar:
            for member in tar:
                if not member.name.endswith(".dcm"):
                    continue
                data = tar.extractfile(member).read()
                expected = pydicoms(data)
                if expected is None:
                    with pytest.raises(ValueError, match="missing tag: RescaleSlope"):
                        dicom.decode(data)
                    counts["without rescale"] += 1
                    continue
                np.testing.assert_array_equal(dicom.decode(data).values, expected, member.name)
                counts["equal"] += 1
    assert counts["equal"] >= 500
