"""Stage 2: what every network over the slices of a study answers."""

from typing import NamedTuple

import torch
from torch import nn


class StackerOutput(NamedTuple):
    """Logits; whatever a network has no head for is None."""

    slices: torch.Tensor  # (b, s, 6)
    first: torch.Tensor | None = None  # (b, s, 6): an earlier answer to the same question
    study: torch.Tensor | None = None  # (b, 6): does the study show it, from slices that saw each other
    instances: torch.Tensor | None = None  # (b, 6): the same from slices that did not (multiple instances)


class SequenceModel(nn.Module):
    """The call every network of stage 2 answers."""

    def start_at(self, slices: torch.Tensor, studies: torch.Tensor) -> None:
        """Begin with the prevalence (6,) of every label among slices and studies, where nothing better is
        known, so that no step is spent on learning it.
        """
        raise NotImplementedError

    def forward(
        self,
        embeddings: torch.Tensor,
        logits: torch.Tensor,
        position: torch.Tensor,
        mask: torch.Tensor,
        missing: torch.Tensor | None = None,
    ) -> StackerOutput:
        """embeddings (b, s, d), logits (b, s, 6 * members), position (b, s, p); mask (b, s) bool, True for
        real slices, padding last; missing (b, s) bool, True for slices no stage-1 network could read.

        d, the logits and p may be zero wide; what stands beyond the mask has no influence.
        """
        raise NotImplementedError


def prior_logits(prevalence: torch.Tensor) -> torch.Tensor:
    """(6,) -> (6,) logits within +-6: a label that never occurs must stay learnable."""
    return prevalence.clamp(1e-9, 1 - 1e-9).logit().clamp(-6, 6)
