"""timm backbones without a classifier: built by name, loaded from a hub, a file or a folder, or random."""

import difflib
import os
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from ..errors import UserError
from .pooling import GEM_POWER, POOLINGS, GeM
from .pretrained import complete_loads, refuse_another_architecture, run_tensors

# What a file raises that holds other tensors, or is no weights file at all.
BROKEN = (RuntimeError, KeyError, EOFError, pickle.UnpicklingError, SafetensorError)


def check_backbone(name: str) -> None:
    """UserError for a name that timm does not know, with the nearest ones."""
    import timm

    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.5)
        raise UserError(
            f"backbone {name!r}: not a model of timm {timm.__version__}; nearest: {', '.join(near) or 'none'}"
        )
    if architecture != name and name not in (tagged := timm.list_pretrained(f"{architecture}.*")):
        raise UserError(f"backbone {name!r}: timm has no such weights; it has {', '.join(tagged) or 'none'}")


def create_backbone(
    name: str,
    channels: int,
    pretrained: bool | str,
    drop_path: float = 0.0,
    image_size: int | None = None,
    pooling: str = "backbone",
) -> nn.Module:
    """timm's `create_model` without a classifier; images (b, channels, h, w) -> pooled features (b, d).

    A pretrained first convolution of three channels is adapted by timm: its kernels are repeated over the
    channels and scaled by 3 / channels, so that the same image in every channel gives the same response.

    pretrained: true, false, or the path of a file or folder of timm's, or of a run's model.safetensors.
    Raises UserError for an unknown backbone (naming the nearest) and for weights that cannot be loaded:
    a model never starts from random weights unless `pretrained` is false.
    """
    import timm  # costs seconds; only building a model needs it

    check_backbone(name)
    options: dict[str, Any] = {"num_classes": 0, "in_chans": channels, **POOLINGS[pooling].options}
    if drop_path:
        options["drop_path_rate"] = drop_path
    published = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if image_size and published is not None and published.fixed_input_size:
        options["img_size"] = image_size  # position tables and attention windows depend on it
    network = _load(name, pretrained, options)
    if "img_size" in options:
        _check_size(name, options)
    if (change := POOLINGS[pooling].change) is not None:
        changed = change(network, name)
        if isinstance(changed, GeM) and isinstance(pretrained, str):
            _load_power(changed, Path(pretrained).expanduser())
    return network


def feature_maps(network: nn.Module) -> list[dict[str, Any]]:
    """What timm says of a backbone's feature maps (num_chs, reduction, module), the finest first."""
    info = getattr(network, "feature_info", [])
    return info if isinstance(info, list) else list(info.info)


def _check_size(name: str, options: dict[str, Any]) -> None:
    """UserError where attention windows or patches do not divide the image; costs no memory."""
    import timm

    side = options["img_size"]
    with torch.device("meta"):
        network = timm.create_model(name, pretrained=False, **options).eval()
        image = torch.zeros(1, options["in_chans"], side, side)
    try:
        network(image)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"backbone {name!r}: takes no images of {side} px: {error}; change image_size"
        ) from error


def _load(name: str, pretrained: bool | str, options: dict[str, Any]) -> nn.Module:
    import timm

    try:
        if isinstance(pretrained, str):
            return _from_path(name, Path(pretrained).expanduser(), options)
        if pretrained:
            return _from_hub(name, options)
        return timm.create_model(name, pretrained=False, **options)
    except TypeError as error:  # an argument this architecture does not take, such as drop_path_rate
        raise UserError(f"backbone {name!r}: {error}; leave that option out") from error
    except AssertionError as error:  # a value it does not take, such as a pooling
        raise UserError(f"backbone {name!r}: {error}; change that option") from error


def _from_path(name: str, path: Path, options: dict[str, Any]) -> nn.Module:
    import timm

    if not path.exists():
        raise UserError(
            f"pretrained {path}: no such file or folder; give existing weights, or true, or false"
        )
    if path.is_dir():
        refuse_another_architecture(path, name)
    try:
        with complete_loads(f"pretrained {path}"):
            if path.is_dir():
                return timm.create_model(f"local-dir:{path}", pretrained=True, **options)
            if tensors := run_tensors(path):
                return _from_run(name, path, tensors, options)
            overlay = {"file": str(path)}
            return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    except BROKEN as error:
        lines = [line.strip() for line in str(error).splitlines()]
        more = f" (and {len(lines) - 4} more)" if len(lines) > 4 else ""
        raise UserError(
            f"pretrained {path}: these weights do not fit {name}: {' '.join(lines[:4])[:800]}{more}"
        ) from error


def _from_run(name: str, path: Path, tensors: dict[str, torch.Tensor], options: dict[str, Any]) -> nn.Module:
    """timm adapts what other channels or another image size ask for, as with weights of its own."""
    import timm

    overlay = {"state_dict": dict(tensors)}
    network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    del network.pretrained_cfg["state_dict"]  # or every copy of the network would carry these weights
    unknown = sorted(k for k in tensors.keys() - network.state_dict().keys() if not k.endswith(GEM_POWER))
    if unknown:
        raise UserError(
            f"pretrained {path}: holds {', '.join(unknown[:4])}, which {name} does not have; give weights "
            "of this very backbone"
        )
    return network


def _load_power(gem: GeM, path: Path) -> None:
    """A run's own exponent, where it was pooled in this way."""
    for key, value in (run_tensors(path) if path.is_file() else {}).items():
        if key.endswith(GEM_POWER):
            gem.p.data.copy_(value)


def _from_hub(name: str, options: dict[str, Any]) -> nn.Module:
    import timm

    try:
        with complete_loads(f"backbone {name!r}"):
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
