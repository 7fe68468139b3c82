"""Losses of logits; the default is equal to the score of the targets, for the six labels the contest's."""

from collections.abc import Callable
from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import model_validator

from ..config import NotNegative, OneOf, StrictModel
from ..labels import LABEL_WEIGHTS, LABELS, WEIGHT_SUM
from ..targets import HEMORRHAGE, Targets

Loss = Callable[..., torch.Tensor]  # (logits, labels), of the six labels also (..., weights=weights)

_WEIGHTS = torch.tensor([LABEL_WEIGHTS[label] / WEIGHT_SUM for label in LABELS])


def weighted_bce(
    logits: torch.Tensor,
    labels: torch.Tensor,
    mask: torch.Tensor | None = None,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """The weighted multilabel log loss of logits: (2 LL_any + the five others) / 7, averaged over slices.

    logits, labels (..., 6) in the order of LABELS; mask (...) bool, True where a slice counts; weights
    (..., 1): how much, 1 where there are none -> scalar
    """
    losses = F.binary_cross_entropy_with_logits(logits.float(), labels.float(), weights, reduction="none")
    per_slice = losses @ _WEIGHTS.to(losses)
    return per_slice.mean() if mask is None else per_slice[mask].mean()


def head_losses(logits: torch.Tensor, labels: torch.Tensor, targets: Targets) -> list[torch.Tensor]:
    """The log loss of every head, a mean over the rows where it is asked; 0 where it never is.

    logits, labels (n, columns); a label that is not known is NaN; those of an exclusive head may be shares.
    """
    losses = []
    for head, span in zip(targets.heads, targets.spans, strict=True):
        asked = ~labels[:, span].isnan().any(1)
        own, truth = logits[asked, span].float(), labels[asked, span].float()
        if head.exclusive:
            rows = F.cross_entropy(own, truth, reduction="none")
        else:
            share = torch.tensor(head.shares, device=own.device)
            rows = F.binary_cross_entropy_with_logits(own, truth, reduction="none") @ share
        losses.append(rows.sum() / asked.sum().clamp_min(1))
    return losses


def sum_of_heads(
    logits: torch.Tensor, labels: torch.Tensor, targets: Targets,
    presence_weight: float = 1.0, location_weight: float = 1.0,
) -> torch.Tensor:  # fmt: skip
    """The first head's log loss and the sum of the others', each times its weight -> scalar."""
    first, *others = head_losses(logits, labels, targets)
    return presence_weight * first + location_weight * sum(others)


def score_loss(logits: torch.Tensor, labels: torch.Tensor, targets: Targets) -> torch.Tensor:
    """What a run with these targets is scored by -> scalar."""
    if targets is HEMORRHAGE:
        return weighted_bce(logits, labels)
    return sum_of_heads(logits, labels, targets)


def bce(
    logits: torch.Tensor,
    labels: torch.Tensor,
    mask: torch.Tensor | None = None,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Plain mean over slices and labels, of slices where `mask` is True: `any` counts once (1st place's
    CNNs).
    """
    if mask is not None:
        logits, labels = logits[mask], labels[mask]
    return F.binary_cross_entropy_with_logits(logits.float(), labels.float(), weights)


def bce_any_twice(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """BCEWithLogitsLoss(weight=[2 for any, 1 ...]), a mean over six labels: 7/6 of the metric.

    What recipes with `any` 2 use. Adam takes the same steps as with the metric; clipping of gradients and
    SGD see the factor.
    """
    return weighted_bce(logits, labels, weights=weights) * (WEIGHT_SUM / len(LABELS))


def focal(
    logits: torch.Tensor, labels: torch.Tensor, gamma: float, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """The metric with every term weighed by (1 - p of what is true)^gamma (Lin et al., ICCV 2017); of a soft
    label y by |y - p|^gamma (Li et al., NeurIPS 2020).

    Its probabilities are not calibrated: blend it with a calibration step.
    """
    logits, labels = logits.float(), labels.float()
    losses = F.binary_cross_entropy_with_logits(logits, labels, weights, reduction="none")
    wrong = (labels - logits.sigmoid()).abs()
    return (wrong.pow(gamma) * losses @ _WEIGHTS.to(losses)).mean()


MASKED_LOSSES = {"metric": weighted_bce, "bce": bce}  # (logits, labels, mask): of stackers
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
    presence_weight: NotNegative = 1.0
    """weight of the presence's loss, where the location is a target too"""
    location_weight: NotNegative = 1.0
    """weight of the location's loss, where that is a target"""

    @model_validator(mode="after")
    def _gamma_has_effect(self) -> "LossOptions":
        if self.loss != "focal" and self.focal_gamma != type(self).model_fields["focal_gamma"].default:
            raise ValueError(f"focal_gamma: has no effect on the loss {self.loss}; leave it out")
        return self


def build_loss(options: LossOptions, targets: Targets = HEMORRHAGE) -> Loss:
    """(logits, labels) (n, columns) -> scalar; `loss` names one of the six labels, others have their own.

    Those of the six labels take `weights` of the rows too, (n, 1).
    """
    if targets is HEMORRHAGE:
        return LOSSES[options.loss](options)
    weights = {"presence_weight": options.presence_weight, "location_weight": options.location_weight}
    return partial(sum_of_heads, targets=targets, **weights)
