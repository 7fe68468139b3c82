"""Stage 1: one slice in Hounsfield units -> windows -> timm backbone -> pooled embedding -> six logits."""

import difflib
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data.windows import stack_windows
from ..errors import UserError
from ..labels import LABELS


class SliceClassifier(nn.Module):
    """A timm backbone on windowed slices.

    Windows are applied here, on the device, so that a batch travels as int16 HU and a window can differ from
    sample to sample (window jitter).
    """

    def __init__(
        self,
        backbone: nn.Module,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        dropout: float = 0.0,
        channels_last: bool = True,
    ):
        super().__init__()
        self.backbone = backbone
        self.embedding_size = int(getattr(backbone, "head_hidden_size", None) or backbone.num_features)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.embedding_size, len(LABELS))
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def start_at(self, prevalence: torch.Tensor) -> None:
        """Begin with the prevalence of each label (6,): the first steps need not learn how rare they are."""
        with torch.no_grad():
            self.head.bias.copy_(prevalence.clamp(1e-4, 1 - 1e-4).logit())

    def forward(self, hu: torch.Tensor, windows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """hu (b, 1, h, w) int16; windows (b or 1, n, 2) in HU -> logits (b, 6), embeddings (b, d)"""
        images = (stack_windows(hu, windows) - self.mean) / self.std
        embeddings = self.backbone(images.to(memory_format=self.memory_format))
        return self.head(self.dropout(embeddings)), embeddings


def build_slice_classifier(
    backbone: str,
    channels: int,
    *,
    pretrained: bool | str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    dropout: float = 0.0,
    drop_path: float = 0.0,
    image_size: int | None = None,
    channels_last: bool = True,
) -> SliceClassifier:
    """Build any timm backbone with its global pooling.

    Raises UserError for an unknown backbone (naming the nearest) and for weights that cannot be loaded:
    a model never starts from random weights unless `pretrained` is false.
    """
    network = create_backbone(backbone, channels, pretrained, drop_path, image_size)
    return SliceClassifier(network, mean, std, dropout, channels_last)


def create_backbone(
    name: str, channels: int, pretrained: bool | str, drop_path: float = 0.0, image_size: int | None = None
) -> nn.Module:
    """timm's `create_model` without a classifier; the first convolution is adapted to `channels`."""
    import timm  # costs seconds; only building a model needs it

    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.5)
        raise UserError(
            f"backbone {name!r}: not a model of timm {timm.__version__}; nearest: {', '.join(near) or 'none'}"
        )
    options: dict[str, Any] = {"num_classes": 0, "in_chans": channels}
    if drop_path:
        options["drop_path_rate"] = drop_path
    published = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if image_size and published is not None and published.fixed_input_size:
        options["img_size"] = image_size  # position tables and attention windows depend on it
    if not pretrained:
        return timm.create_model(name, pretrained=False, **options)
    if isinstance(pretrained, str):
        return _from_path(name, Path(pretrained).expanduser(), options)
    return _from_hub(name, options)


def _from_path(name: str, path: Path, options: dict[str, Any]) -> nn.Module:
    import timm

    if not path.exists():
        raise UserError(
            f"pretrained {path}: no such file or folder; give existing weights, or true, or false"
        )
    try:
        if path.is_dir():
            return timm.create_model(f"local-dir:{path}", pretrained=True, **options)
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(path)}, **options)
    except (RuntimeError, KeyError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        more = f" (and {len(lines) - 4} more)" if len(lines) > 4 else ""
        raise UserError(
            f"pretrained {path}: these weights do not fit {name}: {' '.join(lines[:4])[:800]}{more}"
        ) from error


def _from_hub(name: str, options: dict[str, Any]) -> nn.Module:
    import timm

    try:
        return timm.create_model(name, pretrained=True, **options)
    except RuntimeError as error:  # timm: the model has no published weights
        raise UserError(f"backbone {name!r}: {error}; set pretrained to a path or to false") from error
    except (OSError, ValueError) as error:  # the hub's client: no network, offline, not found
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") == "1" else ""
        raise UserError(
            f"backbone {name!r}: its pretrained weights cannot be fetched{offline}: "
            f"{str(error).splitlines()[0]}; give a local path with --set 'pretrained=\"PATH\"', "
            "or start from random weights with --set pretrained=false"
        ) from error
