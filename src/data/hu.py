"""Stored values to Hounsfield units, exactly: the modality rescale and the known faults of the RSNA files."""

from dataclasses import dataclass

import cv2
import numpy as np

LOWEST, HIGHEST = -32768, 32767  # what int16 holds
# Files of some scanners fill the corners outside the scan circle with -2000, that is -3024 HU.
PADDED_BELOW = -2500


@dataclass(frozen=True)
class Slice:
    """One decoded image. `values` (rows, columns) int16: HU, or 8-bit gray where the source has no HU."""

    values: np.ndarray
    minimum: int
    maximum: int
    mean: float
    wrap_fixed: bool = False
    is_hu: bool = True


def to_hu(stored: np.ndarray, slope: float, intercept: float, bits_stored: int, signed: bool) -> Slice:
    """stored (rows, columns) integers as in the file -> HU, int16, saturated at the ends of int16.

    Integer arithmetic where slope is 1 and the intercept whole; else float64, rounded half to even. Bits
    above `bits_stored` are discarded, with sign extension for signed data, as pydicom does.
    """
    low, high = _range(stored)
    least, most = (
        (-(1 << bits_stored - 1), (1 << bits_stored - 1) - 1) if signed else (0, (1 << bits_stored) - 1)
    )
    if low < least or high > most:
        stored = _without_unused_bits(stored, bits_stored)
        low, high = _range(stored)
    if bits_stored == 12 and not signed and intercept > -100:
        return _describe(_unwrap(stored, slope), wrap_fixed=True)
    if slope != 1 or intercept != int(intercept):
        return _describe(_saturate(np.rint(stored * np.float64(slope) + intercept)))
    offset = int(intercept)
    if min(low, offset, low + offset) < LOWEST or max(high, offset, high + offset) > HIGHEST:
        return _describe(_saturate(stored.astype(np.int32) + offset))
    return _describe(np.add(stored, np.int16(offset), dtype=np.int16, casting="unsafe"))


def gray(values: np.ndarray) -> Slice:
    """An image that is already windowed, (rows, columns) uint8. Kept as 0-255 and never called HU."""
    return _describe(values.astype(np.int16), is_hu=False)


def _unwrap(stored: np.ndarray, slope: float) -> np.ndarray:
    """Undo the 12-bit wrap: values below -1000 HU had come out at the top of the range (123 RSNA images).

    The file's intercept (0 or 1) is an effect of the fault and is discarded.
    """
    shifted = stored.astype(np.int32) + 1000
    shifted[shifted >= 4096] -= 4096
    return _saturate(np.rint(shifted * np.float64(slope) - 1000))


def _without_unused_bits(stored: np.ndarray, bits: int) -> np.ndarray:
    unused = 8 * stored.itemsize - bits
    return (stored << unused) >> unused


def _saturate(values: np.ndarray) -> np.ndarray:
    return np.clip(values, LOWEST, HIGHEST).astype(np.int16)


def _range(values: np.ndarray) -> tuple[int, int]:
    return int(values.min()), int(values.max())


def _describe(values: np.ndarray, wrap_fixed: bool = False, is_hu: bool = True) -> Slice:
    low, high = _range(values)
    # cv2.mean sums in double and is ten times as fast as numpy on int16
    return Slice(values, low, high, cv2.mean(values)[0], wrap_fixed, is_hu)
