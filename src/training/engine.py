"""The one training loop of both stages.

It knows no task: a `Task` turns a batch into a loss and says how the model does on held-out data. A run can
be killed at any moment; the checkpoint holds everything the next step depends on, batches are a function of
(seed, epoch, index), and so a continued run ends with the same bits as an uninterrupted one.
"""

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from ..errors import UserError
from ..files import atomic_path
from .configs import TrainingConfig

Batch = dict[str, Any]


class Batches(Protocol):
    """Training batches as a pure function of the epoch and the index."""

    steps: int  # batches in an epoch

    def epoch(self, epoch: int, start: int) -> Iterator[Batch]:
        """Batches start, start + 1, ... of an epoch, each with the key `ids` for error messages."""
        ...


@dataclass
class Task:
    """What the engine trains."""

    model: nn.Module
    batches: Batches
    loss: Callable[[nn.Module, Batch], torch.Tensor]
    validate: Callable[[nn.Module], float]  # a loss on held-out data, for the learning curve only


@dataclass
class Progress:
    """Where a training stands; everything but the tensors of a checkpoint."""

    step: int = 0  # batches seen since the start of training
    loss_sum: float = 0.0  # over the current epoch
    history: list[dict[str, float]] = field(default_factory=list)  # one entry an epoch
    seconds: float = 0.0


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM arrived; the state has been saved."""


def train(
    task: Task,
    config: TrainingConfig,
    device: torch.device,
    checkpoint: Path,
    fingerprint: str,
    log: logging.Logger,
    show_progress: bool = False,
) -> tuple[nn.Module, Progress]:
    """Train to the end, continuing from `checkpoint` where there is one; return the weights to predict with.

    `fingerprint` names what the checkpoint belongs to (configuration, data, fold); another is a UserError.
    A loss that is not finite stops the run with the step and the ids of its batch.
    """
    torch.manual_seed(config.seed)
    state = _State(task, config, device)
    progress = state.load(checkpoint, fingerprint)
    if progress.step:
        log.info("resumed at step %d", progress.step)
    started = time.monotonic() - progress.seconds
    with _stop_signals() as stopped:
        for epoch in range(progress.step // task.batches.steps, config.epochs):
            first = progress.step % task.batches.steps
            batches = tqdm(
                task.batches.epoch(epoch, first), f"epoch {epoch + 1}", task.batches.steps, initial=first,
                leave=False, disable=None if show_progress else True, unit="batch",
            )  # fmt: skip
            pending: tuple[torch.Tensor, int, list[str]] | None = None
            task.model.train()
            for batch in batches:
                loss = state.step(batch, progress.step)
                progress.step += 1
                # The loss of the step before is read while the device works on this one: no waiting.
                progress.loss_sum += _finite(pending)
                pending = (loss, progress.step, batch["ids"])
                save = (
                    progress.step % config.checkpoint_steps == 0 and progress.step % task.batches.steps != 0
                )
                if save or stopped:
                    progress.loss_sum += _finite(pending)
                    pending = None
                    progress.seconds = time.monotonic() - started
                    state.save(checkpoint, fingerprint, progress)
                if stopped:
                    raise Interrupted(
                        f"stopped at step {progress.step} of {state.total}; the same command continues there"
                    )
            progress.loss_sum += _finite(pending)
            entry = {
                "epoch": epoch + 1,
                "step": progress.step,
                "lr": state.lr,
                "train_loss": progress.loss_sum / task.batches.steps,
                "valid_loss": task.validate(state.weights()),
            }
            progress.history.append(entry)
            progress.loss_sum = 0.0
            progress.seconds = time.monotonic() - started
            log.info(
                "epoch %d/%d  train %.4f  valid %.4f  lr %.2e  %.0f s",
                epoch + 1, config.epochs, entry["train_loss"], entry["valid_loss"], entry["lr"],
                progress.seconds,
            )  # fmt: skip
            state.save(checkpoint, fingerprint, progress)
    return state.weights(), progress


class _State:
    """Everything a step reads and changes: model, optimiser, schedule, moving average, scaler."""

    def __init__(self, task: Task, config: TrainingConfig, device: torch.device):
        from timm.optim import create_optimizer_v2

        self.task, self.config, self.device = task, config, device
        self.model = task.model.to(device)
        self.optimizer = create_optimizer_v2(
            self.model, opt=config.optimizer, lr=config.lr, weight_decay=config.weight_decay
        )
        self.autocast_type = autocast_type(config.precision, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.autocast_type is torch.float16)
        self.average = None
        if config.ema_decay is not None:
            update = _moving_average(config.ema_decay)
            self.average = AveragedModel(self.model, multi_avg_fn=update, use_buffers=True)
        self.total = config.epochs * task.batches.steps
        self.schedule = build_schedule(self.optimizer, config, self.total)

    @property
    def lr(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def step(self, batch: Batch, step: int) -> torch.Tensor:
        """One batch; the optimiser moves after every `accumulation` batches and after the last."""
        self.schedule.step_update(step)  # a function of the step alone: nothing to restore on a resume
        with autocast(self.autocast_type, self.device):
            loss = self.task.loss(self.model, to_device(batch, self.device))
        self.scaler.scale(loss / self.config.accumulation).backward()
        if (step + 1) % self.config.accumulation == 0 or step + 1 == self.total:
            if self.config.clip_norm is not None:
                self.scaler.unscale_(self.optimizer)
                nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
            if self.average is not None:
                self.average.update_parameters(self.model)
        return loss.detach()

    def weights(self) -> nn.Module:
        """The network to predict with: the moving average where there is one."""
        return self.model if self.average is None else self.average.module

    def save(self, path: Path, fingerprint: str, progress: Progress) -> None:
        gradients = [None if p.grad is None else p.grad for p in self.model.parameters()]
        value = {
            "fingerprint": fingerprint,
            "progress": vars(progress),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "gradients": gradients,  # between the batches of one accumulated step
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }
        with atomic_path(path) as temporary:
            torch.save(value, temporary)

    def load(self, path: Path, fingerprint: str) -> Progress:
        if not path.exists():
            return Progress()
        value = torch.load(path, map_location="cpu", weights_only=True)
        if value["fingerprint"] != fingerprint:
            raise UserError(
                f"{path}: belongs to another configuration or data set; delete it to start this fold afresh"
            )
        self.model.load_state_dict(value["model"])
        self.optimizer.load_state_dict(value["optimizer"])
        self.scaler.load_state_dict(value["scaler"])
        if self.average is not None:
            self.average.load_state_dict(value["average"])
        for parameter, gradient in zip(self.model.parameters(), value["gradients"], strict=True):
            parameter.grad = None if gradient is None else gradient.to(self.device)
        torch.set_rng_state(value["random"])
        if value["random_cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(value["random_cuda"], self.device)
        return Progress(**value["progress"])


def build_schedule(optimizer: torch.optim.Optimizer, config: TrainingConfig, total: int) -> Any:
    """timm's schedule by step: linear warm-up over a share of all, then constant or a cosine to zero."""
    from timm.scheduler import CosineLRScheduler, StepLRScheduler

    warmup = round(config.warmup * total)
    options = {
        "warmup_t": warmup,
        "warmup_lr_init": config.lr / 100,
        "warmup_prefix": True,
        "t_in_epochs": False,
    }
    if config.schedule == "constant":
        return StepLRScheduler(optimizer, decay_t=total + 1, decay_rate=1.0, **options)
    return CosineLRScheduler(optimizer, t_initial=max(1, total - warmup), **options)


def autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    """The type of mixed-precision arithmetic; None is plain float32."""
    if precision == "fp32" or (precision == "auto" and device.type != "cuda"):
        return None
    if precision == "fp16":
        if device.type != "cuda":
            raise UserError("precision fp16 needs a GPU; use auto, fp32 or bf16 on a CPU")
        return torch.float16
    if precision == "auto" and not torch.cuda.is_bf16_supported():
        return torch.float16
    return torch.bfloat16


def autocast(kind: torch.dtype | None, device: torch.device):
    return nullcontext() if kind is None else torch.autocast(device.type, dtype=kind)


def to_device(batch: Batch, device: torch.device) -> Batch:
    return {
        k: v.to(device, non_blocking=True) if isinstance(v, torch.Tensor) else v for k, v in batch.items()
    }


def _finite(pending: tuple[torch.Tensor, int, list[str]] | None) -> float:
    if pending is None:
        return 0.0
    loss, step, ids = pending
    value = loss.item()
    if value != value or value in (float("inf"), float("-inf")):
        raise UserError(
            f"the loss is {value} at step {step} (batch: {', '.join(map(str, ids))}); "
            "lower lr, set clip_norm, or look at these images"
        )
    return value


def _moving_average(decay: float):
    def update(averages: list[torch.Tensor], values: list[torch.Tensor], count: int) -> None:
        # The first updates weigh more, so that a short training does not remember its random start.
        rate = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        if torch.is_floating_point(averages[0]):
            torch._foreach_lerp_(averages, values, rate)
        else:
            for average, value in zip(averages, values, strict=True):
                average.copy_(value)

    return update


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that fills when SIGINT or SIGTERM arrives; a second signal acts at once."""
    arrived: list[int] = []

    def handle(number: int, frame: Any) -> None:
        arrived.append(number)
        for kind, previous in before.items():
            signal.signal(kind, previous)

    kinds = (signal.SIGINT, signal.SIGTERM)
    try:
        before = {kind: signal.signal(kind, handle) for kind in kinds}
    except ValueError:  # not the main thread: whoever started the thread handles signals
        yield arrived
        return
    try:
        yield arrived
    finally:
        for kind, previous in before.items():
            signal.signal(kind, previous)
