"""Run folders: MODEL_DIR/<run>/fold<k>/ explains itself; metrics.json is written last and means complete."""

import fcntl
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from ..config import OF_RUN, Model, StrictModel, load_config, read_values
from ..config_keys import nearest
from ..errors import UserError
from ..files import (
    atomic_path,
    file_sha256,
    fingerprint,
    parquet_made_from,
    read_json,
    read_parquet,
    reading,
    write_json,
    write_parquet,
)
from ..settings import Settings
from ..targets import HEMORRHAGE, KEYS
from .engine.training_progress import Progress
from .provenance import environment
from .split import PATIENT, leak_of

HASHED = ("config.json", "model.safetensors", "model.txt", "embedding_map.safetensors", "oof.parquet")
TRAINED = (*HASHED, "embeddings.npy", "metrics.json")  # made by training, in the run folder always
DERIVED = ("test*", "train*", "probe*", "missing*", "oof*", "embeddings.npy")  # made by a complete fold
AGAIN = ("train.*", "train_*", "probe.*", "probe_*", "oof_*", "test_*")  # of DERIVED, see `made_again`
STUDY_HEAD = "test_studies.parquet"  # what a head for whole studies says, of the studies in test.parquet
PATIENCE = 10.0  # seconds: a training that is told to stop, or has lost its parent, saves its state meanwhile


