"""Losses of six logits; the default is equal to the contest's metric."""

from collections.abc import Callable
from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F

from ..config import NotNegative, OneOf, StrictModel
from ..labels import LABEL_WEIGHTS, LABELS, WEIGHT_SUM

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


LOSSES: dict[str, Callable[["LossOptions"], Loss]] = {
    "metric": lambda options: weighted_bce,
    "bce": lambda options: bce,
    "bce_any_twice": lambda options: bce_any_twice,
    "focal": lambda options: partial(focal, gamma=options.focal_gamma),
}


class LossOptions(StrictModel):
    """The loss."""

    loss: Annotated[str, OneOf(LOSSES)] = "metric"
    """metric: the contest's; bce: `any` counts once; bce_any_twice: 7/6 of the metric; focal: the metric,
    most of it from what is still wrong"""
    focal_gamma: NotNegative = 2.0
    """how much focal turns to what is wrong"""


def build_loss(options: LossOptions) -> Loss:
    """(logits, labels) (b, 6) -> scalar"""
    return LOSSES[options.loss](options)
