"""Paint the brain on a slab: grey and white matter, CSF spaces, dura, in HU.

Bleeds and mimics can be laid on it before it is set into the skull (outside.py). All arrays are
(planes, rows, columns) float32; see head.py for coordinates and HU.
"""

from dataclasses import dataclass

import numpy as np

from .head import CSF, WHITE, Fields, Head, Push, displaced
from .shapes import bounds, capsule, coverage, ellipsoid, radius

FOLD_MM = 5.0  # |value| of the sulcal lattice times this approximates the distance to the nearest sulcus
FAR = np.float32(50.0)
HALO = 12.0  # mm from the ventricles that the white matter disease of age reaches

# Lateral ventricle of one side: end points (|x|, y, z) and radii of tapered capsules.
LATERAL_VENTRICLE = (
    ((15, -34, 8), (6, -24, 11), 2.4, 3.4),  # frontal horn
    ((6, -24, 11), (4, -4, 12), 3.4, 2.4),
    ((4, -4, 13), (12, 14, 21), 2.8, 4.2),  # body
    ((12, 14, 21), (23, 36, 10), 4.2, 5.8),  # atrium
    ((23, 36, 10), (22, 60, 4), 5.4, 2.2),  # occipital horn
    ((23, 36, 8), (33, 14, -12), 3.4, 1.6),  # temporal horn
)
DEEP_GREY = (((12, -22, 9), (5, 8, 7)), ((24, -4, 4), (6.5, 15, 9)), ((10, 12, 6), (8, 13, 9)))
CISTERNS = (  # both sides where x > 0: end points and radii of capsules
    ((0, -18, -20), (0, -4, -20), 4.5, 6.0),  # suprasellar
    ((2, -14, -20), (14, -20, -19), 3.5, 1.5),
    ((2, -3, -18), (13, 3, -16), 3.5, 1.8),
    ((0, 30, 0), (11, 25, 1), 3.4, 1.8),  # quadrigeminal
    ((11, 25, 1), (19, 13, -8), 1.8, 1.2),  # ambient
    ((36, -18, -4), (34, 10, 8), 1.2, 1.2),  # insula
    ((36, -18, -6), (52, -14, -2), 1.8, 2.6),  # Sylvian fissure
    ((50, -14, -2), (56, 16, 12), 2.4, 1.4),
    ((0, 44, -46), (0, 52, -54), 3.0, 7.0),  # cisterna magna
    ((10, 4, -34), (26, 14, -36), 3.2, 1.4),  # cerebellopontine
    ((4, 6, -36), (4, 18, -58), 2.6, 3.4),  # before the medulla
    ((9, 24, -52), (9, 36, -62), 1.8, 3.2),  # beside it
)


@dataclass
class Brain:
    """The brain on a slab, and the spaces that decide where blood can lie."""

    hu: np.ndarray
    xyz: np.ndarray  # where the tissue lay before any mass effect, (3, planes, rows, columns) mm
    inside: np.ndarray  # coverage of the cranial cavity
    csf: np.ndarray  # coverage of sulci, fissures and cisterns
    ventricle: np.ndarray  # signed distance to the ventricles, mm, negative inside
    tentorium: np.ndarray  # height above the tentorium, mm
    falx: np.ndarray  # 1 where the falx reaches, 0 elsewhere


def tubes(
    fields: Fields,
    xyz: np.ndarray,
    parts,
    scales: tuple[float, float],
    spread: float = 1.0,
    spare: float = 2.0,
) -> np.ndarray:
    """Union of capsules on both sides (scales: right, left): signed distance, `FAR` where over `spare` mm."""
    distance = np.full(fields.x.shape, FAR, np.float32)
    for start, stop, thin, wide in parts:
        sides = zip((-1, 1), scales, strict=True) if start[0] or stop[0] else ((1, scales[1]),)
        for side, scale in sides:
            ends = [(side * point[0] * spread, point[1], point[2]) for point in (start, stop)]
            box = fields.slab.tube_box(*ends, max(thin, wide) * scale + spare)
            if box is not None:
                tube = capsule(xyz[box], *ends, thin * scale, wide * scale)
                np.minimum(distance[box], tube, out=distance[box])
    return distance


def ventricles(head: Head, fields: Fields, xyz: np.ndarray) -> np.ndarray:
    """Signed distance to lateral, third and fourth ventricle and the aqueduct, mm."""
    scale, tilt = head.ventricle, head.ventricle_asymmetry
    scales = (scale * (1 - tilt), scale * (1 + tilt))
    spare = HALO if head.leukoaraiosis > 0 else 2.0
    distance = tubes(fields, xyz, LATERAL_VENTRICLE, scales, 0.88 + 0.12 * scale, spare)
    for center, radii in (
        ((0, 2, -2), (1.6 + 1.2 * scale, 15, 10)),
        ((0, 38, -32), (5 + 3 * scale, 4.5 + scale, 11)),
        ((0, 27, -13), (1.4, 2.5, 12)),
    ):
        box = fields.slab.box(center, radii, 3.0)
        if box is not None:
            ball = ellipsoid(xyz[box], center, radii)
            np.minimum(distance[box], ball, out=distance[box])
    return distance


