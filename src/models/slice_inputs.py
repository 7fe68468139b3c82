"""Stage 2: the outputs of stage-1 networks for a slice -> one vector.

Everything derived is made here, on the device: normalisation, model mean and differences, deltas between
slices, noise, the mark of a missing slice.
"""

from dataclasses import dataclass

import torch
from torch import nn

from ..labels import LABELS
from .masked import lag, lead

DELTAS = {"none": (), "lag": (lag,), "lag_lead": (lag, lead)}


@dataclass(frozen=True)
class InputSizes:
    """Widths of what stands for a slice."""

    embeddings: tuple[int, ...]  # of every member; empty: embeddings are no input
    members: int
    positions: int


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
        # a quarter of a logit has about the spread of a normalised embedding
        kinds = [logits / 4 if kind == "logits" else logits.sigmoid() for kind in self.kinds]
        return torch.stack([self._channels(values) for values in kinds], 2)

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

    def __init__(
        self, sizes: InputSizes, scores: Scores, deltas: str, width: int | None, dropout: float, noise: float,
        marks: bool, normalise: bool = True,
    ):  # fmt: skip
        """marks: one more channel says which slices are missing; normalise: whether embeddings are."""
        super().__init__()
        self.sizes, self.noise, self.scores, self.marks = sizes.embeddings, noise, scores, marks
        self.deltas = DELTAS[deltas]
        self.norms = nn.ModuleList(
            nn.LayerNorm(size, elementwise_affine=False) if normalise else nn.Identity()
            for size in sizes.embeddings
        )
        values, others = sum(sizes.embeddings) + scores.width, sizes.positions + marks
        self.project = self.project_deltas = None
        if width is None:
            self.width = values * (1 + len(self.deltas)) + others
            return
        self.width = width
        self.project = nn.Linear(values + others, width)
        if self.deltas:
            self.project_deltas = nn.Linear(values, len(self.deltas) * width, bias=False)
        self.finish = nn.Sequential(nn.LayerNorm(width), nn.GELU(), nn.Dropout(dropout))

    def forward(
        self,
        embeddings: torch.Tensor,
        logits: torch.Tensor,
        position: torch.Tensor,
        mask: torch.Tensor,
        missing: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """embeddings (b, s, sum of sizes), logits (b, s, 6 * members), position (b, s, p), mask and missing
        (b, s) bool -> (b, s, width).  Nothing of a missing slice is seen but its position.
        """
        values = torch.cat([*self.normalised(embeddings), self.scores(logits).flatten(2)], -1)
        real = mask if missing is None else mask & ~missing
        values = values * real[..., None]
        if self.marks:
            mark = torch.zeros_like(mask) if missing is None else missing & mask
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
