"""Resampling of HU slices: by OpenCV on a CPU, by torch on a GPU, with the same result up to rounding.

On a CPU one channel through cv2.warpAffine is ten times as fast as torch's grid_sample.
"""

import cv2
import numpy as np
import torch
import torch.nn.functional as F

AIR = -1024  # HU; what lies outside the image


def shrink(hu: np.ndarray, size: int, crop: float = 1.0) -> np.ndarray:
    """Average areas of whole pixels where an image of `size` pixels needs less than half the resolution.

    (h, h) int16 -> (k, k) int16 with crop * k >= size; the rest is left to the warp, which samples linearly.
    """
    factor = int(crop * len(hu) / size)
    if factor < 2:
        return hu
    side = round(len(hu) / factor)
    return cv2.resize(hu, (side, side), interpolation=cv2.INTER_AREA)


def warp(hu: np.ndarray, matrix: np.ndarray, out: np.ndarray, moves: np.ndarray | None = None) -> None:
    """Resample one slice bilinearly.

    hu (k, k) int16; matrix (2, 3) output -> input pixel; out (h, w) int16; moves (2, c, c) in input pixels
    """
    if moves is None or not moves.any():
        cv2.warpAffine(
            hu, matrix, out.shape[::-1], dst=out,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_CONSTANT, borderValue=AIR,
        )  # fmt: skip
        return
    height, width = out.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    smooth = [cv2.resize(move, (width, height), interpolation=cv2.INTER_CUBIC) for move in moves]
    map_x = (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] + smooth[0]).astype(np.float32)
    map_y = (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] + smooth[1]).astype(np.float32)
    cv2.remap(
        hu, map_x, map_y, dst=out,
        interpolation=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=AIR,
    )  # fmt: skip


def warp_on_device(
    hu: torch.Tensor, matrices: torch.Tensor, size: int, moves: torch.Tensor | None = None
) -> torch.Tensor:
    """The same for a batch, on its device.

    hu (b, s, k, k) int16; matrices (b, 2, 3); moves (b, 2, c, c) -> (b, s, size, size) float32 HU
    """
    pixels = torch.arange(size, device=hu.device, dtype=torch.float32)
    y, x = torch.meshgrid(pixels, pixels, indexing="ij")
    target = torch.stack([x, y, torch.ones_like(x)], dim=2)  # (size, size, 3)
    source = torch.einsum("hwk,bck->bhwc", target, matrices.float())
    if moves is not None and moves.shape[2]:
        smooth = F.interpolate(moves, (size, size), mode="bicubic", align_corners=False)
        source = source + smooth.permute(0, 2, 3, 1)
    grid = (2 * source + 1) / hu.shape[-1] - 1  # pixel centres to [-1, 1]
    # The border of grid_sample is 0: shifted so that 0 is air.
    return F.grid_sample(hu.float() - AIR, grid, align_corners=False, padding_mode="zeros") + AIR
