"""Stage 1: a slice and its neighbours in HU -> windows -> encoder -> pooled embedding -> logits."""

from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import model_validator
from torch import nn

from ..config import Count, Fraction, OneOf
from .backbones import check_backbone, create_backbone
from .heads import HiddenHeads, TargetOptions, build_head, prior_logits
from .pooling import POOLINGS
from .pretrained import weights_files, weights_record
from .scopeformer import Scopeformer, ScopeformerConfig, build_scopeformer
from .segmentation import BloodDecoder, DecoderOptions, build_decoder
from .slice_images import ImageOptions, build_images


class ClassifierOptions(ImageOptions, TargetOptions):
    """The network: an encoder, pooling, a logit for every column of the targets."""

    backbone: str | ScopeformerConfig
    """any timm model name, or the trunks and the transformer of a Scopeformer"""
    pretrained: bool | str = True
    """true: timm's own weights; a path: a local file or folder; run:NAME: those of the same fold of a stage-1
    run; false: random"""
    image_size: Count = 512
    """side of the images in pixels"""
    pooling: Annotated[str, OneOf(POOLINGS)] = "backbone"
    """of the feature map; backbone: as timm defines the model; gem: a mean with a learned exponent"""
    dropout: Fraction = 0.0
    """share of the embedding, or of the heads' hidden layers, that is left out in training"""
    dropout_samples: Count = 1
    """dropout masks whose logits are averaged in training"""
    drop_path: Fraction = 0.0
    """share of samples that skip a block of the backbone, rising to this at the last block"""
    trainable: Annotated[str, OneOf(("all", "head"))] = "all"
    """all, or the head alone: the encoder stays as it was loaded"""
    channels_last: bool = True
    """memory layout; the faster one on most devices"""
    segmentation: DecoderOptions | None = None
    """an auxiliary task: draw the blood too"""

    @property
    def encoder(self) -> str:
        """Its name."""
        return self.backbone if isinstance(self.backbone, str) else self.backbone.title

    @model_validator(mode="after")
    def _encoder_fits(self) -> "ClassifierOptions":
        if isinstance(self.backbone, str):
            return self
        single = ("pretrained", "pooling", "drop_path", "segmentation")
        defaults = ClassifierOptions.model_fields
        stated = [name for name in single if getattr(self, name) != defaults[name].default]
        if stated:
            raise ValueError(f"{', '.join(stated)}: of a timm backbone only; see the keys of backbone")
        return self


class SliceClassifier(nn.Module):
    """An encoder on windowed slices.

    Windows are applied here, on the device, so that a batch travels as int16 HU and a window can differ from
    sample to sample (window jitter).
    """

    def __init__(self, backbone: nn.Module, options: ClassifierOptions):
        super().__init__()
        self.windows, self.scale = build_images(options)
        self.backbone = backbone
        self.embedding_size = int(getattr(backbone, "head_hidden_size", None) or backbone.num_features)
        # with a hidden layer dropout acts behind it instead
        self.dropout = nn.Dropout(options.dropout if options.head_hidden is None else 0.0)
        self.dropout_samples = options.dropout_samples
        self.targets = options.predicted
        self.head = build_head(self.embedding_size, options, options.dropout)
        self.memory_format = torch.channels_last if options.channels_last else torch.contiguous_format
        self.frozen = options.trainable == "head"
        if self.frozen:
            backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> "SliceClassifier":
        """A frozen encoder stays in evaluation mode: its statistics are part of what was loaded."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def start_at(self, prevalence: torch.Tensor) -> None:
        """Begin with the rate of each column (columns,): the first steps need not learn how rare they are."""
        logits = prior_logits(prevalence, self.targets)
        with torch.no_grad():
            if isinstance(self.head, HiddenHeads):
                self.head.start_at(logits)
            else:
                self.head.bias.copy_(logits)

    def forward(self, hu: torch.Tensor, windows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """hu (b, s, h, w) int16 or float; windows (b or 1, n, 2) in HU -> logits (b, columns) and embeddings
        (b, d)
        """
        embeddings = self.backbone(self.images(hu, windows))
        return self.classify(embeddings), embeddings

    def images(self, hu: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
        """What the backbone sees, (b, s * n, h, w)."""
        return self.scale(self.windows(hu, windows)).contiguous(memory_format=self.memory_format)

    def classify(self, embeddings: torch.Tensor) -> torch.Tensor:
        """(b, d) -> logits (b, columns); in training a mean over dropout masks (Inoue, 1905.09788)."""
        if not self.training or self.dropout_samples == 1:
            return self.head(self.dropout(embeddings))
        return torch.stack([self.head(self.dropout(embeddings)) for _ in range(self.dropout_samples)]).mean(0)

    def layer_groups(self, weight_decay: float, layer_decay: float) -> list[dict]:
        """Parameter groups with timm's `lr_scale`: 1 for the head, falling by `layer_decay` towards the stem.

        The windows share the stem's rate.
        """
        from timm.optim import param_groups_layer_decay

        groups = param_groups_layer_decay(self.backbone, weight_decay, layer_decay=layer_decay)
        for group in groups:
            group["lr_scale"] *= layer_decay  # the backbone's last layer lies below the head
        lowest = min(group["lr_scale"] for group in groups)
        parts = {"windows": lowest, "scale": lowest, "context": 1.0, "head": 1.0, "decoder": 1.0}
        for name, scale in parts.items():
            for parameter in (getattr(self, name, None) or nn.Identity()).parameters():
                decay = weight_decay if parameter.ndim > 1 else 0.0
                groups.append({"params": [parameter], "weight_decay": decay, "lr_scale": scale})
        return groups

    def rate_groups(self, weight_decay: float, encoder_rate: float) -> list[dict]:
        """Parameter groups with timm's `lr_scale`: `encoder_rate` for what a pretraining has seen, else 1."""
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        slow = "backbone.trunks." if isinstance(self.backbone, Scopeformer) else "backbone."
        for name, parameter in self.named_parameters():
            groups.setdefault((name.startswith(slow), parameter.ndim > 1), []).append(parameter)
        return [
            {"params": parameters, "weight_decay": weight_decay if wide else 0.0,
             "lr_scale": encoder_rate if encoder else 1.0}
            for (encoder, wide), parameters in groups.items()
        ]  # fmt: skip


