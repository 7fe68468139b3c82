"""CT slices as text that a browser unpacks with what it has built in: the volume within a page.

A slice is base64 of a zlib stream, which holds the low bytes of all pixels, then the high bytes. A pixel is
the difference between a level's number and its prediction (the median of left, above, and left + above -
above left, as in JPEG-LS; 0 beyond the border), with the sign in the lowest bit. Real slices of 512 pixels
take about 160 kB. study_volume.js is the other side.
"""

import base64
import zlib
from dataclasses import dataclass

import numpy as np

LOWEST, HIGHEST = -1024, 3071  # what 12 bits of a scanner hold
SOFT = (-160, 240)  # HU that every named window but bone spans
# HU between levels within SOFT and beyond it: the first pair with which the slices are small enough. 8 HU are
# less than a gray level of the bone window.
STEPS = ((1, 1), (1, 8), (2, 16), (4, 32))
SLICE_BYTES, FEWEST = 190_000, 60  # text of a slice, of a study of FEWEST slices or more


@dataclass(frozen=True)
class PackedSlices:
    """Text of every slice, and the HU that the numbers in them stand for."""

    texts: list[str]
    levels: np.ndarray  # (levels,) rising
    steps: tuple[int, int]  # HU between levels within SOFT and beyond it


def pack_slices(hu: np.ndarray) -> PackedSlices:
    """(n, h, w) int16 HU, clipped to LOWEST..HIGHEST; exact unless noise makes the text too large."""
    most = SLICE_BYTES * max(len(hu), FEWEST)
    for steps in STEPS:
        packed = _pack(hu, steps)
        if sum(map(len, packed.texts)) <= most:
            break
    return packed


def _pack(hu: np.ndarray, steps: tuple[int, int]) -> PackedSlices:
    levels = _levels(*steps)
    number = _nearest(levels)
    texts = [_text(number[np.clip(slice_, LOWEST, HIGHEST) - LOWEST]) for slice_ in hu]
    return PackedSlices(texts, levels, steps)


def _levels(fine: int, coarse: int) -> np.ndarray:
    low, high = SOFT
    below, above = np.arange(low - coarse, LOWEST, -coarse)[::-1], np.arange(high, HIGHEST, coarse)
    return np.unique(np.r_[LOWEST, below, np.arange(low, high, fine), above, HIGHEST])


def _nearest(levels: np.ndarray) -> np.ndarray:
    """HU - LOWEST -> number of the nearest level."""
    halfway = (levels[:-1] + levels[1:]) / 2
    return np.searchsorted(halfway, np.arange(LOWEST, HIGHEST + 1))


def _text(numbers: np.ndarray) -> str:
    differences = numbers - _predicted(numbers)
    unsigned = np.where(differences < 0, -2 * differences - 1, 2 * differences).astype("<u2")
    low_and_high = unsigned.reshape(-1, 1).view(np.uint8).T
    packer = zlib.compressobj(strategy=zlib.Z_FILTERED)
    return base64.b64encode(packer.compress(low_and_high.tobytes()) + packer.flush()).decode()


def _predicted(numbers: np.ndarray) -> np.ndarray:
    """(h, w) -> what the pixels before one make likely."""
    padded = np.pad(numbers, ((1, 0), (1, 0)))
    left, above, corner = padded[1:, :-1], padded[:-1, 1:], padded[:-1, :-1]
    return np.clip(left + above - corner, np.minimum(left, above), np.maximum(left, above))


def said_of(packed: PackedSlices) -> str:
    """How near the packed values are, in words."""
    fine, coarse = packed.steps
    if coarse == 1:
        return f"every HU from {LOWEST} to {HIGHEST} is exact"
    within = "exact" if fine == 1 else f"rounded to {fine} HU"
    return f"from {SOFT[0]} to {SOFT[1]} HU {within}, beyond rounded to {coarse} HU"
