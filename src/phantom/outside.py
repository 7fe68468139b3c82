"""The head without its brain: scalp, skull and skull base; the face hangs below (face.py)."""

import numpy as np

from .face import paint_face, paint_soft_tissue
from .head import CORTICAL_BONE, DIPLOE, FAT, Fields, Head
from .shapes import capsule, column, coverage, from_center

SKIN, SWELLING = 38.0, 48.0


def paint_outside(head: Head, fields: Fields, background: np.ndarray) -> np.ndarray:
    """Skull, face and scalp before a background (air, head holder), HU; the cavity is left to the brain."""
    skin = skin_distance(head, fields)
    firm = skin > -1.8
    if fields.slab.middle < 20.0:  # nose and ears are cartilage and skin
        ahead, beside = head.half_length + head.skull + head.scalp, head.half_width + head.skull + head.scalp
        firm |= (fields.y < 1.0 - ahead) | (np.abs(fields.x) > beside + 1.0)
    hu = np.where(firm, np.float32(SKIN), np.float32(FAT))
    if fields.slab.middle < 60.0:
        paint_galea(fields, skin, hu)
    if head.swelling[3] > 0:
        paint_swelling(head, fields, hu)
    low = np.clip((-6.0 - fields.z) * 0.1, 0.0, 1.0)
    if low.max() > 0:
        ragged = head.lumps.texture(fields.x, fields.y, fields.slab.z, 1.7)
        paint_soft_tissue(head, fields, skin, ragged, hu)
    paint_skull(head, fields, low, hu)
    if low.max() > 0:
        paint_face(head, fields, skin, ragged, hu)
    return background + coverage(skin, fields.soften) * (hu - background)


def skin_distance(head: Head, fields: Fields) -> np.ndarray:
    """Signed distance to the surface of the head, mm: vault, narrower face and neck, nose, ears, swelling."""
    x, y, z = fields.x, fields.y, fields.z
    grow = head.skull + head.scalp
    radii = (head.half_width + grow, head.half_length + grow, head.height + grow)
    if fields.slab.middle > 40.0:
        skin = fields.vault - grow
    else:
        down = np.clip((-18.0 - z) * np.float32(1 / 75.0), 0.0, 1.2)
        width = 1.0 + (head.egg + 0.16 * down) / radii[1] * y - 0.04 * down
        back = 1.0 + down * np.float32(0.30) * (y > 0)
        skin = from_center(np.stack([x / width, y * back, np.where(z < 0, z * np.float32(0.24), z)]), radii)
        _add_nose_and_ears(head, fields, radii, skin)
    if head.swelling[3] > 0:
        skin -= head.swelling[3] * _swollen(head, fields)
    return skin


def _add_nose_and_ears(head: Head, fields: Fields, radii, skin: np.ndarray) -> None:
    front = -radii[1]
    nose = ((0, front + 12.0, -36), (0, front + 5.0 - float(np.clip(head.face[13], -2, 2)), -68), 6.0, 12.0)
    box = fields.slab.tube_box(nose[0], nose[1], 14.0)
    if box is not None:
        tube = capsule(fields.xyz[box], *nose)
        np.minimum(skin[box], tube, out=skin[box])
    for side in (-1, 1):
        base = side * (radii[0] - 3.0)
        box = fields.slab.box((base, 22, -36), (14, 20, 28))
        if box is None:
            continue
        flap = (base, 12, 0), (base + side * (7.0 + 2.0 * head.face[14]), 34, 0), 2.6, 1.8
        upright = fields.xyz[box] * column((1, 1, 0))
        ear = capsule(upright, *flap) + np.maximum(np.abs(fields.z[box] + 36.0) - 24.0, 0.0)
        np.minimum(skin[box], ear, out=skin[box])


def paint_galea(fields: Fields, skin: np.ndarray, hu: np.ndarray) -> None:
    """Galea and scalp muscles: a sheet of soft tissue in the fat, thick at the sides and low down."""
    sheet = np.abs(skin + 4.2) - np.clip((34.0 - fields.z) * 0.03, 0.0, 1.4)
    hu += coverage(sheet, 1.2) * (45.0 - hu)


def _swollen(head: Head, fields: Fields) -> np.ndarray:
    return np.exp(fields.squared(head.swelling[:3]) * (-0.5 / head.swelling[4] ** 2))


def paint_swelling(head: Head, fields: Fields, hu: np.ndarray) -> None:
    """Subgaleal haematoma or oedema of the scalp after trauma, 30-70 HU; outside the skull, so no label."""
    hu += np.clip(2.2 * _swollen(head, fields) - 0.3, 0.0, 1.0) * (SWELLING - hu)


def paint_skull(head: Head, fields: Fields, low: np.ndarray, hu: np.ndarray) -> None:
    """Two tables of cortical bone around diploe, 3-10 mm (Lynnerup, Forensic Sci Int 2001;117:45-51).

    Thinner at the temples, thicker before and behind, uneven; cortical bone 1000-1900, diploe 300-900 HU.
    """
    out = -fields.depth
    uneven = head.lumps.texture(fields.x, fields.y, fields.slab.z, 0.45)
    ahead = fields.y * np.float32(1.0 / head.half_length)
    vault = head.skull * (0.78 + 0.36 * ahead * ahead + 0.17 * np.clip(uneven, -2.0, 2.0))
    thickness = vault * (1.0 - low) + low * _base_thickness(fields) if low.max() > 0 else vault
    bone = coverage(out - thickness, fields.soften)
    if low.max() > 0:  # before the frontal lobes the face begins
        bone *= 1.0 - np.clip((-fields.z - 12.0) * 0.2, 0, 1) * (fields.y < -48) * (out > 6)
    marrow = np.clip(1.7 - np.abs(out / thickness - 0.5) * 5.0, 0.0, 1.0) * np.clip(
        thickness * 0.4 - 1.0, 0.0, 1.0
    )
    hu += bone * (CORTICAL_BONE + marrow * (DIPLOE + 90.0 * uneven - CORTICAL_BONE) - hu)


def _base_thickness(fields: Fields) -> np.ndarray:
    """Thickness of the base, mm: petrous pyramids and clivus are solid."""
    side = np.abs(fields.x)
    petrous = np.exp(-(((fields.y - 6.0 - 0.45 * side) / 9.0) ** 2)) * np.clip((side - 12.0) * 0.25, 0.0, 1.0)
    clivus = np.clip((17.0 - side) * 0.3, 0.0, 1.0) * (np.abs(fields.y - 12.0) < 14)
    return 3.4 + 10.5 * petrous + 9.0 * clivus
