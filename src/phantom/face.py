"""What hangs below and before the skull's vault: bones, muscles, glands, airways, orbits and upper spine.

Everything is an ellipsoid, a tapered tube or a shell in head coordinates of a head 132 mm wide and 166 mm
long inside; other heads stretch it. Positions are ordinary adult anatomy, drawn with one deviate per item.
HU: muscle 50-65, fat -110 to -80, gland 10-40, cortical bone above 1000, spongy bone 200-500, enamel above
2000, air -1000 (Kamalian, Lev & Gupta, Handb Clin Neurol 2016;135:3-20, and textbooks of radiology).
"""

import numpy as np

from .head import AIR, CORTICAL_BONE, CSF, FAT, MUSCLE, Fields, Head
from .shapes import Lattice, capsule, column, coverage, ellipsoid, radius

GLAND, CONNECTIVE, ENAMEL, MARROW, CORD = 18.0, 22.0, 2300.0, 280.0, 32.0

SWELL = 4.5  # mm by which muscles are larger than below: they touch, and fat keeps them apart

# center (|x|, y, z), radii; painted on both sides where |x| > 0
MUSCLES = (
    ((61, -32, -32), (10, 27, 34)),  # temporal
    ((49, -42, -50), (10, 14, 18)),  # its tendon
    ((53, -30, -76), (9, 17, 24)),  # masseter
    ((32, -26, -58), (16, 15, 19)),  # lateral pterygoid
    ((33, -24, -84), (8, 14, 20)),  # medial pterygoid
    ((56, 30, -92), (11, 19, 52)),  # sternocleidomastoid
    ((43, 15, -76), (7, 10, 18)),  # digastric
    ((12, 68, -96), (12, 14, 52)),  # semispinalis
    ((37, 60, -96), (17, 11, 50)),  # splenius
    ((14, 52, -72), (12, 7, 16)),  # small and great rectus
    ((31, 42, -88), (10, 7, 30)),  # oblique muscles
    ((21, 84, -102), (19, 5, 42)),  # trapezius
    ((9, 0, -90), (8, 7, 42)),  # long muscles before the spine
    ((33, -84, -78), (16, 6, 24)),  # muscles of the cheek
    ((17, -20, -70), (5, 10, 14)),  # muscles of the palate
    ((0, -52, -98), (23, 28, 12)),  # tongue and soft palate
)
GLANDS = (
    ((55, -2, -74), (8, 13, 20)),  # parotid
    ((25, 10, -78), (5, 5, 32)),  # carotid sheath
)
BONES = (
    ((43, -18, -77), (3.2, 15, 26)),  # ramus of the mandible
    ((48, -3, -50), (8, 4.5, 6)),  # its condyle
    ((44, -38, -59), (2.4, 4, 12)),  # its coronoid process
    ((0, -14, -42), (17, 13, 13)),  # body of the sphenoid
    ((0, 5, -54), (12, 9, 13)),  # basilar part of the occipital bone
    ((38, -14, -42), (16, 10, 5)),  # floor of the middle fossa
    ((17, 20, -63), (7, 10, 7)),  # occipital condyle
    ((20, 18, -76), (9, 9, 8)),  # lateral mass of the atlas
    ((0, 13, -78), (5.5, 5.5, 14)),  # dens
    ((0, 16, -97), (12, 8, 9)),  # axis
    ((22, 26, -97), (8, 7, 7)),
    ((55, 27, -54), (9, 13, 15)),  # mastoid process
)
TUBES = (  # start, stop, radii
    ((44, -72, -52), (59, -52, -53), 4.5, 2.6),  # zygoma
    ((59, -52, -53), (63, -8, -46), 2.4, 2.8),  # its arch
    ((46, -70, -26), (44, -66, -50), 3.0, 3.5),  # frontozygomatic pillar
    ((12, -34, -50), (15, -29, -80), 1.8, 1.2),  # pterygoid plates
    ((12, -34, -52), (20, -22, -76), 1.5, 1.2),
    ((5, -87, -36), (15, -84, -64), 1.3, 1.8),  # nasal bone and frontal process
    ((6, 7, -76), (17, 13, -76), 3.0, 3.0),  # anterior arch of the atlas
    ((18, 28, -77), (0, 52, -77), 3.2, 3.6),  # its posterior arch
)
AIRWAYS = (
    ((0, -18, -68), (11, 8, 14)),  # nasopharynx
    ((0, -18, -94), (9, 7, 16)),  # oropharynx
)


