"""From logits to the probabilities of a run's targets and back."""

from typing import Annotated

import numpy as np
import pandas as pd
import torch

from ..config import OneOf, StrictModel
from ..targets import SITES, TARGETS, Targets, find_targets

FARTHEST = 1e-12  # of a probability from 0 and 1, where it becomes a logit again


class TargetOptions(StrictModel):
    """What is predicted."""

    targets: Annotated[str, OneOf(TARGETS)] = "hemorrhage"
    """hemorrhage: the six labels; presence: of any bleeding; presence_and_location: and where it is"""
    sites: tuple[str, ...] = SITES
    """columns of the location, of which one is true"""

    @property
    def predicted(self) -> Targets:
        return find_targets(self.targets, self.sites)


def probabilities(logits: torch.Tensor, targets: Targets) -> torch.Tensor:
    """(..., columns) -> (..., columns) float64: sigmoid, or softmax over the columns of an exclusive head."""
    parts = [
        logits[..., span].double().softmax(-1) if head.exclusive else logits[..., span].double().sigmoid()
        for head, span in zip(targets.heads, targets.spans, strict=True)
    ]
    return torch.cat(parts, -1)


def logits_of(probability: torch.Tensor, targets: Targets) -> torch.Tensor:
    """The inverse of `probabilities`; of an exclusive head the logarithm."""
    parts = [
        probability[..., span].clamp_min(FARTHEST).log()
        if head.exclusive
        else probability[..., span].logit(eps=FARTHEST)
        for head, span in zip(targets.heads, targets.spans, strict=True)
    ]
    return torch.cat(parts, -1)


def prior_logits(rates: torch.Tensor, targets: Targets) -> torch.Tensor:
    """(columns,) share of true among the rows where a column is asked -> (columns,) logits to begin with."""
    return logits_of(rates.nan_to_num(0.5).clamp(1e-4, 1 - 1e-4), targets)


def probability_frame(logits: np.ndarray, ids: pd.Index | list[str], targets: Targets) -> pd.DataFrame:
    """logits (n, columns) -> probabilities in float64, indexed by `ids`, columns of the targets."""
    values = probabilities(torch.from_numpy(logits), targets).numpy()
    return pd.DataFrame(values, pd.Index(ids), list(targets.columns))
