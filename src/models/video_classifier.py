"""Frames of a study -> one answer for the study: an encoder on every frame and a pooling over frames, or a
ViViT on all of them.
"""

from typing import Annotated

import torch
from pydantic import model_validator
from torch import nn

from ..config import Count, OneOf
from .scopeformer import ScopeformerConfig
from .slice_classifier import ClassifierOptions, SliceClassifier, build_encoder
from .vivit import VivitConfig, build_vivit


class AttentionPool(nn.Module):
    """A mean over frames with learned weights (Ilse et al., Attention-based deep MIL, ICML 2018)."""

    def __init__(self, width: int, hidden: int = 128):
        super().__init__()
        self.score = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(b, f, d) -> (b, d)"""
        return (frames * self.score(frames).softmax(1)).sum(1)


POOLS = {
    "mean": lambda width: _Reduced(torch.mean),
    "max": lambda width: _Reduced(torch.amax),
    "attention": AttentionPool,
}


class _Reduced(nn.Module):
    def __init__(self, reduce):
        super().__init__()
        self.reduce = reduce

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.reduce(frames, 1)


class VideoOptions(ClassifierOptions):
    """A slice classifier whose embeddings of a study's frames are pooled before its logits, or a ViViT."""

    backbone: str | ScopeformerConfig | VivitConfig
    """any timm model name, the trunks and the transformer of a Scopeformer, or the tubelets of a ViViT"""
    frames: Count = 32
    """slices of a study that are seen"""
    frame_pooling: Annotated[str, OneOf(POOLS)] = "attention"
    """over the frames of a study; attention: a mean with learned weights"""

    @model_validator(mode="after")
    def _tubelets_fit(self) -> "VideoOptions":
        if isinstance(self.backbone, VivitConfig):
            self.backbone.check(self.frames, self.image_size)
            if self.frame_pooling != "attention":
                raise ValueError("frame_pooling: a ViViT has its own; leave it out")
        return self


class VideoClassifier(SliceClassifier):
    """The windows and the encoder of a slice classifier, and a head on the frames of a study together."""

    def __init__(self, encoder: nn.Module, options: VideoOptions):
        super().__init__(encoder, options)
        self.pool = POOLS[options.frame_pooling](self.embedding_size)

    def forward(
        self, hu: torch.Tensor, windows: torch.Tensor, frames: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """hu (b * frames, n, h, w), the frames of a study together; windows (b * frames or 1, w, 2) in HU
        -> logits (b, columns), embeddings (b, d)
        """
        embeddings = self.pool(self.backbone(self.images(hu, windows)).unflatten(0, (-1, frames)))
        return self.classify(embeddings), embeddings


class VivitClassifier(SliceClassifier):
    """The windows of a slice classifier, a ViViT on the frames of a study, a head."""

    def forward(
        self, hu: torch.Tensor, windows: torch.Tensor, frames: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As VideoClassifier."""
        embeddings = self.backbone(self.images(hu, windows).unflatten(0, (-1, frames)))
        return self.classify(embeddings), embeddings


def build_video_classifier(
    options: VideoOptions, pretrained: bool | str | None = None
) -> VideoClassifier | VivitClassifier:
    """As `build_slice_classifier`; UserError without `transformers` for a ViViT."""
    if isinstance(options.backbone, VivitConfig):
        config = options.backbone.untrained() if pretrained is False else options.backbone
        network = build_vivit(config, options.channels, options.image_size, options.frames)
        return VivitClassifier(network, options)
    return VideoClassifier(build_encoder(options, pretrained), options)
