"""Global pooling other than a backbone's own."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from ..errors import UserError

GEM_POWER = "pool.p"  # how the exponent's name ends in a network


class GeM(nn.Module):
    """Generalised mean over positions: (mean x^p)^(1/p), p learned from 3 (Radenovic et al., TPAMI 2019).

    p = 1 is the mean, large p comes near the maximum.
    """

    def __init__(self, channels_last: bool = False, flatten: bool = True, eps: float = 1e-6):
        super().__init__()
        self.p = nn.Parameter(torch.tensor(3.0))
        self.axes = (1, 2) if channels_last else (2, 3)
        self.keep, self.eps = not flatten, eps

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(b, c, h, w), or (b, h, w, c) -> (b, c), or with axes of one where the replaced pool keeps them"""
        powers = features.float().clamp_min(self.eps).pow(self.p)
        return powers.mean(self.axes, keepdim=self.keep).pow(1 / self.p).to(features.dtype)


def use_gem(network: nn.Module, name: str) -> GeM:
    """Replace timm's pooling by the returned GeM; a norm or projection behind it stays."""
    from timm.layers import SelectAdaptivePool2d

    pools = [key for key, module in network.named_modules() if isinstance(module, SelectAdaptivePool2d)]
    if len(pools) != 1:
        raise UserError(f"pooling gem: {name} does not pool a feature map; take avg, max or backbone")
    parent, _, attribute = pools[0].rpartition(".")
    pool = network.get_submodule(pools[0])
    channels_last = tuple(getattr(pool.pool, "dim", (2, 3))) == (1, 2)
    flatten = pool(torch.zeros(1, 2, 2, 2)).ndim == 2
    gem = GeM(channels_last, flatten)
    setattr(network.get_submodule(parent), attribute, gem)
    return gem


class Pooling(NamedTuple):
    """How a network gets its pooling: what timm is told when it is built, and what is done to it then."""

    options: dict[str, str]
    change: Callable[[nn.Module, str], nn.Module] | None = None


POOLINGS = {
    "backbone": Pooling({}),
    "avg": Pooling({"global_pool": "avg"}),
    "max": Pooling({"global_pool": "max"}),
    "gem": Pooling({}, use_gem),
}
