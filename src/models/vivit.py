"""ViViT of `transformers`: one transformer over the tubelets of a study's frames (arXiv 2103.15691, model 1).

It starts from random weights, from those of a ViViT, or from those of a vision transformer for single images:
its blocks are the same.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from safetensors.torch import load_file
from torch import nn

from ..config import Count, Fraction, Positive, StrictModel
from ..errors import UserError
from ..files import read_json
from .backbones import BROKEN
from .pretrained import RUN_PREFIX, weights_files, weights_record

POSITIONS, PATCHES = "embeddings.position_embeddings", "embeddings.patch_embeddings.projection.weight"
NOT_NEEDED = ("classifier.", "pooler.", "head.", "fc_norm.")  # begin the names of tensors for other tasks
IN_RUNS = ("network.", "transformer.")  # begin those of an encoder in a run of ours
OF_TIMM = (
    ("patch_embed.proj.", "embeddings.patch_embeddings.projection."),
    ("cls_token", "embeddings.cls_token"),
    ("pos_embed", POSITIONS),
    ("blocks.", "layers."),
    (".norm1.", ".layernorm_before."),
    (".norm2.", ".layernorm_after."),
    (".attn.proj.", ".attention.o_proj."),
)


class VivitConfig(StrictModel):
    """A ViViT on the frames of a study; it takes the place of an encoder and a pooling over frames."""

    title: ClassVar[str] = "ViViT"

    tubelet: tuple[Count, Count, Count]
    """frames, rows and columns of a token; published: [2, 16, 16]"""
    pretrained: Literal[False] | str
    """a path: weights of a ViViT or of a vision transformer on images, a file, a folder or a run's;
    run:NAME: those of the same fold of a stage-1 run; false: random"""
    hidden_size: Count = 768
    """width of a token"""
    layers: Count = 12
    """blocks of the transformer"""
    attention_heads: Count = 12
    """heads of its attention"""
    intermediate_ratio: Positive = 4.0
    """width of its MLPs over that of a token"""
    hidden_dropout: Fraction = 0.0
    """behind positions, attention and both layers of each MLP"""

    def untrained(self) -> "VivitConfig":
        """The same network with random weights, for the weights that are loaded right after."""
        return self.model_copy(update={"pretrained": False})

    def located(self, find: Callable[[bool | str], bool | str]) -> "VivitConfig":
        """With another place of its weights."""
        return self.model_copy(update={"pretrained": find(self.pretrained)})

    def weights(self) -> dict[str, Any]:
        """What metrics.json says of the weights it starts from."""
        return weights_record(self.title, self.pretrained)

    def files(self) -> list[Path]:
        """The local files it starts from."""
        return weights_files(self.pretrained)

    def check(self, frames: int, image_size: int) -> None:
        """ValueError unless tubelets fill the video and heads the tokens."""
        lengths = {"frames": frames, "image_size": image_size}
        for name, part in zip(("frames", "image_size", "image_size"), self.tubelet, strict=True):
            if lengths[name] % part:
                raise ValueError(f"backbone.tubelet: {part} does not divide {name} {lengths[name]}")
        if (width := self.hidden_size) % self.attention_heads:
            raise ValueError(
                f"backbone.attention_heads: {self.attention_heads} do not divide hidden_size {width}"
            )


class Vivit(nn.Module):
    """Videos (b, frames, c, h, w) -> the class token behind the last norm, (b, num_features)."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network, self.num_features = network, network.config.hidden_size

    def forward(self, videos: torch.Tensor) -> torch.Tensor:
        return self.network(videos).last_hidden_state[:, 0]

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's description of layers for a falling learning rate."""
        return {
            "stem": r"^network\.embeddings",
            "blocks": [(r"^network\.layers\.(\d+)", None), (r"^network\.layernorm", (99999,))],
        }


def build_vivit(config: VivitConfig, channels: int, image_size: int, frames: int) -> Vivit:
    """Raises UserError without `transformers`, and for weights that do not fit.

    Positions of a ViViT for another number of tokens start as the library's do, at zero.
    """
    try:
        from transformers import VivitConfig as NetworkConfig
        from transformers import VivitModel
    except ImportError:
        raise UserError(
            "backbone ViViT: transformers is not installed; run: pip install -r requirements-extra.txt"
        ) from None
    network = NetworkConfig(
        image_size=image_size,
        num_frames=frames,
        tubelet_size=list(config.tubelet),
        num_channels=channels,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.attention_heads,
        intermediate_size=round(config.hidden_size * config.intermediate_ratio),
        hidden_dropout_prob=config.hidden_dropout,
        attention_probs_dropout_prob=config.hidden_dropout,
    )
    if config.pretrained is False:
        return Vivit(VivitModel(network, add_pooling_layer=False))
    return Vivit(_loaded(VivitModel, network, Path(config.pretrained).expanduser()))


