"""Why an image cannot be used. The text before a cause's colon names its class, which summaries count."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from ..formats.header import BIG_ENDIAN, EXPLICIT, IMPLICIT, LARGEST_SIDE, term
from ..geometry import is_axial

# Without any of these a file's identity, its HU or its place is unknown. For PatientID the study can stand;
# window, HighBit and StudyID are not used.
REQUIRED = {
    "sop_instance_uid": "SOPInstanceUID",
    "modality": "Modality",
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
NUMBERS = (
    "samples_per_pixel",
    "frames",
    "rows",
    "columns",
    "bits_allocated",
    "bits_stored",
    "pixel_representation",
    "rescale_intercept",
    "rescale_slope",
    "position_x",
    "row_x",
    "pixel_spacing_row",
    "pixel_spacing_column",
    "file_size",
    "pixel_offset",
    "pixel_length",
)
SMALLEST_SIDE = 16


def cause_of(headers: pd.DataFrame) -> pd.Series:
    """One cause per row of a header table (see `dicom.scan_headers`), missing where nothing is wrong.

    The first of several causes is given, in the order: unreadable, not a CT image of one slice, missing tags,
    size, pixels, units, plane.
    """
    cause = headers["error"].astype("object").where(headers["error"].notna(), None)
    clear = cause.isna().to_numpy(copy=True)

    def mark(where: pd.Series | np.ndarray, text: str | Callable[[pd.DataFrame], pd.Series]) -> None:
        hit = np.asarray(where, dtype=bool) & clear
        if hit.any():
            cause[hit] = text if isinstance(text, str) else text(headers[hit])
            clear[hit] = False

    # numpy's comparisons are many times quicker than those of nullable columns; nothing equals a NaN
    number = {name: headers[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in NUMBERS}
    _check_kind(headers, number, mark)
    for column, tag in REQUIRED.items():
        values = headers[column]
        absent = np.isnan(number[column]) if column in number else values.isna() | (values == "")
        mark(absent, f"missing tag: {tag}")
    _check_pixels(headers, number, mark)
    _check_units(headers, number, mark)
    mark(~_unit_vectors(headers), "bad tag: ImageOrientationPatient is not two perpendicular unit vectors")
    mark(~is_axial(headers), "non-axial: the slice normal is far from the body's axis")
    spacing = np.fmin(number["pixel_spacing_row"], number["pixel_spacing_column"])
    mark(spacing <= 0, "bad tag: PixelSpacing is not positive")
    return cause


def _check_kind(headers: pd.DataFrame, number: dict[str, np.ndarray], mark: Callable[..., None]) -> None:
    """What is no single gray CT image lacks tags for a reason."""
    image_type = headers["image_type"].fillna("").str.upper()
    mark(image_type.str.contains(r"(?:^|\\)(?:LOCALIZER|SCOUT)", regex=True), "localizer: ImageType says so")
    other = headers["modality"].fillna("CT").str.upper()
    mark(~other.isin(("CT", "")), lambda bad: "not CT: Modality is " + _terms(bad, "modality"))
    mark(
        number["frames"] > 1,
        lambda bad: "multi-frame: " + _text(bad["frames"].astype("int64")) + " images in the file",
    )
    photometric = headers["photometric"].fillna("")
    colour = (number["samples_per_pixel"] > 1) | ~photometric.str.startswith("MONOCHROME") & (
        photometric != ""
    )
    mark(colour, lambda bad: "colour image: " + _terms(bad, "photometric").fillna("several samples a pixel"))


def _check_pixels(headers: pd.DataFrame, number: dict[str, np.ndarray], mark: Callable[..., None]) -> None:
    rows, columns = number["rows"], number["columns"]
    mark(number["samples_per_pixel"] != 1, "bad tag: SamplesPerPixel is 0")
    mark((rows == 0) | (columns == 0), lambda bad: "zero size: " + _size(bad))
    mark((rows > LARGEST_SIDE) | (columns > LARGEST_SIDE), lambda bad: "absurd size: " + _size(bad))
    mark((rows < SMALLEST_SIDE) | (columns < SMALLEST_SIDE), lambda bad: "absurd size: " + _size(bad))
    allocated, stored = number["bits_allocated"], number["bits_stored"]
    wrong = ~np.isin(allocated, (8, 16, 32)) | (stored > allocated) | (stored < 1)
    mark(
        wrong,
        lambda bad: (
            "bad tag: BitsStored is " + _text(bad["bits_stored"]) + " of " + _text(bad["bits_allocated"])
        ),
    )
    signs = np.isin(number["pixel_representation"], (0, 1))
    mark(~signs, "bad tag: PixelRepresentation is neither 0 nor 1")
    offset, length = number["pixel_offset"], number["pixel_length"]
    mark(length == 0, "missing tag: PixelData")
    # Compressed and deflated pixels can only be judged by decoding them.
    native = headers["transfer_syntax"].isin((EXPLICIT, IMPLICIT, BIG_ENDIAN)).to_numpy() & (offset >= 0)
    wanted = rows * columns * (allocated // 8)
    cut = (offset + length > number["file_size"]) & (number["file_size"] - offset < wanted)
    mark(native & cut, lambda bad: "truncated: " + _byte_counts(bad))
    # What is less than another image may be padding: decoding looks at it.
    mismatch = native & ((length < wanted) | (length >= 2 * wanted))
    mark(mismatch, lambda bad: "size mismatch: Rows x Columns is " + _size(bad) + ", " + _byte_counts(bad))


def _check_units(headers: pd.DataFrame, number: dict[str, np.ndarray], mark: Callable[..., None]) -> None:
    kind = headers["rescale_type"].fillna("").str.upper()
    mark(~kind.isin(("", "HU")), lambda bad: "not HU: RescaleType is " + _terms(bad, "rescale_type"))
    mark(number["rescale_slope"] == 0, "bad tag: RescaleSlope is 0")


def _expected_bytes(headers: pd.DataFrame) -> pd.Series:
    sizes = headers[["rows", "columns", "bits_allocated"]].fillna(0).astype("int64")
    return sizes["rows"] * sizes["columns"] * (sizes["bits_allocated"] // 8)


def _byte_counts(bad: pd.DataFrame) -> pd.Series:
    held = bad["pixel_length"].clip(upper=bad["file_size"] - bad["pixel_offset"])
    return "PixelData has " + _text(held) + " of " + _text(_expected_bytes(bad)) + " bytes"


def _size(bad: pd.DataFrame) -> pd.Series:
    return _text(bad["rows"]) + " x " + _text(bad["columns"])


def _terms(bad: pd.DataFrame, column: str) -> pd.Series:
    return bad[column].map(partial(term, column), na_action="ignore")


def _text(numbers: pd.Series) -> pd.Series:
    return numbers.astype("str")


def _unit_vectors(headers: pd.DataFrame) -> np.ndarray:
    row, column = (
        headers[[f"{which}_{axis}" for axis in "xyz"]].to_numpy(float) for which in ("row", "column")
    )
    lengths = np.abs(np.linalg.norm([row, column], axis=2) - 1).max(axis=0)
    return (lengths < 0.01) & (np.abs((row * column).sum(axis=1)) < 0.01)


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
