"""The random numbers of an augmented batch: drawn in one place, applied by OpenCV or on the device.

Geometry is a matrix (and a coarse grid of moves) on the HU image, applied once to the slice and its
neighbours alike. Scale and shift of HU are the same as another center and width of every window, so they and
window jitter cost nothing: window(a HU + s; c, w) = window(HU; (c - s) / a, w / a).
"""

from dataclasses import dataclass, fields
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, model_validator

from ...config import Count, Fraction, NotNegative, Positive, StrictModel

FAMILIES = ("affine", "elastic", "intensity", "noise", "blur", "erase")


def rising(bounds: tuple[float, float]) -> tuple[float, float]:
    """The same; ValueError where the first is above the second."""
    if bounds[0] > bounds[1]:
        raise ValueError(f"{bounds[0]} is above {bounds[1]}")
    return bounds


class Augmentation(StrictModel):
    """Random changes of one training sample: geometry on HU, then HU, then windows.

    Names without a unit are probabilities. The slices of a 2.5D stack share one draw.
    """

    one_of: bool = False
    """at most one of affine, elastic, intensity, noise, blur, erase a sample, or none"""
    hflip: Fraction = 0.5
    """probability of a mirror image, left and right changed"""
    vflip: Fraction = 0.0
    """probability of a mirror image, top and bottom changed"""
    transpose: Fraction = 0.0
    """probability that rows become columns"""
    reverse: Fraction = 0.0
    """probability that the neighbours of a slice change sides"""
    affine: Fraction = 1.0
    """probability of rotation, scale, aspect, shear and shift"""
    rotate_deg: NotNegative = 15.0
    """largest angle, degrees either way"""
    scale: Fraction = 0.1
    """largest change of size"""
    aspect: Fraction = 0.0
    """largest change of shape: one axis longer, the other shorter"""
    shear_deg: NotNegative = 0.0
    """largest shear, degrees either way"""
    shift: Fraction = 0.05
    """largest shift, of the image side"""
    crop: Annotated[tuple[Positive, Positive], AfterValidator(rising)] | None = None
    """smallest and largest side of a random square, as shares of the image side"""
    elastic: Fraction = 0.0
    """probability of an elastic deformation"""
    elastic_size: Fraction = 0.03
    """largest move of a grid point, of the image side"""
    elastic_cells: Count = 4
    """grid points along a side"""
    intensity: Fraction = 1.0
    """probability of changes of HU and windows"""
    hu_scale: Fraction = 0.0
    """HU times 1 +- this"""
    hu_shift: NotNegative = 0.0
    """HU plus or minus this"""
    window_center_jitter: NotNegative | tuple[NotNegative, ...] = 0.0
    """largest move of a center, HU, each window by itself; one value or one per window"""
    window_width_jitter: Fraction | tuple[Fraction, ...] = 0.0
    """largest change of a width, as its share, likewise"""
    noise: Fraction = 0.0
    """probability of white noise"""
    noise_hu: NotNegative = 10.0
    """largest standard deviation, HU"""
    blur: Fraction = 0.0
    """probability of Gaussian blur"""
    blur_px: NotNegative = 1.5
    """largest standard deviation, pixels of the network's input"""
    sharpen: Fraction = 0.0
    """probability that the windowed image is sharpened"""
    sharpness: NotNegative = 2.0
    """sharpen: how far from its blurred copy an image comes to lie; 1: where it is, 2: twice as far"""
    erase: Fraction = 0.0
    """probability of rectangles filled with air"""
    erase_holes: Annotated[tuple[Count, Count], AfterValidator(rising)] = (1, 4)
    """fewest and most of them"""
    erase_side: Annotated[tuple[Fraction, Fraction], AfterValidator(rising)] = (0.05, 0.2)
    """shortest and longest side, of the image side"""
    cutmix: Fraction = 0.0
    """share of samples with a rectangle of another one (CutMix)"""
    mixup: Fraction = 0.0
    """share of samples averaged with another one (mixup)"""
    mix_alpha: Positive = 1.0
    """parameter of the Beta distribution that the shares of both are drawn from"""

    @model_validator(mode="after")
    def _shares(self) -> "Augmentation":
        if self.cutmix + self.mixup > 1:
            raise ValueError("cutmix and mixup are shares of the samples: together at most 1")
        return self


