"""Losses equal to the contest's metric."""

import torch
import torch.nn.functional as F

from ..labels import LABEL_WEIGHTS, LABELS, WEIGHT_SUM

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
