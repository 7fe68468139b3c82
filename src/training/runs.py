"""Run folders: MODEL_DIR/<run>/fold<k>/ explains itself; metrics.json is written last and means complete."""

import fcntl
import json
import logging
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from ..config import Model, StrictModel, load_config
from ..errors import UserError
from ..files import atomic_path, fingerprint, read_json, write_json, write_parquet
from ..labels import LABELS
from ..settings import Settings
from .engine.state import Progress
from .engine.training_config import WITHOUT_EFFECT


@dataclass(frozen=True)
class Run:
    """One fold of one run: `name` is the configuration's path under experiments/ without suffix."""

    name: str
    fold: int
    settings: Settings

    @property
    def folder(self) -> Path:
        return self.settings.models / self.name / f"fold{self.fold}"

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

    def __str__(self) -> str:
        return f"{self.name} fold {self.fold}"

    @contextmanager
    def lock(self, wait: bool = False) -> Iterator[None]:
        """Hold this fold while writing to it; where another process does, wait for it or raise UserError."""
        path = self.checkpoint.with_name("lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise UserError(
                    f"{self}: another process works on this fold; wait for it or stop it"
                ) from None
            yield  # the system gives the lock up when a process dies

    def read_config(self, model: type[Model]) -> Model:
        """The configuration this fold was trained with, not the one that stands in experiments/ now."""
        return load_config(model, self.require("config.json"))

    def require(self, file: str) -> Path:
        """The path of one of this fold's files; UserError with the command that makes it where missing."""
        path = self.folder / file
        if not path.exists():
            raise UserError(f"{path}: missing; run: {self.command}")
        return path

    @property
    def command(self) -> str:
        return f"python train_{self.stage}.py experiments/{self.name}.json --fold {self.fold}"

    def metrics(self) -> dict[str, Any]:
        return read_json(self.require("metrics.json"))

    def is_done(self, config: StrictModel, data_fingerprint: str) -> bool:
        """Whether this fold is complete for this configuration and data.

        A complete fold of another configuration or of other data raises UserError: old results are never
        overwritten, nor taken for new ones.
        """
        if not self.complete:
            return False
        differing = differing_keys(self.require("config.json"), config)
        if differing:
            raise UserError(
                f"{self.folder}: is complete with another configuration ({', '.join(differing)}); "
                "delete that folder to train it again, or give the changed configuration a new name"
            )
        if self.metrics()["data_fingerprint"] != data_fingerprint:
            raise UserError(
                f"{self.folder}: was trained on other prepared data; delete that folder to train it again"
            )
        return True

    def save_config(self, config: StrictModel) -> None:
        write_json(self.folder / "config.json", json.loads(config.model_dump_json()))

    def save_weights(self, model: nn.Module) -> None:
        from safetensors.torch import save_model

        with atomic_path(self.folder / "model.safetensors") as temporary:
            save_model(model, str(temporary))

    def load_weights(self, model: nn.Module) -> nn.Module:
        from safetensors.torch import load_model

        load_model(model, str(self.require("model.safetensors")), strict=True)
        return model

    def save_predictions(
        self, part: str, probabilities: pd.DataFrame, embeddings: np.ndarray | None = None
    ) -> None:
        """Write oof.parquet or test.parquet, and beside it the embeddings whose rows are its rows.

        probabilities: indexed by image_id, columns LABELS; embeddings (n, d), stored as float16.
        """
        if embeddings is not None:
            name = "embeddings.npy" if part == "oof" else f"{part}_embeddings.npy"
            with atomic_path(self.folder / name) as temporary, open(temporary, "wb") as file:
                np.save(file, embeddings.astype(np.float16))
        frame = probabilities.rename_axis("image_id").reset_index()[["image_id", *LABELS]]
        write_parquet(self.folder / f"{part}.parquet", frame)

    def predictions(self, part: str) -> pd.DataFrame:
        """oof or test probabilities, indexed by image_id, columns LABELS, in the order of the embeddings."""
        return pd.read_parquet(self.require(f"{part}.parquet")).set_index("image_id")[list(LABELS)]

    def embeddings(self, part: str) -> np.ndarray:
        """(n, d) float16, memory-mapped."""
        return np.load(
            self.require("embeddings.npy" if part == "oof" else f"{part}_embeddings.npy"), mmap_mode="r"
        )

    def finish(
        self,
        scores: Mapping[str, Any],
        seed: int,
        device: torch.device,
        data_fingerprint: str,
        progress: Progress,
        log: logging.Logger,
    ) -> None:
        """Write metrics.json, which marks the fold complete, and drop its checkpoint."""
        metrics = {
            **scores,
            "seconds": round(progress.seconds, 1),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "seed": seed,
            "data_fingerprint": data_fingerprint,
            **environment(),
            "history": progress.history,
        }
        write_json(self.folder / "metrics.json", metrics)
        self.checkpoint.unlink(missing_ok=True)
        log.info(
            "complete: held-out weighted log loss %.4f, prevalence baseline %.4f",
            scores["score"],
            scores["baseline"],
        )


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


def runs_of(settings: Settings, experiment: str, stage: str = "*") -> list[Run]:
    """Every run folder of an experiment, complete or not, in the order of names and folds."""
    found = []
    for folder in (settings.models / experiment).glob(f"{stage}/*/fold*"):
        number = folder.name.removeprefix("fold")
        if number.isdecimal() and folder.parent.parent.name in ("stage1", "stage2"):
            found.append(Run(folder.parent.relative_to(settings.models).as_posix(), int(number), settings))
    return sorted(found, key=lambda run: (run.name, run.fold))


def differing_keys(file: Path, config: StrictModel) -> list[str]:
    """Top-level keys in which a stored configuration differs from this one, and which change a result."""
    # Read through the model: a key that was added since has its default, which is how the run was trained.
    stored, current = load_config(type(config), file), config
    return sorted(
        key
        for key in type(config).model_fields
        if getattr(stored, key) != getattr(current, key) and key not in WITHOUT_EFFECT
    )


def training_fingerprint(config: StrictModel, fold: int, data_fingerprint: str) -> str:
    """What a checkpoint belongs to."""
    values = config.model_dump(mode="json", exclude=set(WITHOUT_EFFECT))
    return fingerprint({"config": values, "fold": fold, "data": data_fingerprint})


def probability_frame(logits: np.ndarray, image_ids: Iterable[str]) -> pd.DataFrame:
    """logits (n, 6) -> probabilities in float64, indexed by image_id, columns LABELS."""
    probabilities = torch.from_numpy(logits).double().sigmoid().numpy()
    return pd.DataFrame(probabilities, pd.Index(image_ids, name="image_id"), list(LABELS))


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


def choose_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "--device cuda: torch sees no GPU here; use --device cpu, or install a CUDA build of torch"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def fold_logger(run: Run, quiet: bool) -> logging.Logger:
    """Lines to LOGS_DIR/<run>/fold<k>.log and, unless quiet, to standard output."""
    logger = logging.getLogger(f"ich.{run.name}.{run.fold}")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    run.log_file.parent.mkdir(parents=True, exist_ok=True)
    to_file = logging.FileHandler(run.log_file, encoding="utf-8")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(to_file)
    if not quiet:
        to_terminal = logging.StreamHandler(sys.stdout)
        to_terminal.setFormatter(logging.Formatter(f"{run}: %(message)s"))
        logger.addHandler(to_terminal)
    return logger


def _git_hash() -> str | None:
    root = Path(__file__).resolve().parents[2]
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None  # an installed copy has no history
    return answer.stdout.strip()
