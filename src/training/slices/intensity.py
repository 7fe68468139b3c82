"""Changes of HU values and mixing of samples, for a batch on its device; written for CPU and GPU alike."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from .warps import AIR


def add_noise(hu: torch.Tensor, sds: Sequence[float], seeds: Sequence[int]) -> torch.Tensor:
    """White noise inside the image. hu (b, s, h, w) float; sds in HU. Air outside the scan stays air.

    A sample has a seed of its own: its noise does not depend on which process draws it.
    """
    for image, sd, seed in zip(hu, sds, seeds, strict=True):
        if sd > 0:
            generator = torch.Generator(hu.device).manual_seed(seed)
            noise = torch.randn(image.shape, generator=generator, device=hu.device) * sd
            image.copy_(torch.where(image > AIR, image + noise, image))
    return hu


def blur(hu: torch.Tensor, sds: Sequence[float]) -> torch.Tensor:
    """Gaussian blur. hu (b, s, h, w) float; sds in pixels."""
    rows = [row for row, sd in enumerate(sds) if sd > 0]
    if not rows:
        return hu
    part, sd = hu[rows], torch.tensor([sds[row] for row in rows], device=hu.device)
    count, slices, height, width = part.shape
    radius = max(1, math.ceil(3 * max(sds)))
    at = torch.arange(-radius, radius + 1, device=hu.device)
    kernels = torch.exp(-0.5 * (at / sd[:, None].clamp_min(1e-3)) ** 2)
    # Each ends at three deviations of its own, whoever else is in the batch.
    kernels = kernels * (at.abs() <= (3 * sd[:, None]).ceil())
    kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(slices, 0)[:, None]  # (b * s, 1, k)
    images = part.reshape(1, count * slices, height, width)
    images = F.pad(images, (radius,) * 4, mode="replicate")
    images = F.conv2d(images, kernels[:, :, None], groups=count * slices)
    hu[rows] = F.conv2d(images, kernels[..., None], groups=count * slices).reshape(part.shape)
    return hu


def sharpen(hu: torch.Tensor, windows: torch.Tensor, factors: Sequence[float]) -> torch.Tensor:
    """Away from a 3 x 3 mean whose middle counts five times, the border excepted, as torchvision's
    `adjust_sharpness` does it. hu (b, s, h, w) float; windows (b, n, 2): HU that none of them tells apart
    are made equal before, or the skull's edge would darken the brain.
    """
    rows = [row for row, factor in enumerate(factors) if factor != 1]
    if not rows:
        return hu
    center, half = windows[rows].float().unbind(2)[0], windows[rows, :, 1].float() / 2
    low, high = (edge[:, None, None, None] for edge in ((center - half).amin(1), (center + half).amax(1)))
    image = hu[rows].clamp(low, high)
    kernel = torch.ones(1, 1, 3, 3, device=hu.device)
    kernel[..., 1, 1] = 5
    soft = image.clone()
    soft[..., 1:-1, 1:-1] = F.conv2d(image.flatten(0, 1)[:, None], kernel / kernel.sum())[:, 0].view_as(
        image[..., 1:-1, 1:-1]
    )
    factor = torch.tensor([factors[row] for row in rows], device=hu.device)[:, None, None, None]
    hu[rows] = soft + factor * (image - soft)
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


Mixing = Sequence[tuple[int, float, Sequence[int]]]  # of each sample: partner, share kept, rectangle pasted


def mix(hu: torch.Tensor, labels: torch.Tensor, mixing: Mixing) -> tuple[torch.Tensor, torch.Tensor]:
    """CutMix or mixup of the first samples of a batch, those that `mixing` has numbers of.

    hu (b, s, h, w); labels (b, 6) float; a partner is any of the b. A rectangle (top, left, bottom, right)
    without area stands for mixup. Labels are mixed by the share kept.
    """
    count = min(len(mixing), len(hu))
    mixed, mixed_labels = hu[:count].clone(), labels[:count].clone()
    for row, (partner, kept, (top, left, bottom, right)) in enumerate(mixing[:count]):
        if kept == 1:
            continue
        other = min(partner, len(hu) - 1)  # a part of a batch, cut to try its size, may lack the partner
        if bottom > top:
            mixed[row, :, top:bottom, left:right] = hu[other, :, top:bottom, left:right]
        else:
            blend = kept * hu[row].float() + (1 - kept) * hu[other].float()
            mixed[row] = blend if hu.is_floating_point() else blend.round().to(hu.dtype)
        mixed_labels[row] = kept * labels[row] + (1 - kept) * labels[other]
    return mixed, mixed_labels
