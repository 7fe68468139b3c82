"""What anatomy is drawn with: planes through a slice, smooth random fields, signed distances to shapes.

All planes of a slice are painted at once, as arrays (planes, rows, columns): most shapes cover a few hundred
pixels, where calling a function costs more than its arithmetic. Positions are stacks (3, planes, rows,
columns) of head coordinates in mm, see head.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import EllipsisType
from typing import ClassVar

import cv2
import numpy as np

Point = Sequence[float] | np.ndarray  # of three
Box = tuple[EllipsisType, slice, slice]  # rows and columns of any field of a slab


@dataclass(frozen=True)
class Slab:
    """Parallel planes through a slice; origins and unit axes in head coordinates, lengths in mm."""

    origin: np.ndarray  # (3,) first pixel of the lowest plane
    right: np.ndarray  # (3,) along a row
    down: np.ndarray  # (3,) along a column
    normal: np.ndarray  # (3,) from plane to plane
    pixel: float
    shape: tuple[int, int, int]  # planes, rows, columns
    z_step: float  # between planes
    room: float  # that boxes leave around a shape, for the head's warp and for mass effect

    @cached_property
    def z(self) -> np.ndarray:
        """Height of every plane's middle, (planes, 1, 1) float32."""
        planes, rows, columns = self.shape
        middle = self.origin[2] + (self.right[2] * columns + self.down[2] * rows) * self.pixel / 2
        return np.float32(middle + self.normal[2] * self.z_step * np.arange(planes))[:, None, None]

    @cached_property
    def middle(self) -> float:
        """Mean z of the slab."""
        return float(self.z.mean())

    def coordinates(self) -> np.ndarray:
        """x, y, z of every pixel, (3, planes, rows, columns) float32."""
        axes = zip(self.shape, (self.normal, self.down, self.right), strict=True)
        steps = (self.z_step, self.pixel, self.pixel)
        height, along, across = (
            np.multiply.outer(axis * step, np.arange(count)).astype(np.float32)
            for (count, axis), step in zip(axes, steps, strict=True)
        )
        start = self.origin.astype(np.float32)[:, None] + height
        return (start[:, :, None] + along[:, None, :])[..., None] + across[:, None, None, :]

    def box(self, center: Point, radii: Point | float, spare: float = 0.0) -> Box | None:
        """The pixels within `spare` mm (and `room`) of an ellipsoid or ball; None when the slab misses it."""
        a, b, c = (radii,) * 3 if isinstance(radii, float | int) else radii
        px, py, pz = center
        spare += self.room
        window = []
        for x, y, z, start, end, count in self._axes:
            at = px * x + py * y + pz * z - start
            half = math.sqrt((a * x) ** 2 + (b * y) ** 2 + (c * z) ** 2) + spare
            if at + half < 0.0 or at - half > end:
                return None
            window.append(self._pixels(at - half, at + half, count))
        return ..., *window[1:]

    def tube_box(self, start: Point, stop: Point, radius: float) -> Box | None:
        """The pixels within `radius` mm (and `room`) of a line between two points; None when it is missed."""
        (px, py, pz), (qx, qy, qz) = start, stop
        half = radius + self.room
        window = []
        for x, y, z, begin, end, count in self._axes:
            low, high = px * x + py * y + pz * z - begin, qx * x + qy * y + qz * z - begin
            if low > high:
                low, high = high, low
            if high + half < 0.0 or low - half > end:
                return None
            window.append(self._pixels(low - half, high + half, count))
        return ..., *window[1:]

    def _pixels(self, low: float, high: float, count: int) -> slice:
        return slice(max(0, int(low / self.pixel)), min(count, int(high / self.pixel) + 1))

    @cached_property
    def _axes(self) -> list[tuple[float, ...]]:
        """Normal, column, row: direction, position of the origin along it, length of the slab (mm), samples.

        The normal comes first, for most shapes lie above or below. Python floats, for three numbers an order
        of magnitude faster than arrays.
        """
        planes, rows, columns = self.shape
        ends = (planes - 1) * self.z_step, (rows - 1) * self.pixel, (columns - 1) * self.pixel
        axes = zip((self.normal, self.down, self.right), ends, self.shape, strict=True)
        return [(*axis.tolist(), float(self.origin @ axis), end, count) for axis, end, count in axes]

    def crop(self, box: Box) -> "Slab":
        """A part of the slab."""
        _, rows, columns = box
        origin = self.origin + (self.down * rows.start + self.right * columns.start) * self.pixel
        shape = (self.shape[0], rows.stop - rows.start, columns.stop - columns.start)
        return replace(self, origin=origin, shape=shape)

    def strip(self, reach: float) -> Box:
        """The pixels within `reach` mm (and `room`) of the midplane x = 0."""
        _, rows, columns = self.shape
        x = self.origin[0] + self.down[0] * self.pixel * np.array([0, rows])  # of column 0, at both ends
        at = -x / (self.right[0] * self.pixel)
        margin = (reach + self.room) / self.pixel
        first, stop = max(0, int(at.min() - margin)), min(columns, int(at.max() + margin) + 1)
        return ..., slice(0, rows), slice(first, max(1, stop))


