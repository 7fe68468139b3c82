"""Damaged compressed pixels are told from whole ones, by the same library whatever is installed."""

import os
import subprocess
import sys

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from src.data import dicom
from src.data.formats.compressed import LIBRARY, messages
from tests.conftest import ROOT
from tests.data.dicom_files import (
    codestream,
    compressed,
    dataset,
    file_bytes,
    stored_values,
    with_codestream,
)

STORED = stored_values(3, 96)
SYNTAXES = ("JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless", "RLE")


def packed(syntax: str) -> pydicom.FileDataset:
    if syntax != "RLE":
        return compressed(syntax, STORED)
    data = dataset("1.2.3", STORED)
    data.compress(pydicom.uid.RLELossless)
    return data


def cause(data: pydicom.FileDataset, stream: bytes) -> str:
    with pytest.raises(ValueError) as error:
        dicom.decode(file_bytes(with_codestream(data, stream)))
    return str(error.value)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_whole_pixels_are_exact(syntax):
    data = packed(syntax)
    np.testing.assert_array_equal(dicom.decode(file_bytes(data)).values, STORED - 1024)
    padded = with_codestream(data, codestream(data) + bytes(2))
    np.testing.assert_array_equal(dicom.decode(file_bytes(padded)).values, STORED - 1024)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("kept", [0.5, 0.995])
def test_half_a_codestream_is_damaged_with_and_without_its_end_marker(syntax, kept):
    data = packed(syntax)
    stream = codestream(data).rstrip(b"\0")
    cut = stream[: int(len(stream) * kept) // 2 * 2]
    for damaged in (cut, cut + stream[-2:], cut + bytes(len(stream) - len(cut))):
        assert cause(data, damaged).startswith(("truncated: its compressed pixels", "damaged pixels: "))
    if syntax != "RLE":  # which has no end marker
        assert cause(data, cut) == "truncated: its compressed pixels have no end marker"


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_gap_in_the_middle_is_noticed(syntax):
    """Zeros in place of bytes, bytes that are gone, and the second half replaced by zeros before the end."""
    data = packed(syntax)
    stream = codestream(data).rstrip(b"\0")
    middle, end = len(stream) // 2, len(stream) - 2
    for damaged in (
        stream[:middle] + bytes(300) + stream[middle + 300 :],
        stream[:middle] + stream[middle + 300 :],
        stream[:middle] + bytes(end - middle) + stream[end:],
    ):
        assert cause(data, damaged).startswith(("truncated: ", "damaged pixels: "))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_file_that_ends_within_its_pixels_is_truncated_even_by_its_delimiter(syntax):
    whole = file_bytes(packed(syntax))
    for kept in (len(whole) * 199 // 200, len(whole) - 8, len(whole) - 3, len(whole) // 2):
        with pytest.raises(ValueError, match="truncated: the file ends within its compressed pixels"):
            dicom.decode(whole[:kept])


def test_what_a_decoder_would_die_of_is_refused_before():
    """GDCM ends the process on a precision that cannot be, and on markers that belong elsewhere."""
    frames = {"JPEGLosslessProcess14_1": b"\xff\xc3\0\x0b", "JPEGLSLossless": b"\xff\xf7\0\x0b"}
    for syntax, frame in frames.items():
        data = packed(syntax)
        stream = codestream(data)
        assert frame + b"\x10" in stream
        odd = stream.replace(frame + b"\x10", frame + b"\x88")
        assert cause(data, odd) == "damaged pixels: 136 bits, of 16 allocated"
    data = packed("JPEGLosslessProcess14_1")
    odd = codestream(data).replace(b"\xff\xc4", b"\xff\xd4", 1)
    assert cause(data, odd) == "damaged pixels: a marker within its header that belongs elsewhere"


@pytest.mark.parametrize("syntax", SYNTAXES[:3])
def test_a_codestream_of_another_image_is_refused(syntax):
    data = packed(syntax)
    data.Rows = 48
    assert cause(data, codestream(data)).startswith(
        "size mismatch: Rows x Columns is 48 x 96, its compressed"
    )


def test_two_images_in_a_file_are_named():
    data = packed("JPEG2000Lossless")
    stream = codestream(data)
    data.PixelData = pydicom.encaps.encapsulate([stream, stream])
    with pytest.raises(ValueError, match="multi-frame: 2 images in the file"):
        dicom.decode(file_bytes(data))


def test_a_codestream_under_another_syntax_is_read_by_its_own_marks():
    data = packed("JPEGLSLossless")
    data.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
    np.testing.assert_array_equal(dicom.decode(file_bytes(data)).values, STORED - 1024)


def test_what_is_no_codestream_is_named_with_what_was_stated():
    data = packed("JPEG2000Lossless")
    assert cause(data, b"no pixels!") == (
        "undecodable pixels: JPEG 2000 Image Compression (Lossless Only) is stated, and they do not begin so"
    )


def test_only_libraries_of_the_core_decode():
    names = (ROOT / "requirements.txt").read_text()
    assert set(LIBRARY.values()) == {"pydicom", "gdcm", "pylibjpeg"}
    assert all(name in names for name in ("pydicom==", "python-gdcm==", "pylibjpeg-openjpeg=="))
    # pylibjpeg needs no more than pylibjpeg-openjpeg for these
    by_pylibjpeg = [kind for kind, library in LIBRARY.items() if library == "pylibjpeg"]
    assert by_pylibjpeg == ["1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.203"]


def test_twelve_bit_jpeg_is_decoded_without_the_extra_library():
    """pydicom's own way needs pylibjpeg-libjpeg for it; lossy decoders may differ by one."""
    path = get_testdata_file("JPGExtended.dcm", download=False)
    read = pydicom.dcmread(path)
    with open(path, "rb") as file:
        ours = dicom.stored_values(file.read())
    assert ours.shape == (read.Rows, read.Columns) and ours.max() == 264
    if pydicom.pixels.get_decoder(read.file_meta.TransferSyntaxUID).is_available:
        assert np.abs(ours.astype(int) - read.pixel_array).max() <= 1


def test_nothing_that_decoders_print_reaches_standard_error():
    program = (
        "from tests.data.formats.test_compressed import *\n"
        "data = packed('JPEGLosslessProcess14_1')\n"
        "stream = codestream(data)\n"
        "cause(data, stream[:900] + stream[-2:])\n"
        "data = packed('JPEGLSLossless')\n"
        "cause(data, codestream(data)[:1500] + b'\\xff\\xd9')\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_messages_are_held_and_standard_error_comes_back(capfd):
    with messages() as said:
        os.write(2, b"from a library\n")
    os.write(2, b"afterwards\n")
    assert said() == "from a library\n"
    assert capfd.readouterr().err == "afterwards\n"