def _scale(head: Head) -> tuple[float, float, float]:
    return head.half_width / 66.0, head.half_length / 83.0, 1.0


def _blobs(head: Head, fields: Fields, parts, spare: float = 2.0):
    """Ellipsoids that the slab meets: (box, signed distance in mm), one for each side."""
    scale = _scale(head)
    for center, radii in parts:
        for side in (-1, 1) if center[0] else (1,):
            place = (side * center[0] * scale[0], center[1] * scale[1], center[2])
            box = fields.slab.box(place, radii, spare)
            if box is not None:
                yield box, ellipsoid(fields.xyz[box], place, radii)


def _tubes(head: Head, fields: Fields, parts):
    """The same for tapered tubes."""
    scale = _scale(head)
    for start, stop, first, last in parts:
        for side in (-1, 1):
            ends = [
                tuple(p * s for p, s in zip((side * e[0], e[1], e[2]), scale, strict=True))
                for e in (start, stop)
            ]
            box = fields.slab.tube_box(*ends, max(first, last) + 2.0)
            if box is not None:
                yield box, capsule(fields.xyz[box], *ends, first, last)


def _lay(hu: np.ndarray, box, distance: np.ndarray, value, width: float = 1.5) -> None:
    view = hu[box]
    view += coverage(distance, width) * (value - view)


def _bone(distance: np.ndarray) -> np.ndarray:
    """Cortex of 1.5 mm around spongy bone."""
    return CORTICAL_BONE + np.clip((-distance - 1.3) * 0.8, 0.0, 1.0) * (MARROW - CORTICAL_BONE)


def paint_face(head: Head, fields: Fields, skin: np.ndarray, ragged: np.ndarray, hu: np.ndarray) -> None:
    """Everything below the base of the skull and before it, laid on fat; for `skin`, `ragged` see below."""
    if fields.slab.middle > 40.0:
        return
    paint_facial_bones(head, fields, hu)
    paint_canal(head, fields, hu)
    paint_nose(head, fields, hu)
    paint_air_cells(head, fields, skin, ragged, hu)
    for side in (-1, 1):
        paint_orbit(head, fields, side, hu)


def paint_soft_tissue(
    head: Head, fields: Fields, skin: np.ndarray, ragged: np.ndarray, hu: np.ndarray
) -> None:
    """Chewing, neck and facial muscles with thin planes of fat between them, parotid gland and great vessels.

    Laid on before any bone. `skin`: signed distance to the surface, mm; 7 mm below it strands of connective
    tissue begin to run through the fat. `ragged`: smooth deviates for borders.
    """
    deep = np.clip((-skin - 7.0) * 0.3, 0.0, 1.0) * np.clip((-22.0 - fields.z) * 0.1, 0.0, 1.0)
    hu += deep * np.clip(0.65 + 0.5 * ragged, 0.0, 0.95) * (CONNECTIVE - hu)
    outside = fields.depth < -3.0
    nearest, second = np.full((2, *fields.x.shape), 9.0, np.float32)
    for box, distance in _blobs(head, fields, MUSCLES, 4.0):
        first, next_one = nearest[box], second[box]
        np.minimum(next_one, np.maximum(first, distance), out=next_one)
        np.minimum(first, distance, out=first)
    between = coverage(second - nearest - 1.6, 1.5)  # the fat between two muscles
    swollen = nearest + 2.0 * ragged - SWELL
    streaks = head.sulci.texture(fields.x, fields.y, fields.slab.z, 1.5).clip(0.0, 1.6)  # of fat
    marbled = MUSCLE + head.muscle + 3.0 - 14.0 * streaks
    hu += coverage(swollen, 2.2) * (1.0 - 0.8 * between) * outside * (marbled - hu)
    for box, distance in _blobs(head, fields, GLANDS):
        _lay(hu, box, np.where(outside[box], distance, 9.0), GLAND + head.muscle, 2.2)


