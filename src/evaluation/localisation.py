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


class MapScore(NamedTuple):
    """One map against one mask, and what a map that knows nothing would reach."""

    hit: bool  # the peak is within the tolerance of the mask
    chance_of_hit: float  # share of the image that is
    energy: float  # share of the map's sum that lies in the mask
    area: float  # share of the image that is mask, so the energy of an even map


class Localisation(NamedTuple):
    """Many of them: the hit rate with Wilson's interval and the number of slices, and means."""

    hits: Rate
    chance_of_hit: float
    energy: float
    area: float


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


def area_share(mask: np.ndarray, tolerance: float = 0.0, within: np.ndarray | None = None) -> float:
    """How much of the image, or of `within` (h, w) bool, is in the mask or so near to it: what chance
    reaches.
    """
    near = _near(mask, tolerance)
    return float(near.mean() if within is None else near[within].mean())


def score_map(
    cam: np.ndarray, mask: np.ndarray, tolerance: float = TOLERANCE, within: np.ndarray | None = None
) -> MapScore:
    """Of a slice; ValueError for an empty mask, which leaves nothing to find.

    within: where chance may point, for instance the head; None: anywhere.
    """
    return MapScore(
        pointing_game(cam, mask, tolerance),
        area_share(mask, tolerance, within),
        energy_share(cam, mask),
        area_share(mask, within=within),
    )


def central_map(within: np.ndarray) -> np.ndarray:
    """(h, w) bool -> (h, w): a map that knows nothing but where the middle is. A Gaussian with the mean and
    half the standard deviation of these pixels along each axis, 0 beyond them.
    """
    rows, columns = np.nonzero(within)
    axes = np.ogrid[: within.shape[0], : within.shape[1]]
    spread = [
        ((axis - own.mean()) / max(own.std() / 2, 0.5)) ** 2
        for axis, own in zip(axes, (rows, columns), strict=True)
    ]
    return np.exp(-sum(spread) / 2) * within


def summarise(scores: Sequence[MapScore]) -> Localisation:
    """Of at least one slice.  The interval takes slices as independent, which those of a study are not."""
    hits, *others = zip(*scores, strict=True)
    return Localisation(wilson(sum(hits), len(hits)), *(float(np.mean(values)) for values in others))


def _inside(mask: np.ndarray) -> np.ndarray:
    inside = mask > 0
    if not inside.any():
        raise ValueError("an empty mask: there is nothing to find")
    return inside


def _near(mask: np.ndarray, tolerance: float) -> np.ndarray:
    """Pixels in the mask or within `tolerance` of it, between centres of pixels."""
    return distance_transform_edt(~_inside(mask)) <= tolerance * max(mask.shape)
