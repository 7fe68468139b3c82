"""DICOM files: their headers as a table, their pixels in HU."""

import math
import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from itertools import compress
from operator import itemgetter

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pandas.api.extensions import ExtensionArray

from ..errors import UserError
from ..progress import parallel
from .formats import compressed, header
from .formats.compressed import Layout
from .formats.header import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    FIELDS,
    HEAD_BYTES,
    IMPLICIT,
    KEYWORDS,
    LARGEST_SIDE,
    LONG_HEAD_BYTES,
    NUMBERS,
    EndOfData,
    RawHeader,
)
from .hu import Slice, to_hu
from .source import Source, ZipMember, cause_of_failure, open_file, printable, read_bytes, read_head

FILES_PER_TASK = 2000
NATIVE = (EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED)
LAYOUT = ("rows", "columns", "bits_allocated", "bits_stored", "pixel_representation")
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
_SLOT = {name: slot for slot, name in enumerate(FIELDS)}
_of_layout = itemgetter(*(_SLOT[name] for name in ("samples_per_pixel", "photometric", "frames", *LAYOUT)))
_of_rescale = itemgetter(*(_SLOT[name] for name in ("rescale_type", "rescale_slope", "rescale_intercept")))
TEXTS = tuple(name for name in FIELDS if name not in NUMBERS and name not in DECIMALS)
WINDOW = frozenset(("window_center", "window_width"))
# Beyond these a number is a typing error or damage: 65536 takes every stored value out of int16, and no table
# moves by a kilometre.
LARGEST = sys.float_info.max
LIMITS = {"rescale_intercept": 65536.0, "rescale_slope": 65536.0, "position": 1e6, "pixel_spacing": 1e3}


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
        return read_slice(path).values
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None


def read_slice(source: Source) -> Slice:
    """The pixels of a DICOM file as HU. Raises OSError; ValueError saying what is wrong."""
    plain = None if isinstance(source, ZipMember) else _read_plain(source)
    return decode(read_bytes(source)) if plain is None else plain


def _read_plain(source: Source) -> Slice | None:
    """The same of a plain little-endian file that holds its pixels in full: they go from the disk to where
    they become HU, which spares the memory of another image. None for any other file.
    """
    descriptor, _ = open_file(source)
    try:
        raw = header.walk(os.read(descriptor, HEAD_BYTES))
        if raw is None:
            return None
        layout = _layout(*_of_layout(raw.values))
        if not 0 < layout.bytes == raw.pixel_length:
            return None
        values = np.empty(layout[:2], f"<{_kind(layout)}")
        os.lseek(descriptor, raw.pixel_offset, os.SEEK_SET)
        if os.readv(descriptor, [values]) < layout.bytes:
            return None
    except EndOfData:
        return None
    finally:
        os.close(descriptor)
    return _in_hu(raw, values, layout, own=True)


def decode(data: bytes) -> Slice:
    """The pixels in a DICOM file's bytes as HU. Raises ValueError saying what is wrong."""
    raw = read_header(data)
    return _in_hu(raw, *_stored(data, raw))


def _in_hu(raw: RawHeader, stored: np.ndarray, layout: Layout, own: bool = False) -> Slice:
    slope, intercept = _rescale(*_of_rescale(raw.values))
    return to_hu(stored, slope, intercept, layout.stored, layout.signed, own)


def stored_values(data: bytes) -> np.ndarray:
    """(rows, columns) integers as they stand in a DICOM file. Raises ValueError saying what is wrong."""
    return _stored(data, read_header(data))[0]


def read_header(data: bytes, quick: bool = True) -> RawHeader:
    """The header of a file, by the quick walk where it applies, else by pydicom. Raises ValueError."""
    for length in (HEAD_BYTES, len(data)) if quick else ():
        try:
            if (raw := header.walk(data[:length])) is not None:
                return raw
            break
        except EndOfData:  # the header is longer, or not what it seems
            continue
    if not data:
        raise ValueError("empty file")
    if not header.looks_like_dicom(data):
        raise ValueError(header.NO_DICOM)
    return header.read_with_pydicom(data)


def _stored(data: bytes, raw: RawHeader) -> tuple[np.ndarray, Layout]:
    layout = _layout(*_of_layout(raw.values))
    if raw.transfer_syntax == DEFLATED:
        data = header.inflated(data)
    if raw.pixel_offset < 0:
        raise ValueError("missing tag: PixelData")
    if raw.transfer_syntax in NATIVE:
        return _native_pixels(data, raw, layout), layout
    return compressed.decode(data, raw.pixel_offset, raw.transfer_syntax, layout), layout