def paint_facial_bones(head: Head, fields: Fields, hu: np.ndarray) -> None:
    """Mandible, zygoma with its arch, pterygoid plates, nasal bones, teeth, atlas and axis."""
    outside = fields.depth < -0.5
    for box, distance in (*_blobs(head, fields, BONES), *_tubes(head, fields, TUBES)):
        _lay(hu, box, np.where(outside[box], distance, 9.0), _bone(distance), 1.4)
    box = fields.slab.box((0, -62, -92), (34, 36, 24))
    if box is None:
        return
    x, y, z = fields.xyz[box]
    arch = radius(x / 25.0, (y + 52.0) / 36.0)
    ridge = np.abs(arch - 1.0) * 27.0 - 5.0 + np.maximum(y + 46.0, 0.0) + np.maximum(-80.0 - z, -8.0) * 0
    height = np.maximum(np.abs(z + 93.0) - 15.0, 0.0)
    _lay(hu, box, ridge + height, _bone(ridge))
    teeth = ridge + 1.5 + 2.0 * np.abs(np.sin(7.0 * np.arctan2(x, -52.0 - y))) + np.maximum(z + 88.0, 0.0)
    _lay(hu, box, teeth + height, ENAMEL)
    palate = np.maximum(np.abs(z + 81.0) - 1.6, (arch - 1.0) * 27.0) + np.maximum(y + 44.0, 0.0)
    _lay(hu, box, palate, 900.0)


def paint_canal(head: Head, fields: Fields, hu: np.ndarray) -> None:
    """Spinal canal with its cord below the cranial cavity."""
    box = fields.slab.box((0, 34, -85), (15, 13, 32))
    if box is None:
        return
    x, y, z = fields.xyz[box]
    outside = (fields.depth[box] < 0.0) & (z < -58.0)
    _lay(hu, box, np.where(outside, radius(x, (y - 34.0) * 1.1) - 12.5, 9.0), CSF + 8.0)
    _lay(hu, box, np.where(outside, radius(x * 0.8, y - 33.0) - 5.5, 9.0), CORD)


def paint_nose(head: Head, fields: Fields, hu: np.ndarray) -> None:
    """Nasal cavity with septum and turbinates, the pharynx behind it."""
    center, radii = (0, -66, -62), (14.5, 33, 20)
    box = fields.slab.box(center, radii, 2.0)
    if box is not None:
        x, y, z = xyz = fields.xyz[box]
        hollow = fields.depth[box] < -2.0
        cavity = np.where(hollow, np.maximum(ellipsoid(xyz, center, radii), -89.0 - y), 9.0)
        _lay(hu, box, cavity, AIR)
        bend = 1.2 * head.face[0] * np.sin((y + 66.0) / 14.0)
        _lay(hu, box, np.maximum(np.abs(x - bend) - 1.1, cavity), 180.0)
        for height, size in ((-55, 4.2), (-70, 5.0)):
            shell = radius(np.abs(x) - 8.0 - 0.5 * head.face[1], (z - height) * 0.5)
            swollen = size + 0.5 * head.face[2] * np.sign(x) + 0.8 * np.sin(y / 7.0)
            _lay(hu, box, np.maximum(shell - swollen, cavity + 1.5), 45.0)
    for box, distance in _blobs(head, fields, AIRWAYS):
        _lay(hu, box, np.where(fields.depth[box] < -3.0, distance, 9.0), AIR)


