"""Does a map point at the bleeding? Maps against masks, each with what chance would reach.

Positive slices only, that is masks with at least a pixel; maps (h, w) at least 0, not normalised; an empty
map finds nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt

from .operating import Rate, wilson

TOLERANCE = 15 / 512  # of the image side: what the pointing game forgives (Zhang et al., IJCV 2018)


class Localisation(NamedTuple):
    """What some maps found of their masks, and what a map that knows nothing would: means over slices."""

    hits: Rate  # peaks within the tolerance of the mask, with Wilson interval and number of slices
    chance_of_hit: float  # share of the image that lies within the tolerance
    energy: float  # share of the map's sum that lies in the mask
    area: float  # share of the image that is mask, so the energy of an even map


def pointing_game(cam: np.ndarray, mask: np.ndarray, tolerance: float = TOLERANCE) -> bool:
    """Whether the highest pixel of the map, the first of equals, is in the mask or so near to it.

    tolerance: share of the side of the image.
    """
    peak = np.unravel_index(cam.argmax(), cam.shape)
    return bool(cam.max() > 0 and _near(mask, tolerance)[peak])


def energy_share(cam: np.ndarray, mask: np.ndarray) -> float:
    """How much of the map's sum lies in the mask (the energy-based pointing game of Wang et al., 2020)."""
    total = cam.sum(dtype=np.float64)
    return float(cam[_inside(mask)].sum(dtype=np.float64) / total) if total > 0 else 0.0


def area_share(mask: np.ndarray, tolerance: float = 0.0) -> float:
    """How much of the image is in the mask, or so near to it: what chance reaches."""
    return float(_near(mask, tolerance).mean())


def localisation(
    cams: Sequence[np.ndarray], masks: Sequence[np.ndarray], tolerance: float = TOLERANCE
) -> Localisation:
    """A map and the mask of the same slice each; ValueError where there is no slice or an empty mask."""
    pairs = list(zip(cams, masks, strict=True))
    if not pairs:
        raise ValueError("no positive slice: nothing to find")
    return Localisation(
        hits=wilson(sum(pointing_game(cam, mask, tolerance) for cam, mask in pairs), len(pairs)),
        chance_of_hit=float(np.mean([area_share(mask, tolerance) for _, mask in pairs])),
        energy=float(np.mean([energy_share(cam, mask) for cam, mask in pairs])),
        area=float(np.mean([area_share(mask) for _, mask in pairs])),
    )


def _inside(mask: np.ndarray) -> np.ndarray:
    inside = mask > 0
    if not inside.any():
        raise ValueError("an empty mask: there is nothing to find")
    return inside


def _near(mask: np.ndarray, tolerance: float) -> np.ndarray:
    """Pixels in the mask or within `tolerance` of it, between centres of pixels."""
    return distance_transform_edt(~_inside(mask)) <= tolerance * max(mask.shape)