@dataclass(frozen=True)
class Draw:
    """The random numbers of n samples."""

    matrices: np.ndarray  # (n, 2, 3) float64, output pixel -> input pixel
    moves: np.ndarray  # (n, 2, cells, cells) float32, x and y in input pixels; 0 cells without elastic
    hu_scale: np.ndarray  # (n,) float64
    hu_shift: np.ndarray  # (n,) float64
    windows: np.ndarray  # (n, windows, 2) float32, center and width, hu_scale and hu_shift not included
    noise: np.ndarray  # (n,) float64, standard deviation in HU
    blur: np.ndarray  # (n,) float64, standard deviation in output pixels
    holes: np.ndarray  # (n, holes, 4) int64: top, left, bottom, right in output pixels
    reverse: np.ndarray  # (n,) bool: the neighbours change sides
    noise_seeds: np.ndarray  # (n,) int64
    partners: np.ndarray  # (n,) int64: number of the sample each is mixed with, never its own
    kept: np.ndarray  # (n,) float64: share of its labels a sample keeps; 1 where nothing is mixed in
    pastes: np.ndarray  # (n, 4) int64, as holes: what comes from the partner; without area it is mixup
    sharpness: np.ndarray  # (n,) float64; 1 where nothing is sharpened

    def part(self, rows: np.ndarray | slice) -> "Draw":
        """The numbers of some samples."""
        return Draw(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def shifted_windows(self) -> np.ndarray:
        """(n, windows, 2) float32: what the windows become when HU are scaled and shifted."""
        scale, shift = self.hu_scale[:, None], self.hu_shift[:, None]
        return np.stack(
            [(self.windows[..., 0] - shift) / scale, self.windows[..., 1] / scale], axis=2
        ).astype(np.float32)


def draw(
    rng: np.random.Generator,
    config: Augmentation,
    n: int,
    size: int,
    windows: np.ndarray,
    stored: int | None = None,
    crop: float = 1.0,
) -> Draw:
    """Draw the augmentation of n images of `stored` pixels a side that become `size` pixels.

    windows: (w, 2) or (n, w, 2), center and width in HU; crop: side of the middle square that is seen.
    """
    stored = size if stored is None else stored
    on = _families(rng, config, n)
    matrices = _matrices(rng, config, on["affine"], n, size, stored, crop)
    moves = np.zeros((n, 2, config.elastic_cells if config.elastic else 0, config.elastic_cells), np.float32)
    if config.elastic:
        most = config.elastic_size * stored
        moves[:] = rng.uniform(-most, most, moves.shape) * on["elastic"][:, None, None, None]
    return Draw(
        matrices,
        moves,
        1 + rng.uniform(-config.hu_scale, config.hu_scale, n) * on["intensity"],
        rng.uniform(-config.hu_shift, config.hu_shift, n) * on["intensity"],
        _jittered(rng, config, on["intensity"], n, windows),
        rng.uniform(0, config.noise_hu, n) * on["noise"],
        rng.uniform(0, config.blur_px, n) * on["blur"],
        _holes(rng, config, on["erase"], n, size),
        rng.random(n) < config.reverse,
        rng.integers(2**62, size=n),
        *_mixing(rng, config, n, size),
        np.where(rng.random(n) < config.sharpen, config.sharpness, 1.0),
    )


def _families(rng: np.random.Generator, config: Augmentation, n: int) -> dict[str, np.ndarray]:
    """Which families change which samples, (n,) bool each."""
    chances = {name: getattr(config, name) for name in FAMILIES}
    if not config.one_of:
        return {name: rng.random(n) < chance for name, chance in chances.items()}
    names = [name for name, chance in chances.items() if chance]
    choice = rng.integers(len(names) + 1, size=n)  # the last number is none of them
    return {name: choice == names.index(name) if name in names else np.zeros(n, bool) for name in FAMILIES}


def _matrices(
    rng: np.random.Generator,
    config: Augmentation,
    on: np.ndarray,
    n: int,
    size: int,
    stored: int,
    crop: float,
) -> np.ndarray:
    """(n, 2, 3): crop, then flips and transposition, then aspect, shear, rotation, scale about the middle."""

    def between(most: float) -> np.ndarray:
        return rng.uniform(-most, most, n) * on

    angle, shear = np.deg2rad(between(config.rotate_deg)), np.tan(np.deg2rad(between(config.shear_deg)))
    zoom = 1.0 / np.maximum(1 + between(config.scale), 0.1)
    aspect = np.sqrt(np.maximum(1 + between(config.aspect), 0.1))
    shift = np.stack([between(config.shift), between(config.shift)], axis=1) * stored
    linear = np.zeros((n, 2, 2))
    linear[:, 0, 0], linear[:, 0, 1] = np.cos(angle), -np.sin(angle)
    linear[:, 1, 0], linear[:, 1, 1] = np.sin(angle), np.cos(angle)
    linear = linear @ _each(n, 1.0, shear, 0.0, 1.0) @ _each(n, zoom * aspect, 0.0, 0.0, zoom / aspect)
    flip_x = np.where(rng.random(n) < config.hflip, -1.0, 1.0)
    flip_y = np.where(rng.random(n) < config.vflip, -1.0, 1.0)
    linear = linear @ _each(n, flip_x, 0.0, 0.0, flip_y)
    transposed = rng.random(n) < config.transpose
    linear[transposed] = linear[transposed][:, :, ::-1]
    side = np.full(n, crop)
    if config.crop is not None:
        side = rng.uniform(*config.crop, n) * crop
        shift += rng.uniform(-0.5, 0.5, (n, 2)) * ((1 - side) * stored)[:, None]
    linear *= (side * stored / size)[:, None, None]
    matrices = np.empty((n, 2, 3))
    matrices[:, :, :2] = linear
    matrices[:, :, 2] = (stored - 1) / 2 - linear.sum(2) * (size - 1) / 2 + shift
    return matrices


def middle_matrix(size: int, stored: int, crop: float) -> np.ndarray:
    """(2, 3): the middle square of an image without any change; output pixel -> input pixel."""
    scale = crop * stored / size
    offset = (stored - 1) / 2 - scale * (size - 1) / 2
    return np.array([[scale, 0.0, offset], [0.0, scale, offset]])


def _each(n: int, a, b, c, d) -> np.ndarray:
    """(n, 2, 2) of [[a, b], [c, d]], each a number or (n,)."""
    matrix = np.empty((n, 2, 2))
    matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 1, 0], matrix[:, 1, 1] = a, b, c, d
    return matrix


