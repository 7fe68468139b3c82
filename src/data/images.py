"""Any source of an image -> its values: the one place that knows which decoder a file needs."""

import cv2
import numpy as np

from . import dicom, nifti
from .header import dataset_of
from .hu import Slice, gray, to_hu
from .source import IMAGE_SUFFIXES, BareDicom, Source, VolumeSlice, read_bytes


def decode_source(source: Source) -> Slice | str:
    """The decoded image, or the cause why there is none."""
    try:
        if isinstance(source, VolumeSlice):
            return to_hu(nifti.slice_values(source), 1, 0, 32, signed=True)
        if isinstance(source, BareDicom):
            return to_hu(_bare_pixels(source), 1, 0, 16, signed=True)
        if str(source).lower().endswith(IMAGE_SUFFIXES):
            return gray(gray_pixels(read_bytes(source)))
        return dicom.decode(read_bytes(source))
    except OSError as error:
        return f"unreadable file: {error.strerror or error}"
    except (ValueError, OverflowError) as error:  # the latter from a tag that is infinite
        return str(error)


def decode_mask(source: Source) -> np.ndarray:
    """(rows, columns) int16, 1 inside the bleeding and 0 outside. Raises ValueError, OSError."""
    if isinstance(source, VolumeSlice):
        return (nifti.slice_values(source) > 0).astype(np.int16)
    if isinstance(source, BareDicom):
        return (_bare_pixels(source) > 0).astype(np.int16)
    return (gray_pixels(read_bytes(source)) > 127).astype(np.int16)  # JPEG blurs the edge of a mask


def gray_pixels(data: bytes) -> np.ndarray:
    """(rows, columns) uint8 from the bytes of a JPEG or PNG; three equal channels count as one. Raises
    ValueError.
    """
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if image is None:
        raise ValueError("unreadable image: neither JPEG nor PNG" if data else "empty file")
    if image.dtype != np.uint8:
        raise ValueError(f"unreadable image: {image.dtype} values, whose units are unknown")
    if image.ndim == 3:
        if (image[..., :3] != image[..., :1]).any():
            raise ValueError("colour image: its channels differ")
        image = image[..., 0]
    return np.ascontiguousarray(image)


def _bare_pixels(source: BareDicom) -> np.ndarray:
    try:
        return np.ascontiguousarray(np.rot90(dataset_of(read_bytes(source)).pixel_array))
    except Exception as error:  # pydicom has no common base for what a damaged file makes it raise
        raise ValueError(f"unreadable DICOM: {type(error).__name__}: {error}") from error
