"""Changes of HU values and mixing of samples, for a batch on its device; written for CPU and GPU alike."""

import numpy as np
import torch
import torch.nn.functional as F

from .warps import AIR


def add_noise(hu: torch.Tensor, sd: torch.Tensor, seed: int) -> torch.Tensor:
    """White noise inside the image. hu (b, s, h, w) float; sd (b,) HU. Air outside the scan stays air."""
    rows = torch.nonzero(sd > 0).flatten()
    if not len(rows):
        return hu
    generator = torch.Generator(hu.device).manual_seed(seed)
    part = hu[rows]
    noise = torch.randn(part.shape, generator=generator, device=hu.device) * sd[rows].float().view(
        -1, 1, 1, 1
    )
    hu[rows] = torch.where(part > AIR, part + noise, part)
    return hu


def blur(hu: torch.Tensor, sd: torch.Tensor) -> torch.Tensor:
    """Gaussian blur. hu (b, s, h, w) float; sd (b,) pixels."""
    rows = torch.nonzero(sd > 0).flatten()
    if not len(rows):
        return hu
    part, sd = hu[rows], sd[rows].float()
    count, slices, height, width = part.shape
    radius = max(1, int(torch.ceil(3 * sd.max())))
    at = torch.arange(-radius, radius + 1, device=hu.device)
    kernels = torch.exp(-0.5 * (at / sd[:, None].clamp_min(1e-3)) ** 2)
    kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(slices, 0)[:, None]  # (b * s, 1, k)
    images = part.reshape(1, count * slices, height, width)
    images = F.pad(images, (radius,) * 4, mode="replicate")
    images = F.conv2d(images, kernels[:, :, None], groups=count * slices)
    hu[rows] = F.conv2d(images, kernels[..., None], groups=count * slices).reshape(part.shape)
    return hu


def erase(hu: torch.Tensor, holes: torch.Tensor) -> torch.Tensor:
    """Fill rectangles with air. hu (b, s, h, w); holes (b, k, 4) top, left, bottom, right."""
    if not holes.shape[1]:
        return hu
    rows = torch.arange(hu.shape[2], device=hu.device).view(1, 1, -1, 1)
    columns = torch.arange(hu.shape[3], device=hu.device).view(1, 1, 1, -1)
    top, left, bottom, right = (edge[..., None, None] for edge in holes.unbind(2))
    inside = ((rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)).any(1, keepdim=True)
    return torch.where(inside, torch.full_like(hu, AIR), hu)


def mix(
    hu: torch.Tensor,
    labels: torch.Tensor,
    rng: np.random.Generator,
    cutmix: float,
    mixup: float,
    alpha: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """CutMix (Yun et al., ICCV 2019) or mixup (Zhang et al., ICLR 2018) of some samples of a batch.

    hu (b, s, h, w); labels (b, 6) float; `cutmix`, `mixup`: probabilities a sample; the partner is another
    sample of the batch. Labels are mixed by the area pasted, or by the share.
    """
    count, _, height, width = hu.shape
    partner = torch.from_numpy(rng.permutation(count)).to(hu.device)
    kind, share = rng.random(count), rng.beta(alpha, alpha, count)
    corner, side = rng.random((count, 2)), np.sqrt(1 - share)
    mixed, mixed_labels = hu.clone(), labels.clone()
    for row in np.flatnonzero(kind < cutmix + mixup):
        other = partner[row]
        if kind[row] < cutmix:
            top, left = (corner[row] * (1 - side[row]) * (height, width)).astype(int)
            bottom, right = top + round(side[row] * height), left + round(side[row] * width)
            mixed[row, :, top:bottom, left:right] = hu[other, :, top:bottom, left:right]
            kept = 1 - (min(bottom, height) - top) * (min(right, width) - left) / (height * width)
        else:
            kept = share[row]
            blend = kept * hu[row].float() + (1 - kept) * hu[other].float()
            mixed[row] = blend if hu.is_floating_point() else blend.round().to(hu.dtype)
        mixed_labels[row] = kept * labels[row] + (1 - kept) * labels[other]
    return mixed, mixed_labels
