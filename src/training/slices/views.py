"""Named, deterministic views of a batch for test-time augmentation."""

from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F

from ...config import OneOf
from .warps import AIR

View = Callable[[torch.Tensor], torch.Tensor]


def turned(degrees: float = 0.0, zoom: float = 1.0) -> View:
    """Turn anticlockwise and enlarge about the middle; air comes in at the borders."""

    def view(hu: torch.Tensor) -> torch.Tensor:
        angle = torch.deg2rad(torch.tensor(degrees))
        cos, sin = float(torch.cos(angle)) / zoom, float(torch.sin(angle)) / zoom
        matrix = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0]], device=hu.device)
        grid = F.affine_grid(matrix.expand(len(hu), 2, 3), list(hu.shape), align_corners=False)
        # The border of grid_sample is 0: shifted so that 0 is air. Clipped, or padding bleeds into the edge.
        lifted = hu.float().clamp_min(AIR) - AIR
        return F.grid_sample(lifted, grid, align_corners=False) + AIR

    return view


# Each maps hu (b, s, h, w) to another look at the same slices.
VIEWS: dict[str, View] = {
    "identity": lambda hu: hu,
    "hflip": lambda hu: hu.flip(-1),
    "vflip": lambda hu: hu.flip(-2),
    "transpose": lambda hu: hu.transpose(-1, -2),
    "rotate_left": turned(10.0),
    "rotate_right": turned(-10.0),
    "zoom_in": turned(zoom=1.1),
    "zoom_out": turned(zoom=0.9),
    "reverse": lambda hu: hu.flip(1),
}

ViewName = Annotated[str, OneOf(VIEWS)]  # in a configuration
