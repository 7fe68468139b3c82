"""NIfTI volumes in HU, slice by slice as images: rows from front to back, columns from the patient's right to
the left. Axes and affine are in the format's RAS space, in mm; headers are in DICOM's LPS space.
"""

import gzip
import math
import zlib
from functools import lru_cache

import numpy as np
import pandas as pd

from ...errors import UserError
from ..hu import HIGHEST, LOWEST
from ..preparation.headerless import headerless
from ..source import VolumeSlice, cause_of_failure, modified_ns, printable, read_bytes, read_head

SUFFIXES = (".nii", ".nii.gz")
TO_LPS = np.array([-1, -1, 1])
SQUARE = 1.5  # of the sides of an axial slice's pixels, the longer to the shorter


def open_volume(path: str):
    """The file as nibabel has it, its voxels unread; its axes may be stored in any order and direction.
    Raises ValueError where it is no volume of axial slices, OSError.
    """
    try:
        import nibabel
    except ImportError:
        raise UserError(
            "NIfTI needs nibabel; install it with: pip install -r requirements-extra.txt"
        ) from None
    _, size = read_head(path, 0)  # raises where it is no file
    if size == 0:
        raise ValueError("empty file")
    try:
        image = nibabel.load(path)
        shape, affine, kind = image.shape, image.affine, image.get_data_dtype()
    except (EOFError, zlib.error) as error:
        raise ValueError(f"truncated: {error}") from None
    except OSError:
        raise
    except Exception as error:  # nibabel has no common base for what a damaged header makes it raise
        raise ValueError(f"unreadable NIfTI: {error}") from None
    if len(shape) < 3 or min(shape) < 1 or set(shape[3:]) - {1}:
        raise ValueError(f"not one volume: its shape is {shape}")
    if kind.kind not in "iuf":
        name = "colour" if kind.fields else "complex" if kind.kind == "c" else str(kind)
        raise ValueError(f"not HU: the voxels are {name} values")
    if not np.isfinite(affine).all() or not np.abs(affine[:3, :3]).any(axis=0).all():
        raise ValueError("bad header: its affine matrix places no voxels")
    if (acquired := _longest_voxels(affine)) is not None:
        raise ValueError(f"non-axial: its voxels are longest along {acquired}")
    _check_length(path, image, size)
    return image


def _longest_voxels(affine: np.ndarray) -> str | None:
    """The axis along which slices were evidently acquired where that is not the body's, else None: stored
    orders differ, but thick slices stay thick.
    """
    from nibabel import aff2axcodes

    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    first, second = np.delete(np.arange(3), _up(affine))
    if max(lengths[first], lengths[second]) <= SQUARE * min(lengths[first], lengths[second]):
        return None
    return aff2axcodes(affine)[max(first, second, key=lambda axis: lengths[axis])]


def _up(affine: np.ndarray) -> int:
    """The axis of the volume that runs along the body."""
    from nibabel.orientations import io_orientation

    axes = np.flatnonzero(io_orientation(affine)[:, 0] == 2)
    if not len(axes):
        raise ValueError("bad header: no axis of its affine matrix runs along the body")
    return int(axes[0])


def _slices_last(image) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and affine (4, 4) with the body's axis as the third, the others in their stored order."""
    up = _up(image.affine)
    order = [axis for axis in range(3) if axis != up] + [up]
    return tuple(image.shape[axis] for axis in order), image.affine[:, [*order, 3]]


def _check_length(path: str, image, size: int) -> None:
    """Raises ValueError where an uncompressed file is shorter than its header says."""
    if not path.lower().endswith(".gz"):
        wanted = image.dataobj.offset + math.prod(image.shape) * image.get_data_dtype().itemsize
        if size < wanted:
            raise ValueError(f"truncated: the file has {size} of {wanted} bytes")


def grid(path: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Shape and directions of a volume's axes, the body's last: what a mask must have in common with its
    image. Raises like `open_volume`.
    """
    from nibabel import aff2axcodes

    shape, affine = _slices_last(open_volume(path))
    return shape, aff2axcodes(affine)


def header_rows(path: str) -> pd.DataFrame:
    """One row per slice, in the columns of `dicom.scan_headers`. Raises like `open_volume`."""
    shape, affine = _slices_last(open_volume(path))
    lps, along_x = TO_LPS[:, None] * affine[:3], _axis_along_x(affine)
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
    return table.assign(path=printable(path))


def slice_values(source: VolumeSlice) -> np.ndarray:
    """(rows, columns) int32, rounded half to even, saturated at the ends of int16. Raises ValueError,
    OSError.
    """
    rows = _image_rows(source.path, modified_ns(source))
    if isinstance(rows, str):
        raise ValueError(rows)
    if source.index >= len(rows):
        raise ValueError(f"not one volume: it has no slice {source.index + 1}")
    return np.ascontiguousarray(rows[source.index])


@lru_cache(maxsize=1)  # the slices of a volume are asked for one after the other
def _image_rows(path: str, modified: int) -> np.ndarray | str:
    """(slices, rows, columns), slices as stored, or the cause why there are none. A file that was `modified`
    since is another one.
    """
    try:
        return _oriented(open_volume(path), path)
    except (EOFError, zlib.error) as error:
        return f"truncated: {error}"
    except UserError:
        raise
    except Exception as error:  # as in open_volume
        return cause_of_failure(error)


def _oriented(image, path: str) -> np.ndarray:
    from nibabel.orientations import (
        aff2axcodes,
        apply_orientation,
        axcodes2ornt,
        io_orientation,
        ornt_transform,
    )

    if path.lower().endswith(".gz"):  # read to its end, or gzip's checksum is never looked at
        image = type(image).from_bytes(gzip.decompress(read_bytes(path)))
    values = np.asanyarray(image.dataobj).reshape(image.shape[:3])
    if not np.isfinite(values).all():
        raise ValueError("bad values: the volume holds NaN or infinite values")
    # L and P, the directions of DICOM's rows and columns; the body's axis keeps its own direction
    axes = ("L", "P", aff2axcodes(image.affine)[_up(image.affine)])
    turn = ornt_transform(io_orientation(image.affine), axcodes2ornt(axes))
    turned = apply_orientation(values, turn).transpose(2, 1, 0)
    return np.clip(np.rint(turned), LOWEST, HIGHEST).astype(np.int32)


def _axis_along_x(affine: np.ndarray) -> int:
    return int(np.abs(affine[0, :2]).argmax())
