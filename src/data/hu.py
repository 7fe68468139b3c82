"""Stored values to Hounsfield units, exactly: the modality rescale and the known faults of the RSNA files."""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

LOWEST, HIGHEST = -32768, 32767  # what int16 holds
# Files of some scanners fill the corners outside the scan circle with -2000, that is -3024 HU.
PADDED_BELOW = -2500
# Such a file with unsigned values holds 65536 more: as HU no value of these is possible, nor of air's -1000.
UNSIGNED_PADDING = (65536 - 2048, 65536 - 1000)
# The 12-bit wrap turns air (-1000 HU) into 3096. No head has this share of its pixels between there and 3396.
WRAPPED_AIR, WRAPPED_SHARE = (3096, 3396), 0.05


@dataclass(frozen=True)
class Slice:
    """One decoded image. `values` (rows, columns) int16: HU, or 8-bit gray where the source has no HU."""

    values: np.ndarray
    wrap_fixed: bool = False
    is_hu: bool = True

    @cached_property
    def range(self) -> tuple[int, int]:
        """Smallest and largest value."""
        low, high, _, _ = cv2.minMaxLoc(self.values)
        return int(low), int(high)

    @property
    def mean(self) -> float:
        return cv2.mean(self.values)[0]  # sums in double, ten times as fast as numpy on int16


def to_hu(stored: np.ndarray, slope: float, intercept: float, bits_stored: int, signed: bool) -> Slice:
    """stored (rows, columns) integers as in the file -> HU, int16, saturated at the ends of int16.

    Integer arithmetic where slope is 1 and the intercept whole; else float64, rounded half to even. Bits
    above `bits_stored` are discarded, with sign extension for signed data, as pydicom does.
    """
    if bits_stored < 8 * stored.itemsize:
        least, most = _bounds(bits_stored, signed)
        if stored.max() > most or (signed and stored.min() < least):
            stored = _without_unused_bits(stored, bits_stored)
    if bits_stored == 12 and not signed and intercept > -100 and _is_wrapped(stored):
        return Slice(_unwrap(stored, slope), wrap_fixed=True)
    if bits_stored == 16 and not signed:
        stored = _with_signed_padding(stored)
    if slope != 1 or intercept != int(intercept):
        return Slice(_saturate(np.rint(stored * np.float64(slope) + intercept)))
    offset = int(intercept)
    if _fits(stored, offset, bits_stored, signed):
        # a sum that fits int16 is right whatever the carry was, so uint16 may be read as int16
        same_bytes = stored.dtype.str.replace("u", "i")
        values = stored.view(same_bytes) if stored.itemsize == 2 else stored.astype(np.int16)
        return Slice(values + np.int16(offset))
    return Slice(_saturate(stored.astype(np.int64) + offset))


def _fits(stored: np.ndarray, offset: int, bits_stored: int, signed: bool) -> bool:
    """Whether neither `stored` nor `stored + offset` leaves int16; looks at the pixels only where it must."""
    if not LOWEST <= offset <= HIGHEST or stored.itemsize > 2:
        return False
    low, high = _bounds(bits_stored, signed)
    if low + offset < LOWEST:
        low = int(stored.min())
    if max(high, high + offset) > HIGHEST:
        high = int(stored.max())
    return low + offset >= LOWEST and max(high, high + offset) <= HIGHEST


def _bounds(bits: int, signed: bool) -> tuple[int, int]:
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def gray(values: np.ndarray) -> Slice:
    """An image that is already windowed, (rows, columns) uint8. Kept as 0-255 and never called HU."""
    return Slice(values.astype(np.int16), is_hu=False)


def from_window(levels: np.ndarray, center: float, width: float) -> Slice:
    """(rows, columns) uint8 or uint16 -> HU: black is the window's lower end, white its upper one, and what
    lay beyond either is lost. Rounded half to even.
    """
    step = width / np.iinfo(levels.dtype).max
    return Slice(_saturate(np.rint(levels * np.float64(step) + (center - width / 2))))


def _is_wrapped(stored: np.ndarray) -> bool:
    """Whether so much of the image lies where the wrap puts air that it cannot be anything else."""
    low, high = WRAPPED_AIR
    return np.count_nonzero((stored >= low) & (stored < high)) >= WRAPPED_SHARE * stored.size


def _with_signed_padding(stored: np.ndarray) -> np.ndarray:
    """Unsigned values whose padding was written as a negative number: -2000 is stored as 63536.

    It is taken for padding where it is the only value that int16 does not hold.
    """
    padding = int(stored.max())
    if not UNSIGNED_PADDING[0] <= padding <= UNSIGNED_PADDING[1]:
        return stored
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
