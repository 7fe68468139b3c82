"""Where a class activation map is taken from: the layer of a network, and its output as a map.

A network of several parts says so itself by a method `cam_targets() -> dict[str, CamTarget]`, the main one
first; timm's networks and transformers' ViViT are recognised by what they say about themselves.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from ..errors import UserError


class CamTarget(NamedTuple):
    """The output of `layer`, which `to_map` makes (b, c, h, w) or, for videos, (b, c, d, h, w)."""

    layer: nn.Module
    to_map: Callable[[torch.Tensor], torch.Tensor]


def as_it_is(output: torch.Tensor) -> torch.Tensor:
    """Of a layer whose output is a map already."""
    return output


def channels_first(output: torch.Tensor) -> torch.Tensor:
    """(b, h, w, c) -> (b, c, h, w)"""
    return output.permute(0, 3, 1, 2)


def without_prefix(tokens: torch.Tensor, prefix: int, grid: tuple[int, ...]) -> torch.Tensor:
    """(b, prefix + n, c) -> (b, c, *grid), n being the product of the grid; UserError for another number."""
    if tokens.ndim != 3 or tokens.shape[1] != prefix + math.prod(grid):
        raise UserError(
            f"map of tokens: expected {prefix} + {' x '.join(map(str, grid))} tokens, got the shape "
            f"{tuple(tokens.shape)}; build the network for the size of the images"
        )
    return tokens[:, prefix:].transpose(1, 2).unflatten(2, grid)


def find_cam_targets(model: nn.Module) -> dict[str, CamTarget]:
    """The targets by name, the main one first; UserError for a network that has no known map.

    Convolutional networks of timm: the last map before pooling (ResNet `layer4[-1]`, ConvNeXt `stages[-1]`,
    VGG `features[-1]`, DenseNet `features.norm5`, EfficientNet `bn2`).  Vision transformers: the input of the
    last block's attention, for what its patches become afterwards never reaches the class token.
    """
    for module in model.modules():
        if hasattr(module, "cam_targets"):
            return module.cam_targets()
    network = _network(model)
    target = _vivit(network) or _vision_transformer(network) or _convolutional(network)
    if target is None:
        raise UserError(
            f"{_name(network)}: no layer is known whose output is a map; "
            "give the network a method cam_targets(), or take another backbone"
        )
    return {next(name for name, module in model.named_modules() if module is target.layer): target}


def _network(model: nn.Module) -> nn.Module:
    """The one network inside that says what it is."""
    found: list[nn.Module] = []
    inner: set[nn.Module] = set()
    for module in model.modules():
        if module not in inner and (hasattr(module, "feature_info") or hasattr(module, "base_model")):
            found.append(module)
            inner.update(module.modules())
    if len(found) != 1:
        names = ", ".join(map(_name, found)) or "none of timm or transformers"
        raise UserError(
            f"{type(model).__name__}: which of its networks gives the map is not known ({names}); "
            "give the model a method cam_targets()"
        )
    return getattr(found[0], "base_model", found[0])


def _name(network: nn.Module) -> str:
    published = getattr(network, "pretrained_cfg", None) or {}
    return published.get("architecture", type(network).__name__)


def _vivit(network: nn.Module) -> CamTarget | None:
    config = getattr(network, "config", None)
    if getattr(config, "model_type", None) != "vivit":
        return None
    sides = (config.num_frames, *network.embeddings.image_size)
    grid = tuple(side // step for side, step in zip(sides, config.tubelet_size, strict=True))
    return CamTarget(network.layers[-1].layernorm_before, partial(without_prefix, prefix=1, grid=grid))


def _vision_transformer(network: nn.Module) -> CamTarget | None:
    grid = getattr(getattr(network, "patch_embed", None), "grid_size", None)
    prefix = getattr(network, "num_prefix_tokens", None)  # class token and registers
    if grid is None or prefix is None or not hasattr(network.blocks[-1], "norm1"):
        return None
    return CamTarget(network.blocks[-1].norm1, partial(without_prefix, prefix=prefix, grid=tuple(grid)))


def _convolutional(network: nn.Module) -> CamTarget | None:
    layers = [layer for layer in _before_pooling(network) if not isinstance(layer, nn.Identity)]
    layers = layers or _last_feature(network)
    if not layers:
        return None
    last = layers[-1]
    while isinstance(last, nn.Sequential):
        last = last[-1]
    return CamTarget(last, channels_first if getattr(network, "output_fmt", "") == "NHWC" else as_it_is)


def _before_pooling(network: nn.Module) -> list[nn.Module]:
    """Its direct parts before the one that pools, which timm registers in the order of their use."""
    parts = list(network.named_children())
    for number, (name, part) in enumerate(parts):
        if name == "global_pool" or hasattr(part, "global_pool"):
            return [layer for name, layer in parts[:number] if name != "pre_logits"]
    return []


def _last_feature(network: nn.Module) -> list[nn.Module]:
    """Of networks that pool without a module."""
    info = getattr(network, "feature_info", None) or []
    info = info if isinstance(info, list) else list(info.info)
    return [network.get_submodule(info[-1]["module"])] if info else []