class SegmentingClassifier(SliceClassifier):
    """A slice classifier that also draws the blood, as an auxiliary task of training."""

    decoder: BloodDecoder

    def forward(self, hu: torch.Tensor, windows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """As SliceClassifier; in training also logits of blood (b, 1, h', w') as the third output."""
        if not self.training:
            return super().forward(hu, windows)
        last, maps = self.backbone.forward_intermediates(self.images(hu, windows))
        embeddings = self.backbone.forward_head(last, pre_logits=True)
        return self.classify(embeddings), embeddings, self.decoder(maps)


def build_slice_classifier(
    options: ClassifierOptions, pretrained: bool | str | None = None
) -> SliceClassifier:
    """The network of a configuration, or with other weights than it asks for: with `pretrained=False` where
    trained ones are loaded right after.  Raises UserError as `create_backbone` does.
    """
    encoder = build_encoder(options, pretrained)
    if options.segmentation is None:
        return SliceClassifier(encoder, options)
    model = SegmentingClassifier(encoder, options)
    model.decoder = build_decoder(encoder, options.backbone, options.segmentation)
    return model


def build_encoder(options: ClassifierOptions, pretrained: bool | str | None = None) -> nn.Module:
    """The timm backbone, or the Scopeformer, of a configuration."""
    if isinstance(options.backbone, ScopeformerConfig):
        config = options.backbone.untrained() if pretrained is False else options.backbone
        return build_scopeformer(config, options.channels, options.image_size)
    weights = options.pretrained if pretrained is None else pretrained
    return create_backbone(
        options.backbone, options.channels, weights, options.drop_path, options.image_size, options.pooling
    )


def check_encoder(options: ClassifierOptions) -> None:
    """UserError where timm does not know a backbone, before any data are read."""
    backbone = options.backbone
    named = [backbone] if isinstance(backbone, str) else []
    if isinstance(backbone, ScopeformerConfig):
        named = [trunk.backbone for trunk in backbone.trunks]
    for name in named:
        check_backbone(name)


def encoder_weights(options: ClassifierOptions) -> dict[str, Any]:
    """What metrics.json says of the weights a training started from; call it after they were loaded."""
    if not isinstance(options.backbone, str):
        return options.backbone.weights()
    return weights_record(options.backbone, options.pretrained)


def encoder_files(options: ClassifierOptions) -> list[Path]:
    """The local weights files that a training starts from."""
    if not isinstance(options.backbone, str):
        return options.backbone.files()
    return weights_files(options.pretrained)