@lru_cache(maxsize=256)  # the files of a data set differ in little but their pixels
def _layout(
    samples: bytes | None, photometric: bytes | None, frames: bytes | None, *numbers: bytes | None
) -> Layout:
    """How the pixels of one gray image are stored, from its elements as they stand in the file. Raises
    ValueError.
    """
    kind = _text(photometric)
    if not kind:
        raise ValueError("missing tag: PhotometricInterpretation")
    if samples not in (None, b"", b"\1\0") or not kind.startswith("MONOCHROME"):
        raise ValueError(f"colour image: {header.term('photometric', kind)}")
    if frames is not None and _decimal("frames", frames, 1) > 1:
        raise ValueError("multi-frame: more than one image in the file")
    rows, columns, allocated, stored, representation = map(_number, LAYOUT, numbers)
    if max(rows, columns) > LARGEST_SIDE:
        raise ValueError(f"absurd size: {rows} x {columns}")
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated:
        raise ValueError(f"bad tag: BitsStored is {stored} of {allocated}")
    return Layout(rows, columns, allocated, stored, representation == 1)


@lru_cache(maxsize=256)
def _rescale(kind: bytes | None, slope: bytes | None, intercept: bytes | None) -> tuple[float, float]:
    """Slope and intercept that make HU of stored values. Raises ValueError."""
    if (unit := _text(kind)).upper() not in ("", "HU"):
        raise ValueError(f"not HU: RescaleType is {header.term('rescale_type', unit)}")
    return _decimal("rescale_slope", slope), _decimal("rescale_intercept", intercept)


def _native_pixels(data: bytes, raw: RawHeader, layout: Layout) -> np.ndarray:
    held = min(raw.pixel_length, len(data) - raw.pixel_offset)
    if held != layout.bytes or held == 0:
        _check_bytes(data, raw, layout, held)
    kind, count = _kind(layout), layout.rows * layout.columns
    if raw.transfer_syntax != BIG_ENDIAN:
        return np.frombuffer(data, f"<{kind}", count, raw.pixel_offset).reshape(layout[:2])
    if layout.allocated == 8:
        raise ValueError("undecodable pixels: bytes in big-endian words")
    return np.frombuffer(data, f">{kind}", count, raw.pixel_offset).reshape(layout[:2]).astype(f"={kind}")


def _kind(layout: Layout) -> str:
    return f"{'i' if layout.signed else 'u'}{layout.allocated // 8}"


def _check_bytes(data: bytes, raw: RawHeader, layout: Layout, held: int) -> None:
    """Raises ValueError where the pixels are fewer than stated, or what follows them is more than padding:
    the rest of a row may be anything, but more must be empty, or the stated size is in doubt.
    """
    counts = f"PixelData has {held} of {layout.bytes} bytes"
    if held < layout.bytes and raw.pixel_offset + raw.pixel_length > len(data):
        raise ValueError(f"truncated: {counts}")
    surplus = data[raw.pixel_offset + layout.bytes : raw.pixel_offset + held]
    row = layout.columns * layout.allocated // 8
    if held < layout.bytes or layout.bytes == 0 or (len(surplus) >= row and any(surplus)):
        raise ValueError(f"size mismatch: Rows x Columns is {layout.rows} x {layout.columns}, {counts}")


def _text(value: bytes | None) -> str:
    return (value or b"").strip(b" \0").decode("utf-8", "replace")


def _number(name: str, value: bytes | None) -> int:
    if not value:
        raise ValueError(f"missing tag: {KEYWORDS[name]}")
    if len(value) != 2:
        raise ValueError(f"bad tag: {KEYWORDS[name]} has {len(value)} bytes")
    return int.from_bytes(value, "little")


def _decimal(name: str, value: bytes | None, empty: float | None = None) -> float:
    """One number; `empty` where the element has no value, else that is an error."""
    text = (value or b"").strip(b" \0")
    if not text and empty is None:
        raise ValueError(f"missing tag: {KEYWORDS[name]}")
    try:
        number = float(text or empty)
    except ValueError:
        number = math.nan
    if not abs(number) <= LIMITS.get(name, LARGEST):
        raise ValueError(bad_tag(name, 1))
    return number


def _scan(paths: Sequence[Source]) -> pd.DataFrame:
    """One task: walk every file, then convert column by column, many times faster than file by file."""
    rows = [_scan_one(path) for path in paths]
    _reread_other_alphabets(paths, rows)
    table: dict[str, object] = {
        "path": _text_array([printable(path) for path in paths]),
        "file_size": np.array([row[1] for row in rows], dtype=np.int64),
        "transfer_syntax": _text_array([row[0].transfer_syntax for row in rows]),
    }
    errors = np.array([row[2] for row in rows], dtype=object)
    columns = zip(*(row[0].values for row in rows), strict=True) if rows else [()] * len(FIELDS)
    for name, encoded in zip(FIELDS, columns, strict=True):
        if name in NUMBERS:
            table[name] = _integers(name, encoded, errors)
        elif name in DECIMALS:
            table.update(zip(DECIMALS[name], _decimals(name, encoded, errors).T, strict=True))
        else:
            table[name] = _texts(encoded)
    table["pixel_offset"] = np.array([row[0].pixel_offset for row in rows], dtype=np.int64)
    table["pixel_length"] = np.array([row[0].pixel_length for row in rows], dtype=np.int64)
    table["error"] = _text_array(errors)
    return pd.DataFrame(table)  # of arrays, which take a third of the time that Series take


