"""Why an image cannot be used. The text before a cause's colon names its class, which summaries count."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from .geometry import is_axial
from .header import EXPLICIT, IMPLICIT

# Without any of these a file's identity, its HU or its place is unknown. Window, HighBit and StudyID are not
# used.
REQUIRED = {
    "sop_instance_uid": "SOPInstanceUID",
    "modality": "Modality",
    "patient_id": "PatientID",
    "study_id": "StudyInstanceUID",
    "series_id": "SeriesInstanceUID",
    "samples_per_pixel": "SamplesPerPixel",
    "photometric": "PhotometricInterpretation",
    "rows": "Rows",
    "columns": "Columns",
    "bits_allocated": "BitsAllocated",
    "bits_stored": "BitsStored",
    "pixel_representation": "PixelRepresentation",
    "rescale_intercept": "RescaleIntercept",
    "rescale_slope": "RescaleSlope",
    "position_x": "ImagePositionPatient",
    "row_x": "ImageOrientationPatient",
    "pixel_spacing_row": "PixelSpacing",
}
LARGEST_SIDE = 4096  # CT matrices are 256 to 2048; a larger one is a damaged header
SMALLEST_SIDE = 16


def cause_of(headers: pd.DataFrame) -> pd.Series:
    """One cause per row of a header table (see `dicom.scan_headers`), missing where nothing is wrong.

    The first of several causes is given, in the order: unreadable, no CT image, missing tags, size, pixels,
    plane.
    """
    cause = headers["error"].astype("object").where(headers["error"].notna(), None)

    def mark(where: pd.Series | np.ndarray, text: str | Callable[[pd.DataFrame], pd.Series]) -> None:
        hit = (
            np.asarray(pd.Series(where, index=headers.index).fillna(False), dtype=bool)
            & cause.isna().to_numpy()
        )
        if hit.any():
            cause[hit] = text if isinstance(text, str) else text(headers[hit])

    image_type = headers["image_type"].fillna("").str.upper()
    mark(image_type.str.contains(r"(?:^|\\)(?:LOCALIZER|SCOUT)", regex=True), "localizer: ImageType says so")
    for column, tag in REQUIRED.items():
        values = headers[column]
        mark(values.isna() | (values == "") if _is_text(values) else values.isna(), f"missing tag: {tag}")
    mark(headers["modality"] != "CT", lambda bad: "not CT: Modality is " + bad["modality"])
    mark(headers["samples_per_pixel"] != 1, lambda bad: "colour image: " + bad["photometric"])
    monochrome = headers["photometric"].fillna("").str.startswith("MONOCHROME")
    mark(~monochrome, lambda bad: "colour image: " + bad["photometric"])
    mark(headers["frames"] > 1, "multi-frame: more than one image in the file")
    _check_pixels(headers, mark)
    mark(headers["rescale_slope"] == 0, "bad tag: RescaleSlope is 0")
    mark(~_unit_vectors(headers), "bad tag: ImageOrientationPatient is not two perpendicular unit vectors")
    mark(~is_axial(headers), "non-axial: the slice normal is far from the body's axis")
    spacing = headers[["pixel_spacing_row", "pixel_spacing_column"]]
    mark((spacing <= 0).any(axis=1), "bad tag: PixelSpacing is not positive")
    return cause


def _check_pixels(headers: pd.DataFrame, mark: Callable[..., None]) -> None:
    rows, columns = headers["rows"].fillna(0), headers["columns"].fillna(0)
    mark((rows == 0) | (columns == 0), lambda bad: "zero size: " + _size(bad))
    mark((rows > LARGEST_SIDE) | (columns > LARGEST_SIDE), lambda bad: "absurd size: " + _size(bad))
    mark((rows < SMALLEST_SIDE) | (columns < SMALLEST_SIDE), lambda bad: "absurd size: " + _size(bad))
    allocated, stored = headers["bits_allocated"].fillna(0), headers["bits_stored"].fillna(0)
    wrong = ~allocated.isin((8, 16, 32)) | (stored > allocated) | (stored < 1)
    mark(
        wrong,
        lambda bad: (
            "bad tag: BitsStored is " + _text(bad["bits_stored"]) + " of " + _text(bad["bits_allocated"])
        ),
    )
    mark(
        (headers["high_bit"] != stored - 1) & headers["high_bit"].notna(),
        "bad tag: HighBit is not BitsStored - 1",
    )
    mark(~headers["pixel_representation"].isin((0, 1)), "bad tag: PixelRepresentation is neither 0 nor 1")
    mark(headers["pixel_length"] == 0, "missing tag: PixelData")
    # Encapsulated pixels (offset -1) can only be judged by decoding them.
    native = headers["transfer_syntax"].isin((EXPLICIT, IMPLICIT)) & (headers["pixel_offset"] >= 0)
    beyond = headers["pixel_offset"] + headers["pixel_length"] > headers["file_size"]
    mark(native & beyond, lambda bad: "truncated: " + _byte_counts(bad))
    surplus = headers["pixel_length"] - _expected_bytes(headers)  # an odd length is padded by one byte
    mismatch = native & ((surplus < 0) | (surplus > 1))
    mark(mismatch, lambda bad: "size mismatch: Rows x Columns is " + _size(bad) + ", " + _byte_counts(bad))


def _expected_bytes(headers: pd.DataFrame) -> pd.Series:
    sizes = headers[["rows", "columns", "bits_allocated"]].fillna(0).astype("int64")
    return sizes["rows"] * sizes["columns"] * (sizes["bits_allocated"] // 8)


def _byte_counts(bad: pd.DataFrame) -> pd.Series:
    held = bad["pixel_length"].clip(upper=bad["file_size"] - bad["pixel_offset"])
    return "PixelData has " + _text(held) + " of " + _text(_expected_bytes(bad)) + " bytes"


def _size(bad: pd.DataFrame) -> pd.Series:
    return _text(bad["rows"]) + " x " + _text(bad["columns"])


def _text(numbers: pd.Series) -> pd.Series:
    return numbers.astype("str")


def _unit_vectors(headers: pd.DataFrame) -> np.ndarray:
    row, column = (
        headers[[f"{which}_{axis}" for axis in "xyz"]].to_numpy(float) for which in ("row", "column")
    )
    lengths = np.abs(np.linalg.norm([row, column], axis=2) - 1).max(axis=0)
    return (lengths < 0.01) & (np.abs((row * column).sum(axis=1)) < 0.01)


def _is_text(values: pd.Series) -> bool:
    return pd.api.types.is_string_dtype(values)


def mark_spread_studies(slices: pd.DataFrame) -> pd.Series:
    """Cause for every image of a study that names more than one patient; the others keep their cause."""
    known = slices["study_id"].notna() & slices["patient_id"].notna()
    patients = slices[known].groupby("study_id")["patient_id"].nunique()
    spread = slices["study_id"].isin(patients.index[patients > 1])
    text = "study of several patients: " + slices["study_id"].fillna("")
    return slices["cause"].where(~spread | slices["cause"].notna(), text)


def mark_duplicates(slices: pd.DataFrame) -> pd.Series:
    """Cause for images that share a SOPInstanceUID: of equal pixels the first by image_id stays, of different
    ones none.

    `slices` has image_id, sop_instance_uid, pixel_hash, cause.
    """
    cause = slices["cause"].copy()
    usable = slices.loc[slices["cause"].isna(), ["image_id", "sop_instance_uid", "pixel_hash"]]
    repeated = usable[usable.duplicated("sop_instance_uid", keep=False)].sort_values("image_id")
    for uid, copies in repeated.groupby("sop_instance_uid", sort=False):
        first = copies["image_id"].iloc[0]
        if copies["pixel_hash"].nunique() == 1:
            cause[copies.index[1:]] = f"duplicate: SOPInstanceUID and pixels of {first}"
        else:
            cause[copies.index] = f"duplicate SOPInstanceUID: {uid} with different pixels"
    return cause
