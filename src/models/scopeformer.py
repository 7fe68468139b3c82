"""Scopeformer: feature maps of several CNNs side by side, read by a vision transformer.

After arXiv 2107.04575 and 2302.00220.  It stands wherever a timm backbone stands.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from ..config import Count, Fraction, Positive, StrictModel
from ..errors import UserError
from .backbones import create_backbone, feature_maps
from .cam_targets import CamTarget, as_it_is, find_cam_targets
from .pretrained import weights_files, weights_record

EXIT_FLOW = ("conv3", "bn3", "act3", "conv4", "bn4", "act4")  # of Xception, behind its last residual block


class TrunkConfig(StrictModel):
    """A timm network up to one of its feature maps."""

    backbone: str
    """any timm model name"""
    pretrained: bool | str = True
    """true: timm's own weights; a path: a file, a folder, a run's weights; run:NAME: those of the same fold
    of a stage-1 run; false: random"""
    seed: int = 0
    """of random weights: trunks of one seed start equal, whatever the run's seed"""
    stage: int | str = -1
    """timm's name or number of a feature map, -1 the last; legacy_xception also has block12, 1024 channels"""
    project: Count | None = None
    """channels of a 1 x 1 convolution behind the map; null: none"""

    @model_validator(mode="after")
    def _seed_acts(self) -> "TrunkConfig":
        if self.seed and self.pretrained is not False:
            raise ValueError("seed: of random weights only; leave it out, or set pretrained to false")
        return self


class ScopeformerConfig(StrictModel):
    """Trunks and the transformer on their maps; without trunks a plain vision transformer on the image."""

    title: ClassVar[str] = "Scopeformer"

    trunks: Annotated[tuple[TrunkConfig, ...], Field(max_length=4)]
    """networks whose maps stand side by side; none: a plain vision transformer"""
    embed_dim: Count | Literal["concat"] = 768
    """width of a token; concat: all channels, no linear map"""
    patch_size: Count | None = None
    """side of a token on the map or image; null: 1 on a map, 16 on an image"""
    depth: Count = 12
    """blocks of the transformer"""
    heads: Count = 12
    """heads of its attention"""
    mlp_ratio: Positive = 4.0
    """width of its MLPs over that of a token"""
    dropout: Fraction = 0.0
    """behind positions, attention and both layers of each MLP"""
    drop_path: Fraction = 0.0
    """of the last block, rising linearly from 0"""

    @property
    def patch(self) -> int:
        """Side of a token in positions of the map, or pixels of the image."""
        return self.patch_size or (1 if self.trunks else 16)

    def untrained(self) -> "ScopeformerConfig":
        """The same network with random weights, for the weights that are loaded right after."""
        plain = tuple(trunk.model_copy(update={"pretrained": False}) for trunk in self.trunks)
        return self.model_copy(update={"trunks": plain})

    def located(self, find: Callable[[bool | str], bool | str]) -> "ScopeformerConfig":
        """With other places of its weights."""
        found = [trunk.model_copy(update={"pretrained": find(trunk.pretrained)}) for trunk in self.trunks]
        return self.model_copy(update={"trunks": tuple(found)})

    def weights(self) -> dict[str, Any]:
        """Where each trunk's weights come from, see `weights_record`; call it after they were loaded."""
        return {"trunks": [weights_record(trunk.backbone, trunk.pretrained) for trunk in self.trunks]}

    def files(self) -> list[Path]:
        """The local files that the trunks start from."""
        return [path for trunk in self.trunks for path in weights_files(trunk.pretrained)]

    @model_validator(mode="after")
    def _fits(self) -> "ScopeformerConfig":
        if self.embed_dim == "concat" and (not self.trunks or self.patch > 1):
            raise ValueError("embed_dim concat: needs trunks, and a patch_size of 1")
        return self


class Trunk(nn.Module):
    """A timm network up to a feature map, and maybe a projection to fewer channels."""

    def __init__(self, network: nn.Module, stage: int, project: int | None):
        super().__init__()
        self.network = network
        self.stage = network.prune_intermediate_layers([stage], prune_norm=True)
        channels = feature_maps(network)[self.stage[0]]["num_chs"]
        self.project = nn.Identity() if project is None else nn.Conv2d(channels, project, 1)
        self.channels = project or channels

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(b, c, h, w) -> (b, channels, h', w')"""
        maps = self.network.forward_intermediates(
            images, indices=self.stage, intermediates_only=True, stop_early=True
        )
        return self.project(maps[0])


class Scopeformer(nn.Module):
    """Images (b, c, h, w) -> the class token of a transformer over the trunks' maps (b, num_features)."""

    def __init__(self, trunks: list[Trunk], transformer: nn.Module):
        """transformer: timm's, on the concatenated maps, or on the image where there are no trunks."""
        super().__init__()
        self.trunks, self.transformer = nn.ModuleList(trunks), transformer
        self.joined = nn.Identity()  # the place of the maps side by side, for class activation maps
        self.num_features = transformer.num_features

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(images))

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """(b, c, h, w) -> the trunks' maps side by side, (b, sum of their `channels`, h', w').

        Without trunks the image itself.
        """
        return self.joined(torch.cat([trunk(images) for trunk in self.trunks], 1)) if self.trunks else images

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = True) -> torch.Tensor:
        """What `forward_features` gives -> (b, num_features); called as timm's, without its logits."""
        return self.transformer(maps)

    def cam_targets(self) -> dict[str, CamTarget]:
        """The maps of all trunks together, then of each; without trunks the transformer's own."""
        if not self.trunks:
            return find_cam_targets(self.transformer)
        parts = {f"trunk {number}": CamTarget(trunk, as_it_is) for number, trunk in enumerate(self.trunks)}
        return {"all trunks": CamTarget(self.joined, as_it_is), **parts}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        for network in (*(trunk.network for trunk in self.trunks), self.transformer):
            network.set_grad_checkpointing(enable)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's description of layers for a falling learning rate: the trunks share the lowest."""
        return {
            "stem": r"^trunks|^transformer\.(?:cls_token|pos_embed|patch_embed)",
            "blocks": [(r"^transformer\.blocks\.(\d+)", None), (r"^transformer\.norm", (99999,))],
        }

    def parameter_counts(self) -> dict[str, int]:
        """Trainable parameters by part; `tokens`: the linear map, class token, positions, last norm."""
        parts = {
            "trunks": [trunk.network for trunk in self.trunks],
            "projections": [trunk.project for trunk in self.trunks],
            "blocks": [self.transformer.blocks],
        }
        counts = {name: sum(map(_trainable, modules)) for name, modules in parts.items()}
        total = _trainable(self)
        return counts | {"tokens": total - sum(counts.values()), "total": total}