def paint_brain(
    head: Head, fields: Fields, layer: np.ndarray | float, pushes: list[Push], widen: np.ndarray | float
) -> Brain:
    """The brain below an extra-axial layer (mm), displaced by masses, its CSF spaces wider by `widen` mm."""
    slab = fields.slab
    x, y, z = xyz = displaced(fields, pushes)
    depth = fields.depth - layer
    inside = coverage(-fields.depth, fields.soften)
    side = np.abs(x)
    tentorium = (z - tentorium_height(x, y)) * np.float32(0.87)
    supratentorial = slab.middle > 40.0
    below = 0.0 if supratentorial else _infratentorial(tentorium, y, side)
    arch = radius((y - 4.0) / 46.0, (z - 4.0) / 31.0)  # 1 at the corpus callosum's upper edge
    falx = np.clip((arch - 1.0) * 12.0, 0.0, 1.0) * (1.0 - below) * np.clip((z + 14.0) * 0.5, 0.0, 1.0)

    # sulci run inwards from the surface: sample the lattice nearer to it than the point lies
    stretch = 1.0 + 0.55 * np.clip(depth, 0.0, 30.0) / np.sqrt(x * x + y * y + 900.0)
    folds = np.abs(head.sulci.sample(x * stretch, y * stretch, slab.z)) * FOLD_MM
    vertex = 1.0 + 0.5 * np.clip((slab.z - 25.0) / 30.0, 0.0, 1.0)  # where sulci are widest
    width = vertex * head.sulcus * np.clip(1.3 - depth / 20.0, 0.0, 1.0) * (1.0 - 0.6 * below) + widen
    near = np.minimum(folds - width + np.maximum(depth - 15.0, 0.0) * 0.4, depth - vertex * head.rim)
    forward = np.clip(-15.0 - y, 0.0, 30.0)  # atrophy opens the fissure's front first
    fissure = 0.4 + head.sulcus * (0.5 + 0.05 * forward)
    near = np.minimum(near, side - (fissure + widen) + (1.0 - falx) * 20.0)
    spaces = np.minimum(near, tubes(fields, xyz, CISTERNS, (0.8 + 0.38 * head.sulcus,) * 2) - widen * 0.7)
    box = slab.box((0, 13, -26), (25, 28, 30))
    if box is not None:
        ring = _around_brainstem(head, *xyz[box])
        ring += 0.8 * head.lumps.sample(x[box], y[box], slab.z, 2.0)
        np.minimum(spaces[box], ring, out=spaces[box])
    csf = coverage(spaces, slab.pixel)

    grey = np.clip((5.2 - near) / 2.4, 0.0, 1.0)
    strength = head.cupping * (1.0 + np.maximum(slab.z, 0.0) / 80.0)  # the vault's partial volume adds to it
    cupping = strength * np.square(np.clip(1.0 - depth * np.float32(1 / 22.0), 0.0, 1.0))
    hu = WHITE + head.brain_offset + cupping + head.grey * grey + 1.8 * head.lumps.texture(x, y, slab.z)
    _paint_deep_grey(head, fields, xyz, hu)
    if not supratentorial and (box := bounds(below, 0.0)) is not None:
        _paint_cerebellum(head, *(field[box] for field in (x, depth, folds, below, hu)))
    ventricle = ventricles(head, fields, xyz)
    if head.leukoaraiosis > 0:
        _paint_leukoaraiosis(head, ventricle, below, hu)
    hu += csf * (CSF - hu)
    hu += coverage(ventricle, slab.pixel) * (CSF - hu)
    brain = Brain(hu, xyz, inside, csf, ventricle, tentorium, falx)
    _paint_dura(head, fields, brain)
    return brain


def _infratentorial(tentorium: np.ndarray, y: np.ndarray, side: np.ndarray) -> np.ndarray:
    return coverage(tentorium, 2.5) * np.clip((y - 4.0 - 0.42 * side) * 0.4, 0.0, 1.0)


