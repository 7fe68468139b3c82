"""Paint a head's tissue on a plane: brain, CSF spaces, dura, skull, skull base, face and scalp, in HU.

The head without its brain (`paint_outside`) and the brain (`paint_brain`), on which bleeds and mimics can be
laid before it is set into the skull. All arrays are (rows, columns) float32; see head.py for coordinates.
"""

import math
from dataclasses import dataclass

import numpy as np

from .head import (
    AIR,
    CORTICAL_BONE,
    CSF,
    DIPLOE,
    FAT,
    MUSCLE,
    WHITE,
    Fields,
    Head,
    Push,
    _ellipsoid,
    coverage,
    displaced,
)

FOLD_MM = 5.0  # |value| of the sulcal lattice times this approximates the distance to the nearest sulcus
FAR = np.float32(50.0)

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
)


@dataclass
class Brain:
    """The brain on a plane, and the spaces that decide where blood can lie."""

    hu: np.ndarray
    x: np.ndarray  # where the tissue lay before any mass effect, mm
    y: np.ndarray
    z: np.ndarray
    inside: np.ndarray  # coverage of the cranial cavity
    csf: np.ndarray  # coverage of sulci, fissures and cisterns
    ventricle: np.ndarray  # signed distance to the ventricles, mm, negative inside
    tentorium: np.ndarray  # height above the tentorium, mm
    below: np.ndarray  # 1 below the tentorium, 0 above it
    falx: np.ndarray  # 1 where the falx reaches, 0 elsewhere


def capsule(x, y, z, start, stop, radius, radius_stop) -> np.ndarray:
    """Signed distance to a straight tube whose radius tapers from `start` to `stop`, mm."""
    ax, ay, az = (stop[k] - start[k] for k in range(3))
    px, py, pz = x - start[0], y - start[1], z - start[2]
    along = np.clip((px * ax + py * ay + pz * az) * (1.0 / (ax * ax + ay * ay + az * az)), 0.0, 1.0)
    px, py, pz = px - along * ax, py - along * ay, pz - along * az
    return np.sqrt(px * px + py * py + pz * pz) - (radius + (radius_stop - radius) * along)


def tubes(fields: Fields, brain_xyz, parts, scales: tuple[float, float], spread: float = 1.0) -> np.ndarray:
    """Union of capsules on both sides (scales: right, left): signed distance, `FAR` away from all of them."""
    distance = np.full(fields.x.shape, FAR, np.float32)
    for start, stop, radius, radius_stop in parts:
        for side, scale in zip((-1, 1), scales, strict=True):
            ends = [(side * point[0] * spread, point[1], point[2]) for point in (start, stop)]
            thick = max(radius, radius_stop) * scale + 3.0
            if fields.plane.misses(ends, thick):
                continue
            reach = math.dist(*ends) / 2 + thick
            box = fields.plane.box([(p + q) / 2 for p, q in zip(*ends, strict=True)], reach)
            if box is None:
                continue
            tube = capsule(*(c[box] for c in brain_xyz), *ends, radius * scale, radius_stop * scale)
            np.minimum(distance[box], tube, out=distance[box])
    return distance


def ventricles(head: Head, fields: Fields, xyz) -> np.ndarray:
    """Signed distance to lateral, third and fourth ventricle and the aqueduct, mm."""
    scale, tilt = head.ventricle, head.ventricle_asymmetry
    distance = tubes(
        fields, xyz, LATERAL_VENTRICLE, (scale * (1 - tilt), scale * (1 + tilt)), 0.88 + 0.12 * scale
    )
    x, y, z = xyz
    for center, radii in (
        ((0, 2, -2), (1.6 + 1.2 * scale, 15, 10)),
        ((0, 38, -32), (5 + 3 * scale, 4.5 + scale, 11)),
        ((0, 27, -13), (1.4, 2.5, 12)),
    ):
        box = fields.plane.box(center, max(radii))
        if box is not None:
            ball = _ellipsoid(x[box] - center[0], y[box] - center[1], z[box] - center[2], radii)
            np.minimum(distance[box], ball, out=distance[box])
    return distance


