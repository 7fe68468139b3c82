"""Any source of an image -> its values: the one place that knows which decoder a file needs."""

import struct
import zlib

import cv2
import numpy as np

from ...errors import UserError
from .. import dicom
from ..hu import Slice, from_window, gray, to_hu
from ..source import (
    IMAGE_SUFFIXES,
    BareDicom,
    Picture,
    Source,
    VolumeSlice,
    cause_of_failure,
    read_bytes,
    read_head,
)
from . import nifti
from .compressed import INVENTED, jpeg_shape, messages


def decode_source(source: Source) -> Slice | str:
    """The decoded image, or the cause why there is none: whatever a decoder raises concerns this image
    alone.
    """
    try:
        return _decoded(source)
    except UserError:  # a library is missing, for all of them
        raise
    except Exception as error:  # decoders have no common base for what damaged data make them raise
        return cause_of_failure(error)


def _decoded(source: Source) -> Slice:
    if isinstance(source, VolumeSlice):
        return to_hu(nifti.slice_values(source), 1, 0, 32, signed=True)
    if isinstance(source, Picture):
        return from_window(gray_levels(read_bytes(source)), source.center, source.width)
    if isinstance(source, BareDicom):
        values = _bare_pixels(source)
        return to_hu(values, 1, 0, 8 * values.itemsize, signed=values.dtype.kind == "i")
    if str(source).lower().endswith(IMAGE_SUFFIXES):
        return gray(gray_pixels(read_bytes(source)))
    return dicom.read_slice(source)


def decode_mask(source: Source) -> np.ndarray | str:
    """(rows, columns) int16, 1 inside the bleeding and 0 outside, or the cause why there is none."""
    try:
        if isinstance(source, VolumeSlice):
            return (nifti.slice_values(source) > 0).astype(np.int16)
        if isinstance(source, BareDicom):
            return (_bare_pixels(source) > 0).astype(np.int16)
        return (gray_pixels(read_bytes(source)) > 127).astype(np.int16)  # JPEG blurs the edge of a mask
    except UserError:
        raise
    except Exception as error:  # as in decode_source
        return cause_of_failure(error)


def gray_pixels(data: bytes) -> np.ndarray:
    """(rows, columns) uint8 from the bytes of a JPEG or PNG; of 16 bits the upper eight, rounded. Raises
    ValueError.
    """
    levels = gray_levels(data)
    if levels.dtype == np.uint8:
        return levels
    if 0 < (most := int(levels.max())) < STORED_BELOW:
        raise ValueError(f"unknown units: 16-bit levels up to {most} look like a scanner's stored values")
    return np.rint(levels / 257).astype(np.uint8)


STORED_BELOW = 4096  # pixels of a CT have 12 bits; as gray of 16 bits they would be all but black


def gray_levels(data: bytes) -> np.ndarray:
    """(rows, columns) uint8 or uint16 from the bytes of a JPEG or PNG; three equal channels count as one.
    Raises ValueError.
    """
    if not data:
        raise ValueError("empty file")
    if data[:2] == JPEG:
        jpeg_shape(data)
    elif data[:8] == PNG:
        _check_png(data)
    else:
        raise ValueError(NO_PICTURE)
    with messages() as said:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or (said := INVENTED.search(said())):
        raise ValueError("damaged pixels: " + ("OpenCV does not decode them" if image is None else said[0]))
    if image.ndim == 3:
        if (image[..., :3] != image[..., :1]).any():
            raise ValueError("colour image: its channels differ")
        image = image[..., 0]
    return np.ascontiguousarray(image)


JPEG, PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
NO_PICTURE = "unreadable image: neither JPEG nor PNG"


def picture_shape(source: Source) -> tuple[int, int]:
    """(rows, columns) of a JPEG or PNG as its header has them. Raises ValueError, OSError."""
    head, size = read_head(source, 24)
    if size == 0:
        raise ValueError("empty file")
    if head[:2] == JPEG:
        return jpeg_shape(read_bytes(source))
    if head[:8] != PNG:
        raise ValueError(NO_PICTURE)
    if len(head) < 24:
        raise ValueError(CUT)
    columns, rows = struct.unpack_from(">II", head, 16)
    return rows, columns


CUT = "truncated: the file ends within its picture"


def _check_png(data: bytes) -> None:
    """Raises ValueError where a chunk is cut off or fails its checksum; OpenCV fills in what is missing."""
    at, name = 8, b""
    while name != b"IEND":
        if at + 12 > len(data):
            raise ValueError(CUT)
        (length,), name = struct.unpack_from(">I", data, at), data[at + 4 : at + 8]
        content = data[at + 4 : at + 8 + length]
        at += 12 + length
        if at > len(data):
            raise ValueError(CUT)
        if zlib.crc32(content) != struct.unpack_from(">I", data, at - 4)[0]:
            raise ValueError(f"damaged pixels: {name.decode('ascii', 'replace')} fails its checksum")


def _bare_pixels(source: BareDicom) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(dicom.stored_values(read_bytes(source))))
