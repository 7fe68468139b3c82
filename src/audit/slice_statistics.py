"""Numbers that say how one CT slice of a head looks: shape, densities, noise, sharpness, fine structure.

They compare data sets (`realism.py`) and judge no patient. Every number is taken from exact HU at the
stored resolution, lengths in mm, noise in pixels; NaN where a slice does not show what is measured (no closed
skull, no white matter).
"""

from dataclasses import dataclass

import cv2
import numpy as np

from ..data.crop import LEAST_SHARE, head_mask
from ..data.hu import PADDED_BELOW
from ..data.square import AIR

GRID = 128  # of the masks
BRAIN_HU = (0.0, 80.0)
TOP_HU = 3071
BONE_HU = 300
RAYS, RAY_STEP, RAY_LENGTH = 96, 0.25, 130.0  # around the head; mm along a ray
PATCH = 16  # pixels, 7.8 mm in the contest's usual files
WHITE_MATTER = (20.0, 36.0)  # HU, mean of a patch
LEAST_PATCHES = 8
QUIET = 0.25  # share of the patches, those with least variance, taken as homogeneous
BANDS = (0.5, 1.0, 2.0, 4.0)  # mm, the smaller sigma of a difference of Gaussians


@dataclass(frozen=True)
class Regions:
    """Masks (rows, columns) bool: `head` without holes, `inside` the skull 6 mm from bone (empty where the
    skull is not closed); the head's box and the middle of the rays in pixels.
    """

    head: np.ndarray
    inside: np.ndarray
    box: tuple[int, int, int, int]  # left, top, width, height
    middle: tuple[float, float]  # column, row


def find_regions(hu: np.ndarray, pixel_mm: float) -> Regions | None:
    """hu (rows, columns) int16; None where the slice shows no head."""
    mask, step = head_mask(hu)
    if mask is None or mask.mean() < LEAST_SHARE:
        return None
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros_like(mask), contours, -1, 1, cv2.FILLED)
    size = hu.shape[::-1]
    head = cv2.resize(filled, size, interpolation=cv2.INTER_NEAREST)
    inside = _inside_skull(hu[::step, ::step], filled, pixel_mm * step)
    left, top, width, height = (step * value for value in cv2.boundingRect(filled))
    if inside.any():
        row, column = (step * float(where.mean()) for where in np.nonzero(inside))
    else:
        row, column = top + height / 2, left + width / 2
    full = cv2.resize(inside, size, interpolation=cv2.INTER_NEAREST)
    return Regions(head.astype(bool), full.astype(bool), (left, top, width, height), (column, row))


def _inside_skull(hu: np.ndarray, head: np.ndarray, pixel_mm: float) -> np.ndarray:
    """uint8 on the coarse grid: the largest piece that closed bone parts from the outside, less 6 mm."""
    bone = ((hu > BONE_HU) & (head > 0)).astype(np.uint8)
    bone = np.pad(cv2.morphologyEx(bone, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8)), 1)
    count, pieces = cv2.connectedComponents(1 - bone, connectivity=4)
    sizes = np.bincount(pieces.ravel(), minlength=count)
    sizes[pieces[0, 0]] = sizes[np.unique(pieces[bone > 0])] = 0  # the outside, and bone itself
    inside = (pieces[1:-1, 1:-1] == sizes.argmax()).astype(np.uint8)
    if sizes.max() < 0.1 * head.sum():
        return np.zeros_like(head)
    reach = max(round(6 / pixel_mm), 1)
    return cv2.erode(inside, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2))