def paint_brain(
    head: Head, fields: Fields, layer: np.ndarray | float, pushes: list[Push], widen: np.ndarray | float
) -> Brain:
    """The brain below an extra-axial layer (mm), displaced by masses, its CSF spaces wider by `widen` mm."""
    plane = fields.plane
    x, y, z = displaced(fields, pushes)
    depth = fields.depth - layer
    inside = coverage(-fields.depth, fields.soften)
    side = np.abs(x)
    tentorium = (z - tentorium_height(x, y)) * np.float32(0.87)
    below = coverage(tentorium, 2.5) * np.clip((y - 4.0 - 0.42 * side) * 0.4, 0.0, 1.0)
    arch = np.hypot((y - 4.0) / 46.0, (z - 4.0) / 31.0)  # 1 at the corpus callosum's upper edge
    falx = np.clip((arch - 1.0) * 12.0, 0.0, 1.0) * (1.0 - below) * np.clip((z + 14.0) * 0.5, 0.0, 1.0)

    # sulci run inwards from the surface: sample the lattice nearer to it than the point lies
    stretch = 1.0 + 0.55 * np.clip(depth, 0.0, 30.0) / np.sqrt(x * x + y * y + 900.0)
    folds = np.abs(head.sulci.sample(x * stretch, y * stretch, plane.z)) * FOLD_MM
    width = head.sulcus * np.clip(1.2 - depth / 20.0, 0.0, 1.0) * (1.0 - 0.6 * below) + widen
    near = np.minimum(folds - width + np.maximum(depth - 15.0, 0.0) * 0.4, depth - head.rim)
    near = np.minimum(near, side - (0.4 + 0.5 * head.sulcus + widen) + (1.0 - falx) * 20.0)
    spaces = np.minimum(
        near, tubes(fields, (x, y, z), CISTERNS, (0.75 + 0.3 * head.sulcus,) * 2) - widen * 0.7
    )
    box = plane.box((0, 13, -26), 36)
    if box is not None:
        np.minimum(spaces[box], _around_brainstem(head, x[box], y[box], z[box]), out=spaces[box])
    csf = coverage(spaces, plane.pixel)

    grey = np.clip((5.2 - near) / 2.4, 0.0, 1.0)
    cupping = head.cupping * np.exp(np.maximum(depth, 0.0) * np.float32(-1 / 8.0))
    hu = WHITE + head.brain_offset + cupping + head.grey * grey + 1.2 * head.lumps.sample(x, y, plane.z)
    _paint_deep_grey(head, fields, (x, y, z), hu)
    hu += below * (WHITE + head.brain_offset + 6.0 - 2.5 * (folds < 1.2) - hu)
    hu += csf * (CSF - hu)
    ventricle = ventricles(head, fields, (x, y, z))
    hu += coverage(ventricle, plane.pixel) * (CSF - hu)
    brain = Brain(hu, x, y, z, inside, csf, ventricle, tentorium, below, falx)
    _paint_dura(head, fields, brain)
    return brain


