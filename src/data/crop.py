"""Finding the head in a slice: to cut to it, and to take away the head holder.

The mask follows one rule at a quarter of the usual 512 x 512 matrix: soft tissue and bone (above -200 HU; in
pictures, which do not reach below, 25 above their black), opened by 3 x 3 to cut thin bridges to the holder,
the largest 4-connected piece, dilated by 5 x 5 to keep the skin. A slice without such a piece is kept whole.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from .square import AIR, Square, whole

GRID = 128
TISSUE_HU = -200
ABOVE_BLACK = 25  # gray levels, or HU where a picture's window is known
LEAST_SHARE = 0.02  # of the image; anything smaller is not taken for a head
MARGIN = 0.04  # of the head's size, on every side
_BRIDGE, _SKIN = np.ones((3, 3), np.uint8), np.ones((5, 5), np.uint8)


def head_mask(values: np.ndarray) -> tuple[np.ndarray | None, int]:
    """(rows, columns) int16 -> mask uint8 0 or 1 on each step-th row and column, or None; and the step."""
    step = max(1, round(max(values.shape) / GRID))
    rows = np.ascontiguousarray(values[::step])  # first: quicker than both axes at once
    small = np.ascontiguousarray(rows[:, ::step])
    black = int(small.min())
    tissue = (small > (black + ABOVE_BLACK if black > TISSUE_HU else TISSUE_HU)).view(np.uint8)
    opened = cv2.morphologyEx(tissue, cv2.MORPH_OPEN, _BRIDGE)
    # connectedComponentsWithStats spends four times as long on statistics that nobody reads
    count, labels = cv2.connectedComponents(opened, connectivity=4, ltype=cv2.CV_16U)
    if count < 2:
        return None, step
    largest = 1 if count == 2 else int(np.bincount(labels[labels > 0]).argmax())
    return cv2.dilate((labels == largest).view(np.uint8), _SKIN), step


def remove_holder(values: np.ndarray) -> np.ndarray:
    """The slice with air outside the head's mask and what it encloses; HU inside are untouched."""
    mask, step = head_mask(values)
    if mask is None:
        return values
    # a third of the time of resizing by the nearest neighbour
    wide = cv2.merge([_without_holes(mask)] * step).reshape(len(mask), -1)
    full = np.repeat(wide, step, axis=0)[: values.shape[0], : values.shape[1]]
    return cv2.copyTo(values, full, np.full_like(values, AIR))


def _without_holes(mask: np.ndarray) -> np.ndarray:
    """The same with 1 wherever no way leads to the border: bones of the nose in its air, for one."""
    around = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.floodFill(around, None, (0, 0), 2)
    return (around[1:-1, 1:-1] != 2).view(np.uint8)


def head_square(images: Sequence[np.ndarray], moves: Sequence[tuple[float, float]]) -> Square:
    """The square around the head in all slices of a study, in whole pixels of the unmoved slice.

    images: (rows, columns) int16 of one shape, HU or gray levels; moves: how far each slice lies down and
    along (0, 0 without tilt correction). Slices beyond the head, where at most a bit of the holder shows,
    have no say.
    """
    found = [_box(image, move) for image, move in zip(images, moves, strict=True)]
    boxes = np.array([box for box in found if box is not None])
    if len(boxes) == 0:
        return whole(*images[0].shape)
    top, left, bottom, right = *boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)
    side = int(np.ceil(max(bottom - top, right - left) * (1 + 2 * MARGIN)))
    if side >= max(images[0].shape):
        return whole(*images[0].shape)
    return Square(int(np.floor((top + bottom - side) / 2)), int(np.floor((left + right - side) / 2)), side)


def _box(image: np.ndarray, move: tuple[float, float]) -> tuple[float, float, float, float] | None:
    mask, step = head_mask(image)
    if mask is None or mask.mean() < LEAST_SHARE:
        return None
    left, top, width, height = cv2.boundingRect(mask)
    rows, columns = image.shape
    bottom, right = min((top + height) * step, rows), min((left + width) * step, columns)
    return top * step - move[0], left * step - move[1], bottom - move[0], right - move[1]