def _loaded(model: Any, config: Any, path: Path) -> nn.Module:
    """transformers' own loading, which knows the names of its older versions; quiet and strict."""
    from transformers.utils import logging

    tensors = _for_videos(_stored(path), config, path)
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        network, report = model.from_pretrained(
            None, config=config, state_dict=tensors, add_pooling_layer=False, output_loading_info=True,
            ignore_mismatched_sizes=True,
        )  # fmt: skip
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
    other = [(name, a, b) for name, a, b in report["mismatched_keys"] if name != POSITIONS]
    found = {
        "have no": report["missing_keys"],
        "hold, unknown to it,": report["unexpected_keys"],
        "hold": [f"{name} {tuple(a)} for {tuple(b)}" for name, a, b in other],
    }
    for text, names in found.items():
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise UserError(
                f"pretrained {path}: these weights do not fit this ViViT: they {text} "
                f"{', '.join(sorted(names)[:3])}{more}; give weights of its width, depth, heads, tubelet and "
                "channels"
            )
    return network.train()


def _stored(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, of a folder's one weights file, or of the encoder in a run's weights."""
    if path.is_dir() and (kind := _kind(path)) not in ("vivit", "vit"):
        raise UserError(f"pretrained {path}: its config.json is of {kind}; give a ViViT, or the file itself")
    files = weights_files(str(path))
    if len(files) != 1 or not files[0].is_file():
        found = f"{len(files)} weights files" if path.is_dir() else "no such file or folder"
        raise UserError(f"pretrained {path}: {found}; give one local file, or set pretrained to false")
    try:
        if files[0].suffix == ".safetensors":
            tensors = load_file(files[0])
        else:
            tensors = torch.load(files[0], map_location="cpu", weights_only=True)
    except BROKEN as error:
        raise UserError(f"pretrained {path}: no weights can be read from it: {error}") from error
    own = {k.removeprefix(RUN_PREFIX): v for k, v in tensors.items() if k.startswith(RUN_PREFIX)}
    return {_without(IN_RUNS, k): v for k, v in own.items()} or tensors


def _kind(folder: Path) -> str:
    config = folder / "config.json"
    return read_json(config).get("model_type", "another library") if config.is_file() else "missing"


def _without(prefixes: tuple[str, ...], name: str) -> str:
    return next((name.removeprefix(prefix) for prefix in prefixes if name.startswith(prefix)), name)


def _for_videos(tensors: dict[str, torch.Tensor], config: Any, path: Path) -> dict[str, torch.Tensor]:
    """Tensors by the names of transformers; those of images spread over the frames as in section 3.4 of the
    paper: every step in time has the positions of the image, a tubelet begins as its middle frame.
    """
    tensors = {_without(("vivit.", "vit."), name): value for name, value in tensors.items()}
    tensors = _of_timm(tensors) if "pos_embed" in tensors else dict(tensors)
    tensors = {name: value for name, value in tensors.items() if not name.startswith(NOT_NEEDED)}
    patches = tensors.get(PATCHES)
    if patches is None or patches.ndim != 4:
        return tensors
    depth, rows, columns = config.tubelet_size
    tokens, steps = tensors[POSITIONS].shape[1] - 1, config.num_frames // depth
    if tokens != (config.image_size // rows) * (config.image_size // columns):
        raise UserError(
            f"pretrained {path}: has {tokens} patches an image, not those of {config.image_size} px in "
            f"patches of {rows} x {columns}; give a vision transformer of this image_size"
        )
    inflated = patches.new_zeros(*patches.shape[:2], depth, *patches.shape[2:])
    inflated[:, :, depth // 2] = patches
    first, others = tensors[POSITIONS].split([1, tokens], 1)
    return tensors | {PATCHES: inflated, POSITIONS: torch.cat([first, others.repeat(1, steps, 1)], 1)}


def _of_timm(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A vision transformer of timm by the names of transformers."""
    found: dict[str, torch.Tensor] = {}
    for name, value in tensors.items():
        for old, new in OF_TIMM:
            name = name.replace(old, new)
        if name.startswith("norm."):
            name = f"layernorm.{name.removeprefix('norm.')}"
        if ".attn.qkv." in name:
            parts = zip("qkv", value.chunk(3), strict=True)
            found |= {name.replace(".attn.qkv.", f".attention.{part}_proj."): v.clone() for part, v in parts}
        else:
            found[name] = value
    return found
