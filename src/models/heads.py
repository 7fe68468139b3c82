"""From logits to the probabilities of a run's targets and back."""

from typing import Annotated

import numpy as np
import pandas as pd
import torch
from pydantic import model_validator
from torch import nn

from ..config import Count, OneOf, StrictModel
from ..data.target_labels import LOCATIONS
from ..targets import SITES, TARGETS, Targets, find_targets

FARTHEST = 1e-12  # of a probability from 0 and 1, where it becomes a logit again


class TargetOptions(StrictModel):
    """What is predicted."""

    targets: Annotated[str, OneOf(TARGETS)] = "hemorrhage"
    """hemorrhage: the six labels; presence: of any bleeding; presence_and_location: and where it is"""
    sites: tuple[str, ...] = SITES
    """columns of the location, of which one is true"""
    site_labels: Annotated[str, OneOf(LOCATIONS)] = "prepared"
    """where the location is known from; prepared: the data set; truth: that of synthetic data"""
    head_hidden: Count | None = None
    """width of a hidden layer of its own for every head, with GELU; null: one linear layer"""

    @model_validator(mode="after")
    def _sites_are_known(self) -> "TargetOptions":
        if self.site_labels == "truth" and (self.targets != "presence_and_location" or self.sites != SITES):
            raise ValueError(
                f"site_labels truth: of the targets presence_and_location with {', '.join(SITES)}"
            )
        return self

    @property
    def predicted(self) -> Targets:
        return find_targets(self.targets, self.sites)


class HiddenHeads(nn.Module):
    """Every head of the targets with a hidden layer of its own: linear, GELU, dropout, linear."""

    def __init__(self, width: int, targets: Targets, hidden: int, dropout: float):
        super().__init__()
        self.spans = targets.spans
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, len(head.columns))
            )
            for head in targets.heads
        )

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """(..., width) -> logits (..., columns)"""
        return torch.cat([head(embeddings) for head in self.heads], -1)

    def start_at(self, logits: torch.Tensor) -> None:
        """(columns,) what every image gets before anything is learned of it, but for the random weights."""
        for head, span in zip(self.heads, self.spans, strict=True):
            head[-1].bias.copy_(logits[span])


def build_head(width: int, options: TargetOptions, dropout: float) -> nn.Module:
    """Embedding (..., width) -> logits (..., columns); `dropout` is that of a hidden layer."""
    targets = options.predicted
    if options.head_hidden is None:
        return nn.Linear(width, len(targets.columns))
    return HiddenHeads(width, targets, options.head_hidden, dropout)


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