@dataclass(frozen=True)
class Lattice:
    """Smooth random field: noise nodes every `spacing` mm, cubic in the plane and linear between planes."""

    nodes: np.ndarray  # (z, y, x)
    spacing: float

    FINE: ClassVar[int] = 4  # nodes are refined by cubic interpolation, then sampled linearly: cheaper

    @cached_property
    def _fine(self) -> np.ndarray:
        size = self.nodes.shape[2] * self.FINE, self.nodes.shape[1] * self.FINE
        return np.stack([cv2.resize(layer, size, interpolation=cv2.INTER_CUBIC) for layer in self.nodes])

    def sample(self, x: np.ndarray, y: np.ndarray, z: np.ndarray, scale: float = 1.0) -> np.ndarray:
        """The field at `scale` times a position: x, y (planes, rows, columns) and z (planes, 1, 1) in mm."""
        depth, rows, columns = self._fine.shape
        heights = (z.ravel() * (scale / self.spacing) + depth / 2).clip(0, depth - 1.001)
        factor = scale * self.FINE / self.spacing
        across, along = x * factor, y * factor
        across += columns / 2
        along += rows / 2
        field = np.empty(x.shape, np.float32)
        for plane, height, *maps in zip(field, heights.tolist(), across, along, strict=True):
            lower, share = int(height), height % 1.0
            keep = 1.0 / math.hypot(1.0 - share, share)  # the variance is the same between the nodes
            layers = self._fine[lower : lower + 2]
            layer = cv2.addWeighted(layers[0], (1.0 - share) * keep, layers[1], share * keep, 0.0)
            cv2.remap(layer, *maps, cv2.INTER_LINEAR, dst=plane, borderMode=cv2.BORDER_REFLECT_101)
        return field

    def texture(self, x: np.ndarray, y: np.ndarray, z: np.ndarray, scale: float = 1.0) -> np.ndarray:
        """`sample` at every fourth pixel of the middle plane, for a field smoother than that.

        -> (1, rows, columns), for all planes
        """
        middle, (_, rows, columns) = len(x) // 2, x.shape
        size = max(1, columns // 4), max(1, rows // 4)
        small = (cv2.resize(at[middle], size)[None] for at in (x, y))
        return cv2.resize(self.sample(*small, z[middle], scale)[0], (columns, rows))[None]


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """White noise of unit variance on a coarse lattice; interpolation between its nodes makes it smooth."""
    return rng.standard_normal(shape, dtype=np.float32)


def coverage(distance: np.ndarray, width: np.ndarray | float) -> np.ndarray:
    """Share of a pixel inside a shape: signed distance (negative inside) and width of the edge in mm."""
    share = distance / -width
    share += 0.5
    return share.clip(0.0, 1.0, out=share)


def radius(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Length of (x, y): np.hypot guards against overflow at ten times the time."""
    return np.sqrt(x * x + y * y)


def total(stack: np.ndarray) -> np.ndarray:
    """Sum of the three arrays of a stack: np.sum takes longer over an axis of three."""
    summed = stack[0] + stack[1]
    summed += stack[2]
    return summed


def column(vector: Point) -> np.ndarray:
    """A vector of head coordinates against stacks, (3, 1, 1, 1) float32."""
    return np.asarray(vector, np.float32)[:, None, None, None]


def bounds(field: np.ndarray, threshold: float) -> Box | None:
    """The smallest box around the pixels of (planes, rows, columns) above a threshold; None without any."""
    within = field.max(axis=0) > threshold
    rows, columns = np.flatnonzero(within.any(axis=1)), np.flatnonzero(within.any(axis=0))
    if len(rows) == 0:
        return None
    return ..., slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def level(xyz: np.ndarray, center: Point, radii: Point) -> np.ndarray:
    """Distance from an ellipsoid's center in units of its radii: 1 on its surface.  (3, ...) -> (...)"""
    part = (xyz - column(center)) / column(radii)
    part *= part
    return np.sqrt(total(part))


def ellipsoid(xyz: np.ndarray, center: Point, radii: Point) -> np.ndarray:
    """Approximate signed distance to an ellipsoid, mm.  (3, ...) -> (...)"""
    return from_center(xyz - column(center), radii)


def from_center(part: np.ndarray, radii: Point) -> np.ndarray:
    """`ellipsoid` for positions relative to its center, which are overwritten."""
    scale = column(radii) ** -2
    part *= part
    part *= scale
    ratio = total(part)
    np.sqrt(ratio, out=ratio)
    part *= scale
    slope = total(part)
    np.sqrt(slope, out=slope)
    slope += 1e-6
    distance = ratio - 1.0
    distance *= ratio
    distance /= slope
    return distance


def capsule(xyz: np.ndarray, start: Point, stop: Point, radius: float, radius_stop: float) -> np.ndarray:
    """Signed distance to a straight tube whose radius changes from end to end, mm.  (3, ...) -> (...)"""
    axis = column(stop) - column(start)
    away = xyz - column(start)
    along = total(away * (axis / np.square(axis).sum()))
    along = np.clip(along, 0.0, 1.0)
    away -= axis * along
    away *= away
    distance = total(away)
    np.sqrt(distance, out=distance)
    along *= radius_stop - radius
    along += radius
    distance -= along
    return distance
