"""Pretrained weights: loaded completely or not at all, and where they came from."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from safetensors import safe_open
from torch import nn

from ..config import OF_RUN
from ..errors import UserError
from ..files import file_sha256, read_json

RUN_PREFIX = "backbone."  # of a backbone's tensors in model.safetensors of a run folder
SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".npz")


@contextmanager
def complete_loads(source: str) -> Iterator[None]:
    """UserError where a file lacks tensors of the network that it is loaded into.

    timm loads with `strict=False` when a network has no classifier, and then keeps random numbers for every
    name that a file does not have; it says so at a log level nobody reads.
    """
    plain, missing = nn.Module.load_state_dict, []

    def load(self: nn.Module, *args: Any, **options: Any) -> Any:
        result = plain(self, *args, **options)
        missing.extend(result.missing_keys)
        return result

    nn.Module.load_state_dict = load
    try:
        yield
    finally:
        nn.Module.load_state_dict = plain
    if missing:
        more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
        raise UserError(
            f"{source}: these weights have no {', '.join(missing[:4])}{more}, which would stay random; give "
            "weights of this very backbone"
        )


def weights_files(pretrained: bool | str) -> list[Path]:
    """The local files that `pretrained` names: none unless it is a path."""
    if not isinstance(pretrained, str) or pretrained.startswith(OF_RUN):
        return []
    path = Path(pretrained).expanduser()
    return [path] if not path.is_dir() else sorted(p for p in path.iterdir() if p.suffix in SUFFIXES)


def weights_record(name: str, pretrained: bool | str) -> dict[str, Any]:
    """What metrics.json says of the weights a training started from; call it after they were loaded.

    Random weights: {"source": "random"}. Those of a hub: timm's name and tag, where they come from, SHA-256
    of the file and the licence as timm states it (null where it states none). A path: its name and the
    SHA-256 of each weights file.
    """
    if pretrained is False:
        return {"source": "random"}
    if isinstance(pretrained, str):
        sums = {file.name: file_sha256(file) for file in weights_files(pretrained)}
        return {"source": Path(pretrained).name, "sha256": sums}
    import timm

    published = timm.get_pretrained_cfg(name)
    hub = f"https://huggingface.co/{published.hf_hub_id}" if published.hf_hub_id else None
    file = _from_hub_cache(published.hf_hub_id) if hub else _from_url_cache(published.url)
    return {
        "source": hub or published.url,
        "name": f"{published.architecture}.{published.tag}",
        "tag": published.tag,
        "sha256": None if file is None else {file.name: file_sha256(file)},
        "licence": published.license,
    }


def run_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The backbone in the weights of a stage-1 run, by timm's names; empty for any other file."""
    if path.suffix != ".safetensors":
        return {}
    with safe_open(path, "pt") as file:
        names = [name for name in file.keys() if name.startswith(RUN_PREFIX)]  # noqa: SIM118
        return {name.removeprefix(RUN_PREFIX): file.get_tensor(name) for name in names}


def refuse_another_architecture(folder: Path, name: str) -> None:
    """UserError where a folder of timm's layout holds another architecture than `name`."""
    config, wanted = folder / "config.json", name.split(".")[0]
    stored = read_json(config).get("architecture") if config.is_file() else None
    if stored is None:
        raise UserError(
            f"pretrained {folder}: no config.json as timm saves it with weights; give the file itself"
        )
    if stored != wanted:
        raise UserError(f"pretrained {folder}: holds {stored}, and the backbone is {wanted}")


def _from_hub_cache(hub_id: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = hub_id.partition("@")
    for file in ("model.safetensors", "pytorch_model.bin"):  # as timm prefers them
        found = try_to_load_from_cache(repository, file, revision=revision or None)
        if isinstance(found, str):
            return Path(found)
    return None


def _from_url_cache(url: str) -> Path | None:
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    return file if file.is_file() else None
