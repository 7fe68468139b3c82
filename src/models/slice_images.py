"""From Hounsfield units to the channels a network sees: windows, then normalisation, on the device."""

import math

import torch
from torch import nn

from ..data.windows import Order, stack_windows


class FixedWindows(nn.Module):
    """Windows given with every batch, so that they may differ from sample to sample; (x - mean) / std."""

    def __init__(
        self, order: Order = "slice", mean: tuple[float, ...] = (0.0,), std: tuple[float, ...] = (1.0,)
    ):
        """mean, std: one value or one per window."""
        super().__init__()
        self.order = order
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def forward(self, hu: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
        """hu (b, s, h, w); windows (b or 1, n, 2) in HU -> (b, s * n, h, w), in [0, 1] before mean and std"""
        return stack_windows(hu, windows, self.order, self.mean, self.std)


class LearnedWindows(nn.Module):
    """Sigmoid windows whose center and width are parameters (12th place; Lee et al., arXiv 1812.00572).

    A 1 x 1 convolution of one HU channel and a sigmoid; at the edges of the window it starts from the value
    is 0.01 and 0.99. Written as product and sum, a 1 x 1 convolution being many times slower.
    """

    def __init__(self, windows: tuple[tuple[float, float], ...], order: Order = "slice"):
        super().__init__()
        center, width = torch.tensor(windows).unbind(1)
        slope = 2 * math.log(99) / width
        self.order = order
        self.slope = nn.Parameter(slope)  # (n,) per HU
        self.shift = nn.Parameter(-slope * center)

    def forward(self, hu: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
        """hu (b, s, h, w) -> (b, s * n, h, w) in (0, 1); the batch's windows do not count"""
        slope, shift = self.slope[:, None, None, None], self.shift[:, None, None, None]
        ramps = torch.sigmoid(hu[:, None].float() * slope + shift)  # (b, n, s, h, w)
        return (ramps.transpose(1, 2) if self.order == "slice" else ramps).flatten(1, 2)


class FixedScale(nn.Module):
    """(x - mean) / std with constants."""

    def __init__(self, mean: torch.Tensor, std: torch.Tensor):
        """mean, std: one value or one per channel."""
        super().__init__()
        self.register_buffer("mean", mean.view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", std.view(1, -1, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images - self.mean) / self.std


class MinMaxScale(FixedScale):
    """Every channel of every image stretched to [0, 1], then as `FixedScale` (1st place).

    An image of one value becomes 0.
    """

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
        return super().forward((images - low) / (high - low).clamp_min(1e-6))


def build_scale(
    kind: str, mean: tuple[float, ...], std: tuple[float, ...], slices: int, windows: int, order: Order
) -> nn.Module:
    """`fixed`, `minmax` or `instance` (instance normalisation with learned scale and shift)."""
    if kind == "instance":
        return nn.InstanceNorm2d(slices * windows, affine=True)
    values = (_by_channel(torch.tensor(value), slices, order) for value in (mean, std))
    return {"fixed": FixedScale, "minmax": MinMaxScale}[kind](*values)


def _by_channel(values: torch.Tensor, slices: int, order: Order) -> torch.Tensor:
    """One value stays one; one per window becomes one per channel."""
    if len(values) == 1:
        return values
    return values.repeat(slices) if order == "slice" else values.repeat_interleave(slices)
