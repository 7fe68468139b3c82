"""Stage 2: sequence models over the slices of a study.

Inputs are the outputs of stage-1 networks for every slice; padding is masked in recurrence, attention and
loss, so that a study's predictions do not depend on what it is batched with.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ..errors import UserError
from ..labels import LABELS

POSITIONS = 2  # relative index, millimetres from the middle


class SliceInputs(nn.Module):
    """Embeddings, logits and positions of a slice -> one vector.

    The embeddings of every member are normalised by themselves (LayerNorm), since networks differ in scale,
    and projected first: the sequence model then costs the same whatever the backbones.
    """

    def __init__(
        self, embedding_sizes: tuple[int, ...], others: int, width: int, dropout: float, noise: float
    ):
        super().__init__()
        self.sizes, self.noise = embedding_sizes, noise
        self.norms = nn.ModuleList(nn.LayerNorm(size, elementwise_affine=False) for size in embedding_sizes)
        self.project = nn.Linear(sum(embedding_sizes) + others, width)
        self.finish = nn.Sequential(nn.LayerNorm(width), nn.GELU(), nn.Dropout(dropout))

    def forward(self, embeddings: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """embeddings (b, s, sum of sizes), others (b, s, o) -> (b, s, width)"""
        parts = [norm(part) for norm, part in zip(self.norms, embeddings.split(self.sizes, -1), strict=True)]
        if self.noise and self.training:
            parts = [part + self.noise * torch.randn_like(part) for part in parts]
        return self.finish(self.project(torch.cat([*parts, others], -1)))


class Stacker(nn.Module):
    """Inputs -> context over the slices of a study -> six logits a slice.

    The output is added to the mean logit of the members (where logits are an input): an untrained stacker
    predicts what its members say, and training learns what the neighbours change.
    """

    def __init__(
        self, inputs: SliceInputs, context: nn.Module, context_width: int, members: int, dropout: float
    ):
        super().__init__()
        self.inputs, self.context, self.members = inputs, context, members
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(context_width, len(LABELS)))

    def forward(
        self, embeddings: torch.Tensor, logits: torch.Tensor, position: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """embeddings (b, s, d), logits (b, s, 6 * members), position (b, s, p), mask (b, s) bool -> (b, s, 6)

        Any of d, the logits and p may be zero wide; positions beyond the mask hold no information.
        """
        hidden = self.inputs(embeddings, torch.cat([logits / 4, position], -1))
        out = self.head(self.context(hidden, mask))
        if logits.shape[-1]:
            out = out + logits.unflatten(-1, (self.members, len(LABELS))).mean(-2)
        return out


class BiLstm(nn.Module):
    """A bidirectional LSTM over packed sequences: the backward direction starts at the last real slice."""

    def __init__(self, width: int, hidden: int, layers: int, dropout: float):
        super().__init__()
        self.lstm = nn.LSTM(
            width,
            hidden,
            layers,
            batch_first=True,
            bidirectional=True,
            dropout=dropout if layers > 1 else 0.0,
        )

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """x (b, s, w), mask (b, s) True for real slices, padding last -> (b, s, 2 * hidden)"""
        packed = pack_padded_sequence(x, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])[0]


class SliceTransformer(nn.Module):
    """A pre-norm transformer encoder with a learned bias by slice distance.

    The bias starts as ALiBi (Press et al. 2022), so that attention is local before anything is learned.
    """

    reach = 32  # distances beyond share one bias

    def __init__(self, width: int, feed_forward: int, layers: int, heads: int, dropout: float):
        super().__init__()
        self.blocks = nn.ModuleList(
            AttentionBlock(width, feed_forward, heads, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        slopes = 2.0 ** -torch.arange(heads).float()
        distance = torch.arange(-self.reach, self.reach + 1).abs().float()
        self.bias = nn.Parameter(-slopes[:, None] * distance)  # (heads, 2 * reach + 1)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """x (b, s, w), mask (b, s) -> (b, s, w)"""
        index = torch.arange(x.shape[1], device=x.device)
        distance = (index[None] - index[:, None]).clamp(-self.reach, self.reach) + self.reach
        bias = self.bias[:, distance].to(x.dtype)[None]  # (1, heads, s, s)
        bias = bias.masked_fill(~mask[:, None, None], float("-inf"))  # nobody attends to padding
        for block in self.blocks:
            x = block(x, bias)
        return self.norm(x)


class AttentionBlock(nn.Module):
    """Pre-norm self-attention and feed-forward.

    Not torch's own encoder layer: in inference its fast path turns an additive mask into a wrong one.
    """

    def __init__(self, width: int, feed_forward: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Sequential(nn.Linear(width, width), nn.Dropout(dropout))
        self.feed_forward = nn.Sequential(
            nn.Linear(width, feed_forward), nn.GELU(), nn.Dropout(dropout), nn.Linear(feed_forward, width),
            nn.Dropout(dropout),
        )  # fmt: skip

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """x (b, s, w), bias (b, heads, s, s) added to the attention logits -> (b, s, w)"""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.query_key_value(self.norm1(x)).chunk(3, -1)
        )
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(
            query, key, value, attn_mask=bias.to(query.dtype), dropout_p=dropout
        )
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.feed_forward(self.norm2(x))


def build_stacker(
    kind: str,
    embedding_sizes: tuple[int, ...],
    logits: int,
    positions: int,
    *,
    members: int,
    width: int,
    hidden: int,
    layers: int,
    heads: int,
    dropout: float,
    noise: float,
) -> Stacker:
    """A stacker by name: `lstm` or `transformer`."""
    inputs = SliceInputs(embedding_sizes, logits + positions, width, dropout, noise)
    if kind == "lstm":
        return Stacker(inputs, BiLstm(width, hidden, layers, dropout), 2 * hidden, members, dropout)
    if width % heads:
        raise UserError(
            f"stacker transformer: width {width} is not a multiple of heads {heads}; change one of them"
        )
    return Stacker(inputs, SliceTransformer(width, hidden, layers, heads, dropout), width, members, dropout)
