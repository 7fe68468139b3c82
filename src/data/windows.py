"""CT windows: Hounsfield units to [0, 1].

A window (center L, width W) clips to [L - W/2, L + W/2] and scales linearly. Named windows are those of the
contest's winners: brain (40, 80), subdural (80, 200), soft tissue (40, 380), bone (600, 2800).
"""

import torch

BRAIN = (40.0, 80.0)
SUBDURAL = (80.0, 200.0)
SOFT_TISSUE = (40.0, 380.0)
BONE = (600.0, 2800.0)


def window(hu: torch.Tensor, center: torch.Tensor | float, width: torch.Tensor | float) -> torch.Tensor:
    """Map Hounsfield units to [0, 1].  (..., h, w) -> the same float32; center and width broadcast."""
    center, width = torch.as_tensor(center, dtype=torch.float32), torch.as_tensor(width, dtype=torch.float32)
    scale = (1.0 / width).to(hu.device)
    shift = (0.5 - center / width).to(hu.device)
    return (hu.to(torch.float32) * scale).add_(shift).clamp_(0.0, 1.0)


def stack_windows(hu: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    """Every slice through every window, slice by slice.

    hu (b, s, h, w) int16 or float; windows (n, 2) or (b, n, 2), rows (center, width) in HU
    -> (b, s * n, h, w) float32 in [0, 1], channels slice-major: slice 0 window 0, slice 0 window 1, ...
    """
    batch, slices, height, width = hu.shape
    windows = windows.to(hu.device, torch.float32).expand(batch, -1, 2)
    centers = windows[:, None, :, 0, None, None]  # (b, 1, n, 1, 1)
    widths = windows[:, None, :, 1, None, None]
    return window(hu[:, :, None], centers, widths).reshape(batch, slices * windows.shape[1], height, width)
