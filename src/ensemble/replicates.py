"""Replicates: configurations trained and tested on divisions of their own of one prepared data set.

Each lives below MODEL_DIR/compare/<split>/ as any other run does below MODEL_DIR: fold 0 holds out the
validation part, the test part is the replicate's. What is complete there serves every comparison.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import joblib
import pandas as pd

from ..command_line import start_logging
from ..data.division import VALIDATION, Division
from ..data.prepared import Prepared
from ..errors import UserError
from ..progress import parallel
from ..settings import Settings
from ..training.engine.devices import choose_device, prepare_torch
from ..training.engine.training_config import TrainingConfig
from ..training.kinds import load_kind, load_run_config
from ..training.launch import train_together
from ..training.runs import Run, run_name, runs_read
from ..training.split import PATIENT, leak_of, split_of, unlabelled_part

log = logging.getLogger("ich")

FOLDER = "compare"


class ReplicateRun(Run):
    """A fold of a replicate."""

    @property
    def command(self) -> str:
        return "the same command again"


@dataclass(frozen=True)
class Step:
    """A configuration to train; every fold of it where a stacker reads it."""

    name: str
    config: TrainingConfig
    every_fold: bool = False


Plan = tuple[Step, ...]  # what a configuration reads, then itself


@dataclass(frozen=True)
class Replicate:
    """One division of the patients: its table (patient_id, fold), and the folders of its runs."""

    seed: int
    parts: pd.DataFrame
    settings: Settings

    def run(self, name: str, fold: int = VALIDATION) -> ReplicateRun:
        return ReplicateRun(name, fold, self.settings)

    def seeded(self, config: TrainingConfig) -> TrainingConfig:
        """Every replicate has first weights and draws of its own."""
        return config.model_copy(update={"seed": config.seed + self.seed})


def plan(path: Path | str, overrides: Sequence[str] = ()) -> Plan:
    """The configuration in a file, with `--set` overrides, after those that it reads, as they stand."""
    return tuple(_steps(Path(path), overrides, every_fold=False))


def _steps(path: Path, overrides: Sequence[str], every_fold: bool) -> Iterator[Step]:
    name = run_name(path)
    _, config = load_run_config(path, path.resolve().parent.name, overrides)
    if getattr(config, "soft_labels", None) is not None:
        raise UserError(
            f"{path}: soft_labels are of images without labels, which no replicate has; compare it with "
            "--set soft_labels=null"
        )
    if (split := split_of(config)) != PATIENT:
        raise UserError(
            f"{path}: {leak_of(split)}, and replicates are divided by patient; compare it with --set "
            f"split='\"{PATIENT}\"'"
        )
    members = getattr(config, "members", ())
    for other in runs_read(config.model_dump(mode="json")):
        file = path.resolve().parents[2] / f"{other}.json"
        yield from _steps(file, (), every_fold or other in members)
    yield Step(name, config, every_fold)


def open_replicate(
    settings: Settings, prepared: Prepared, division: Division, seed: int
) -> tuple[Replicate, Prepared]:
    """A replicate, and the prepared data divided so."""
    parts = division.draw(prepared, seed)
    divided = prepared.divided(parts)
    name = Path(FOLDER) / f"split{seed}-{divided.fingerprint}"
    folders = {key: getattr(settings, key) / name for key in ("models", "checkpoints", "logs")}
    return Replicate(seed, parts, replace(settings, **folders)), divided


def train_replicates(
    settings: Settings,
    division: Division,
    plans: Mapping[int, Sequence[Plan]],
    device_name: str,
    jobs: int,
    quiet: bool,
) -> None:
    """Train and predict what is not complete; plans: seed of a replicate -> what is trained on it.

    On a CPU `jobs` replicates at once, each in a process with one thread; a GPU takes one after the other.
    """
    if choose_device(device_name).type != "cpu":
        jobs = 1
    tasks = [(settings, division, seed, which, device_name, quiet) for seed, which in plans.items()]
    threads = int(os.environ.get("OMP_NUM_THREADS", 1))
    with joblib.parallel_config("loky", inner_max_num_threads=threads):
        parallel(train_replicate, tasks, jobs, "training", unit="replicates")


def train_replicate(
    settings: Settings,
    division: Division,
    seed: int,
    plans: Sequence[Plan],
    device_name: str,
    quiet: bool,
) -> None:
    """Train whatever is not complete of one replicate, and predict its test part."""
    start_logging(quiet)  # in a process of its own nothing else has
    device, silent = prepare_torch(device_name), logging.getLogger("ich.replicate")
    silent.setLevel(logging.WARNING)
    replicate, divided = open_replicate(settings, Prepared(settings.clean), division, seed)
    folds = sorted(divided.folds["fold"].unique().tolist())
    for step in chain.from_iterable(plans):
        kind, config = load_kind(step.config.kind), replicate.seeded(step.config)
        for fold in folds if step.every_fold else [VALIDATION]:
            run = replicate.run(step.name, fold)
            train_together(run, divided, kind, config, device, quiet=True)
    for *_, step in plans:
        run = replicate.run(step.name)
        load_kind(step.config.kind).predict(run, unlabelled_part(divided), device, silent)
        log.info("split %d, %s: trained, test part predicted", seed, step.name)
