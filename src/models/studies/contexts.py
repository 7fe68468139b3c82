"""Stage 2: how a slice sees the others of its study.  A context maps (b, s, w) and a mask to (b, s, `out`).

Padding is masked in recurrence, attention, convolution and normalisation, so that what a study becomes does
not depend on what it is batched with.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from .masked import ConvBlock, MaskedBatchNorm, SliceConv

RECURRENT = {"lstm": nn.LSTM, "gru": nn.GRU}
ENCODINGS = ("relative", "absolute")  # of a slice's place, see SliceTransformer


class BiRecurrent(nn.Module):
    """A bidirectional LSTM or GRU: the backward direction starts at the last real slice."""

    def __init__(self, kind: str, width: int, hidden: int, layers: int, dropout: float):
        super().__init__()
        self.out = 2 * hidden
        self.recurrent = RECURRENT[kind](
            width,
            hidden,
            layers,
            batch_first=True,
            bidirectional=True,
            dropout=dropout if layers > 1 else 0.0,
        )

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """x (b, s, w), mask (b, s) True for real slices, padding last -> (b, s, 2 * hidden)"""
        lengths = mask.sum(1).cpu()
        if int(lengths.min()) == x.shape[1]:  # studies of one length: packing would change nothing but speed
            return self.recurrent(x)[0]
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.recurrent(packed)[0], batch_first=True, total_length=x.shape[1])[0]


class SummedRecurrent(nn.Module):
    """Recurrent layers whose outputs, a dense ReLU layer on each and the input are summed.

    The network of the 2nd place of RSNA 2019: h1 + h2 + relu(W1 h1) + relu(W2 h2) + input.  Its input was
    repeated to the width of the sum; here a linear map takes it there, whatever the widths.
    """

    def __init__(self, kind: str, width: int, hidden: int, layers: int, dropout: float):
        super().__init__()
        self.out = 2 * hidden
        self.layers = nn.ModuleList(
            BiRecurrent(kind, self.out if layer else width, hidden, 1, 0.0) for layer in range(layers)
        )
        self.dense = nn.ModuleList(nn.Linear(self.out, self.out) for _ in range(layers))
        self.skip = nn.Linear(width, self.out, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """x (b, s, w), mask (b, s) -> (b, s, 2 * hidden)"""
        total, hidden = self.skip(x), x
        for layer, dense in zip(self.layers, self.dense, strict=True):
            hidden = layer(self.dropout(hidden) if hidden is not x else hidden, mask)
            total = total + hidden + dense(hidden).relu()
        return total


class SliceTransformer(nn.Module):
    """A pre-norm transformer encoder.  `relative`: a learned bias by slice distance, which starts as ALiBi
    (Press et al. 2022), so that attention is local before anything is learned.  `absolute`: sines and
    cosines of the slice's index added to the input (Vaswani et al. 2017).
    """

    reach = 32  # distances beyond share one bias

    def __init__(
        self,
        width: int,
        feed_forward: int,
        layers: int,
        heads: int,
        dropout: float,
        encoding: str = "relative",
    ):
        super().__init__()
        self.out = width
        self.blocks = nn.ModuleList(
            AttentionBlock(width, feed_forward, heads, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.bias = None
        if encoding == "relative":
            slopes = 2.0 ** -torch.arange(heads).float()
            distance = torch.arange(-self.reach, self.reach + 1).abs().float()
            self.bias = nn.Parameter(-slopes[:, None] * distance)  # (heads, 2 * reach + 1)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """x (b, s, w), mask (b, s) -> (b, s, w)"""
        index = torch.arange(x.shape[1], device=x.device)
        if self.bias is None:
            x = x + sines(index, x.shape[2]).to(x.dtype)
            bias = x.new_zeros(1, 1, 1, x.shape[1])
        else:
            distance = (index[None] - index[:, None]).clamp(-self.reach, self.reach) + self.reach
            bias = self.bias[:, distance].to(x.dtype)[None]  # (1, heads, s, s)
        bias = bias.masked_fill(~mask[:, None, None], float("-inf"))  # nobody attends to padding
        for block in self.blocks:
            x = block(x, bias)
        return self.norm(x)


def sines(index: torch.Tensor, width: int) -> torch.Tensor:
    """(s,) -> (s, width): sines, then cosines, with wavelengths from 2 pi to 2 pi * 1000 slices."""
    rates = 1000.0 ** -(torch.arange((width + 1) // 2, device=index.device) / max(1, (width + 1) // 2 - 1))
    angle = index[:, None] * rates
    return torch.cat([angle.sin(), angle.cos()], 1)[:, :width]


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
        """x (b, s, w), bias (b, heads or 1, s or 1, s) added to the attention logits -> (b, s, w)"""
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


class DenseConv(nn.Module):
    """Convolutions along the slices, each on all that came before: widths 9, 7, 5, 3.

    After the first of the two networks of the 12th place of RSNA 2019, which reached 60 slices and had no
    mask.
    """

    def __init__(self, width: int, channels: int):
        super().__init__()
        self.out = channels
        self.first, self.norm = SliceConv(width, channels, 9), MaskedBatchNorm(channels)
        self.second = ConvBlock(channels, channels, 7)
        self.third = ConvBlock(2 * channels, channels, 5)
        self.last = SliceConv(3 * channels, channels, 3)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """x (b, s, w), mask (b, s) -> (b, s, channels)"""
        x0 = self.norm(self.first(x, mask), mask)
        x1 = self.second(x0, mask)
        x2 = self.third(torch.cat([x0, x1], -1), mask)
        return self.last(torch.cat([x0, x1, x2], -1), mask)


class Slicewise(nn.Module):
    """No context: a plain multi-layer perceptron on every slice.  Deltas are its only neighbours."""

    def __init__(self, width: int, hidden: int, layers: int, dropout: float):
        super().__init__()
        self.out = hidden
        widths = [width, *[hidden] * layers]
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(widths[i], hidden), nn.GELU(), nn.Dropout(dropout))
                for i in range(layers)
            )
        )

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """x (b, s, w), mask (b, s) -> (b, s, hidden)"""
        return self.layers(x)