def build_scopeformer(config: ScopeformerConfig, channels: int, image_size: int) -> Scopeformer:
    """channels, image_size: of the images it gets.

    Raises UserError as `create_backbone` does, for an unknown stage, and where the maps of two trunks differ
    in size.
    """
    trunks = [_build_trunk(trunk, channels, image_size) for trunk in config.trunks]
    if not trunks:
        return Scopeformer([], _build_transformer(config, channels, (image_size, image_size)))
    size = _one_size(config, [_map_size(trunk, channels, image_size) for trunk in trunks])
    return Scopeformer(trunks, _build_transformer(config, sum(trunk.channels for trunk in trunks), size))


def size_table(
    configs: Mapping[str, ScopeformerConfig], channels: int = 3, image_size: int = 224
) -> list[dict[str, Any]]:
    """Trainable parameters of several networks, a row each, and how many times fewer than the first has.

    smaller, blocks_smaller: of everything, of the transformer's blocks. Costs no memory.
    """
    rows = []
    for name, config in configs.items():
        with torch.device("meta"):
            counts = build_scopeformer(config.untrained(), channels, image_size).parameter_counts()
        first = rows[0] if rows else counts
        ratios = {"smaller": first["total"] / counts["total"]}
        ratios["blocks_smaller"] = first["blocks"] / counts["blocks"]
        rows.append({"network": name} | counts | ratios)
    return rows


def _build_trunk(config: TrunkConfig, channels: int, image_size: int) -> Trunk:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        network = create_backbone(config.backbone, channels, config.pretrained, image_size=image_size)
    return Trunk(network, _stage(network, config), config.project)


def _build_transformer(config: ScopeformerConfig, channels: int, size: tuple[int, int]) -> nn.Module:
    """channels, size: of the map or image whose patches are the tokens."""
    from timm.models import VisionTransformer

    embed_dim = channels if config.embed_dim == "concat" else config.embed_dim
    if embed_dim % config.heads:
        raise UserError(f"scopeformer: heads {config.heads} do not divide tokens of {embed_dim} values")
    if any(length % config.patch for length in size):
        raise UserError(f"scopeformer: patch_size {config.patch} does not divide {size[0]} x {size[1]}")
    transformer = VisionTransformer(
        img_size=size,
        patch_size=config.patch,
        in_chans=channels,
        num_classes=0,
        embed_dim=embed_dim,
        depth=config.depth,
        num_heads=config.heads,
        mlp_ratio=config.mlp_ratio,
        pos_drop_rate=config.dropout,
        proj_drop_rate=config.dropout,
        drop_path_rate=config.drop_path,
    )
    if config.embed_dim == "concat":
        transformer.patch_embed.proj = nn.Identity()
    return transformer


def _stage(network: nn.Module, config: TrunkConfig) -> int:
    """The number of the wanted feature map; for block12 of Xception the network is cut there."""
    maps = feature_maps(network)
    names = [entry["module"] for entry in maps]
    if config.backbone.split(".")[0] == "legacy_xception":
        names.append("block12")
    if config.stage == "block12" and names[-1] == "block12":
        for name in EXIT_FLOW:
            setattr(network, name, nn.Identity())
        maps[-1]["num_chs"] = 1024
        return -1
    stage = names.index(config.stage) if config.stage in names else config.stage
    if not isinstance(stage, int) or not -len(maps) <= stage < len(maps):
        raise UserError(
            f"trunk {config.backbone}: no stage {config.stage!r}; it has {', '.join(names)}, or their number"
        )
    return stage


def _map_size(trunk: Trunk, channels: int, image_size: int) -> tuple[int, int]:
    trunk.eval()
    try:
        with torch.no_grad():
            shape = trunk(torch.zeros(1, channels, image_size, image_size)).shape
    except RuntimeError as error:
        raise UserError(f"scopeformer: a trunk takes no images of {image_size} px: {error}") from error
    trunk.train()
    return shape[2], shape[3]


def _one_size(config: ScopeformerConfig, sides: list[tuple[int, int]]) -> tuple[int, int]:
    if len(set(sides)) > 1:
        maps = (
            f"{trunk.backbone} {height} x {width}"
            for trunk, (height, width) in zip(config.trunks, sides, strict=True)
        )
        raise UserError(f"scopeformer: maps of different sizes: {', '.join(maps)}; change a trunk's stage")
    return sides[0]


def _trainable(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