def tentorium_height(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """z of the tentorium, mm: a tent with its ridge in the midline, falling to the sides and to the back."""
    return 15.0 - 0.48 * np.abs(x) - 0.30 * np.maximum(y - 36.0, 0.0)


def _around_brainstem(head: Head, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """CSF around the midbrain, before the pons and beside it: signed distance, mm."""
    axis = 13.0 - 0.22 * (z + 12.0)  # the stem leans backwards
    radius = np.hypot(x * 0.88, (y - axis) * 1.06) - 1.6 * np.cos(3.0 * np.arctan2(x, y - axis - 4.0))
    gap = 0.35 + 0.7 * head.sulcus
    ring = np.abs(radius - 15.5 - gap) - gap
    pons = np.clip((-12.0 - z) * 0.2, 0.0, 1.0)
    ring += pons * np.maximum(y - axis + 6.0, 0.0) * 0.5  # below the midbrain only the front is open
    ring += (1.0 - pons) * np.maximum(axis - 8.0 - y, 0.0) * 0.25
    return ring + np.maximum(np.abs(z + 26.0) - 25.0, 0.0)


def _paint_deep_grey(head: Head, fields: Fields, xyz, hu: np.ndarray) -> None:
    for center, radii in DEEP_GREY:
        for side in (-1, 1):
            place = (side * center[0], center[1], center[2])
            box = fields.plane.box(place, max(radii))
            if box is None:
                continue
            nucleus = _ellipsoid(*(c[box] - p for c, p in zip(xyz, place, strict=True)), radii)
            hu[box] += coverage(nucleus, 2.5) * (WHITE + head.brain_offset + head.grey - hu[box])


def _paint_dura(head: Head, fields: Fields, brain: Brain) -> None:
    """Falx, tentorium and the venous sinuses at their rims."""
    strip = fields.plane.strip(8.0)
    x, y = fields.x[strip], fields.y[strip]
    rim = np.clip(fields.depth[strip], 0.0, 20.0) - 2.2
    membrane = (
        coverage(np.abs(x - 0.8 * np.sin(y / 40.0)) - head.falx, fields.plane.pixel) * brain.falx[strip]
    )
    brain.hu[strip] += membrane * (head.falx_hu - brain.hu[strip])
    sagittal = (
        np.hypot(x, rim) - head.sinus + (1.0 - brain.falx[strip]) * 20.0 + np.maximum(-y - 40.0, 0) * 0.1
    )
    vessel = coverage(sagittal, fields.plane.pixel)
    brain.hu[strip] += vessel * (head.sinus_hu - brain.hu[strip])
    if np.abs(fields.plane.z + 12.0) < 50.0:
        _paint_tentorium(head, fields, brain)


def _paint_tentorium(head: Head, fields: Fields, brain: Brain) -> None:
    box = fields.plane.box((0, 50, -5), 80)
    if box is None:
        return
    hu, height, pixel = brain.hu[box], brain.tentorium[box], fields.plane.pixel
    x, y = brain.x[box], brain.y[box]
    open_ring = np.clip((np.hypot(x, y - 10.0) - 24.0) * 0.4, 0.0, 1.0)
    open_ring *= np.clip((y - 6.0 - 0.42 * np.abs(x)) * 0.4, 0.0, 1.0)
    leaf = coverage(np.abs(height) - 0.8 * head.falx, max(pixel, fields.plane.z_step)) * open_ring
    hu += leaf * (head.falx_hu - 4.0 - hu)
    rim = np.clip(fields.depth[box], 0.0, 20.0) - 2.2
    transverse = np.hypot(height, rim) - head.sinus + np.maximum(25.0 - fields.y[box], 0.0)
    straight = (
        np.hypot(fields.x[box], height - 0.5) - 0.6 * head.sinus + np.maximum(32.0 - fields.y[box], 0.0)
    )
    hu += coverage(np.minimum(transverse, straight), pixel) * (head.sinus_hu - hu)


def paint_outside(head: Head, fields: Fields, background: np.ndarray) -> np.ndarray:
    """Skull, face and scalp before a background (air, head holder), HU; the cavity is left to the brain."""
    low = np.clip((-6.0 - fields.z) * 0.1, 0.0, 1.0)
    x, y, z = fields.x, fields.y, np.where(fields.z < 0, fields.z * np.float32(0.35), fields.z)
    grow = head.skull + head.scalp
    radii = (head.half_width + grow, head.half_length + grow, head.height + grow)
    skin = _ellipsoid(x / (1.0 + head.egg / radii[1] * y), y, z, radii)
    hu = np.where(skin > -2.2, np.float32(38.0), np.float32(FAT))
    if low.max() > 0:
        _paint_muscle(head, fields, low, skin, hu)
    out = -fields.depth
    thickness = head.skull * (1.0 - low) + low * _base_thickness(fields)
    bone = coverage(out - thickness, fields.soften) * (
        1.0 - np.clip((-fields.z - 12.0) * 0.2, 0, 1) * (y < -48) * (out > 6)
    )
    marrow = np.clip(1.9 - np.abs(out / thickness - 0.5) * 6.0, 0.0, 1.0)
    hu += bone * (CORTICAL_BONE + marrow * (DIPLOE - CORTICAL_BONE) - hu)
    if low.max() > 0:
        _paint_face(head, fields, hu)
    return background + coverage(skin, fields.soften) * (hu - background)


def _base_thickness(fields: Fields) -> np.ndarray:
    side = np.abs(fields.x)
    petrous = np.exp(-(((fields.y - 6.0 - 0.45 * side) / 9.0) ** 2)) * np.clip((side - 12.0) * 0.25, 0.0, 1.0)
    clivus = np.clip((17.0 - side) * 0.3, 0.0, 1.0) * (np.abs(fields.y - 12.0) < 14)
    return 3.6 + 13.0 * petrous + 9.0 * clivus


def _paint_muscle(head: Head, fields: Fields, low: np.ndarray, skin: np.ndarray, hu: np.ndarray) -> None:
    """Temporal, chewing and neck muscles with fat between them."""
    folds = np.abs(head.sulci.sample(fields.x, fields.y, fields.plane.z))
    muscle = low * np.clip((-skin - 5.0) * 0.5, 0.0, 1.0) * np.clip((folds - 0.05) * 9.0, 0.0, 1.0)
    hu += muscle * (MUSCLE - hu)


def _paint_face(head: Head, fields: Fields, hu: np.ndarray) -> None:
    """Orbits, air cells of ethmoid, sphenoid, mastoid and frontal bone, and the maxillary sinuses."""
    folds = np.abs(head.sulci.sample(fields.x * 2.2, fields.y * 2.2, fields.plane.z * 2.2))
    for side in (-1, 1):
        _orbit(fields, side, hu)
        _air(fields, (side * 28, -58, -58), (14, 14, 17), None, hu)
        _air(fields, (side * 54, 32, -36), (9, 14, 15), folds, hu)
    _air(fields, (0, -62, -40), (11, 22, 20), folds, hu)
    _air(fields, (0, -16, -30), (11, 11, 9), None, hu)
    _air(fields, (4, -87, -12), (14, 4, 10), None, hu)


def _air(fields: Fields, center, radii, walls: np.ndarray | None, hu: np.ndarray) -> None:
    box = fields.plane.box(center, max(radii) + 2)
    if box is None:
        return
    xyz = (fields.x[box], fields.y[box], fields.z[box])
    cell = _ellipsoid(*(c - p for c, p in zip(xyz, center, strict=True)), radii)
    hollow = fields.depth[box] < -2.0
    hu[box] += coverage(cell - 1.8, 1.5) * hollow * (900.0 - hu[box])
    if walls is not None:
        cell = np.maximum(cell, 1.2 - walls[box] * 2.5)
    hu[box] += coverage(cell, 1.5) * hollow * (AIR - hu[box])


def _orbit(fields: Fields, side: int, hu: np.ndarray) -> None:
    """Bony wall, fat, globe with lens, optic nerve and the two muscles in the plane."""
    center = (side * 31, -62, -33)
    box = fields.plane.box(center, 30)
    if box is None:
        return
    x, y, z = (fields.x[box] - center[0]) * side, fields.y[box] - center[1], fields.z[box] - center[2]
    free = fields.depth[box] < -1.5
    cone = np.maximum(np.hypot((x + 0.25 * y + 3) * 1.05, z) - 17.0 + 0.42 * np.maximum(y, 0), -y - 40)
    view = hu[box]
    view += coverage(cone - 2.4, 1.5) * (y > -16) * free * (850.0 - view)
    view += coverage(cone, 1.5) * free * (FAT - view)
    nerve = np.hypot(x + 0.25 * y + 3, z * 0.8) - 2.2 + np.maximum(-y - 8, 0) + np.maximum(y - 30, 0)
    recti = (
        np.hypot(np.abs(x + 0.25 * y + 3) - 10 + 0.22 * np.maximum(y, 0), z * 0.35)
        - 2.0
        + np.maximum(-y - 10, 0)
    )
    view += coverage(np.minimum(nerve, recti), 1.5) * coverage(cone, 1.5) * free * (40.0 - view)
    globe = np.sqrt(x * x + (y + 18) ** 2 + z * z)
    view += coverage(globe - 12.3, 1.5) * (48.0 - view)
    view += coverage(globe - 10.8, 1.5) * (12.0 - view)
    view += coverage(np.sqrt((x / 4.5) ** 2 + ((y + 27) / 2.2) ** 2 + (z / 4.5) ** 2) * 3 - 3, 1.0) * (
        75.0 - view
    )
