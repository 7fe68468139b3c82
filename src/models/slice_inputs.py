"""Stage 2: the outputs of stage-1 networks for a slice -> one vector.

Everything derived is made here, on the device: normalisation, model mean and differences, deltas between
slices, noise, the mark of a missing slice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import nn

from ..config import Count, Fraction, NotNegative, OneOf, StrictModel
from ..labels import LABELS
from .studies.masked import lag, lead
from .studies.sequence_model import SliceSequence

SCORES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "logits": lambda logits: logits / 4,  # about the spread of a normalised embedding
    "probabilities": torch.sigmoid,
}
INPUTS = ("embeddings", *SCORES, "position")
DELTAS = {"none": (), "lag": (lag,), "lag_lead": (lag, lead)}


class InputOptions(StrictModel):
    """What stands for a slice."""

    inputs: tuple[Annotated[str, OneOf(INPUTS)], ...] = ("embeddings", "logits", "position")
    """what is read of the members, and the place of a slice in its study"""
    deltas: Annotated[str, OneOf(DELTAS)] = "none"
    """lag: also minus the slice before; lag_lead: also minus the slice before and minus the slice after"""
    mean_channel: bool = False
    """the members' mean as one more channel of logits and probabilities"""
    differences: bool = False
    """member minus next member as more channels of both"""
    width: Count | None = 256
    """width that the inputs are projected to; null: no projection"""
    dropout: Fraction = 0.2
    """share of the projected inputs and of the network's layers that is left out in training"""
    normalise: bool = True
    """whether the embeddings of every member are normalised by themselves"""
    noise: NotNegative = 0.0
    """standard deviation added to normalised embeddings in training"""

    @property
    def scores(self) -> tuple[str, ...]:
        """The kinds of stage-1 predictions among the inputs."""
        return tuple(kind for kind in SCORES if kind in self.inputs)


@dataclass(frozen=True)
class InputSizes:
    """Widths of what stands for a slice."""

    embeddings: tuple[int, ...]  # of every member; empty: embeddings are no input
    members: int
    positions: int
    marks: bool = False  # whether slices may be missing: one more channel says which


class Scores(nn.Module):
    """The members' probabilities as channels: every member, maybe their mean and their differences.

    Differences are rotated, member i minus member i + 1, the last minus the first, as the 1st place of RSNA
    2019 has them; of two members there is one.
    """

    def __init__(self, members: int, kinds: tuple[str, ...], mean: bool, differences: bool):
        """kinds: of `logits`, `probabilities`; empty: no channel."""
        super().__init__()
        self.members, self.kinds, self.mean = members, kinds, mean
        self.differences = (members if members > 2 else members - 1) if differences else 0
        self.width = len(kinds) * self.channels * len(LABELS)

    @property
    def channels(self) -> int:
        """Channels of one kind."""
        return self.members + self.mean + self.differences

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        """logits (b, s, members * 6) -> (b, s, kinds, channels, 6)"""
        if not self.kinds:
            return logits.new_empty(*logits.shape[:2], 0, self.channels, len(LABELS))
        logits = logits.unflatten(-1, (self.members, len(LABELS)))
        return torch.stack([self._channels(SCORES[kind](logits)) for kind in self.kinds], 2)

    def _channels(self, values: torch.Tensor) -> torch.Tensor:
        parts = [values]
        if self.mean:
            parts.append(values.mean(-2, keepdim=True))
        if self.differences:
            parts.append((values - values.roll(-1, -2))[..., : self.differences, :])
        return torch.cat(parts, -2)


class SliceInputs(nn.Module):
    """Embeddings, scores, deltas and positions of a slice -> one vector.

    The embeddings of every member are normalised by themselves (LayerNorm), since networks differ in scale,
    and projected first: the sequence model then costs the same whatever the backbones.  A projected
    difference is the difference of projections, so deltas are taken after the projection and the wide
    differences never exist.  Nothing is projected without `width`, nothing normalised without
    `normalise`.
    """

    def __init__(self, sizes: InputSizes, options: InputOptions):
        super().__init__()
        self.sizes, self.marks, self.noise = sizes.embeddings, sizes.marks, options.noise
        self.scores = Scores(sizes.members, options.scores, options.mean_channel, options.differences)
        self.deltas = DELTAS[options.deltas]
        self.norms = nn.ModuleList(
            nn.LayerNorm(size, elementwise_affine=False) if options.normalise else nn.Identity()
            for size in sizes.embeddings
        )
        values, others = sum(sizes.embeddings) + self.scores.width, sizes.positions + sizes.marks
        self.project = self.project_deltas = None
        if options.width is None:
            self.width = values * (1 + len(self.deltas)) + others
            return
        self.width = width = options.width
        self.project = nn.Linear(values + others, width)
        if self.deltas:
            self.project_deltas = nn.Linear(values, len(self.deltas) * width, bias=False)
        self.finish = nn.Sequential(nn.LayerNorm(width), nn.GELU(), nn.Dropout(options.dropout))

    def forward(self, slices: SliceSequence) -> torch.Tensor:
        """-> (b, s, width).  Nothing of a missing slice is seen but its position."""
        values = torch.cat([*self.normalised(slices.embeddings), self.scores(slices.logits).flatten(2)], -1)
        real, position = slices.read, slices.position
        values = values * real[..., None]
        if self.marks:
            mark = slices.missing & slices.mask
            position = torch.cat([position, mark[..., None].to(position)], -1)
        if self.project is None:
            return torch.cat([values, *(delta(values, real) for delta in self.deltas), position], -1)
        hidden = self.project(torch.cat([values, position], -1))
        if self.deltas:
            for delta, part in zip(
                self.deltas, self.project_deltas(values).chunk(len(self.deltas), -1), strict=True
            ):
                hidden = hidden + delta(part, real)
        return self.finish(hidden)

    def normalised(self, embeddings: torch.Tensor) -> list[torch.Tensor]:
        """(b, s, sum of sizes) -> a tensor a member, in training with noise"""
        parts = [norm(part) for norm, part in zip(self.norms, embeddings.split(self.sizes, -1), strict=True)]
        if self.noise and self.training:
            parts = [part + self.noise * torch.randn_like(part) for part in parts]
        return parts