@dataclass(frozen=True)
class Run:
    """One fold of one run: `name` is the configuration's path under experiments/ without suffix.

    place: the folder below which its predictions of further slices are kept; None: the run folder itself;
    precision: what it predicts in, in place of that of its configuration.
    """

    name: str
    fold: int
    settings: Settings
    place: Path | None = None
    precision: str | None = None

    @property
    def folder(self) -> Path:
        return self.settings.models / self.name / f"fold{self.fold}"

    def path(self, file: str) -> Path:
        """Of one of this fold's files: what training made lies in the run folder, the rest in `place`."""
        if self.place is None or file in TRAINED:
            return self.folder / file
        return self.place / self.name / f"fold{self.fold}" / file

    @property
    def checkpoint(self) -> Path:
        return self.settings.checkpoints / self.name / f"fold{self.fold}" / "checkpoint.pt"

    @property
    def log_file(self) -> Path:
        return self.settings.logs / self.name / f"fold{self.fold}.log"

    @property
    def stage(self) -> str:
        """`stage1` or `stage2`."""
        return Path(self.name).parent.name

    @property
    def complete(self) -> bool:
        return (self.folder / "metrics.json").exists()

    @property
    def command(self) -> str:
        """What trains this fold, with the --set it was trained with where it has been."""
        return self._command(f" --fold {self.fold}")

    @property
    def command_of_every_fold(self) -> str:
        """What trains all folds of its run, with the --set that this one was trained with."""
        return self._command("")

    def _command(self, fold: str) -> str:
        file = Path(f"experiments/{self.name}.json")
        return f"python train_{self.stage}.py {file}{self._set_flags(file)}{fold}{self.settings.flag}"

    def _set_flags(self, file: Path) -> str:
        if not file.exists() or not (self.folder / "config.json").exists():
            return ""
        from .kinds import set_flags  # which imports this module

        try:
            return set_flags(self, file)
        except UserError:  # a damaged configuration tells nothing; the remedy is wanted all the same
            return ""

    def __str__(self) -> str:
        return f"{self.name} fold {self.fold}"

    @contextmanager
    def lock(self, wait: bool = False) -> Iterator[None]:
        """Hold this fold while writing to it; where another process does, wait for it, or wait as long as one
        takes that is just being stopped, and raise UserError.
        """
        path = self.checkpoint.with_name("lock") if self.place is None else self.path("lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w") as file:
            end = time.monotonic() + (math.inf if wait else PATIENCE)
            while not _locked(file):
                if time.monotonic() > end:
                    raise UserError(f"{self}: another process works on this fold; wait for it or stop it")
                time.sleep(0.05)
            yield  # the system gives the lock up when a process dies

    def require(self, file: str) -> Path:
        """The path of one of this fold's files; UserError with the command that makes it where missing."""
        path = self.path(file)
        if not path.exists():
            raise UserError(f"{path}: missing; run: {self.command}")
        return path

    def read_config(self, model: type[Model]) -> Model:
        """The configuration this fold was trained with, not the one that stands in experiments/ now."""
        config = load_config(model, self.intact("config.json"))
        if self.precision is None:
            return config
        return config.model_copy(update={"precision": self.precision})

    def metrics(self) -> dict[str, Any]:
        return read_json(self.require("metrics.json"))

    @property
    def targets(self) -> str:
        """The name of what it predicts."""
        return read_values(self.require("config.json")).get("targets", HEMORRHAGE.name)

    @property
    def split(self) -> str:
        """What was held out whole: `patient`, or a split that leaks."""
        return read_values(self.require("config.json")).get("split", PATIENT)

    @property
    def leak(self) -> str | None:
        """What every score of it has to say; None where patients were kept apart."""
        return leak_of(self.split)

    @property
    def made_from(self) -> dict[str, Any]:
        """What a complete fold was made from, see provenance.py."""
        try:
            return self.metrics()["made_from"]
        except KeyError:
            raise UserError(
                f"{self.folder / 'metrics.json'}: of an older version of this program, which did not record "
                f"what a run was made from; delete {self.folder} and run: {self.command}"
            ) from None

    @property
    def fingerprint(self) -> str:
        """Of a complete fold's origin and outputs: another training gives another one."""
        return fingerprint({"made_from": self.made_from, "files": self.metrics()["files"]})

    def remove_derived(self) -> None:
        """Delete whatever an earlier training left in the folder, before a new one begins."""
        for pattern in DERIVED:
            for path in self.folder.glob(pattern):
                path.unlink()

    def made_again(self) -> list[Path]:
        """Files of a complete fold that the step which reads them predicts again where they are missing: what
        it says through single views, of the slices it trained on, of probes.
        """
        kept = self.embeddings_file("test").name  # `has` asks for it
        found = [path for pattern in AGAIN for path in self.folder.glob(pattern) if path.name != kept]
        return sorted(found)

    def save_config(self, config: StrictModel) -> None:
        write_json(self.folder / "config.json", json.loads(config.model_dump_json()))

    def save_weights(self, model: nn.Module) -> None:
        from safetensors.torch import save_model

        path = self.folder / "model.safetensors"
        with atomic_path(path) as temporary:
            save_model(model, str(temporary))

    def load_weights(self, model: nn.Module) -> nn.Module:
        from safetensors.torch import load_model

        path = self.intact("model.safetensors")
        with reading(path):
            load_model(model, str(path), strict=True)
        return model

    def intact(self, file: str) -> Path:
        """The path of a file of a complete fold, its SHA-256 compared with that in metrics.json."""
        path = self.require(file)
        if file_sha256(path) != self.metrics()["files"].get(file):
            raise self._damaged(path)
        return path

    def _damaged(self, path: Path) -> UserError:
        return UserError(
            f"{path}: is not the file that training wrote; delete {self.folder} and run: {self.command}"
        )

    def save_predictions(
        self,
        part: str,
        probabilities: pd.DataFrame,
        embeddings: np.ndarray | None = None,
        made_from: Mapping[str, Any] | None = None,
    ) -> None:
        """Write oof.parquet or test.parquet, and beside it the embeddings whose rows are its rows.

        probabilities: indexed by image_id or study_id, columns of the targets; embeddings (n, d), stored as
        float16; made_from: of a part that a complete fold predicts, see `has`. A NaN is a UserError.
        """
        bad = probabilities.index[probabilities.isna().any(axis=1)]
        if len(bad):
            raise UserError(
                f"{self}: predicts NaN for {bad[0]} ({len(bad)} of {len(probabilities)} rows); lower lr, or "
                "set precision to fp32, and train again"
            )
        made = dict(made_from or {})
        if embeddings is not None:
            path = self.embeddings_file(part)
            self.path(f"{part}.parquet").unlink(missing_ok=True)  # it is of other embeddings
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                np.save(file, _half(embeddings, self))
            made["embeddings"] = file_sha256(path)
        frame = probabilities.rename_axis(probabilities.index.name or KEYS["image"]).reset_index()
        write_parquet(self.path(f"{part}.parquet"), frame, made)

    def study_head(self) -> pd.DataFrame | None:
        """Index study_id: what a head for whole studies says of the test part; None of a run without one."""
        path = self.path(STUDY_HEAD)
        return read_parquet(path).set_index(KEYS["study"]) if path.exists() else None

    def embeddings_file(self, part: str) -> Path:
        return self.path("embeddings.npy" if part == "oof" else f"{part}_embeddings.npy")

    def predictions(self, part: str) -> pd.DataFrame:
        """oof or test probabilities, index image_id or study_id, in the order of the embeddings."""
        file = f"{part}.parquet"
        path = self.intact(file) if self.complete and file in HASHED else self.require(file)
        table = read_parquet(path)
        return table.set_index(table.columns[0])

    def embeddings(self, part: str) -> np.ndarray:
        """(n, d) float16, memory-mapped, rows as in `predictions(part)`; their SHA-256 is compared."""
        path = self.require(self.embeddings_file(part).name)
        if file_sha256(path) != parquet_made_from(self.require(f"{part}.parquet")).get("embeddings"):
            if part == "oof":
                raise self._damaged(path)
            raise UserError(f"{path}: damaged; delete it and run the same command again, which predicts it")
        with reading(path):
            return np.lib.format.open_memmap(path, mode="r")  # `load` would take an archive too

    def has(self, part: str, data: str) -> bool:
        """Whether a part was predicted by this very training for data with this fingerprint."""
        path = self.path(f"{part}.parquet")
        made = parquet_made_from(path) if path.exists() else {}
        whole = "embeddings" not in made or self.embeddings_file(part).exists()
        return whole and (made.get("run"), made.get("data")) == (self.fingerprint, data)

    def remove_checkpoints(self) -> None:
        """What a complete fold needs no more: checkpoints of every seed, snapshots of epochs."""
        for path in self.checkpoint_files():
            path.unlink(missing_ok=True)

    def checkpoint_files(self) -> list[Path]:
        patterns = (self.checkpoint.name, "seed*.pt", "*_epoch*.safetensors")
        return [path for pattern in patterns for path in self.checkpoint.parent.glob(pattern)]

    def finish(
        self,
        scores: Mapping[str, Any],
        made_from: Mapping[str, Any],
        seed: int,
        device: torch.device,
        progress: Progress,
        log: logging.Logger,
    ) -> None:
        """Write metrics.json, which marks the fold complete, and drop its checkpoints."""
        leak = self.leak
        metrics = {
            **scores,
            **({"leak": leak} if leak else {}),
            "seconds": round(progress.seconds, 1),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "seed": seed,
            "made_from": made_from,
            "files": {name: file_sha256(p) for name in HASHED if (p := self.folder / name).exists()},
            **environment(),
            "history": progress.history,
        }
        write_json(self.folder / "metrics.json", metrics)
        self.remove_checkpoints()
        log.info(
            "complete: held-out score %.4f, prevalence baseline %.4f%s",
            scores["score"], scores["baseline"], f" ({leak})" if leak else "",
        )  # fmt: skip