def paint_air_cells(head: Head, fields: Fields, skin: np.ndarray, ragged: np.ndarray, hu: np.ndarray) -> None:
    """Air cells of ethmoid, sphenoid, mastoid and frontal bone, maxillary sinuses, ear canals, some fluid."""
    ragged = 1.3 * ragged
    fluid = [25.0 if value > 1.6 else AIR for value in head.face]
    size = [1.0 + 0.14 * value for value in head.face.clip(-2, 2)]
    for side, k in ((-1, 3), (1, 4)):
        maxillary = (18 * size[k], 17 * size[k], 19 * size[k])
        _air(fields, (side * 30, -59, -58), maxillary, hu, fluid[k], ragged, limit=skin)
        mastoid = (9 * size[5], 13 * size[5], 15)
        _air(fields, (side * 55, 30, -42), mastoid, hu, fluid[k + 3], ragged, head.sulci)
        _air(fields, (side * 8, -64, -38), (8, 20, 12), hu, fluid[8], ragged, head.sulci)
        _air(fields, (side * 7, -18, -32), (8 * size[k], 11 * size[9], 9), hu, fluid[9], ragged)
        _air(fields, (side * 11, -84, -14), (10 * size[k + 7], 3.4, 10 * size[12]), hu, AIR, ragged)
        _air(fields, (side * 66, 12, -44), (13, 3, 3), hu, AIR, ragged)


def _air(
    fields: Fields,
    center,
    radii,
    hu: np.ndarray,
    content: float,
    ragged: np.ndarray,
    honeycomb: Lattice | None = None,
    limit: np.ndarray | None = None,
) -> None:
    box = fields.slab.box(center, radii, 4.0)
    if box is None:
        return
    x, y, _ = xyz = fields.xyz[box]
    cell = ellipsoid(xyz, center, radii) + ragged[box]
    if limit is not None:  # flat against the nose, slanted behind, 7 mm below the skin of the cheek
        side = np.abs(x)
        cell = np.maximum(cell, np.maximum(15.0 - side, 0.55 * side + 0.8 * y + 13.0))
        cell = np.maximum(cell, limit[box] + 7.0)
    hollow = fields.depth[box] < -2.0
    view = hu[box]
    if honeycomb is None:
        view += coverage(cell - 1.1, 1.5) * hollow * (700.0 - view)
    else:  # walls between the cells, and a ragged border
        walls = np.abs(honeycomb.sample(x, y, fields.slab.z, 2.2))
        cell = cell + 3.0 * walls - 1.0
        view += coverage(cell - 1.5, 2.5) * hollow * (600.0 - view)
        cell = np.maximum(cell, 1.0 - walls * 2.8)
    view += coverage(cell, 1.5) * hollow * (content - view)


def paint_orbit(head: Head, fields: Fields, side: int, hu: np.ndarray) -> None:
    """Bony wall, fat, globe (vitreous 5-15 HU) with lens (60-90 HU), optic nerve and muscles in the plane."""
    center = (side * 32 * head.half_width / 66.0, -62 * head.half_length / 83.0, -33)
    box = fields.slab.box(center, 30)
    if box is None:
        return
    x, y, z = fields.xyz[box] - column(center)
    x *= side
    free = fields.depth[box] < -1.5
    axis = x + 0.3 * y + 3
    cone = np.maximum(radius(axis * 1.05, z) - 17.0 + 0.42 * np.maximum(y, 0), -y - 40)
    view = hu[box]
    wall = np.clip((axis + 12.0) * 0.06, 0.3, 1.0)  # the lamina papyracea is thin
    view += coverage(cone - 2.2 * wall, 1.5) * (y > -16) * free * (1100.0 * wall - view)
    view += coverage(cone, 1.5) * free * (FAT - view)
    nerve = radius(axis, z * 0.8) - 2.2 + np.maximum(-y - 8, 0) + np.maximum(y - 30, 0)
    recti = radius(np.abs(axis) - 11 + 0.26 * np.maximum(y, 0), z * 0.35) - 2.0 + np.maximum(-y - 10, 0)
    view += coverage(np.minimum(nerve, recti), 1.5) * coverage(cone, 1.5) * free * (42.0 - view)
    globe = radius(radius(x, y + 18), z)
    view += coverage(globe - 12.3, 1.5) * (50.0 - view)
    view += coverage(globe - 10.8, 1.5) * (10.0 - view)
    lens = np.sqrt((x / 4.5) ** 2 + ((y + 26.5) / 2.2) ** 2 + (z / 4.5) ** 2)
    view += coverage(lens * 3 - 3, 1.0) * (75.0 - view)