def _jittered(
    rng: np.random.Generator, config: Augmentation, on: np.ndarray, n: int, windows: np.ndarray
) -> np.ndarray:
    windows = np.broadcast_to(windows, (n, *windows.shape[-2:]))
    shape = windows.shape[:2]
    center = np.broadcast_to(np.asarray(config.window_center_jitter), shape)
    width = np.broadcast_to(np.asarray(config.window_width_jitter), shape)
    centers = windows[..., 0] + rng.uniform(-1, 1, shape) * center * on[:, None]
    widths = windows[..., 1] * (1 + rng.uniform(-1, 1, shape) * np.minimum(width, 0.95) * on[:, None])
    return np.stack([centers, widths], axis=2).astype(np.float32)


def _holes(rng: np.random.Generator, config: Augmentation, on: np.ndarray, n: int, size: int) -> np.ndarray:
    """(n, holes, 4); a hole that is not cut has no area."""
    if not config.erase:
        return np.zeros((n, 0, 4), np.int64)
    few, many = config.erase_holes
    sides = rng.uniform(*config.erase_side, (n, many, 2)) * size
    cut = (np.arange(many) < rng.integers(few, many + 1, n)[:, None]) & on[:, None]
    corners = rng.uniform(0, size, (n, many, 2)) - sides / 2
    holes = np.concatenate([corners, corners + sides], axis=2).round().clip(0, size)
    return (holes * cut[..., None]).astype(np.int64)


def _mixing(
    rng: np.random.Generator, config: Augmentation, n: int, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Partners, shares kept and pasted rectangles of CutMix (Yun et al., ICCV 2019) and mixup (Zhang et al.,
    ICLR 2018); the share of a CutMix is that of the area, after rounding.
    """
    order = rng.permutation(n)
    partners = np.empty(n, np.int64)
    partners[order] = np.roll(order, 1)
    kind, share = rng.random(n), rng.beta(config.mix_alpha, config.mix_alpha, n)
    cut, mixed = kind < config.cutmix, kind < config.cutmix + config.mixup
    if n == 1:
        cut = mixed = np.zeros(1, bool)
    side = (np.sqrt(1 - share) * size).round().astype(np.int64)
    corners = (rng.random((n, 2)) * (size - side)[:, None]).astype(np.int64)
    pastes = np.concatenate([corners, corners + side[:, None]], axis=1) * cut[:, None]
    kept = np.where(cut, 1 - (side / size) ** 2, np.where(mixed, share, 1.0))
    return partners, kept, pastes