Loaded = dict[str, Any]  # complete fold -> the networks it was loaded as, kept for the next data


def keep(loaded: Loaded | None, run: Run, load: Callable[[], Any]) -> Any:
    """What `load` gives for a fold, the first time; without a place to keep it, every time."""
    if loaded is None:
        return load()
    if str(run) not in loaded:
        loaded[str(run)] = load()
    return loaded[str(run)]


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _half(embeddings: np.ndarray, run: Run) -> np.ndarray:
    """float16, refused where a value does not fit (65,504)."""
    with np.errstate(over="ignore"):
        half = embeddings.astype(np.float16)
    if not np.isfinite(half).all():
        raise UserError(
            f"{run}: an embedding is {np.abs(embeddings).max():.3g}, beyond what float16 holds; lower lr, or "
            "choose another pooling"
        )
    return half


def run_name(config: Path | str) -> str:
    """experiments/demo/stage1/small.json -> demo/stage1/small."""
    parts = Path(config).resolve().with_suffix("").parts
    if "experiments" not in parts:
        raise UserError(
            f"{config}: lies outside experiments/, and a run is named by its path there; move it in"
        )
    start = len(parts) - parts[::-1].index("experiments")
    if len(parts) - start != 3 or parts[-2] not in ("stage1", "stage2"):
        raise UserError(f"{config}: expected experiments/EXPERIMENT/stage1|stage2/NAME.json")
    return "/".join(parts[start:])


def experiment_name(experiment: Path | str) -> str:
    """experiments/demo -> demo."""
    path = Path(experiment)
    if path.suffix == ".json" or not path.name:
        raise UserError(f"{experiment}: is not the folder of an experiment, such as experiments/demo")
    return path.name


def no_experiment(folder: Path) -> UserError:
    """That there is no such experiment, with the nearest one."""
    known = sorted(path.name for path in folder.parent.glob("*/")) if folder.parent.is_dir() else []
    near = nearest(folder.name, known)
    hint = f"did you mean {folder.parent / near}?" if near else f"there are: {', '.join(known) or 'none'}"
    return UserError(f"{folder}: no such experiment; {hint}")


def nothing_complete(settings: Settings, folder: Path) -> UserError:
    """That an experiment has no complete run, and what trains one."""
    models = settings.models / folder.name
    if not folder.is_dir() and not models.is_dir():
        return no_experiment(folder)
    configs = sorted(folder.glob("stage1/*.json"))
    such = f", such as: python train_stage1.py {configs[0]}{settings.flag}" if configs else ""
    return UserError(f"{models}: holds no complete run; train the configurations of {folder}{such}")


def runs_of(settings: Settings, experiment: str, stage: str = "*") -> list[Run]:
    """Every run folder of an experiment, complete or not, in the order of names and folds."""
    found = []
    for folder in (settings.models / experiment).glob(f"{stage}/*/fold*"):
        number = folder.name.removeprefix("fold")
        if number.isdecimal() and folder.parent.parent.name in ("stage1", "stage2"):
            found.append(Run(folder.parent.relative_to(settings.models).as_posix(), int(number), settings))
    return sorted(found, key=lambda run: (run.name, run.fold))


def folds_of(settings: Settings, name: str) -> list[Run]:
    """The complete folds of a run."""
    return [run for run in runs_of(settings, name.split("/")[0]) if run.name == name and run.complete]


def runs_read(values: Any) -> list[str]:
    """The runs that a configuration of these JSON values reads: members, and where weights are from."""
    if isinstance(values, dict):
        return list(values.get("members", ())) + [
            name for value in values.values() for name in runs_read(value)
        ]
    if isinstance(values, list):
        return [name for value in values for name in runs_read(value)]
    return [values.removeprefix(OF_RUN)] if isinstance(values, str) and values.startswith(OF_RUN) else []


def checkpoint_origin(config: StrictModel, made_from: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint belongs to; `config` may differ from the run's in its seed."""
    return {"seed": config.seed, "made_from": made_from}
