"""Stored values to Hounsfield units, exactly: the modality rescale and the known faults of the RSNA files."""

from typing import NamedTuple

import cv2
import numpy as np

LOWEST, HIGHEST = -32768, 32767  # what int16 holds
# Files of some scanners fill the corners outside the scan circle with -2000, that is -3024 HU.
PADDED_BELOW = -2500
# Such a file with unsigned values holds 65536 more: as HU no value of these is possible, nor of air's -1000.
UNSIGNED_PADDING = (65536 - 2048, 65536 - 1000)
# The 12-bit wrap turns air (-1000 HU) into 3096. No head has this share of its pixels between there and 3396.
WRAPPED_AIR, WRAPPED_SHARE = (3096, 3396), 0.05


class Slice(NamedTuple):
    """One decoded image. `values` (rows, columns) int16: HU, or 8-bit gray where the source has no HU."""

    values: np.ndarray
    range: tuple[int, int]  # smallest and largest value
    wrap_fixed: bool = False
    is_hu: bool = True

    @classmethod
    def of(cls, values: np.ndarray, wrap_fixed: bool = False, is_hu: bool = True) -> "Slice":
        """The slice of values whose range is not known yet."""
        return cls(values, _value_range(values), wrap_fixed, is_hu)

    @property
    def mean(self) -> float:
        return cv2.mean(self.values)[0]  # sums in double, ten times as fast as numpy on int16


def to_hu(
    stored: np.ndarray, slope: float, intercept: float, bits_stored: int, signed: bool, own: bool = False
) -> Slice:
    """stored (rows, columns) integers as in the file -> HU, int16, saturated at the ends of int16.

    Integer arithmetic where slope is 1 and the intercept whole; else float64, rounded half to even. Bits
    above `bits_stored` are discarded, with sign extension for signed data, as pydicom does. own: nobody else
    needs `stored`, which may become the HU itself.
    """
    low, high = _value_range(stored)
    if bits_stored < 8 * stored.itemsize:
        least, most = _bounds(bits_stored, signed)
        if high > most or low < least:
            stored = _without_unused_bits(stored, bits_stored)
            low, high = _value_range(stored)
    if bits_stored == 12 and not signed and intercept > -100 and _is_wrapped(stored):
        return Slice.of(_unwrap(stored, slope), wrap_fixed=True)
    if bits_stored == 16 and UNSIGNED_PADDING[0] <= high <= UNSIGNED_PADDING[1]:
        stored = _with_signed_padding(stored, high)
        low, high = _value_range(stored)
    if slope != 1 or intercept != int(intercept):
        return Slice.of(_saturate(np.rint(stored * np.float64(slope) + intercept)))
    offset = int(intercept)
    fits = min(low, offset, low + offset) >= LOWEST and max(high, offset, high + offset) <= HIGHEST
    if not fits:
        return Slice.of(_saturate(stored.astype(np.int64) + offset))
    values = stored.view(f"{stored.dtype.byteorder}i2") if stored.itemsize == 2 else stored.astype(np.int16)
    hu = np.add(values, np.int16(offset), out=values if own else None)
    return Slice(hu, (low + offset, high + offset))


def _value_range(values: np.ndarray) -> tuple[int, int]:
    """Smallest and largest of (rows, columns) integers."""
    if values.itemsize > 2:
        return int(values.min()), int(values.max())
    low, high, _, _ = cv2.minMaxLoc(values)
    return int(low), int(high)


def _bounds(bits: int, signed: bool) -> tuple[int, int]:
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def gray(values: np.ndarray) -> Slice:
    """An image that is already windowed, (rows, columns) uint8. Kept as 0-255 and never called HU."""
    return Slice.of(values.astype(np.int16), is_hu=False)


def from_window(levels: np.ndarray, center: float, width: float) -> Slice:
    """(rows, columns) uint8 or uint16 -> HU: black is the window's lower end, white its upper one, and what
    lay beyond either is lost. Rounded half to even.
    """
    step = width / np.iinfo(levels.dtype).max
    return Slice.of(_saturate(np.rint(levels * np.float64(step) + (center - width / 2))))


def _is_wrapped(stored: np.ndarray) -> bool:
    """Whether so much of the image lies where the wrap puts air that it cannot be anything else."""
    low, high = WRAPPED_AIR
    return np.count_nonzero((stored >= low) & (stored < high)) >= WRAPPED_SHARE * stored.size


def _with_signed_padding(stored: np.ndarray, padding: int) -> np.ndarray:
    """Unsigned values whose padding was written as a negative number: -2000 is stored as 63536.

    It is taken for padding where it is the only value that int16 does not hold.
    """
    place = stored == padding
    if (stored[~place] > HIGHEST).any():
        return stored
    return np.where(place, padding - 65536, stored.astype(np.int32))


def _unwrap(stored: np.ndarray, slope: float) -> np.ndarray:
    """Undo the 12-bit wrap: values below -1000 HU had come out at the top of the range (123 RSNA images).

    x = stored + 1000, less 4096 where that is reached; HU = x * slope - 1000. The file's intercept (0 or 1)
    is an effect of the fault and is discarded.
    """
    values = stored.astype(np.int16)
    values[values >= 4096 - 1000] -= 4096
    return values if slope == 1 else _saturate(np.rint((values + 1000.0) * slope - 1000))


def _without_unused_bits(stored: np.ndarray, bits: int) -> np.ndarray:
    unused = 8 * stored.itemsize - bits
    return (stored << unused) >> unused


def _saturate(values: np.ndarray) -> np.ndarray:
    return np.clip(values, LOWEST, HIGHEST).astype(np.int16)