def slice_statistics(hu: np.ndarray, pixel_mm: float, regions: Regions) -> dict[str, float]:
    """hu (rows, columns) int16 -> one number a statistic, NaN where it cannot be measured."""
    values = np.clip(hu, AIR, TOP_HU).astype(np.float32)
    area = pixel_mm**2
    in_head = values[regions.head]
    bone = in_head > BONE_HU
    _, _, width, height = regions.box
    found = {
        "padded_share": float((hu <= PADDED_BELOW).mean()),
        "air_share": float((values < -500).mean()),
        "holder_share": float((values[~regions.head] > -500).mean()),
        "head_cm2": float(regions.head.sum() * area / 100),
        "head_length_over_width": height / width,
        "air_in_head_share": float((in_head < -500).mean()),
        "fat_share": float(((in_head > -150) & (in_head < -30)).mean()),
        "bone_share": float(bone.mean()),
        "bone_median_hu": float(np.median(in_head[bone])) if bone.any() else np.nan,
        "bone_p95_hu": float(np.percentile(in_head[bone], 95)) if bone.any() else np.nan,
    }
    return (
        found
        | _brain(values, pixel_mm, regions)
        | white_matter_noise(values, regions.inside)
        | edges(values, pixel_mm, regions)
    )


def _brain(values: np.ndarray, pixel_mm: float, regions: Regions) -> dict[str, float]:
    """Densities and structure inside the skull, after the brain window; bands in HU of standard deviation."""
    names = [f"band_{band:g}mm_hu" for band in BANDS]
    inside = regions.inside
    shares = ("brain_mean_hu", "brain_sd_hu", "csf_share", "bright_share", "asymmetry_hu")
    if inside.sum() * pixel_mm**2 < 500:
        return dict.fromkeys((*shares, *names), np.nan)
    brain = np.clip(values, *BRAIN_HU)
    blurred = {sigma: cv2.GaussianBlur(brain, (0, 0), sigma / pixel_mm) for sigma in (*BANDS, 2 * BANDS[-1])}
    smooth = blurred[2.0][inside]
    middle = round(regions.middle[0])
    half = min(middle, values.shape[1] - middle)
    view, where = blurred[4.0][:, middle - half : middle + half], inside[:, middle - half : middle + half]
    both = where & where[:, ::-1]
    found = {
        "brain_mean_hu": float(smooth.mean()),
        "brain_sd_hu": float(smooth.std()),
        "csf_share": float((smooth < 15).mean()),
        "bright_share": float((smooth > 50).mean()),
        "asymmetry_hu": float(np.abs(view - view[:, ::-1])[both].mean()) if both.any() else np.nan,
    }
    for name, band in zip(names, BANDS, strict=True):
        found[name] = float((blurred[band] - blurred[2 * band])[inside].std())
    return found


