"""The kinds of runs, by the name that a configuration's `kind` gives; each is loaded when asked for.

A kind is a room beside this file with a module `kind` whose KIND says how such a run is configured, trained
and predicted. What reads pixels belongs to stage 1, what reads the outputs of runs to stage 2.
"""

import json
import logging
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..config import load_config, read_values
from ..config_keys import listing
from ..data.prepared import Prepared
from ..errors import UserError
from .engine.training_config import WITHOUT_EFFECT, TrainingConfig
from .runs import Run

ROOMS = {"slice": "slices", "sequence": "sequences", "video": "videos", "stacker": "studies"}
STAGES = {"slice": "stage1", "sequence": "stage1", "video": "stage1", "stacker": "stage2"}
DEFAULTS = {"stage1": "slice", "stage2": "stacker"}


@dataclass(frozen=True)
class Kind:
    """What the launcher needs to know of a kind."""

    config: type[TrainingConfig]
    # (run, prepared, config, device, log, show_progress): train one fold and write its run folder, continuing
    # where a killed run stopped
    train: Callable[[Run, Prepared, Any, torch.device, logging.Logger, bool], None]
    # (run, part, device, log, loaded=None): write test.parquet of a complete fold where it is not up to date
    predict: Callable[..., None]
    # (run, prepared, image ids, device, view=None, loaded=None): probabilities and embeddings by a complete
    # fold, of what reads pixels
    outputs: Callable[..., tuple[pd.DataFrame, np.ndarray]] | None = None
    # (config, pretrained=None): the network of what reads pixels
    build: Callable[..., torch.nn.Module] | None = None
    # (config): UserError where it names what does not exist, whatever the data are
    check: Callable[[Any], None] | None = None
    # (run, prepared, config): the runs that a fold reads; UserError where one is not fit to be read
    inputs: Callable[[Run, Prepared, Any], Any] | None = None


def load_kind(name: str) -> Kind:
    return import_module(f".{ROOMS[name]}.kind", __package__).KIND


def kind_of(run: Run) -> Kind:
    """The kind of a run folder, by its own config.json."""
    return load_kind(_name(read_values(run.require("config.json")), run.stage, run.folder / "config.json"))


def set_flags(run: Run, file: Path) -> str:
    """` --set KEY=VALUE` for what a run was trained with and its file below experiments/ does not say now."""
    model = kind_of(run).config
    trained = json.loads(run.read_config(model).model_dump_json())
    stated = json.loads(load_config(model, file).model_dump_json())
    differing = {k: v for k, v in trained.items() if v != stated[k] and k not in WITHOUT_EFFECT}
    return "".join(f" --set {shlex.quote(f'{key}={json.dumps(value)}')}" for key, value in differing.items())


def load_run_config(
    path: Path | str, stage: str, overrides: Sequence[str] = ()
) -> tuple[Kind, TrainingConfig]:
    """A configuration below experiments/ and the kind it is of; UserError also for an unknown backbone."""
    kind = load_kind(_name(read_values(path, overrides), stage, path))
    config = load_config(kind.config, path, overrides)
    if kind.check is not None:
        kind.check(config)
    return kind, config


def key_listing(stage: str) -> str:
    """The keys of every kind of a stage, with meaning and default."""
    kinds = [kind for kind, its_stage in STAGES.items() if its_stage == stage]
    return "\n\n".join(f"kind {kind}\n{listing(load_kind(kind).config)}" for kind in kinds)


def _name(values: dict[str, Any], stage: str, path: Path | str) -> str:
    name = values.get("kind", DEFAULTS[stage])
    known = [kind for kind, its_stage in STAGES.items() if its_stage == stage]
    if name not in known:
        raise UserError(f"{path}: kind {name!r}: the kinds of {stage} are {', '.join(known)}")
    return name
