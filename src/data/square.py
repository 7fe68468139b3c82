"""The square of the original image that a stored slice shows: padding, cropping, moving and resizing in one.

`Square(top, left, side)` is in pixels of the original image; it may reach beyond the image, where air is
filled in. Pixel (i, j) of a stored slice of `size` pixels has its centre at row `top + (i + 0.5) * side /
size - 0.5` of the original and likewise for columns; `to_original` and `to_stored` are that map and its
inverse.
"""

from typing import NamedTuple

import cv2
import numpy as np

AIR = -1024
# Resampling clips first, or padding of -3024 HU bleeds into the edge of the skin. What is not resampled is
# not clipped.
CLIP = (AIR, 3071)
# From this shrinkage on, averaging areas; below, linear interpolation aliases little and is several times
# faster.
AREA_FROM = 1.5


class Square(NamedTuple):
    top: float
    left: float
    side: float

    def to_original(self, row: float, column: float, size: int) -> tuple[float, float]:
        """Stored pixel coordinates -> coordinates in the original image."""
        scale = self.side / size
        return self.top + (row + 0.5) * scale - 0.5, self.left + (column + 0.5) * scale - 0.5

    def to_stored(self, row: float, column: float, size: int) -> tuple[float, float]:
        """Coordinates in the original image -> stored pixel coordinates."""
        scale = size / self.side
        return (row - self.top + 0.5) * scale - 0.5, (column - self.left + 0.5) * scale - 0.5

    def moved(self, down: float, along: float) -> "Square":
        return Square(self.top + down, self.left + along, self.side)


def whole(rows: int, columns: int) -> Square:
    """The smallest square that holds the whole image, centred on it."""
    side = max(rows, columns)
    return Square((rows - side) // 2, (columns - side) // 2, side)


def extract(
    values: np.ndarray, square: Square, size: int, fill: int = AIR, limits: tuple[int, int] | None = None
) -> np.ndarray:
    """(rows, columns) int16 -> (size, size) int16, C-contiguous; exact where nothing needs interpolation.

    limits: the smallest and largest value, where they are known.
    """
    top, left, side = (round(part) for part in square)
    whole_pixels = (top, left, side) == tuple(square)
    if whole_pixels and side == size:
        return np.ascontiguousarray(_cut(values, top, left, side, fill))
    clipped = values if fill != AIR else _clip(values, limits or (values.min(), values.max()))
    if whole_pixels:
        return _resize(_cut(clipped, top, left, side, fill), size)
    # A move by part of a pixel: sample the square at its own scale, then resize it.
    matrix = np.array([[1, 0, square.left], [0, 1, square.top]], dtype=np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    border = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": fill}
    return _resize(cv2.warpAffine(clipped, matrix, (side, side), flags=flags, **border), size)


def lay_back(values: np.ndarray, square: Square, shape: tuple[int, int]) -> np.ndarray:
    """(..., k, k) that cover a square -> (..., rows, columns) of the image it was cut from, linearly; 0
    outside the square.
    """
    down = _interpolation(values.shape[-2], square.top, square.side, shape[0])
    along = _interpolation(values.shape[-1], square.left, square.side, shape[1])
    return down @ values @ along.T


def _interpolation(size: int, start: float, side: float, count: int) -> np.ndarray:
    """(count, size) float32: what each of `count` pixels takes from the `size` over a part of their axis."""
    place = (np.arange(count) - start + 0.5) * size / side
    inside = (place >= 0) & (place <= size)
    distance = np.abs((place - 0.5).clip(0, size - 1)[:, None] - np.arange(size))
    return (np.maximum(0, 1 - distance) * inside[:, None]).astype(np.float32)


def _clip(values: np.ndarray, limits: tuple[int, int]) -> np.ndarray:
    within = CLIP[0] <= limits[0] and limits[1] <= CLIP[1]
    return values if within else np.clip(values, *CLIP)


def _cut(values: np.ndarray, top: int, left: int, side: int, fill: int) -> np.ndarray:
    rows, columns = values.shape
    if (top, left) == (0, 0) and (rows, columns) == (side, side):
        return values
    out = np.full((side, side), fill, dtype=values.dtype)
    row, column = max(top, 0), max(left, 0)
    piece = values[row : max(top + side, 0), column : max(left + side, 0)]
    out[row - top : row - top + piece.shape[0], column - left : column - left + piece.shape[1]] = piece
    return out


def _resize(values: np.ndarray, size: int) -> np.ndarray:
    if len(values) == size:
        return values
    method = cv2.INTER_AREA if len(values) / size >= AREA_FROM else cv2.INTER_LINEAR
    return cv2.resize(values, (size, size), interpolation=method)
