"""Augmentation of training slices: geometry on the one HU channel, then windows.

Warping HU and windowing afterwards costs one channel instead of three, and lets the windows themselves vary.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from .slice_config import Augmentation

AIR = -1024  # HU; what lies outside the image


@dataclass(frozen=True)
class Draw:
    """The random numbers of n samples."""

    matrices: np.ndarray  # (n, 2, 3) float64, output pixel -> input pixel
    hu_shift: np.ndarray  # (n,) float64
    windows: np.ndarray  # (n, windows, 2) float32, center and width


def draw(rng: np.random.Generator, config: Augmentation, n: int, size: int, windows: np.ndarray) -> Draw:
    """Draw the augmentation of n images of size x size pixels; windows (w, 2) center and width in HU."""
    flip_x = np.where(rng.random(n) < config.hflip, -1.0, 1.0)
    flip_y = np.where(rng.random(n) < config.vflip, -1.0, 1.0)
    angle = np.deg2rad(rng.uniform(-config.rotate_deg, config.rotate_deg, n))
    scale = 1.0 / rng.uniform(1 - config.scale, 1 + config.scale, n)
    shift = rng.uniform(-config.shift, config.shift, (n, 2)) * size
    center = (size - 1) / 2
    matrices = np.empty((n, 2, 3))
    matrices[:, 0, 0] = scale * np.cos(angle) * flip_x
    matrices[:, 0, 1] = -scale * np.sin(angle) * flip_y
    matrices[:, 1, 0] = scale * np.sin(angle) * flip_x
    matrices[:, 1, 1] = scale * np.cos(angle) * flip_y
    matrices[:, :, 2] = center - matrices[:, :, :2].sum(2) * center + shift
    hu_shift = rng.uniform(-config.hu_shift, config.hu_shift, n)
    jitter = np.stack(
        [
            rng.uniform(-config.window_center_jitter, config.window_center_jitter, (n, len(windows))),
            windows[:, 1]
            * rng.uniform(-config.window_width_jitter, config.window_width_jitter, (n, len(windows))),
        ],
        axis=2,
    )
    return Draw(matrices, hu_shift, (windows + jitter).astype(np.float32))


def warp(hu: np.ndarray, matrix: np.ndarray, out: np.ndarray) -> None:
    """Resample one slice bilinearly.  hu, out (h, w) int16 HU; matrix (2, 3) output -> input pixel"""
    cv2.warpAffine(
        hu, matrix, hu.shape[::-1], dst=out,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_CONSTANT, borderValue=AIR,
    )  # fmt: skip


def resize(hu: np.ndarray, size: int) -> np.ndarray:
    """Resize a slice to size x size by pixel area (smaller) or linearly (larger).  int16 HU -> int16 HU

    HU below -1024 is padding outside the scan circle: clipped first, or it would bleed into the edges.
    """
    hu = np.maximum(hu, AIR)
    if hu.shape == (size, size):
        return hu
    method = cv2.INTER_AREA if size * 2 <= hu.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(hu, (size, size), interpolation=method)
