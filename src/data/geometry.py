"""Where slices lie: positions along the normal, their order, steps and the gantry's tilt."""

import numpy as np
import pandas as pd

AXES = ("x", "y", "z")
PLACED_BY = ["study_id", *(f"{name}_{axis}" for name in ("position", "row", "column") for axis in AXES)]
ORDERED_BY = ["image_id", "sop_instance_uid", "position_mm", "study_id"]
# A head CT is tilted by 30 degrees at most; a normal farther than this from the body's axis is not axial.
AXIAL_DEGREES = 45.0


def normals(slices: pd.DataFrame) -> np.ndarray:
    """(n, 3) unit normals, row x column direction, turned to point to the head's top; NaN where there is
    none.
    """
    rows, columns = _vectors(slices, "row"), _vectors(slices, "column")
    normal = np.cross(rows, columns)
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    normal = np.divide(normal, length, out=np.full_like(normal, np.nan), where=length > 0)
    return np.where(normal[:, 2:] < 0, -normal, normal)


def tilt_degrees(slices: pd.DataFrame) -> np.ndarray:
    """(n,) rotation of the slices about the patient's left-right axis in degrees, with the sign of
    Gantry/Detector Tilt (0018,1120)."""
    columns = _vectors(slices, "column")
    return np.degrees(np.arctan2(0.0 - columns[:, 2], columns[:, 1]))


def is_axial(slices: pd.DataFrame) -> np.ndarray:
    """(n,) whether the normal is within AXIAL_DEGREES of the body's axis."""
    return normals(slices)[:, 2] >= np.cos(np.radians(AXIAL_DEGREES))


def positions(slices: pd.DataFrame) -> np.ndarray:
    """(n,) mm along the study's normal: the median of its slices' normals, so that one odd slice changes
    nothing. `slices` has the columns PLACED_BY.
    """
    normal = pd.DataFrame(normals(slices), columns=list(AXES))
    study = normal.groupby(slices["study_id"].to_numpy()).transform("median").to_numpy()
    length = np.linalg.norm(study, axis=1)
    return np.einsum("ij,ij->i", _vectors(slices, "position"), study) / length


def order_slices(slices: pd.DataFrame) -> pd.DataFrame:
    """Index of `slices` (columns ORDERED_BY) -> columns order and step_mm.

    `order` counts from 0 at the lowest position; equal positions are ordered by SOPInstanceUID, then
    image_id, so the same files always give the same order. `step_mm` is the distance to the slice before (for
    the first one, to the slice after it); it may be 0, and is NaN in a study of one slice.
    """
    keys = [slices[key].to_numpy() for key in ORDERED_BY]
    codes = [pd.factorize(key, sort=True)[0] if key.dtype == object else key for key in keys]
    sequence = np.lexsort(codes)
    study, position = codes[3][sequence], slices["position_mm"].to_numpy()[sequence]
    first = np.r_[True, study[1:] != study[:-1]] if len(study) else np.zeros(0, bool)
    starts = np.flatnonzero(first)
    order = np.arange(len(study)) - np.repeat(starts, np.diff(np.r_[starts, len(study)]))
    step = np.r_[np.nan, np.diff(position)] if len(study) else np.zeros(0)
    following = np.r_[step[1:], np.nan] if len(study) else step
    last = np.r_[first[1:], True] if len(study) else first
    step = np.where(first, np.where(last, np.nan, following), step)
    return pd.DataFrame({"order": order, "step_mm": step}, index=slices.index[sequence]).reindex(slices.index)


def shifts(slices: pd.DataFrame) -> np.ndarray:
    """(n, 2) drift of every slice inside its plane, in pixels down the rows and along the columns.

    With a tilted gantry the table moves obliquely to the slices, so a stack of them is sheared. The drift is
    measured against the middle slice of the study by `order`; moving each slice back by it removes the shear
    without mixing slices, so every label stays with its slice.
    """
    middle = slices.groupby("study_id")["order"].transform(lambda order: order.max() // 2)
    reference = slices.loc[slices["order"] == middle].set_index("study_id")
    of_study = reference.loc[slices["study_id"]]
    offset = _vectors(of_study, "position") - _vectors(slices, "position")
    down = np.einsum("ij,ij->i", offset, _vectors(of_study, "column"))
    along = np.einsum("ij,ij->i", offset, _vectors(of_study, "row"))
    spacing = slices[["pixel_spacing_row", "pixel_spacing_column"]].to_numpy()
    return np.stack([down, along], axis=1) / spacing


def _vectors(slices: pd.DataFrame, prefix: str) -> np.ndarray:
    return slices[[f"{prefix}_{axis}" for axis in AXES]].to_numpy(dtype=np.float64)
