"""Everything a training step reads and changes: model, optimiser, rates, average, scaler, random state."""

import json
import pickle
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from ...errors import UserError
from ...files import atomic_path, fingerprint
from . import distributed
from .memory import out_of_memory
from .precision import Batch, autocast, autocast_type, to_device
from .schedules import build_optimizer, build_schedule
from .training_config import TrainingConfig
from .training_progress import Progress

SHOWN = 24  # characters of a value that differs


class TrainingState:
    """One process's share of a training; with several, gradients are averaged and the first one saves."""

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[nn.Module, Batch], torch.Tensor],
        config: TrainingConfig,
        device: torch.device,
        total: int,
    ):
        """`total`: batches of the whole training."""
        self.loss, self.config, self.device, self.total = loss, config, device, total
        self.model = self.network = model.to(device)
        self.optimizer = build_optimizer(self.model, config)
        self.schedule = build_schedule(self.optimizer, config, total)
        self.autocast_type = autocast_type(config.precision, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.autocast_type is torch.float16)
        self.average = None
        if config.ema_decay is not None:
            update = _moving_average(config.ema_decay)
            self.average = AveragedModel(self.model, multi_avg_fn=update, use_buffers=True)
        if config.compile:
            self.model.compile()
        if distributed.world_size() > 1:
            self.network = _in_parallel(self.model, device)

    @property
    def lr(self) -> float:
        """The highest rate of all layers."""
        return max(float(group["lr"]) for group in self.optimizer.param_groups)

    def step(self, batch: Batch, step: int) -> torch.Tensor:
        """One batch; the optimiser moves after every `accumulation` batches and after the last."""
        self.schedule.step_update(step)  # a function of the step alone: nothing to restore on a resume
        moves = (step + 1) % self.config.accumulation == 0 or step + 1 == self.total
        try:
            with nullcontext() if moves else self._no_exchange():
                loss = self._backward(self.network, to_device(batch, self.device))
        except torch.OutOfMemoryError:
            too_large = True  # left the handler first: its traceback holds the tensors of the failed step
        else:
            too_large = False
        if too_large:
            raise self._advice(batch)
        if moves:
            self._move()
        return loss.detach()

    def _backward(self, network: nn.Module, batch: Batch) -> torch.Tensor:
        with autocast(self.autocast_type, self.device):
            loss = self.loss(network, batch)
        self.scaler.scale(loss / self.config.accumulation).backward()
        return loss

    def _move(self) -> None:
        if self.config.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.model)

    def _no_exchange(self) -> AbstractContextManager:
        return self.network.no_sync() if self.network is not self.model else nullcontext()

    def _advice(self, batch: Batch) -> UserError:
        def attempt(part: Batch) -> None:
            try:
                self._backward(self.model, to_device(part, self.device))
            finally:
                self.optimizer.zero_grad(set_to_none=True)

        self.optimizer.zero_grad(set_to_none=True)
        return out_of_memory(attempt, batch, self.config.batch_size, distributed.world_size())

    def weights(self) -> nn.Module:
        """The network to predict with: the moving average where there is one."""
        return self.model if self.average is None else self.average.module

    def save(self, path: Path, origin: Any, progress: Progress) -> None:
        """Write the checkpoint; all processes call it at the same step."""
        progress.loss_sum = distributed.mean(progress.loss_sum)
        random = distributed.gather(_random_state(self.device))
        if not distributed.is_first():
            return
        value = {
            "fingerprint": fingerprint(origin),
            "origin": json.dumps(origin),
            "progress": vars(progress),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "gradients": [p.grad for p in self.model.parameters()],  # within an accumulated step
            "random": random,
        }
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            torch.save(value, file)

    def load(self, path: Path, origin: Any) -> Progress:
        """Continue from a checkpoint; without one, start. Another origin is a UserError."""
        torch.manual_seed(self.config.seed + distributed.rank())
        if not path.exists():
            return Progress()
        try:
            check_archive(path)
            value = torch.load(path, map_location="cpu", weights_only=True)
            found = value["fingerprint"]
        except (RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError, BadZipFile) as error:
            raise UserError(f"{path}: damaged; delete it to start this fold afresh") from error
        if found != fingerprint(origin):
            before = json.loads(value["origin"]) if "origin" in value else {}
            changes = "; ".join(_changes(before, origin))
            raise UserError(
                f"{path}: belongs to another configuration or data set ({changes}); delete it to start this "
                "fold afresh"
            )
        self.model.load_state_dict(value["model"])
        self.optimizer.load_state_dict(value["optimizer"])
        self.scaler.load_state_dict(value["scaler"])
        if self.average is not None:
            self.average.load_state_dict(value["average"])
        for parameter, gradient in zip(self.model.parameters(), value["gradients"], strict=True):
            parameter.grad = None if gradient is None else gradient.to(self.device)
        if len(value["random"]) == distributed.world_size():  # else: continued on another number of devices
            _restore_random_state(value["random"][distributed.rank()], self.device)
        return Progress(**value["progress"])


def _changes(before: Any, now: Any, place: str = "") -> list[str]:
    """Where two JSON values differ: `weights /a/b.csv: 1234, now 5678`."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        shown = [json.dumps(value)[:SHOWN] for value in (before, now)]
        return [] if before == now else [f"{place} {shown[0]}, now {shown[1]}".strip()]
    names = dict.fromkeys([*before, *now])
    return [
        change for name in names for change in _changes(before.get(name), now.get(name), f"{place} {name}")
    ]


def check_archive(path: Path) -> None:
    """Raises BadZipFile where a part of torch's file fails its checksum, which torch itself ignores."""
    with ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise BadZipFile(damaged)


class Clock:
    """When the next checkpoint is due: after a number of steps or minutes, whichever comes first."""

    def __init__(self, config: TrainingConfig):
        self.steps, self.seconds = config.checkpoint_steps, config.checkpoint_minutes * 60
        self.saved = time.monotonic()

    def due(self, step: int) -> bool:
        return step % self.steps == 0 or time.monotonic() - self.saved > self.seconds

    def restart(self) -> None:
        self.saved = time.monotonic()


def _in_parallel(model: nn.Module, device: torch.device) -> nn.Module:
    from timm.layers import convert_sync_batchnorm  # torch's own drops the activation of timm's norm layers

    if device.type != "cuda":
        return DistributedDataParallel(model)
    # In place: `model` is the same object, so optimiser, average and checkpoints see what is trained.
    convert_sync_batchnorm(model)
    return DistributedDataParallel(model, device_ids=[device])


def _random_state(device: torch.device) -> dict[str, torch.Tensor | None]:
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def _restore_random_state(state: dict[str, torch.Tensor | None], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def _moving_average(decay: float) -> Callable[[list[torch.Tensor], list[torch.Tensor], int], None]:
    def update(averages: list[torch.Tensor], values: list[torch.Tensor], count: int) -> None:
        # The first updates weigh more, so that a short training does not remember its random start.
        rate = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        if torch.is_floating_point(averages[0]):
            torch._foreach_lerp_(averages, values, rate)
        else:
            for average, value in zip(averages, values, strict=True):
                average.copy_(value)

    return update
