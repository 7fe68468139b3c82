"""Losses of six logits; the default is equal to the contest's metric."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from ..labels import LABEL_WEIGHTS, LABELS, WEIGHT_SUM
from .slices.slice_config import SliceConfig

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_WEIGHTS = torch.tensor([LABEL_WEIGHTS[label] / WEIGHT_SUM for label in LABELS])


def weighted_bce(
    logits: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """The weighted multilabel log loss of logits: (2 LL_any + the five others) / 7, averaged over slices.

    logits, labels (..., 6) in the order of LABELS; mask (...) bool, True where a slice counts -> scalar
    """
    losses = F.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="none")
    per_slice = losses @ _WEIGHTS.to(losses)
    return per_slice.mean() if mask is None else per_slice[mask].mean()


def bce(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Plain mean over slices and labels: `any` counts once (1st place's CNNs)."""
    return F.binary_cross_entropy_with_logits(logits.float(), labels.float())


def bce_any_twice(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """BCEWithLogitsLoss(weight=[2 for any, 1 ...]), a mean over six labels: 7/6 of the metric.

    What recipes with `any` 2 use. Adam takes the same steps as with the metric; clipping of gradients and
    SGD see the factor.
    """
    return weighted_bce(logits, labels) * (WEIGHT_SUM / len(LABELS))


def focal(logits: torch.Tensor, labels: torch.Tensor, gamma: float) -> torch.Tensor:
    """The metric with every term weighed by (1 - p of what is true)^gamma (Lin et al., ICCV 2017).

    Its probabilities are not calibrated: blend it with a calibration step.
    """
    logits, labels = logits.float(), labels.float()
    losses = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    wrong = (labels - logits.sigmoid()).abs()
    return (wrong.pow(gamma) * losses @ _WEIGHTS.to(losses)).mean()


def build_loss(config: SliceConfig) -> Loss:
    """The training loss of a configuration: (logits, labels) (b, 6) -> scalar."""
    losses: dict[str, Loss] = {
        "metric": weighted_bce,
        "bce": bce,
        "bce_any_twice": bce_any_twice,
        "focal": lambda logits, labels: focal(logits, labels, config.focal_gamma),
    }
    loss, smoothing = losses[config.loss], config.label_smoothing
    if not smoothing:
        return loss
    return lambda logits, labels: loss(logits, smooth(labels, smoothing))


def smooth(labels: torch.Tensor, amount: float) -> torch.Tensor:
    """0 and 1 become amount / 2 and 1 - amount / 2."""
    return labels.float() * (1 - amount) + amount / 2
