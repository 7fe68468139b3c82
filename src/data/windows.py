"""CT windows: Hounsfield units to [0, 1].

A window (center L, width W) clips to [L - W/2, L + W/2] and scales linearly.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import AfterValidator

from ..config import OneOf, Positive
from ..errors import UserError

BRAIN = (40.0, 80.0)
SUBDURAL = (80.0, 200.0)
SOFT_TISSUE = (40.0, 380.0)
GRAY = (127.5, 255.0)  # every level of a picture, which is not in HU
HU_WINDOWS = {  # center, width in HU: those of the contest's winners, and Radiopaedia's for stroke
    "brain": BRAIN,
    "subdural": SUBDURAL,
    "soft_tissue": SOFT_TISSUE,
    "bone": (600.0, 2800.0),
    "stroke": (40.0, 40.0),
}
WINDOWS = HU_WINDOWS | {"gray": GRAY}

# In a configuration: center and width in HU, the name of a window, or `file`, which is the image's own.
Window = Annotated[
    tuple[float, Positive] | Annotated[str, OneOf((*WINDOWS, "file"))],
    AfterValidator(lambda window: WINDOWS.get(window, window)),
]


def check_units(windows: Sequence[Window], units: str, data: object) -> None:
    """UserError where a window in HU would be laid on the gray levels of pictures, or the data hold both.

    units: `hu`, `gray`, or the two joined.
    """
    if "gray" not in units:
        return
    if units != "gray":
        raise UserError(
            f"{data}: holds images in HU and gray pictures, which no window fits; prepare them apart"
        )
    for window in windows:
        if window != "file" and (window in HU_WINDOWS.values() or not _within_gray(*window)):
            name = next((name for name, value in HU_WINDOWS.items() if value == window), list(window))
            raise UserError(
                f"{data}: its images are pictures with gray levels 0 to 255, not HU, so the window {name} "
                'means nothing there; set "windows": ["gray"] in the configuration'
            )


def _within_gray(center: float, width: float) -> bool:
    return center - width / 2 >= 0 and center + width / 2 <= 255


def stack_windows(
    hu: torch.Tensor,
    windows: torch.Tensor,
    mean: torch.Tensor | float = 0.0,
    std: torch.Tensor | float = 1.0,
) -> torch.Tensor:
    """Every slice through every window, and normalised: (windowed - mean) / std.

    hu (b, s, h, w) int16 or float; windows (n, 2) or (b, n, 2), rows (center, width) in HU; mean, std: a
    number or (n,) -> (b, s * n, h, w) float32, in [0, 1] before normalisation: slice 0 window 0, slice 0
    window 1, ...

    Normalisation changes slope, intercept and bounds of the ramp: no pass over the images of its own.
    """
    batch, slices, height, width = hu.shape
    windows = windows.to(hu.device, torch.float32).expand(batch, -1, 2)
    number = windows.shape[1]
    mean, std = (torch.as_tensor(value).to(hu.device, torch.float32).expand(number) for value in (mean, std))
    # what is traced for another runtime must not depend on the values that happen to be there
    by_image = hu.device.type == "cpu" and not torch.jit.is_tracing()
    out = (image_by_image if by_image else vectorised)(hu, windows, mean, std)
    return out.reshape(batch, slices * number, height, width)


def image_by_image(
    hu: torch.Tensor, windows: torch.Tensor, mean: torch.Tensor, std: torch.Tensor
) -> torch.Tensor:
    """(b, s, n, h, w): an image stays in the cache through all operations, which is four times as fast as
    passes over a batch."""
    batch, slices, *shape = hu.shape
    number = windows.shape[1]
    slope, intercept = _line(windows[..., 0], windows[..., 1], hu.device)
    slopes, intercepts = (slope / std).tolist(), ((intercept - mean) / std).unbind()
    low, high = (-mean / std).tolist(), ((1 - mean) / std).tolist()
    out = torch.empty((batch, slices, number, *shape))
    for sample, of_sample, slope, intercept in zip(
        hu.unbind(), out.unbind(), slopes, intercepts, strict=True
    ):
        ramps = list(zip(slope, intercept.unbind(), low, high, strict=True))
        for image, of_image in zip(sample.unbind(), of_sample.unbind(), strict=True):
            values = image.to(torch.float32)
            for (a, b, least, most), target in zip(ramps, of_image.unbind(), strict=True):
                torch.add(b, values, alpha=a, out=target).clamp_(least, most)
    return out


def vectorised(
    hu: torch.Tensor, windows: torch.Tensor, mean: torch.Tensor, std: torch.Tensor
) -> torch.Tensor:
    """The same in three operations on the whole batch, for a GPU."""
    slope, intercept = _line(windows[..., 0], windows[..., 1], hu.device)
    low, high = ((edge - mean).div(std).expand_as(slope) for edge in (0, 1))
    values = (slope / std, (intercept - mean) / std, low, high)  # each (b, n)
    slope, intercept, low, high = (value[:, None, :, None, None] for value in values)
    return (hu[:, :, None].to(torch.float32) * slope).add_(intercept).clamp_(low, high)


def _line(
    center: torch.Tensor, width: torch.Tensor, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Slope and intercept of the ramp."""
    center, width = center.to(torch.float32), width.to(torch.float32)
    return (1.0 / width).to(device), (0.5 - center / width).to(device)
