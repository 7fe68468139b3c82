"""An auxiliary segmentation decoder on a slice classifier's backbone: where blood is, not only whether."""

import itertools

import torch
from torch import nn

from ..config import Count, Positive, StrictModel
from ..errors import UserError
from .backbones import feature_maps


class DecoderOptions(StrictModel):
    """A U-Net decoder beside the classifier; slices without a mask do not count in its loss."""

    weight: Positive = 0.3
    """weight of its loss"""
    channels: Count = 64
    """channels of the decoder's first block, half as many in every next one"""


class BloodDecoder(nn.Module):
    """U-Net decoder of segmentation-models-pytorch on the feature maps of a timm backbone.

    It ends at the resolution of the first map (a half or a quarter of the image), where most of a mask's
    detail is left and most of a decoder's cost is saved.
    """

    def __init__(self, feature_channels: list[int], channels: int):
        """feature_channels: of the maps, finest first; channels: of the first block, halved in each next."""
        super().__init__()
        from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder

        blocks = len(feature_channels) - 1
        widths = [max(channels >> block, 8) for block in range(blocks)]
        # The first entry stands for the image itself, which the decoder leaves out.
        self.decoder = UnetDecoder([0, *feature_channels], widths, n_blocks=blocks)
        self.head = nn.Conv2d(widths[-1], 1, kernel_size=3, padding=1)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """maps (b, c, h, w), the finest first -> logits of blood (b, 1, h, w) of the finest map"""
        return self.head(self.decoder([features[0], *features]))


def build_decoder(backbone: nn.Module, name: str, options: DecoderOptions) -> BloodDecoder:
    """Raises UserError for a backbone without feature maps of falling resolution, such as a plain ViT."""
    info = feature_maps(backbone)
    strides = [entry["reduction"] for entry in info]
    falling = len(strides) > 1 and all(a < b for a, b in itertools.pairwise(strides))
    if not falling or not hasattr(backbone, "forward_intermediates"):
        raise UserError(
            f"segmentation: {name} has no feature maps of falling resolution; take a convolutional backbone"
        )
    return BloodDecoder([entry["num_chs"] for entry in info], options.channels)


def masked_segmentation_loss(logits: torch.Tensor, masks: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy plus soft Dice, each a mean over the batch in which unknown masks count 0.

    logits (b, 1, h, w); masks (b, 1, H, W) 0 or 1, reduced to the logits' size by area; known (b,) bool.
    The sum is divided by the whole batch, so parts of a batch on several devices average to the same value.
    """
    logits = logits.float()
    target = nn.functional.adaptive_avg_pool2d(masks.float(), logits.shape[2:])
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((1, 2, 3))
    blood = logits.sigmoid()
    overlap = 2 * (blood * target).sum((1, 2, 3)) + 1  # + 1: two empty masks agree
    dice = 1 - overlap / (blood.sum((1, 2, 3)) + target.sum((1, 2, 3)) + 1)
    return ((entropy + dice) * known).mean()
