"""End to end: a slice classifier whose slices see the others of their study before the six logits.

The network of arXiv 2005.10992: CNN -> pooled embedding -> bidirectional LSTM -> logits of every slice.
With a transformer as encoder and another in the LSTM's place, that of arXiv 2205.07556.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import NamedTuple

import torch
import torch.utils.checkpoint
from pydantic import model_validator
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..config import Count, Fraction, StrictModel
from ..errors import UserError
from .heads import build_head
from .slice_classifier import ClassifierOptions, SliceClassifier, build_encoder
from .studies.contexts import BiRecurrent, SliceTransformer


class LstmConfig(StrictModel):
    """A bidirectional LSTM over the slices of a study."""

    hidden: Count = 512
    """per direction"""
    layers: Count = 2
    """one on the other"""
    dropout: Fraction = 0.0
    """between its layers"""

    @model_validator(mode="after")
    def _dropout_acts(self) -> "LstmConfig":
        if self.dropout and self.layers == 1:
            raise ValueError("dropout: acts between layers, and there is one; leave it out")
        return self


class TransformerConfig(StrictModel):
    """A transformer over the slices of a study."""

    heads: Count
    """of its attention; a context with heads is a transformer"""
    layers: Count = 2
    """one on the other"""
    feed_forward: Count = 1024
    """width of its feed-forward part"""
    dropout: Fraction = 0.0
    """of attention and both layers of the feed-forward part"""


class SequenceOptions(ClassifierOptions):
    """A slice classifier with a context between its embedding and its logits."""

    context: LstmConfig | TransformerConfig | None = LstmConfig()
    """null: every slice by itself, and nothing else differs"""
    slices_at_once: Count = 64
    """that go through the encoder together in prediction; whole studies have hundreds"""
    checkpointing: bool = False
    """compute the encoder again in the backward pass: less memory, more time"""

    @model_validator(mode="after")
    def _plain(self) -> "SequenceOptions":
        if self.segmentation is not None:
            raise ValueError("segmentation: of the kind `slice` only; leave it out")
        return self


class SequenceOutput(NamedTuple):
    """Of every slice; zero where the mask is False."""

    logits: torch.Tensor  # (b, s, columns)
    embeddings: torch.Tensor  # (b, s, d) of the encoder
    context: torch.Tensor  # (b, s, its width), or the embeddings where there is no context


class SequenceClassifier(SliceClassifier):
    """The windows and the encoder of a slice classifier, a context and a head of its own."""

    def __init__(self, encoder: nn.Module, options: SequenceOptions):
        super().__init__(encoder, options)
        self.slices_at_once, self.checkpointing = options.slices_at_once, options.checkpointing
        self.context, self.context_size = None, self.embedding_size
        if options.context is not None:
            self.context = build_context(options.context, self.embedding_size)
            self.context_size = self.context.out
        self.head = build_head(self.context_size, options, options.dropout)

    def forward(self, hu: torch.Tensor, windows: torch.Tensor, mask: torch.Tensor) -> SequenceOutput:
        """hu (k, n, h, w): the real slices of all studies in a row, k = mask.sum(), with their neighbours;
        windows (k or 1, w, 2) in HU; mask (b, s) bool, True for real slices, padding last.

        Padding is in no tensor the encoder sees, so no statistics of batch normalisation come from it.
        """
        embeddings = _spread(self.embed(hu, windows), mask)
        context = embeddings if self.context is None else self.context(embeddings, mask)
        return SequenceOutput(_spread(self.classify(context[mask]), mask), embeddings, context)

    def embed(self, hu: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
        """As `forward` takes them -> (k, d); in evaluation some at a time, which changes no value."""
        if self.training:
            return self._encode(self.images(hu, windows))
        windows, step = windows.expand(len(hu), -1, -1), self.slices_at_once
        starts = range(0, len(hu), step)
        return torch.cat([self._encode(self.images(hu[i : i + step], windows[i : i + step])) for i in starts])

    def _encode(self, images: torch.Tensor) -> torch.Tensor:
        if not self.checkpointing:
            return self.backbone(images)
        with _counted_once(self.backbone):
            return self.backbone(images)


def build_context(options: LstmConfig | TransformerConfig, width: int) -> BiRecurrent | SliceTransformer:
    """UserError where the heads do not divide the width of the embeddings."""
    if isinstance(options, LstmConfig):
        return BiRecurrent("lstm", width, options.hidden, options.layers, options.dropout)
    if width % options.heads:
        raise UserError(
            f"context.heads {options.heads}: does not divide the embedding's {width} values; take a divisor"
        )
    return SliceTransformer(width, options.feed_forward, options.layers, options.heads, options.dropout)


def build_sequence_classifier(
    options: SequenceOptions, pretrained: bool | str | None = None
) -> SequenceClassifier:
    """As `build_slice_classifier`; UserError where the encoder cannot be computed again."""
    encoder = build_encoder(options, pretrained)
    if options.checkpointing:
        try:
            encoder.set_grad_checkpointing(True)
        except (AssertionError, AttributeError) as error:
            raise UserError(
                f"checkpointing: timm offers none for this backbone ({error}); set checkpointing to false"
            ) from error
    return SequenceClassifier(encoder, options)


@contextmanager
def _counted_once(network: nn.Module) -> Iterator[None]:
    """What is checkpointed inside leaves the statistics of batch normalisation alone in the backward pass.

    timm divides its networks for torch.utils.checkpoint, and has no way to hand this context on.
    """
    plain = torch.utils.checkpoint.checkpoint
    contexts = {"context_fn": lambda: (nullcontext(), _statistics_kept(network))}
    torch.utils.checkpoint.checkpoint = partial(plain, **contexts)
    try:
        yield
    finally:
        torch.utils.checkpoint.checkpoint = plain


@contextmanager
def _statistics_kept(network: nn.Module) -> Iterator[None]:
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)


def _spread(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(k, w) of the real slices, mask (b, s) -> (b, s, w), zero elsewhere"""
    spread = values.new_zeros(*mask.shape, values.shape[-1])
    spread[mask] = values
    return spread
