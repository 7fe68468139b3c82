"""A synthetic head: anatomy as continuous functions of position, painted into slices in Hounsfield units.

Head coordinates are millimetres: x to the patient's left, y to the back, z to the vertex; the origin lies in
the third ventricle. A `Slab` is a slice as a few infinitely thin planes; their average over the thickness
gives the partial volume of a 5 mm slice. Edges are drawn by coverage (a signed distance over the pixel's
width), so a coarse grid shows no steps. `depth` grows inwards from the inner table of the skull.

Shapes and sizes are ordinary adult anatomy; HU: CSF 0-10, white matter 22-32, grey matter 30-40, muscle
50-65, fat -110 to -80, cortical bone 1000-1900, diploe 300-900 (Kamalian, Lev & Gupta, Handb Clin Neurol
2016;135:3-20). Ventricles, sulci and white matter change with age (Barron, Jacobs & Kinkel, Neurology
1976;26:1011-1013).
"""

from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from .shapes import Box, Lattice, Point, Slab, bounds, column, from_center, smooth_noise, total

AIR, FAT, CSF, WHITE, MUSCLE, CORTICAL_BONE, DIPLOE = -1000.0, -95.0, 6.0, 25.8, 54.0, 1780.0, 400.0


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
        sulcus=0.35 + 1.5 * age + rng.uniform(0, 0.3),
        rim=0.5 + 3.0 * age**1.7,
        ventricle=1.0 + 1.0 * age**1.5 + rng.uniform(-0.2, 0.25) + rng.gamma(0.3, 0.45),
        ventricle_asymmetry=rng.normal(0, 0.11),
        grey=rng.uniform(6.5, 9.5),
        brain_offset=rng.normal(0, 5.2),
        cupping=rng.uniform(4, 14),
        falx=rng.uniform(0.25, 1.15),
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
BASE_TOP, BASE_REACH = 0.0, 45.0  # mm: highest point of the base, and how far above it depth refers to it


def skull_base(rng: np.random.Generator) -> np.ndarray:
    """Height of the skull base over (y, x), mm: fossae, sphenoid wings, petrous ridges, clivus, foramen."""
    y, x = np.mgrid[-FLOOR_HALF[1] : FLOOR_HALF[1] + 1, -FLOOR_HALF[0] : FLOOR_HALF[0] + 1].astype(np.float32)
    side = np.abs(x)
    wing = -27 - 0.22 * side  # y of the sphenoid wing's crest
    petrous = 4 + 0.45 * side  # y of the petrous ridge's crest
    anterior = (
        -19 + 10 * np.exp(-(((side - 28) / 18) ** 2) - ((y + 54) / 21) ** 2) - 4 * np.exp(-((x / 5) ** 2))
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
    return cv2.GaussianBlur(base.astype(np.float32), (0, 0), 2.2) + 2.0 * bumps


@dataclass(frozen=True)
class Push:
    """Mass effect: tissue near `site` has been moved by `shift` (3,) mm, fading over `reach` mm."""

    site: np.ndarray
    shift: np.ndarray
    reach: float


@dataclass
class Fields:
    """What the painters know about every pixel of a slab; lengths in mm.

    Arrays are (planes, rows, columns) float32; `xyz` is a stack of three of them.
    """

    slab: Slab
    xyz: np.ndarray  # head coordinates
    depth: np.ndarray  # below the inner table, negative outside the cranial cavity
    vault: np.ndarray  # signed distance to the vault's inner ellipsoid, negative inside
    soften: np.ndarray  # width of an edge parallel to the vault

    @property
    def x(self) -> np.ndarray:
        return self.xyz[0]

    @property
    def y(self) -> np.ndarray:
        return self.xyz[1]

    @property
    def z(self) -> np.ndarray:
        return self.xyz[2]

    def squared(self, point: Point) -> np.ndarray:
        """Squared distance of every pixel from a point, mm^2."""
        away = self.xyz - column(point)
        away *= away
        return total(away)

    def loosened(self, pushes: list[Push]) -> "Fields":
        """The same with boxes that have room for shapes displaced by masses."""
        if not pushes:
            return self
        shift = sum(float(np.linalg.norm(push.shift)) for push in pushes)
        return replace(self, slab=replace(self.slab, room=self.slab.room + shift))

    def cranial(self) -> Box | None:
        """The smallest box around the cranial cavity; None when the slab misses it."""
        return bounds(self.depth, -2.0)

    def crop(self, box: Box) -> "Fields":
        """The same in a part of the slab, as views."""
        arrays = (self.xyz, self.depth, self.vault, self.soften)
        return Fields(self.slab.crop(box), *(array[box] for array in arrays))


def measure(head: Head, slab: Slab) -> Fields:
    """Positions relative to the skull: the part of the anatomy that no bleed changes."""
    x, y, z = xyz = _warped(head, slab.coordinates())
    a, b, c = head.half_width, head.half_length, head.height
    round_head = xyz.copy()
    round_head[0] /= 1.0 + head.egg / b * y
    vault = from_center(round_head, (a, b, c))
    soften = np.abs(z)
    soften *= slab.z_step / c * 0.9
    soften += slab.pixel
    depth = -vault
    if z.min() < BASE_TOP + BASE_REACH:
        border = {"interpolation": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REPLICATE}
        maps = zip(x + FLOOR_HALF[0], y + FLOOR_HALF[1], strict=True)
        above = z - np.stack([cv2.remap(head.floor, *at, **border) for at in maps])
        above *= 0.85
        np.minimum(depth, above, out=depth)
    return Fields(slab, xyz, depth, vault, soften)


def _warped(head: Head, xyz: np.ndarray) -> np.ndarray:
    """Bend the head by a few millimetres. The waves follow the grid's axes, so they cost two vectors each."""
    x, y, z = xyz
    _, rows, columns = x.shape
    across, along = x[:, rows // 2, None, :].copy(), y[:, :, columns // 2, None].copy()
    height = z.mean(axis=(1, 2), keepdims=True)
    for coordinate, (amplitude, p, q, r, _) in zip(xyz, head.warp.tolist(), strict=True):
        down = amplitude * np.sin(along / 31 + (p + height / 47))
        coordinate += down * np.cos(across / 36 + (q + height / 39 + r))
    return xyz


def displaced(fields: Fields, pushes: list[Push]) -> np.ndarray:
    """Where the tissue now at each pixel lay before the mass effect, (3, planes, rows, columns) mm."""
    xyz = fields.xyz
    for push in pushes:
        pull = fields.squared(push.site)
        pull *= -0.5 / push.reach**2
        np.exp(pull, out=pull)
        xyz = xyz - column(push.shift) * pull
    return xyz
