"""Grad-CAM (Selvaraju et al., ICCV 2017): where in an image the evidence for one label lies.

A map is the ReLU of a weighted sum of feature maps; the weight of a feature is the mean gradient of the
label's raw logit over its map.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ...errors import UserError
from ...labels import LABELS
from ...models.cam_targets import CamTarget, find_cam_targets


class Cams(NamedTuple):
    """Maps as they come, not normalised, and the logits they explain."""

    maps: np.ndarray  # (labels, n, h, w) float32, as large as the images; videos: (labels, n, frames, h, w)
    logits: np.ndarray  # (labels, n) float32


def grad_cam(
    model: nn.Module,
    inputs: Sequence[Any],
    labels: Sequence[str],
    *,
    names: Sequence[str] = LABELS,
    target: CamTarget | None = None,
    at: int | None = None,
) -> Cams:
    """The maps of some labels.  The network is run in evaluation mode and left as it was, its weights,
    statistics, gradients and mode; the caller may be within `no_grad` or `inference_mode`.

    inputs: what the network is called with, the images (b, ..., h, w) first; of videos frames come second.
    Its output, or the first part of it, are logits with the columns `names`.  Logits (b, columns) give a map
    an image.  Logits (1, s, columns) of a study give the map of each of its s slices for the slice's own
    logit, or with `at` for the logit of that slice.

    Raises UserError for an unknown label, and instead of an empty map where the logit does not depend on
    the target (default: the main one of `find_cam_targets`).
    """
    columns = [_column(label, names) for label in labels]
    target = target or next(iter(find_cam_targets(model).values()))
    with _undisturbed(model), _outputs_of(target.layer) as calls:
        answer = model(*map(_usable, inputs))
        outputs = tuple(calls)  # checkpointing will call the layer again
        logits = answer if isinstance(answer, torch.Tensor) else answer[0]
        features = _features(target, outputs, logits)
        maps = []
        for column in columns:
            gradients = _gradients(_scores(logits, column, at, len(features)), outputs, target)
            maps.append(_enlarged(_weighted_sum(features, gradients), inputs[0].shape))
    return Cams(torch.stack(maps).cpu().numpy(), _explained(logits.detach(), columns, at, len(features)))


def shuffled_head_correlation(
    model: nn.Module,
    head: str,
    inputs: Sequence[Any],
    label: str,
    *,
    names: Sequence[str] = LABELS,
    seed: int,
) -> np.ndarray:
    """Spearman's correlation (n,) of each map with the map after the weights of the module `head` were
    shuffled; NaN where one of them is flat.

    Near 1, a map shows the image, not what was learned about it (Adebayo et al., NeurIPS 2018).
    """
    models = model, with_shuffled(model, [head], seed)
    return map_correlations(*(grad_cam(m, inputs, [label], names=names).maps[0] for m in models))


def with_shuffled(model: nn.Module, parts: Sequence[str], seed: int) -> nn.Module:
    """A copy in which the numbers of every weight of some modules stand in another order."""
    shuffled, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in chain.from_iterable(shuffled.get_submodule(part).parameters() for part in parts):
            order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
            weight.copy_(weight.flatten()[order].view_as(weight))
    return shuffled


def map_correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n, h, w) twice -> (n,) Spearman's correlation; NaN where one of two maps is flat."""
    from scipy.stats import spearmanr  # half a second that no map needs

    pairs = zip(first, second, strict=True)
    flat = [(np.ptp(a) == 0 or np.ptp(b) == 0, a.ravel(), b.ravel()) for a, b in pairs]
    return np.array([np.nan if constant else spearmanr(a, b).statistic for constant, a, b in flat])


def _column(label: str, names: Sequence[str]) -> int:
    if label not in names:
        raise UserError(f"map of {label!r}: no such label; the network knows {', '.join(names)}")
    return list(names).index(label)