def tentorium_height(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """z of the tentorium, mm: a tent with its ridge in the midline, falling to the sides and to the back."""
    return 15.0 - 0.48 * np.abs(x) - 0.30 * np.maximum(y - 36.0, 0.0)


def _around_brainstem(head: Head, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """CSF around the midbrain, before the pons and beside it: signed distance, mm."""
    axis = 13.0 - 0.22 * (z + 12.0)  # the stem leans backwards
    back = y - axis - 4.0
    turn = back / np.sqrt(x * x + back * back + 1e-3)
    stem = radius(x * 0.88, (y - axis) * 1.06) - 1.6 * turn * (4.0 * turn * turn - 3.0)  # cos 3 phi
    gap = 0.35 + 0.7 * head.sulcus
    ring = np.abs(stem - 15.5 - gap) - gap
    pons = np.clip((-12.0 - z) * 0.2, 0.0, 1.0)
    ring += pons * np.maximum(y - axis + 6.0, 0.0) * 0.5  # below the midbrain only the front is open
    ring += (1.0 - pons) * np.maximum(axis - 8.0 - y, 0.0) * 0.25
    return ring + np.maximum(np.abs(z + 26.0) - 25.0, 0.0)


def _paint_cerebellum(head: Head, x, depth, folds, below: np.ndarray, hu: np.ndarray) -> None:
    """Hemispheres, folia as faint arcs along the surface, a brighter vermis between two clefts."""
    side = np.abs(x)
    folia = np.sin(depth * np.float32(1.75) + folds * np.float32(0.6)) * np.clip(
        (24.0 - depth) * 0.1, 0.0, 1.0
    )
    tissue = WHITE + head.brain_offset + 6.5 + 1.3 * folia - (2.0 + 4.0 * head.sulcus) * (folds < 0.7)
    tissue += 2.2 * np.clip(4.0 - np.abs(side - 2.5), 0.0, 1.0) - 3.0 * head.sulcus * (
        np.abs(side - 8.0) < 0.9
    )
    hu += below * (tissue - hu)


def _paint_leukoaraiosis(
    head: Head, ventricle: np.ndarray, below: np.ndarray | float, hu: np.ndarray
) -> None:
    """Periventricular hypodensity of age, 5-12 HU (van Swieten, JNNP 1990;53:1080-1083)."""
    halo = np.exp(np.float32(-1 / 55.0) * np.maximum(ventricle, 0.0) ** 2)
    hu -= head.leukoaraiosis * halo * (1.0 - below)


def _paint_deep_grey(head: Head, fields: Fields, xyz: np.ndarray, hu: np.ndarray) -> None:
    for center, radii in DEEP_GREY:
        for side in (-1, 1):
            place = (side * center[0], center[1], center[2])
            box = fields.slab.box(place, radii, 2.0)
            if box is not None:
                nucleus = ellipsoid(xyz[box], place, radii)
                hu[box] += coverage(nucleus, 2.5) * (WHITE + head.brain_offset + 0.8 * head.grey - hu[box])


def _paint_dura(head: Head, fields: Fields, brain: Brain) -> None:
    """Falx, tentorium and the venous sinuses at their rims."""
    strip, pixel = fields.slab.strip(8.0), fields.slab.pixel
    x, y = fields.x[strip], fields.y[strip]
    rim = np.clip(fields.depth[strip], 0.0, 20.0) - 2.2
    membrane = coverage(np.abs(x - 0.8 * np.sin(y / 40.0)) - head.falx, pixel) * brain.falx[strip]
    brain.hu[strip] += membrane * (head.falx_hu - brain.hu[strip])
    sagittal = radius(x, rim) - head.sinus + (1.0 - brain.falx[strip]) * 20.0 + np.maximum(-y - 40.0, 0) * 0.1
    vessel = coverage(sagittal, pixel)
    brain.hu[strip] += vessel * (head.sinus_hu - brain.hu[strip])
    if abs(fields.slab.middle + 12.0) < 50.0:
        _paint_tentorium(head, fields, brain)


def _paint_tentorium(head: Head, fields: Fields, brain: Brain) -> None:
    box = fields.slab.box((0, 50, -5), 80)
    if box is None:
        return
    hu, height, pixel = brain.hu[box], brain.tentorium[box], fields.slab.pixel
    x, y, _ = brain.xyz[box]
    open_ring = np.clip((radius(x, y - 10.0) - 24.0) * 0.4, 0.0, 1.0)
    open_ring *= np.clip((y - 6.0 - 0.42 * np.abs(x)) * 0.4, 0.0, 1.0)
    leaf = coverage(np.abs(height) - 0.8 * head.falx, max(pixel, fields.slab.z_step)) * open_ring
    hu += leaf * (head.falx_hu - hu)
    rim = np.clip(fields.depth[box], 0.0, 20.0) - 2.2
    transverse = radius(height, rim) - head.sinus + np.maximum(25.0 - fields.y[box], 0.0)
    straight = radius(fields.x[box], height - 0.5) - 0.6 * head.sinus + np.maximum(32.0 - fields.y[box], 0.0)
    hu += coverage(np.minimum(transverse, straight), pixel) * (head.sinus_hu - hu)
