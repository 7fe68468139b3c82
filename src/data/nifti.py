"""NIfTI volumes in HU, slice by slice as images: rows from front to back, columns from the patient's right to
the left. Axes and affine are in the format's RAS space, in mm; headers are in DICOM's LPS space.
"""

import gzip
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import UserError
from .hu import HIGHEST, LOWEST
from .preparation.headerless import headerless
from .source import VolumeSlice

SUFFIXES = (".nii", ".nii.gz")
TO_LPS = np.array([-1, -1, 1])


def open_volume(path: str):
    """The file as nibabel has it, its voxels unread. Raises ValueError where it is no volume of axial slices,
    OSError.
    """
    try:
        import nibabel
    except ImportError:
        raise UserError(
            "NIfTI needs nibabel; install it with: pip install -r requirements-extra.txt"
        ) from None
    try:
        image = nibabel.load(path)
    except (nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError) as error:
        raise ValueError(f"unreadable NIfTI: {error}") from None
    except (EOFError, zlib.error) as error:
        raise ValueError(f"truncated: {error}") from None
    if len(image.shape) < 3 or 0 in image.shape or set(image.shape[3:]) - {1}:
        raise ValueError(f"not one volume: its shape is {image.shape}")
    third = nibabel.aff2axcodes(image.affine)[2]
    if third not in ("S", "I"):
        raise ValueError(f"non-axial: the third axis of the volume runs along {third}")
    return image


def header_rows(path: str) -> pd.DataFrame:
    """One row per slice, in the columns of `dicom.scan_headers`. Raises like `open_volume`."""
    image = open_volume(path)
    shape, lps = image.shape[:3], TO_LPS[:, None] * image.affine[:3]
    along_x = _axis_along_x(image.affine)
    table = headerless(list(range(shape[2])), [(shape[1 - along_x], shape[along_x])] * shape[2])
    middle = [(shape[0] - 1) / 2, (shape[1] - 1) / 2]
    centres = np.array([lps @ [*middle, index, 1] for index in range(shape[2])])
    for name, axis, main in (("row", along_x, 0), ("column", 1 - along_x, 1)):
        step = lps[:, axis]
        length = np.linalg.norm(step)
        direction = step / length * np.sign(step[main])
        table[[f"{name}_{letter}" for letter in "xyz"]] = direction
        # the spacing of columns is along a row, and the other way round
        table["pixel_spacing_column" if name == "row" else "pixel_spacing_row"] = length
    table[[f"position_{letter}" for letter in "xyz"]] = centres
    return table.assign(path=path)


def slice_values(source: VolumeSlice) -> np.ndarray:
    """(rows, columns) int32, rounded half to even, saturated at the ends of int16. Raises ValueError,
    OSError.
    """
    return np.ascontiguousarray(_image_rows(source.path)[source.index])


@lru_cache(maxsize=1)  # the slices of a volume are asked for one after the other
def _image_rows(path: str) -> np.ndarray:
    """(slices, rows, columns), slices as stored."""
    image = open_volume(path)
    from nibabel.orientations import (
        aff2axcodes,
        apply_orientation,
        axcodes2ornt,
        io_orientation,
        ornt_transform,
    )

    try:
        if path.endswith(".gz"):  # read to its end, or gzip's checksum is never looked at
            image = type(image).from_bytes(gzip.decompress(Path(path).read_bytes()))
        values = np.asanyarray(image.dataobj).reshape(image.shape[:3])
    except (EOFError, zlib.error) as error:
        raise ValueError(f"truncated: {error}") from None
    if not np.isfinite(values).all():
        raise ValueError("bad values: the volume holds NaN or infinite values")
    # L and P, the directions of DICOM's rows and columns; the third axis keeps its own direction
    axes = ("L", "P", aff2axcodes(image.affine)[2])
    turn = ornt_transform(io_orientation(image.affine), axcodes2ornt(axes))
    turned = apply_orientation(values, turn).transpose(2, 1, 0)
    return np.clip(np.rint(turned), LOWEST, HIGHEST).astype(np.int32)


def _axis_along_x(affine: np.ndarray) -> int:
    return int(np.abs(affine[0, :2]).argmax())