def _text_array(texts: Sequence[str | None] | np.ndarray) -> ExtensionArray:
    return pd.array(pa.array(texts, pa.string()), dtype="str")


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
            if raw is None and head and not header.looks_like_dicom(head):
                raise ValueError(header.NO_DICOM)
            return (read_header(read_bytes(path)) if raw is None else raw), size, None
        return read_header(read_bytes(path)), size, None
    except Exception as error:  # one file must not stop the others, whatever it makes a parser raise
        return _NOTHING, size, cause_of_failure(error)


def _reread_other_alphabets(paths: Sequence[Source], rows: list[tuple[RawHeader, int, str | None]]) -> None:
    """Text beyond ASCII, or with escapes to other alphabets, needs pydicom's knowledge of character sets. It
    is rare, so whole columns are looked at.
    """
    values = [row[0].values for row in rows]
    texts = [[value[slot] for value in values if value[slot]] for slot in _TEXT_SLOTS]
    if _plain(b"".join(map(b"".join, texts))):
        return
    for place, (raw, size, _) in enumerate(rows):
        if not all(_plain(raw.values[slot] or b"") for slot in _TEXT_SLOTS):
            try:
                rows[place] = (read_header(read_bytes(paths[place]), quick=False), size, None)
            except Exception as error:  # as in _scan_one
                rows[place] = (_NOTHING, size, cause_of_failure(error))


_TEXT_SLOTS = [_SLOT[name] for name in TEXTS]


def _plain(text: bytes) -> bool:
    return text.isascii() and b"\x1b" not in text


def _texts(encoded: Sequence[bytes | None]) -> ExtensionArray:
    return pd.array(_trimmed(pa.array(encoded, pa.binary()).cast(pa.string())), dtype="str")


def _trimmed(texts: pa.Array) -> pa.Array:
    """Blanks at both ends say nothing in any of these elements, nor does the zero that pads."""
    return pc.utf8_trim(texts, characters=" \0")


def _integers(name: str, encoded: Sequence[bytes | None], errors: np.ndarray) -> ExtensionArray:
    """US values; null where the element is absent or empty, and an entry in `errors` where it is not one
    number.
    """
    lengths = pc.binary_length(pa.array(encoded, pa.binary())).fill_null(0).to_numpy()
    whole = lengths == 2
    for row in np.flatnonzero(~whole & (lengths != 0)):
        errors[row] = errors[row] or f"bad tag: {KEYWORDS[name]} has {lengths[row]} bytes"
    values = np.zeros(len(encoded), np.int32)
    values[whole] = np.frombuffer(b"".join(compress(encoded, whole.tolist())), "<u2")
    return pd.arrays.IntegerArray(values, ~whole)


def _decimals(name: str, encoded: Sequence[bytes | None], errors: np.ndarray) -> np.ndarray:
    """(files, values) float64; NaN where the element is absent, and an entry in `errors` where it is no
    finite number within `LIMITS`. A window that cannot be read is no error: none is used.
    """
    width, limit = len(DECIMALS[name]), LIMITS.get(name, LARGEST)
    if name in WINDOW:
        encoded = [None if value is None else value.split(b"\\", 1)[0] for value in encoded]
    values = np.full((len(encoded), width), np.nan)
    try:
        texts = _trimmed(pa.array(encoded, pa.binary()).cast(pa.string()))
        present = pc.binary_length(texts).fill_null(0).to_numpy() > 0
        texts = texts.filter(pa.array(present))
        if width > 1:
            parts = pc.split_pattern(texts, "\\")
            if (np.diff(parts.offsets) != width).any():
                raise ValueError("another number of values")
            texts = _trimmed(parts.flatten())
        found = texts.cast(pa.float64()).to_numpy(zero_copy_only=False)
        if (np.abs(found) <= limit).all():
            values[present] = found.reshape(-1, width)
            return values
    except (pa.ArrowInvalid, ValueError):
        pass
    for row, text in enumerate(encoded):
        if text is None or not text.strip(b" \0"):
            continue
        values[row], good = _parse_decimals(text, width, limit)
        if not good and name not in WINDOW:
            errors[row] = errors[row] or bad_tag(name, width)
    return values


def _parse_decimals(text: bytes, width: int, limit: float) -> tuple[np.ndarray, bool]:
    """(width,) numbers and True, or NaN and False."""
    try:
        values = np.array([float(part.strip(b" \0")) for part in text.split(b"\\")])
    except ValueError:
        values = np.empty(0)
    good = len(values) == width and bool((np.abs(values) <= limit).all())
    return (values if good else np.full(width, np.nan)), good


def bad_tag(name: str, width: int) -> str:
    """The cause, without what stands there, which may be anything."""
    wanted = "a number" if width == 1 else f"{width} numbers"
    within = f" from {-LIMITS[name]:.0f} to {LIMITS[name]:.0f}" if name in LIMITS else ""
    return f"bad tag: {KEYWORDS[name]} is not {wanted}{within}"
