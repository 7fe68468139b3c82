"""From Hounsfield units to the channels a network sees: windows, then normalisation, on the device."""

import math
from collections.abc import Callable, Sequence
from typing import Annotated

import torch
from pydantic import model_validator
from torch import nn

from ..config import OneOf, Positive, StrictModel
from ..data.windows import BRAIN, SOFT_TISSUE, SUBDURAL, Window, stack_windows


class FixedWindows(nn.Module):
    """Windows given with every batch, so that they may differ from sample to sample; (x - mean) / std."""

    def __init__(self, mean: tuple[float, ...] = (0.0,), std: tuple[float, ...] = (1.0,)):
        """mean, std: one value or one per window."""
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def forward(self, hu: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
        """hu (b, s, h, w); windows (b or 1, n, 2) in HU -> (b, s * n, h, w), in [0, 1] before mean and std"""
        return stack_windows(hu, windows, self.mean, self.std)


class LearnedWindows(nn.Module):
    """Sigmoid windows whose center and width are parameters (12th place; Lee et al., arXiv 1812.00572).

    A 1 x 1 convolution of one HU channel and a sigmoid; at the edges of the window it starts from the value
    is 0.01 and 0.99. Written as product and sum, a 1 x 1 convolution being many times slower.
    """

    def __init__(self, windows: tuple[tuple[float, float], ...]):
        super().__init__()
        center, width = torch.tensor(windows).unbind(1)
        slope = 2 * math.log(99) / width
        self.slope = nn.Parameter(slope)  # (n,) per HU
        self.shift = nn.Parameter(-slope * center)

    def forward(self, hu: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
        """hu (b, s, h, w) -> (b, s * n, h, w) in (0, 1); the batch's windows do not count"""
        slope, shift = self.slope[:, None, None, None], self.shift[:, None, None, None]
        ramps = torch.sigmoid(hu[:, None].float() * slope + shift)  # (b, n, s, h, w)
        return ramps.transpose(1, 2).flatten(1, 2)


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


def _instance_norm(options: "ImageOptions") -> nn.Module:
    return nn.InstanceNorm2d(options.channels, affine=True)


NORMALISATIONS: dict[str, Callable[["ImageOptions"], nn.Module]] = {
    "fixed": lambda options: FixedScale(*options.statistics()),
    "minmax": lambda options: MinMaxScale(*options.statistics()),
    "instance": _instance_norm,
}


class ImageOptions(StrictModel):
    """The images: which slices are seen, through which windows, how they are normalised."""

    neighbours: tuple[int, ...] = (0,)
    """slices seen, by order in the study: 0 the slice, 1 the next one up"""
    windows: tuple[Window, ...] = (BRAIN, SUBDURAL, SOFT_TISSUE)
    """a name, [center, width] in HU (gray levels for pictures without HU), or "file" for the image's own; one
    channel each"""
    learn_windows: bool = False
    """sigmoid windows as parameters that start at `windows`"""
    normalisation: Annotated[str, OneOf(NORMALISATIONS)] = "fixed"
    """fixed: (x - mean) / std; minmax: the same after every image is stretched to [0, 1]; instance: instance
    normalisation with learned scale and shift"""
    mean: tuple[float, ...] = (0.2,)
    """subtracted from the windowed channels; one value or one per window"""
    std: tuple[Positive, ...] = (0.3,)
    """what they are divided by then; one value or one per window"""

    @property
    def channels(self) -> int:
        """Of the network's input."""
        return len(self.neighbours) * len(self.windows)

    def statistics(self) -> list[torch.Tensor]:
        """Mean and standard deviation: one value each, or one for every channel."""
        values = (torch.tensor(value) for value in (self.mean, self.std))
        return [value if len(value) == 1 else value.repeat(len(self.neighbours)) for value in values]

    @model_validator(mode="after")
    def _counts(self) -> "ImageOptions":
        if not self.windows or not self.neighbours:
            raise ValueError("windows and neighbours need at least one entry")
        for name, values in (("mean", self.mean), ("std", self.std)):
            check_count(name, values, self.windows)
        if self.learn_windows and "file" in self.windows:
            raise ValueError("learn_windows: takes fixed windows to start from, not the file's")
        return self


def check_count(name: str, values: Sequence[float], windows: Sequence[Window]) -> None:
    """ValueError unless there is one value, or one for every window."""
    if len(values) not in (1, len(windows)):
        raise ValueError(f"{name} has {len(values)} values for {len(windows)} windows; give one or one each")


def build_images(options: ImageOptions) -> tuple[nn.Module, nn.Module]:
    """HU -> windowed images, and what normalises them after."""
    if options.learn_windows:
        windows: nn.Module = LearnedWindows(options.windows)
    elif options.normalisation == "fixed":  # part of the windows: one pass over the images less
        return FixedWindows(options.mean, options.std), nn.Identity()
    else:
        windows = FixedWindows()
    return windows, NORMALISATIONS[options.normalisation](options)
