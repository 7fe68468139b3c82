"""DICOM files: their headers as a table, their pixels in HU."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import UserError
from ..progress import parallel
from . import header
from .header import EXPLICIT, FIELDS, HEAD_BYTES, IMPLICIT, LONG_HEAD_BYTES, NUMBERS, EndOfData, RawHeader
from .hu import Slice, to_hu
from .source import Source, read_bytes, read_head

FILES_PER_TASK = 2000
TEXTS = ("image_type", "sop_instance_uid", "modality", "patient_id", "study_id", "series_id", "photometric")
# Decimal strings -> the columns they become. A window may have several values per file; the first is kept.
DECIMALS = {
    "position": ("position_x", "position_y", "position_z"),
    "orientation": ("row_x", "row_y", "row_z", "column_x", "column_y", "column_z"),
    "pixel_spacing": ("pixel_spacing_row", "pixel_spacing_column"),
    "frames": ("frames",),
    "window_center": ("window_center",),
    "window_width": ("window_width",),
    "rescale_intercept": ("rescale_intercept",),
    "rescale_slope": ("rescale_slope",),
}
MULTI_VALUED = frozenset(("window_center", "window_width"))


def scan_headers(paths: Sequence[Source], jobs: int = 1) -> pd.DataFrame:
    """The headers of DICOM files, a row a file in the order given; a file that cannot be read has its
    `error`.

    Columns: path, file_size, transfer_syntax, the elements of `header.ELEMENTS` (positions in mm along the
    patient's axes, orientation cosines, spacing in mm), pixel_offset, pixel_length in bytes, error.
    """
    chunks = [paths[start : start + FILES_PER_TASK] for start in range(0, len(paths), FILES_PER_TASK)]
    tables = parallel(
        _scan, [(chunk,) for chunk in chunks], jobs, "headers", [len(chunk) for chunk in chunks]
    )
    return pd.concat([_scan([]), *tables], ignore_index=True) if len(tables) != 1 else tables[0]


def read_hu(path: Source) -> np.ndarray:
    """(rows, columns) int16 HU with every fix applied. Raises UserError naming the file and what is wrong
    with it.
    """
    try:
        return decode(read_bytes(path)).values
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None


def decode(data: bytes) -> Slice:
    """The pixels in a DICOM file's bytes as HU. Raises ValueError saying what is wrong."""
    raw = read_header(data)
    rows, columns, allocated, stored_bits, representation = (
        _number(raw, name)
        for name in ("rows", "columns", "bits_allocated", "bits_stored", "pixel_representation")
    )
    slope, intercept = _decimal(raw, "rescale_slope"), _decimal(raw, "rescale_intercept")
    signed = representation == 1
    if raw.transfer_syntax in (EXPLICIT, IMPLICIT) and raw.pixel_offset >= 0 and allocated in (8, 16):
        values = _native_pixels(data, raw, (rows, columns), allocated, signed)
    else:
        values = _pydicom_pixels(data)
    if values.ndim != 2:
        raise ValueError(f"pixels have the shape {values.shape}, not (rows, columns)")
    return to_hu(values, slope, intercept, stored_bits, signed)


def read_header(data: bytes, quick: bool = True) -> RawHeader:
    """The header of a file, by the quick walk where it applies, else by pydicom. Raises ValueError."""
    if not data:
        raise ValueError("empty file")
    if data[128:132] != b"DICM":
        raise ValueError("not a DICOM file: no DICM at byte 128")
    for length in (HEAD_BYTES, len(data)) if quick else ():
        try:
            if (raw := header.walk(data[:length])) is not None:
                return raw
            break
        except EndOfData as end:  # the header is longer; or, in the whole file, there is no PixelData
            if end.within and length >= len(data):
                raise ValueError("truncated: the file ends within its header") from None
    try:
        return header.read_with_pydicom(data)
    except Exception as error:  # pydicom has no common base for what a damaged file makes it raise
        raise ValueError(f"unreadable DICOM: {type(error).__name__}: {error}") from error


def _native_pixels(
    data: bytes, raw: RawHeader, shape: tuple[int, int], allocated: int, signed: bool
) -> np.ndarray:
    count, itemsize = shape[0] * shape[1], allocated // 8
    held = min(raw.pixel_length, len(data) - raw.pixel_offset)
    if held < count * itemsize or count == 0:
        raise ValueError(f"truncated: PixelData has {held} of {count * itemsize} bytes")
    dtype = np.dtype(f"<{'i' if signed else 'u'}{itemsize}")
    return np.frombuffer(data, dtype, count, raw.pixel_offset).reshape(shape)


def _pydicom_pixels(data: bytes) -> np.ndarray:
    try:
        return header.dataset_of(data).pixel_array
    except Exception as error:  # decoders raise whatever their libraries do
        raise ValueError(f"undecodable pixels: {type(error).__name__}: {error}") from error


_SLOT = {name: slot for slot, name in enumerate(FIELDS)}


def _number(raw: RawHeader, name: str) -> int:
    value = raw.values[_SLOT[name]]
    if value is None or len(value) != 2:
        raise ValueError(f"missing tag: {name}")
    return int.from_bytes(value, "little")


def _decimal(raw: RawHeader, name: str) -> float:
    value = raw.values[_SLOT[name]]
    if value is None or not value.strip(b" \0"):
        raise ValueError(f"missing tag: {name}")
    return float(value.rstrip(b"\0"))


def _scan(paths: Sequence[Source]) -> pd.DataFrame:
    """One task: walk every file, then convert column by column, many times faster than file by file."""
    rows = [_scan_one(path) for path in paths]
    _reread_other_alphabets(paths, rows)
    table: dict[str, object] = {
        "path": pd.array([str(path) for path in paths], dtype="str"),
        "file_size": np.array([row[1] for row in rows], dtype=np.int64),
        "transfer_syntax": pd.array([row[0].transfer_syntax for row in rows], dtype="str"),
    }
    errors = np.array([row[2] for row in rows], dtype=object)
    columns = zip(*(row[0].values for row in rows), strict=True) if rows else [()] * len(FIELDS)
    for name, encoded in zip(FIELDS, columns, strict=True):
        if name in NUMBERS:
            table[name] = _integers(encoded)
        elif name in DECIMALS:
            table.update(zip(DECIMALS[name], _decimals(name, encoded, errors).T, strict=True))
        else:
            table[name] = _texts(encoded)
    table["pixel_offset"] = np.array([row[0].pixel_offset for row in rows], dtype=np.int64)
    table["pixel_length"] = np.array([row[0].pixel_length for row in rows], dtype=np.int64)
    table["error"] = pd.array(errors, dtype="str")
    return pd.DataFrame(table)


_NOTHING = RawHeader([None] * len(FIELDS), "", -1, 0)


def _scan_one(path: Source) -> tuple[RawHeader, int, str | None]:
    """Header, size of the file, and what is wrong."""
    size = 0
    try:
        for limit in (HEAD_BYTES, LONG_HEAD_BYTES):
            head, size = read_head(path, limit)
            try:
                raw = header.walk(head)
            except EndOfData:
                continue  # the header is longer than what was read, or the file is cut off
            return (read_header(read_bytes(path)) if raw is None else raw), size, None
        return read_header(read_bytes(path)), size, None
    except (OSError, ValueError) as error:
        return _NOTHING, size, getattr(error, "strerror", None) or str(error)


def _reread_other_alphabets(paths: Sequence[Source], rows: list[tuple[RawHeader, int, str | None]]) -> None:
    """Text beyond ASCII needs pydicom's knowledge of character sets. It is rare, so whole columns are looked
    at.
    """
    slots = [_SLOT[name] for name in TEXTS]
    if b"".join(b"".join(filter(None, map(row[0].values.__getitem__, slots))) for row in rows).isascii():
        return
    for place, (raw, size, error) in enumerate(rows):
        if not all(value is None or value.isascii() for value in map(raw.values.__getitem__, slots)):
            rows[place] = (read_header(read_bytes(paths[place]), quick=False), size, error)


def _texts(encoded: Sequence[bytes | None]) -> pd.Series:
    values = pc.utf8_rtrim(pa.array(encoded, pa.binary()).cast(pa.string()), characters=" \0")
    return pd.Series(values.to_pandas(), dtype="str")


def _integers(encoded: Sequence[bytes | None]) -> pd.Series:
    """US values; null where the element is absent or empty."""
    missing = np.array([value is None or len(value) != 2 for value in encoded], dtype=bool)
    joined = b"".join(b"\0\0" if gone else value for value, gone in zip(encoded, missing, strict=True))
    values = pd.array(np.frombuffer(joined, "<u2").astype(np.int32), dtype="Int32")
    values[missing] = pd.NA
    return pd.Series(values)


def _decimals(name: str, encoded: Sequence[bytes | None], errors: np.ndarray) -> np.ndarray:
    """(files, values) float64; NaN where the element is absent, and an entry in `errors` where it is not a
    number.
    """
    width = len(DECIMALS[name])
    if name in MULTI_VALUED:
        encoded = [None if value is None else value.split(b"\\", 1)[0] for value in encoded]
    present = np.array([value is not None and value.strip(b" \0") != b"" for value in encoded], dtype=bool)
    values = np.full((len(encoded), width), np.nan)
    texts = [value for value, there in zip(encoded, present, strict=True) if there]
    try:
        parts = pc.split_pattern(pa.array(texts, pa.binary()).cast(pa.string()), "\\")
        if not pc.all(pc.equal(pc.list_value_length(parts), width), min_count=0).as_py():
            raise ValueError("another number of values")
        flat = pc.utf8_trim(parts.flatten(), characters=" \0").cast(pa.float64())
        values[present] = flat.to_numpy(zero_copy_only=False).reshape(-1, width)
    except (pa.ArrowInvalid, ValueError):
        for row in np.flatnonzero(present):
            values[row] = _parse_decimals(name, encoded[row], width, errors, row)
    return values


def _parse_decimals(name: str, text: bytes, width: int, errors: np.ndarray, row: int) -> np.ndarray:
    try:
        values = np.array([float(part.strip(b" \0")) for part in text.split(b"\\")])
    except ValueError:
        values = np.empty(0)
    if len(values) == width and np.isfinite(values).all():
        return values
    errors[row] = errors[row] or f"bad tag: {name} is {text[:40].decode('ascii', 'replace')!r}"
    return np.full(width, np.nan)
