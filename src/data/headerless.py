"""Header rows for images that have no DICOM header, in the columns of `dicom.scan_headers`; what is unknown
is null.
"""

import numpy as np
import pandas as pd

from .dicom import scan_headers


def headerless(sequence: list[int], shapes: list[tuple[int, int]]) -> pd.DataFrame:
    """One row per image; `sequence` is its number within the study, which alone gives the order."""
    table = scan_headers([]).reindex(range(len(sequence)))
    table["sop_instance_uid"] = [
        f"{number:08d}" for number in sequence
    ]  # orders slices that have no position
    table["rows"] = pd.array([rows for rows, _ in shapes], dtype="Int32")
    table["columns"] = pd.array([columns for _, columns in shapes], dtype="Int32")
    return table


def from_affine(affine: np.ndarray, shape: tuple[int, int, int], path: str) -> pd.DataFrame:
    """The slices of a NIfTI volume of `shape` with its affine (RAS, mm), turned to image rows as `images`
    does.
    """
    slices = shape[2]
    table = headerless(list(range(slices)), [_image_shape(affine, shape)] * slices)
    centre = np.array([(shape[0] - 1) / 2, (shape[1] - 1) / 2])
    points = np.array([affine @ [*centre, index, 1] for index in range(slices)])
    to_lps = (-1, -1, 1)
    for axis, name in enumerate("xyz"):
        table[f"position_{name}"] = points[:, axis] * to_lps[axis]
        table[f"row_{name}"] = float(name == "x")
        table[f"column_{name}"] = float(name == "y")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    along_x = int(np.abs(affine[0, :2]).argmax())
    table["pixel_spacing_column"], table["pixel_spacing_row"] = lengths[along_x], lengths[1 - along_x]
    table["path"] = path
    return table


def _image_shape(affine: np.ndarray, shape: tuple[int, int, int]) -> tuple[int, int]:
    along_x = int(np.abs(affine[0, :2]).argmax())
    return shape[1 - along_x], shape[along_x]
