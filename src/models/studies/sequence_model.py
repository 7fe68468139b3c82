"""Stage 2: what every network over the slices of a study is asked and answers."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import nn


class SliceSequence(NamedTuple):
    """The slices of some studies, padded to the longest, padding last.

    d, the logits and p may be zero wide; what stands beyond the mask has no influence.
    """

    embeddings: torch.Tensor  # (b, s, d), members side by side
    logits: torch.Tensor  # (b, s, 6 * members)
    position: torch.Tensor  # (b, s, p)
    mask: torch.Tensor  # (b, s) bool, True for real slices
    missing: torch.Tensor  # (b, s) bool, True for slices no stage-1 network could read

    @property
    def read(self) -> torch.Tensor:
        """(b, s) bool: real slices that stage 1 could read."""
        return self.mask & ~self.missing


class StackerOutput(NamedTuple):
    """Logits; whatever a network has no head for is None."""

    slices: torch.Tensor  # (b, s, 6)
    first: torch.Tensor | None = None  # (b, s, 6): an earlier answer to the same question
    study: torch.Tensor | None = None  # (b, 6): does the study show it, from slices that saw each other
    instances: torch.Tensor | None = None  # (b, 6): the same from slices that did not (multiple instances)


class SequenceModel(nn.Module, ABC):
    """The call every network of stage 2 answers."""

    @abstractmethod
    def start_at(self, slices: torch.Tensor, studies: torch.Tensor) -> None:
        """Begin with the prevalence (6,) of every label among slices and studies, where nothing better is
        known, so that no step is spent on learning it.
        """

    @abstractmethod
    def forward(self, slices: SliceSequence) -> StackerOutput:
        """Logits of every slice, and of the study where there is a head for it."""


def prior_logits(prevalence: torch.Tensor) -> torch.Tensor:
    """(6,) -> (6,) logits within +-6: a label that never occurs must stay learnable."""
    return prevalence.clamp(1e-9, 1 - 1e-9).logit().clamp(-6, 6)
