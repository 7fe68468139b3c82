"""What the scanner adds to an ideal slice: noise, beam hardening, photon starvation, dental metal and motion.

Barrett & Keat, "Artifacts in CT: recognition and avoidance", RadioGraphics 2004;24:1679-1691, describes all.
Beam hardening and photon starvation are computed, not drawn: the bone of the slice is projected along
`ANGLES` directions, the error of a polychromatic or starved ray follows from the length of its path in bone,
and filtered back-projection turns it into the bar between the petrous bones, the shadow behind the occipital
protuberance and the streaks of dense bone. Arrays are (rows, columns) float32 in HU.
"""

from dataclasses import dataclass
from functools import cache, lru_cache

import cv2
import numpy as np
from scipy import sparse

COARSE, ANGLES = 48, 36  # side of the grid on which errors are reconstructed, directions over half a turn
BONE_HU = 300.0  # attenuation above this is taken for bone
STARVED_CM = 3.0  # path in bone after which photons become scarce
METAL_HU = 3071.0


@dataclass(frozen=True)
class Artefacts:
    """What disturbs one scan. `pose` in `moved`'s terms: rows, columns (mm), degrees, share (0: still)."""

    hardening: float  # HU lost at 1 cm^2 of bone path
    starvation: float  # strength of the streaky noise
    teeth: np.ndarray  # (n, 3) metal in head coordinates, mm; n = 0 without
    metal: float  # strength of its streaks, HU
    pose: np.ndarray  # (slices, 4)


def sample_artefacts(
    rng: np.random.Generator, slices: int, streaks: float, metal: float, motion: float
) -> Artefacts:
    """Draw them. streaks: HU of the bar between the petrous bones; metal, motion: shares of scans with it.

    Motion blurs a few neighbouring slices, as in a patient who turns the head once or twice in a scan.
    """
    teeth = np.empty((0, 3))
    if rng.random() < metal:
        x = rng.uniform(-26, 26, rng.integers(1, 5))
        teeth = np.stack([x, -78 + 0.045 * x**2, rng.uniform(-94, -74, len(x))], axis=1)
    pose = np.zeros((slices, 4))
    if rng.random() < motion:
        for _ in range(rng.integers(1, 4)):
            first, count = rng.integers(slices), rng.integers(1, 5)
            turn = [*rng.normal(0, 2.5, 2), rng.normal(0, 2.0), rng.uniform(0.25, 0.48)]
            pose[first : first + count] = turn
    strength = streaks * rng.uniform(0.15, 0.4)
    return Artefacts(strength, 0.9 * streaks, teeth, rng.uniform(40, 200), pose)


@cache
def _projection() -> tuple[sparse.csr_matrix, sparse.csr_matrix, np.ndarray]:
    """Line integrals of a COARSE x COARSE image in pixel units, their transpose, and the ramp filter.

    -> (ANGLES * bins, COARSE^2), (COARSE^2, ANGLES * bins), (bins, bins); Kak & Slaney 1988, section 3.3
    """
    y, x = (np.mgrid[:COARSE, :COARSE] - (COARSE - 1) / 2).reshape(2, -1)
    bins = 2 * int(np.ceil(COARSE * 0.71)) + 2
    angles = np.arange(ANGLES) * np.pi / ANGLES
    at = np.outer(np.cos(angles), x) + np.outer(np.sin(angles), y) + bins / 2
    low = np.floor(at).astype(int)
    share = (at - low).astype(np.float32)
    row = np.arange(ANGLES)[:, None] * bins + low
    pixel = np.broadcast_to(np.arange(COARSE**2), row.shape)
    entries = (
        np.concatenate([1 - share, share], axis=None),
        (np.concatenate([row, row + 1], axis=None), np.concatenate([pixel, pixel], axis=None)),
    )
    forward = sparse.csr_matrix(entries, shape=(ANGLES * bins, COARSE**2))
    lag = np.subtract.outer(np.arange(bins), np.arange(bins))
    odd = -1.0 / (np.pi * np.where(lag % 2 == 1, lag, 1)) ** 2
    ramp = np.where(lag == 0, 0.25, np.where(lag % 2 == 1, odd, 0.0)) * np.pi / ANGLES
    return forward, forward.T.tocsr(), ramp.astype(np.float32)


def ray_errors(hu: np.ndarray, pixel: float, hardening: float, noise: np.ndarray | float) -> np.ndarray:
    """Beam hardening by bone and the streaky noise of starved rays.  (grid, grid) HU -> (grid, grid) HU

    hardening: HU lost per cm of water-equivalent at 1 cm^2 of bone path; a water correction leaves an error
    that grows with the square of the path (Joseph & Spital, J Comput Assist Tomogr 1978;2:100-108).
    noise: deviates (ANGLES, bins) times the strength, or 0; their effect grows with the bone in the ray.
    """
    forward, back, ramp = _projection()
    bone = cv2.resize(np.maximum(hu - BONE_HU, 0.0), (COARSE, COARSE), interpolation=cv2.INTER_AREA)
    coarse = pixel * hu.shape[0] / COARSE / 10.0  # cm
    path = (forward @ bone.ravel()).reshape(ANGLES, -1) * np.float32(coarse / 1000.0)  # cm of dense bone
    error = -np.float32(hardening) * path * path
    error += noise * np.minimum(np.maximum(path - STARVED_CM, 0.0), 6.0)
    image = (back @ (error @ ramp).ravel()).reshape(COARSE, COARSE) / np.float32(coarse)
    return cv2.resize(image, hu.shape[::-1], interpolation=cv2.INTER_CUBIC)


