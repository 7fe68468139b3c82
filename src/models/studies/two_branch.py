"""Stage 2: the two-branch sequence network of the 1st place of RSNA 2019 (SeuTao), with a padding mask.

Branch 1 reads the features of all members, branch 2 their probabilities as images (channels x slices x
labels) together with branch 1's answer.  The published network let the zero tail of short studies take part;
here it has no part in convolution, recurrence or normalisation.
"""

import torch
from torch import nn

from ...labels import LABELS
from ..slice_inputs import InputSizes, Scores
from .contexts import BiRecurrent
from .masked import ConvBlock, MaskedBatchNorm, SliceConv
from .sequence_model import SequenceModel, SliceSequence, StackerOutput, prior_logits


class TwoBranch(SequenceModel):
    """Features and probabilities of the members -> six logits a slice, and branch 1's own for the loss.

    width: of the first feature layer (512 as published: 512, 128; 512, 256, 256, 256); hidden: of the
    recurrent layers (96).
    """

    def __init__(self, sizes: InputSizes, width: int, hidden: int, layers: int, dropout: float, noise: float):
        super().__init__()
        self.features = FeatureBranch(sizes, width, hidden, layers, dropout, noise)
        self.scores = Scores(sizes.members, ("probabilities",), mean=True, differences=True)
        channels = self.scores.channels + sizes.positions + 1
        self.images = ScoreBranch(channels, width, hidden, layers)

    def start_at(self, slices: torch.Tensor, studies: torch.Tensor) -> None:
        for branch in (self.features, self.images):
            branch.head.bias.data.copy_(prior_logits(slices))

    def forward(self, slices: SliceSequence) -> StackerOutput:
        """Of a missing slice only the position is seen."""
        first = self.features(slices.embeddings * slices.read[..., None], slices.mask)
        images = self.scores(slices.logits)[:, :, 0] * slices.read[..., None, None]  # (b, s, channels, 6)
        place = slices.position[..., None].expand(*slices.position.shape, len(LABELS))
        images = torch.cat([images, place, first.sigmoid()[:, :, None]], 2)
        return StackerOutput(self.images(images, slices.mask), first=first)


class FeatureBranch(nn.Module):
    """Members' features, through layers they share, joined: a linear map plus a recurrent network."""

    def __init__(self, sizes: InputSizes, width: int, hidden: int, layers: int, dropout: float, noise: float):
        super().__init__()
        self.sizes, self.noise = sizes.embeddings, noise
        self.longest = max(self.sizes)  # shorter features are filled up with zeros
        self.shared = nn.ModuleList([nn.Linear(self.longest, width), nn.Linear(width, width // 4)])
        self.norms = nn.ModuleList([MaskedBatchNorm(width), MaskedBatchNorm(width // 4)])
        self.dropout = dropout
        joined = width // 4 * len(self.sizes)
        self.linear = nn.Linear(joined, len(LABELS))
        self.recurrent = BiRecurrent("gru", joined, hidden, layers, 0.0)
        self.head = nn.Linear(2 * hidden, len(LABELS))

    def forward(self, embeddings: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """embeddings (b, s, sum of sizes), mask (b, s) -> (b, s, 6)"""
        parts = embeddings.split(self.sizes, -1)
        x = torch.stack([nn.functional.pad(p, (0, self.longest - p.shape[-1])) for p in parts], 2)
        if self.noise and self.training:
            x = x + self.noise * torch.randn_like(x)
        x = self._drop(x)  # (b, s, members, longest)
        everyone = mask[..., None].expand(*mask.shape, len(self.sizes))
        for linear, norm in zip(self.shared, self.norms, strict=True):
            x = self._drop(norm(linear(x), everyone).relu())
        x = x.flatten(2)
        return self.linear(x) + self.head(self.recurrent(x, mask))

    def _drop(self, x: torch.Tensor) -> torch.Tensor:
        """Dropout of whole features, the same ones in every slice and member of a study."""
        if not self.training or not self.dropout:
            return x
        keep = torch.rand(x.shape[0], 1, 1, x.shape[3], device=x.device) >= self.dropout
        return x * keep / (1 - self.dropout)


class ScoreBranch(nn.Module):
    """Probabilities as images, convolved along the slices with weights the labels share, then recurrent."""

    def __init__(self, channels: int, width: int, hidden: int, layers: int):
        super().__init__()
        half = width // 2
        self.blocks = nn.ModuleList(
            [
                ConvBlock(channels, width, 5),
                ConvBlock(width, half, 3, dilation=2),
                ConvBlock(half, half, 3, dilation=4),
                ConvBlock(half, half, 3, dilation=2),
            ]
        )
        self.skip = SliceConv(half, 1, 3)
        self.recurrent = BiRecurrent("gru", half * len(LABELS), hidden, layers, 0.0)
        self.head = nn.Linear(2 * hidden, len(LABELS))

    def forward(self, images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """images (b, s, channels, 6), mask (b, s) -> (b, s, 6)"""
        count, labels = images.shape[0], images.shape[3]
        x = images.permute(0, 3, 1, 2).flatten(0, 1)  # (b * 6, s, channels)
        wide = mask.repeat_interleave(labels, 0)
        for block in self.blocks:
            x = block(x, wide)
        skip = self.skip(x, wide).unflatten(0, (count, labels))[..., 0].transpose(1, 2)  # (b, s, 6)
        joined = x.unflatten(0, (count, labels)).permute(0, 2, 1, 3).flatten(2)
        return skip + self.head(self.recurrent(joined, mask))