def white_matter_noise(values: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    """Noise where the brain is homogeneous: standard deviation in HU, autocorrelation at 1 to 4 pixels.

    Patches of 16 pixels whose mean is that of white matter, each less its own plane; of these
    the quarter with the least variance, whose median variance and summed lag products are given. Choosing
    the quietest and taking out a plane lowers all five numbers a little, in every data set alike.
    """
    names = ["noise_sd_hu", *(f"noise_correlation_{lag}px" for lag in range(1, 5))]
    patches = np.concatenate([_patches(values, inside, start) for start in (0, PATCH // 2)])
    flat = patches.reshape(-1, PATCH**2).astype(np.float64)
    mean = flat.mean(axis=1)
    flat = flat[(mean > WHITE_MATTER[0]) & (mean < WHITE_MATTER[1])]
    if len(flat) < LEAST_PATCHES:
        return dict.fromkeys(names, np.nan)
    y, x = np.mgrid[:PATCH, :PATCH] / PATCH - 0.5
    plane, _ = np.linalg.qr(np.stack([np.ones_like(x), x, y], -1).reshape(-1, 3))
    rest = flat - flat @ plane @ plane.T
    variance = (rest**2).sum(axis=1) / (PATCH**2 - 3)
    quiet = np.argsort(variance)[: max(int(QUIET * len(variance)), 2)]
    chosen = rest[quiet].reshape(-1, PATCH, PATCH)
    power = (chosen**2).mean()
    found = [float(np.sqrt(np.median(variance[quiet])))]
    for lag in range(1, 5):
        along = (chosen[:, :, lag:] * chosen[:, :, :-lag]).mean()
        down = (chosen[:, lag:] * chosen[:, :-lag]).mean()
        found.append(float((along + down) / 2 / power))
    return dict(zip(names, found, strict=True))


def _patches(values: np.ndarray, inside: np.ndarray, start: int) -> np.ndarray:
    """(n, PATCH, PATCH): the tiles of a grid from `start` on that lie wholly inside."""
    rows, columns = ((side - start) // PATCH for side in values.shape)
    cut = np.s_[start : start + rows * PATCH, start : start + columns * PATCH]
    tiles, masks = (
        image[cut].reshape(rows, PATCH, columns, PATCH).swapaxes(1, 2) for image in (values, inside)
    )
    return tiles[masks.all(axis=(2, 3))]


def edges(values: np.ndarray, pixel_mm: float, regions: Regions) -> dict[str, float]:
    """Profiles along rays from inside the skull: 10-90 % widths in mm of the edges brain to bone and skin to
    air, thickness of bone and scalp in mm; medians over the rays that show them. Skin and scalp on the upper
    half of the image only, where no holder touches them.
    """
    names = ("skull_edge_mm", "skin_edge_mm", "skull_mm", "scalp_mm")
    if not regions.inside.any():
        return dict.fromkeys(names, np.nan)
    count = round(RAY_LENGTH / RAY_STEP)
    above_air = np.where(regions.head, values - AIR, 0).astype(np.float32)  # beyond the image comes 0 too
    radius = RAY_LENGTH / pixel_mm
    flags = cv2.WARP_POLAR_LINEAR | cv2.INTER_LINEAR | cv2.WARP_FILL_OUTLIERS
    profiles = cv2.warpPolar(above_air, (count, RAYS), regions.middle, radius, flags) + AIR
    found = np.array([_profile(ray, upper=angle >= RAYS // 2) for angle, ray in enumerate(profiles)])
    enough = np.isfinite(found).sum(axis=0) >= 8
    return {
        name: float(np.nanmedian(found[:, place])) if enough[place] else np.nan
        for place, name in enumerate(names)
    }


def _profile(ray: np.ndarray, upper: bool) -> tuple[float, float, float, float]:
    """Widths and thicknesses in mm along one ray (radii,) HU, inside to outside."""
    per_mm = round(1 / RAY_STEP)
    bone = np.flatnonzero(ray > BONE_HU)
    nothing = (np.nan,) * 4
    if len(bone) == 0 or bone[0] < 12 * per_mm or bone[-1] + 8 * per_mm >= len(ray):
        return nothing
    first, last = int(bone[0]), int(bone[-1])
    skull = _rise(ray[first - 8 * per_mm : first + 6 * per_mm], 8 * per_mm)
    if not upper:
        return skull, np.nan, (last - first) * RAY_STEP, np.nan
    tissue = np.flatnonzero(ray > -500)
    skin = int(tissue[-1])
    if skin + 8 * per_mm >= len(ray):
        return skull, np.nan, (last - first) * RAY_STEP, np.nan
    outside = ray[skin - 3 * per_mm : skin + 8 * per_mm][::-1]  # not as deep as bone
    return skull, _rise(outside, 8 * per_mm), (last - first) * RAY_STEP, (skin - last) * RAY_STEP


def _rise(profile: np.ndarray, before: int) -> float:
    """10-90 % width in mm of a rise that begins near index `before`: from the median of the first half before
    it to the first maximum after it.
    """
    base = float(np.median(profile[: before // 2]))
    after = profile[before - 1 :]
    falling = np.flatnonzero(np.diff(after) < 0)
    peak = before - 1 + (int(falling[0]) if len(falling) else len(after) - 1)
    low, high = base + 0.1 * (profile[peak] - base), base + 0.9 * (profile[peak] - base)
    if profile[peak] <= base:
        return float("nan")
    starts, ends = np.flatnonzero(profile[:peak] <= low), np.flatnonzero(profile[: peak + 1] >= high)
    if len(starts) == 0 or len(ends) == 0:
        return float("nan")
    start = int(starts[-1])
    end = int(ends[ends > start][0])
    return (_cross(profile, end - 1, high) - _cross(profile, start, low)) * RAY_STEP


def _cross(profile: np.ndarray, index: int, level: float) -> float:
    """Where between `index` and the next sample the profile reaches `level`."""
    here, there = float(profile[index]), float(profile[index + 1])
    return index + (level - here) / (there - here) if there != here else float(index)
