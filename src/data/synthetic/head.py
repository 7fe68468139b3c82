"""A synthetic head: anatomy as continuous functions of position, painted into slices in Hounsfield units.

Head coordinates are millimetres: x to the patient's left, y to the back, z to the vertex; the origin lies in
the third ventricle. A `Plane` is one infinitely thin sample of a slice; averaging several over the slice
thickness gives the partial volume of a 5 mm slice. Edges are drawn by coverage (a signed distance over the
pixel's width), so a coarse grid shows no steps. `depth` grows inwards from the inner table of the skull.

Shapes and sizes are ordinary adult anatomy; HU: CSF 0-10, white matter 22-32, grey matter 30-40, muscle
50-65, fat -110 to -80, cortical bone 1000-1900, diploe 300-900 (Kamalian, Lev & Gupta, Handb Clin Neurol
2016;135:3-20). Ventricles, sulci and white matter change with age (Barron, Jacobs & Kinkel, Neurology
1976;26:1011-1013).
"""

from dataclasses import dataclass, field, replace
from functools import cached_property

import cv2
import numpy as np

AIR, FAT, CSF, WHITE, MUSCLE, CORTICAL_BONE, DIPLOE = -1000.0, -95.0, 6.0, 26.5, 54.0, 1780.0, 400.0


def coverage(distance: np.ndarray, width: np.ndarray | float) -> np.ndarray:
    """Share of a pixel inside a shape: signed distance (negative inside) and width of the edge in mm."""
    return np.clip(0.5 - distance / width, 0.0, 1.0)


