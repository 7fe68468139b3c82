"""What a run was made from, and whether that is still so: configuration, data, weights files, input runs."""

import json
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..config import StrictModel, load_config
from ..data.prepared import Prepared
from ..errors import UserError
from ..files import file_sha256, fingerprint
from .engine.training_config import WITHOUT_EFFECT

if TYPE_CHECKING:
    from .runs import Run


def origin(
    run: "Run",
    config: StrictModel,
    prepared: Prepared,
    weights: Iterable[Path] = (),
    inputs: Sequence["Run"] = (),
) -> dict[str, Any]:
    """What `metrics.json` calls `made_from`: everything that the bits of a run depend on.

    weights: files that training started from; inputs: complete runs whose outputs it reads.
    """
    return {
        "run": run.name,
        "fold": run.fold,
        "configuration": fingerprint(effective(config)),
        "data": prepared.fingerprint,
        "geometry": prepared.geometry,
        "weights": {str(path): file_sha256(path) for path in weights},
        "inputs": {f"{source.name}/fold{source.fold}": source.fingerprint for source in inputs},
    }


def effective(config: StrictModel) -> dict[str, Any]:
    """The JSON values of a configuration that change a result."""
    values = json.loads(config.model_dump_json())
    return {key: value for key, value in values.items() if key not in WITHOUT_EFFECT}


def is_done(run: "Run", config: StrictModel, prepared: Prepared) -> bool:
    """Whether this fold is complete for this configuration and data, and what it was made from still stands.

    A complete fold of another configuration, of other data or of other inputs raises UserError: old results
    are never overwritten, nor taken for new ones.
    """
    if not run.complete:
        return False
    if differences := differing_keys(run.require("config.json"), config):
        raise UserError(
            f"{run.folder}: is complete with another configuration ({'; '.join(differences)}); delete that "
            "folder to train it again, or give the changed configuration a new name"
        )
    check_data(run, prepared)
    check_unchanged(run)
    return True


def check_data(run: "Run", prepared: Prepared) -> None:
    """UserError unless a fold was trained on these very data."""
    if run.made_from["data"] != prepared.fingerprint:
        raise UserError(
            f"{run.folder}: was trained on other prepared data than {prepared}; train on these under a new "
            "name (copy its JSON file), or name the folder it was trained on in the settings"
        )


def check_geometry(run: "Run", prepared: Prepared) -> None:
    """UserError unless slices look as a fold is used to: size, crop, holder, tilt, units."""
    before, now = run.made_from["geometry"], prepared.geometry
    if differing := [f"{key} {before[key]}, here {now[key]}" for key in before if before[key] != now[key]]:
        raise UserError(
            f"{run.folder}: was trained on slices prepared with {'; '.join(differing)}; prepare these data "
            "the same way in a folder of their own"
        )


def check_unchanged(run: "Run") -> None:
    """UserError where a complete fold was copied, lacks a file, or stands on something that has changed."""
    made, name = run.made_from, f"{run.name}/fold{run.fold}"
    if (copied := f"{made['run']}/fold{made['fold']}") != name:
        raise UserError(f"{run.folder}: is a copy of {copied}; delete it and train {name} under its own name")
    for file in run.metrics()["files"]:
        if not (run.folder / file).is_file():
            raise UserError(
                f"{run.folder / file}: missing, though the fold is complete; delete {run.folder} and run: "
                f"{run.command}"
            )
    changed = [
        path for path, sha in made["weights"].items() if Path(path).is_file() and file_sha256(path) != sha
    ]
    changed += [key for key, before in made["inputs"].items() if _fingerprint_now(run, key) != before]
    if changed:
        raise UserError(
            f"{run.folder}: what it was trained from has changed since ({', '.join(changed)}); delete that "
            f"folder and run: {run.command}"
        )


def _fingerprint_now(run: "Run", key: str) -> str | None:
    name, _, fold = key.rpartition("/fold")
    source = type(run)(name, int(fold), run.settings)
    return source.fingerprint if source.complete else None


def check_alike(runs: Sequence["Run"]) -> None:
    """UserError unless all folds of one run were trained with the same configuration."""
    first, *others = runs
    stored = _stored(first)
    for run in others:
        own = _stored(run)
        if differing := sorted(k for k in stored.keys() | own.keys() if stored.get(k) != own.get(k)):
            shown = "; ".join(f"{k} {json.dumps(stored.get(k))}, {json.dumps(own.get(k))}" for k in differing)
            raise UserError(
                f"{first.name}: folds {first.fold} and {run.fold} were trained with different configurations "
                f"({shown}); delete one of the folders and train that fold again"
            )


def _stored(run: "Run") -> Mapping[str, Any]:
    values = json.loads(run.require("config.json").read_text(encoding="utf-8"))
    return {key: value for key, value in values.items() if key not in WITHOUT_EFFECT}


def differing_keys(file: Path, config: StrictModel) -> list[str]:
    """`key: stored, asked` of every top-level key that differs and changes a result."""
    # Read through the model: a key that was added since has its default, which is how the run was trained.
    stored, asked = effective(load_config(type(config), file)), effective(config)
    return [
        f"{key}: {json.dumps(stored[key])}, asked {json.dumps(asked[key])}"
        for key in sorted(stored)
        if stored[key] != asked[key]
    ]


def environment() -> dict[str, Any]:
    """Versions that numbers depend on, and the commit of the code."""
    import cv2

    return {
        "git": _git_hash(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "opencv": cv2.__version__,
        "threads": torch.get_num_threads(),
    }


def _git_hash() -> str | None:
    root = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None  # an installed copy has no history
    return answer.stdout.strip()