def starved_noise(rng: np.random.Generator, strength: float) -> np.ndarray:
    """Deviates of one slice's rays for `ray_errors`."""
    bins = len(_projection()[2])
    return rng.standard_normal((ANGLES, bins), dtype=np.float32) * np.float32(strength)


def metal_streaks(
    rng: np.random.Generator, shape: tuple[int, int], teeth: np.ndarray, pixel: float, strength: float
) -> np.ndarray:
    """Star of bright and dark rays around fillings and crowns, (rows, columns) HU.

    teeth: (n, 2) row and column of each; amalgam is far above the scale's end (Boas & Fleischmann, "CT
    artifacts: causes and reduction techniques", Imaging Med 2012;4:229-240).
    """
    rows = np.arange(shape[0], dtype=np.float32)[:, None]
    columns = np.arange(shape[1], dtype=np.float32)[None, :]
    hu = np.zeros(shape, np.float32)
    for row, column in teeth.tolist():
        dy, dx = (rows - row) * np.float32(pixel), (columns - column) * np.float32(pixel)
        spectrum = np.repeat(rng.normal(0, strength, 32), 4).astype(np.float32)
        spectrum = cv2.GaussianBlur(spectrum[None, :], (0, 0), 1.2)
        turn = (cv2.phase(dx + 0 * dy, dy + 0 * dx) * np.float32(127 / (2 * np.pi))).astype(np.float32)
        radius = cv2.magnitude(dx + 0 * dy, dy + 0 * dx)
        star = cv2.remap(spectrum, turn, np.zeros_like(turn), cv2.INTER_LINEAR)
        hu += star * (np.float32(30.0) / (radius + np.float32(12.0)))
        hu += METAL_HU * np.clip(5.0 - radius, 0.0, 1.0)
    return hu


def moved(hu: np.ndarray, shift: np.ndarray, turn: float, share: float) -> np.ndarray:
    """The head moved while the gantry turned: part of the slice stems from another position.

    shift: (2,) rows and columns in pixels; turn: degrees; share: weight of the other position, below 0.5, so
    the anatomy and its mask stay where they are.
    """
    rows, columns = hu.shape
    matrix = cv2.getRotationMatrix2D((columns / 2, rows / 2), turn, 1.0)
    matrix[:, 2] += shift[::-1]
    ghost = cv2.warpAffine(hu, matrix, (columns, rows), borderMode=cv2.BORDER_REPLICATE)
    return cv2.addWeighted(hu, 1.0 - share, ghost, share, 0.0)


def noise_texture(
    rng: np.random.Generator, size: int, pixel: float, sharpness: float = 0.5, strength: float = 1.0
) -> np.ndarray:
    """Correlated noise of standard deviation `strength`, (size, size) float32.

    The spectrum rises like the ramp and falls with the kernel (Riederer, Pelc & Chesler, Phys Med Biol
    1978;23:446-454): a Gaussian minus a share of a wider one. Measured in flat brain of eight contest
    scanners: autocorrelation .59 to .76 at 1 pixel, .0 to .36 at 2, -.12 to .07 at 3; `sharpness` 1 and 0.
    """
    # bytes are ten times as fast as normal deviates, and the filter's sum of a dozen of them is nearly normal
    white = np.frombuffer(rng.bytes(size * size), np.uint8).reshape(size, size)
    sigma = max((1.03 - 0.13 * sharpness) * 0.488 / pixel, 0.35)
    kernel = cv2.getGaussianKernel(9, sigma) - (0.06 + 0.20 * sharpness) * cv2.getGaussianKernel(
        9, 2.2 * sigma
    )
    unit = kernel * (strength / float((kernel**2).sum()) / np.sqrt((256**2 - 1) / 12))
    mean = 127.5 * float(unit.sum()) * float(kernel.sum())
    return cv2.sepFilter2D(white, cv2.CV_32F, kernel, unit, delta=-mean, borderType=cv2.BORDER_REFLECT_101)


@lru_cache(maxsize=4)
def noise_map(size: int, pixel: float) -> np.ndarray:
    """Relative strength of the noise, (size, size): greatest where rays cross most tissue, weak in air.
    Air beside the head of contest scans has .4 to .9 of
       the noise in the brain.
    """
    away = (np.arange(size, dtype=np.float32) - np.float32(size / 2)) * np.float32(pixel / 80.0)
    return np.float32(0.55) + np.float32(0.52) * np.exp(-0.22 * (away[:, None] ** 2 + away**2) ** 2)