def _usable(value: Any) -> Any:
    """A tensor made in inference mode cannot take part in a gradient; its copy can."""
    return value.clone() if isinstance(value, torch.Tensor) and value.is_inference() else value


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and gradients, but none of weights, which saves the memory of all layers below."""
    training = [module for module in model.modules() if module.training]
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    # cuDNN refuses the backward pass of a recurrent layer in evaluation mode
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    cudnn = torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext()
    try:
        model.eval().requires_grad_(False)
        with torch.inference_mode(False), cudnn:  # leaving inference mode ends `no_grad` too
            yield
    finally:
        for module in training:
            module.training = True
        for weight in learning:
            weight.requires_grad_(True)


@contextmanager
def _outputs_of(layer: nn.Module) -> Iterator[list[torch.Tensor]]:
    """What the layer puts out at each of its calls, to differentiate by."""
    outputs: list[torch.Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        outputs.append(output.detach().requires_grad_())
        return outputs[-1].clone()  # what comes next may change it in place

    handle = layer.register_forward_hook(keep)
    try:
        yield outputs
    finally:
        handle.remove()


def _features(target: CamTarget, outputs: Sequence[torch.Tensor], logits: torch.Tensor) -> torch.Tensor:
    """(n, c, *grid), of all calls of the layer together."""
    name = type(target.layer).__name__
    if not (outputs and logits.requires_grad):
        raise UserError(f"map of {name}: the logits do not depend on it; take another layer")
    features = target.to_map(torch.cat(outputs).detach())
    if features.ndim not in (4, 5) or math.prod(features.shape[2:]) == 1:
        shape = tuple(features.shape)
        raise UserError(f"map of {name}: its output {shape} is none; take larger images or another layer")
    return features


def _scores(
    logits: torch.Tensor, column: int, at: int | None, images: int
) -> list[tuple[torch.Tensor, slice]]:
    """What to differentiate, and of which images: their logits do not depend on each other's images,
    except within a study.
    """
    if logits.ndim == 2:
        return [(logits[:, column].sum(), slice(None))]
    if logits.shape[:2] != (1, images):
        raise ValueError(f"logits {tuple(logits.shape)} of {images} images: give one study without padding")
    if at is not None:
        return [(logits[0, at, column], slice(None))]
    return [(logits[0, place, column], slice(place, place + 1)) for place in range(images)]


def _gradients(
    scores: list[tuple[torch.Tensor, slice]], outputs: Sequence[torch.Tensor], target: CamTarget
) -> torch.Tensor:
    """(n, c, *grid); of every score those of its images."""
    parts = []
    for score, images in scores:
        of_calls = torch.autograd.grad(score, outputs, retain_graph=True, materialize_grads=True)
        # a copy: views would keep the gradients of all images for each
        parts.append(target.to_map(torch.cat(of_calls))[images].clone())
    gradients = torch.cat(parts)
    if not gradients.any():
        name = type(target.layer).__name__
        raise UserError(f"map of {name}: the logit does not change with it; take another layer")
    return gradients


def _weighted_sum(features: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """(n, c, *grid) twice -> (n, *grid) float32"""
    weights = gradients.float().flatten(2).mean(2)
    return torch.einsum("nc...,nc->n...", features.float(), weights).relu()


def _enlarged(maps: torch.Tensor, images: torch.Size) -> torch.Tensor:
    """(n, h', w') -> (n, h, w), linearly; (n, d', h', w') -> (n, frames, h, w)

    images: the shape (n, frames, c, h, w) of videos, or (n * frames, c, h, w) of their frames in a row.
    """
    if maps.ndim == 3:
        size, mode = tuple(images[-2:]), "bilinear"
    else:
        size, mode = (math.prod(images[:-3]) // len(maps), *images[-2:]), "trilinear"
    return F.interpolate(maps[:, None], size, mode=mode)[:, 0]


def _explained(logits: torch.Tensor, columns: list[int], at: int | None, images: int) -> np.ndarray:
    """(labels, images) float32"""
    if logits.ndim == 3:
        logits = logits[0] if at is None else logits[0, at].expand(images, -1)
    return logits[:, columns].T.float().cpu().numpy()