def radius(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Length of (x, y): np.hypot guards against overflow at ten times the time."""
    return np.sqrt(x * x + y * y)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """White noise of unit variance on a coarse lattice; interpolation between its nodes makes it smooth."""
    return rng.standard_normal(shape, dtype=np.float32)


@dataclass(frozen=True)
class Plane:
    """A thin sampling plane; origin and unit axes in head coordinates, lengths in mm."""

    origin: np.ndarray
    right: np.ndarray
    down: np.ndarray
    pixel: float
    shape: tuple[int, int]  # rows, columns
    z_step: float  # distance to the next sample along the normal, for edges that lie in the plane

    @cached_property
    def normal(self) -> np.ndarray:
        return np.cross(self.right, self.down)

    @cached_property
    def z(self) -> float:
        """Mean z of the plane."""
        rows, columns = self.shape
        middle = self.origin + self.right * self.pixel * columns / 2 + self.down * self.pixel * rows / 2
        return float(middle[2])

    def coordinates(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y, z of every pixel, each (rows, columns) float32."""
        rows, columns = self.shape
        across = np.arange(columns, dtype=np.float32)[None, :] * self.pixel
        along = np.arange(rows, dtype=np.float32)[:, None] * self.pixel
        return tuple(
            (
                np.float32(self.origin[k])
                + np.float32(self.right[k]) * across
                + np.float32(self.down[k]) * along
            )
            for k in range(3)
        )

    def box(
        self, center: tuple[float, float, float] | np.ndarray, reach: float
    ) -> tuple[slice, slice] | None:
        """The pixels within `reach` mm of a point, with room for the warp; None when the plane misses it."""
        reach = reach + 5.0
        if abs(self._along(center, 0)) > reach:
            return None
        column, row, half = (
            value / self.pixel for value in (self._along(center, 1), self._along(center, 2), reach)
        )
        rows = slice(max(0, int(row - half)), min(self.shape[0], int(row + half) + 1))
        columns = slice(max(0, int(column - half)), min(self.shape[1], int(column + half) + 1))
        return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None

    def misses(self, points: list[tuple[float, float, float]], reach: float) -> bool:
        """True when all points lie further than `reach` mm (and the warp) on one side of the plane."""
        heights = [self._along(point, 0) for point in points]
        return min(heights) > reach + 5.0 or max(heights) < -reach - 5.0

    def _along(self, point, axis: int) -> float:
        """Distance of a point from the origin along the normal (0), the rows (1) or the columns (2), mm."""
        ox, oy, oz, axes = self._frame
        ax, ay, az = axes[axis]
        return (float(point[0]) - ox) * ax + (float(point[1]) - oy) * ay + (float(point[2]) - oz) * az

    @cached_property
    def _frame(self) -> tuple[float, float, float, list[list[float]]]:
        """Origin and axes as Python floats: an order of magnitude faster than arrays of three."""
        return *self.origin.tolist(), [axis.tolist() for axis in (self.normal, self.right, self.down)]

    def crop(self, rows: slice, columns: slice) -> "Plane":
        """A part of the plane."""
        origin = self.origin + (self.down * rows.start + self.right * columns.start) * self.pixel
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        return replace(self, origin=origin, shape=shape)

    def strip(self, reach: float) -> tuple[slice, slice]:
        """The pixels within `reach` mm (plus room for the head's warp) of the midplane x = 0."""
        rows, columns = self.shape
        x = (
            self.origin[0] + self.down[0] * self.pixel * np.array([0, rows]) + 0.0
        )  # of column 0, at both ends
        at = -x / (self.right[0] * self.pixel)
        margin = (reach + 5.0) / self.pixel
        return slice(0, rows), slice(
            max(0, int(at.min() - margin)), max(1, min(columns, int(at.max() + margin) + 1))
        )


@dataclass(frozen=True)
class Lattice:
    """Smooth random field: noise nodes every `spacing` mm, cubic in the plane and linear between planes."""

    FINE = (
        4  # the layer is refined by cubic interpolation, then sampled linearly: cheaper than cubic sampling
    )

    nodes: np.ndarray  # (z, y, x)
    spacing: float

    def sample(self, x: np.ndarray, y: np.ndarray, z: float) -> np.ndarray:
        depth, rows, columns = self.nodes.shape
        position = np.clip(z / self.spacing + depth / 2, 0, depth - 1.001)
        lower, share = int(position), float(position % 1.0)
        layer = self.nodes[lower] * (1 - share) + self.nodes[lower + 1] * share
        layer = layer / np.float32(np.hypot(1 - share, share))  # keep the variance between the nodes
        size = (columns * self.FINE, rows * self.FINE)
        layer = cv2.resize(layer, size, interpolation=cv2.INTER_CUBIC)
        scale = np.float32(self.FINE / self.spacing)
        return cv2.remap(
            layer,
            x * scale + np.float32(size[0] / 2),
            y * scale + np.float32(size[1] / 2),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )


@dataclass(frozen=True)
class Head:
    """One patient's anatomy. Lengths in mm; every study of the patient shares it."""

    half_width: float
    half_length: float
    height: float
    egg: float  # how much narrower the front is
    skull: float  # thickness
    scalp: float
    sulcus: float  # half-width of a sulcus at the surface: atrophy
    rim: float  # CSF between skull and cortex
    ventricle: float  # scale of the ventricles' radii
    ventricle_asymmetry: float
    grey: float  # grey minus white matter, HU
    brain_offset: float  # HU, calibration of the scanner and the patient's haematocrit
    cupping: float  # HU that beam hardening adds to the brain at the skull
    falx: float  # half its thickness
    falx_hu: float
    sinus_hu: float
    sinus: float  # radius of the great venous sinuses
    warp: np.ndarray  # (3, 5) amplitude and phases of the smooth deformation
    floor: np.ndarray  # height of the skull base, see skull_base
    leukoaraiosis: float  # HU that the white matter at the ventricles has lost
    muscle: float  # HU of muscle from the usual
    face: np.ndarray  # (16,) deviates of the face's parts
    swelling: np.ndarray  # (5,) of the scalp: site, thickness, reach in mm; thickness 0 without
    sulci: Lattice = field(repr=False)
    lumps: Lattice = field(repr=False)

    def inner_surface(self, direction: np.ndarray) -> np.ndarray:
        """The point of the vault's inner table in a direction from the origin.  (3,) -> (3,) mm"""
        direction = np.asarray(direction, np.float64)
        radii = np.array([self.half_width, self.half_length, self.height])
        scale = 1.0
        for _ in range(8):  # the egg shape makes the width depend on y: a fixed point
            point = direction * scale
            width = 1.0 + self.egg * point[1] / self.half_length
            scale = 1.0 / np.linalg.norm(direction / (radii * np.array([width, 1.0, 1.0])))
        return direction * scale


def sample_head(rng: np.random.Generator, ages: tuple[float, float] = (0.0, 1.0)) -> Head:
    """Draw one adult head; `ages`: least and most atrophy."""
    age = rng.uniform(*ages)  # 0 young and tight, 1 old and atrophic
    return Head(
        half_width=rng.normal(68, 2.8),
        half_length=rng.normal(86, 3.5),
        height=rng.normal(74, 2.5),
        egg=rng.uniform(0.05, 0.13),
        skull=float(np.clip(rng.normal(6.0, 1.1), 3.8, 9.0)),
        scalp=rng.uniform(3.0, 8.0),
        sulcus=0.35 + 1.35 * age + rng.uniform(0, 0.3),
        rim=0.5 + 2.6 * age**2,
        ventricle=0.95 + 0.95 * age**1.5 + rng.uniform(-0.2, 0.25) + rng.gamma(0.3, 0.45),
        ventricle_asymmetry=rng.normal(0, 0.11),
        grey=rng.uniform(6.5, 9.5),
        brain_offset=rng.normal(0, 4.5),
        cupping=rng.uniform(4, 14),
        falx=rng.uniform(0.3, 1.5),
        falx_hu=rng.uniform(46, 80),
        sinus_hu=rng.uniform(50, 80),
        sinus=rng.uniform(3.0, 6.5),
        warp=np.stack([rng.normal(0, [2.1, 1.9, 1.3]), *rng.uniform(0, 2 * np.pi, (4, 3))], axis=1),
        floor=skull_base(rng),
        leukoaraiosis=max(0.0, rng.normal(11 * age - 5.5, 2.0)),
        muscle=rng.normal(0, 4),
        face=rng.normal(0, 1, 16),
        swelling=np.zeros(5),
        sulci=Lattice(smooth_noise(rng, (24, 26, 22)), 8.5),
        lumps=Lattice(smooth_noise(rng, (16, 18, 16)), 13.0),
    )


FLOOR_HALF = (80.0, 100.0)  # the height map spans x in [-80, 80], y in [-100, 100], one node a millimetre


def skull_base(rng: np.random.Generator) -> np.ndarray:
    """Height of the skull base over (y, x), mm: fossae, sphenoid wings, petrous ridges, clivus, foramen."""
    y, x = np.mgrid[-FLOOR_HALF[1] : FLOOR_HALF[1] + 1, -FLOOR_HALF[0] : FLOOR_HALF[0] + 1].astype(np.float32)
    side = np.abs(x)
    wing = -27 - 0.22 * side  # y of the sphenoid wing's crest
    petrous = 4 + 0.45 * side  # y of the petrous ridge's crest
    anterior = (
        -19 + 13 * np.exp(-(((side - 27) / 13) ** 2) - ((y + 54) / 17) ** 2) - 4 * np.exp(-((x / 5) ** 2))
    )
    middle = np.where(side < 13, -15.0, -38 + 0.012 * (side - 34) ** 2 + 0.008 * (y + 10) ** 2)
    clivus = -14 - 1.9 * np.clip(y - 2, 0, 40) - 40 * np.clip((side - 16) / 6, 0, 1)
    posterior = np.maximum(-60 + 0.006 * x**2 + 0.010 * (y - 40) ** 2, clivus)
    posterior[np.hypot(x, y - 34) < 15] = -120
    base = np.where(y < wing, anterior, np.where(y < petrous, middle, posterior))
    base = np.maximum(base, -9 - 1.7 * np.abs(y - wing) - 0.05 * np.clip(side - 30, 0, None))
    ridge = -14 + 3 * np.exp(-(((side - 38) / 10) ** 2)) - 1.35 * np.abs(y - petrous)
    base = np.maximum(base, np.where(side > 13, ridge, -200))
    bumps = cv2.resize(smooth_noise(rng, (26, 21)), base.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return cv2.GaussianBlur(base.astype(np.float32), (0, 0), 2.2) + 1.6 * bumps


@dataclass(frozen=True)
class Push:
    """Mass effect: tissue near `site` has been moved by `shift` (3,) mm, fading over `reach` mm."""

    site: np.ndarray
    shift: np.ndarray
    reach: float


@dataclass
class Fields:
    """What the painters know about every pixel of a plane; arrays (rows, columns) float32, lengths in mm."""

    plane: Plane
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    depth: np.ndarray  # below the inner table, negative outside the cranial cavity
    vault: np.ndarray  # signed distance to the vault's inner ellipsoid, negative inside
    soften: np.ndarray  # width of an edge parallel to the vault

    def offset(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y, z of every pixel from a point; Python floats, so the arrays stay float32."""
        px, py, pz = np.asarray(point, float).tolist()
        return self.x - px, self.y - py, self.z - pz

    def cranial(self) -> tuple[slice, slice]:
        """The smallest box around the cranial cavity; two empty slices when the plane misses it."""
        within = self.depth > -2.0
        rows, columns = np.flatnonzero(within.any(axis=1)), np.flatnonzero(within.any(axis=0))
        if len(rows) == 0:
            return slice(0, 0), slice(0, 0)
        return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)

    def crop(self, box: tuple[slice, slice]) -> "Fields":
        """The same in a part of the plane, as views."""
        arrays = (self.x, self.y, self.z, self.depth, self.vault, self.soften)
        return Fields(self.plane.crop(*box), *(array[box] for array in arrays))


def measure(head: Head, plane: Plane) -> Fields:
    """Positions relative to the skull: the part of the anatomy that no bleed changes."""
    x, y, z = plane.coordinates()
    x, y, z = _warped(head, x, y, z)
    a, b, c = head.half_width, head.half_length, head.height
    vault = _ellipsoid(x / (1.0 + head.egg / b * y), y, z, (a, b, c))
    floor = cv2.remap(
        head.floor, x + FLOOR_HALF[0], y + FLOOR_HALF[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    soften = plane.pixel + np.abs(z) * np.float32(plane.z_step / c * 0.9)
    return Fields(plane, x, y, z, -np.maximum(vault, (floor - z) * 0.85), vault, soften)


def _warped(
    head: Head, x: np.ndarray, y: np.ndarray, z: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bend the head by a few millimetres. The waves follow the grid's axes, so they cost two vectors each."""
    across, along, height = x[x.shape[0] // 2].copy(), y[:, y.shape[1] // 2].copy(), float(z.mean())
    for coordinate, (amplitude, p, q, r, _) in zip((x, y, z), head.warp.tolist(), strict=True):
        down = np.sin(along / 31 + (p + height / 47)) * np.float32(amplitude)
        coordinate += down[:, None] * np.cos(across / 36 + (q + height / 39 + r))
    return x, y, z


def _ellipsoid(x: np.ndarray, y: np.ndarray, z: np.ndarray, radii: tuple[float, float, float]) -> np.ndarray:
    """Approximate signed distance to an ellipsoid at the origin, mm."""
    a, b, c = (np.float32(1.0 / radius) for radius in radii)
    x, y, z = x * a, y * b, z * c
    x *= x
    y *= y
    z *= z
    k0 = np.sqrt(x + y + z)
    x *= a * a
    y *= b * b
    z *= c * c
    x += y
    x += z
    return k0 * (k0 - np.float32(1.0)) / (np.sqrt(x) + np.float32(1e-6))


def capsule(x, y, z, start, stop, radius, radius_stop) -> np.ndarray:
    """Signed distance to a straight tube whose radius tapers from `start` to `stop`, mm."""
    ax, ay, az = (stop[k] - start[k] for k in range(3))
    px, py, pz = x - start[0], y - start[1], z - start[2]
    along = np.clip((px * ax + py * ay + pz * az) * (1.0 / (ax * ax + ay * ay + az * az)), 0.0, 1.0)
    px, py, pz = px - along * ax, py - along * ay, pz - along * az
    return np.sqrt(px * px + py * py + pz * pz) - (radius + (radius_stop - radius) * along)


def displaced(fields: Fields, pushes: list[Push]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the tissue now at each pixel lay before the mass effect: x, y, z (rows, columns), mm."""
    x, y, z = fields.x, fields.y, fields.z
    for push in pushes:
        dx, dy, dz = fields.offset(push.site)
        pull = np.exp((dx * dx + dy * dy + dz * dz) * np.float32(-0.5 / push.reach**2))
        sx, sy, sz = push.shift.tolist()
        x, y, z = x - pull * sx, y - pull * sy, z - pull * sz
    return x, y, z
