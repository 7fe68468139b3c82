"""Stage 1: a slice and its neighbours in HU -> windows -> timm backbone -> pooled embedding -> six logits."""

import torch
from torch import nn

from ..data.windows import Order
from ..labels import LABELS
from .backbones import create_backbone
from .segmentation import BloodDecoder, build_decoder
from .slice_images import FixedWindows, LearnedWindows, build_scale


class SliceClassifier(nn.Module):
    """A timm backbone on windowed slices.

    Windows are applied here, on the device, so that a batch travels as int16 HU and a window can differ from
    sample to sample (window jitter).
    """

    def __init__(
        self,
        backbone: nn.Module,
        windows: nn.Module,
        scale: nn.Module,
        dropout: float = 0.0,
        dropout_samples: int = 1,
        channels_last: bool = True,
    ):
        super().__init__()
        self.windows, self.scale, self.backbone = windows, scale, backbone
        self.embedding_size = int(getattr(backbone, "head_hidden_size", None) or backbone.num_features)
        self.dropout, self.dropout_samples = nn.Dropout(dropout), dropout_samples
        self.head = nn.Linear(self.embedding_size, len(LABELS))
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def start_at(self, prevalence: torch.Tensor) -> None:
        """Begin with the prevalence of each label (6,): the first steps need not learn how rare they are."""
        with torch.no_grad():
            self.head.bias.copy_(prevalence.clamp(1e-4, 1 - 1e-4).logit())

    def forward(self, hu: torch.Tensor, windows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """hu (b, s, h, w) int16 or float; windows (b or 1, n, 2) in HU -> logits (b, 6), embeddings (b, d)"""
        embeddings = self.backbone(self.images(hu, windows))
        return self.classify(embeddings), embeddings

    def images(self, hu: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
        """What the backbone sees, (b, s * n, h, w)."""
        return self.scale(self.windows(hu, windows)).contiguous(memory_format=self.memory_format)

    def classify(self, embeddings: torch.Tensor) -> torch.Tensor:
        """(b, d) -> logits (b, 6); in training the mean over several dropout masks (Inoue, 1905.09788)."""
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
    backbone: str,
    windows: tuple[tuple[float, float], ...] | int = 3,
    *,
    pretrained: bool | str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    slices: int = 1,
    order: Order = "slice",
    learn_windows: bool = False,
    normalisation: str = "fixed",
    pooling: str = "backbone",
    dropout: float = 0.0,
    dropout_samples: int = 1,
    drop_path: float = 0.0,
    image_size: int | None = None,
    channels_last: bool = True,
    decoder_channels: int | None = None,
) -> SliceClassifier:
    """Any timm backbone on the windows of some slices; with `decoder_channels` also a segmentation decoder.

    windows: their number, or for `learn_windows` the (center, width) to start from.  Raises UserError as
    `create_backbone` does.
    """
    number = windows if isinstance(windows, int) else len(windows)
    network = create_backbone(backbone, slices * number, pretrained, drop_path, image_size, pooling)
    if normalisation == "fixed" and not learn_windows:  # one pass over the images less
        to_images, scale = FixedWindows(order, mean, std), nn.Identity()
    else:
        to_images = LearnedWindows(windows, order) if learn_windows else FixedWindows(order)
        scale = build_scale(normalisation, mean, std, slices, number, order)
    kind = SliceClassifier if decoder_channels is None else SegmentingClassifier
    model = kind(network, to_images, scale, dropout, dropout_samples, channels_last)
    if decoder_channels is not None:
        model.decoder = build_decoder(network, backbone, decoder_channels)
    return model
