"""The one training loop of both stages.

It knows no task: a `Task` turns a batch into a loss and says how the model does on held-out data. A run can
be killed at any moment; the checkpoint holds everything the next step depends on, batches are a function of
(seed, epoch, index), and so a continued run ends with the same bits as an uninterrupted one.
"""

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from tqdm import tqdm

from ...errors import UserError
from . import distributed
from .precision import Batch
from .precision import autocast as autocast
from .precision import autocast_type as autocast_type
from .precision import to_device as to_device
from .schedules import build_schedule as build_schedule
from .state import Clock, TrainingState
from .training_config import TrainingConfig
from .training_progress import Progress

GO_ON, SAVE, STOP = 0, 1, 2


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
    epoch_done: Callable[[dict[str, float]], None] = lambda entry: None  # told the entry of the history


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM arrived; the state has been saved."""


def train(
    task: Task,
    config: TrainingConfig,
    device: torch.device,
    checkpoint: Path,
    origin: Any,
    log: logging.Logger,
    show_progress: bool = False,
) -> tuple[nn.Module, Progress]:
    """Train to the end, continuing from `checkpoint` where there is one; return the weights to predict with.

    `origin`, a JSON value, is what the checkpoint belongs to (configuration, data, fold); another is a
    UserError that says what differs.
    A loss that is not finite stops the run with the step and the ids of its batch; so does a batch that the
    GPU has no room for, with the largest that fits.
    """
    steps = task.batches.steps
    state = TrainingState(task.model, task.loss, config, device, config.epochs * steps)
    progress = state.load(checkpoint, origin)
    if progress.step:
        log.info("resumed at step %d", progress.step)
    started = time.monotonic() - progress.seconds

    def save() -> None:
        progress.seconds = time.monotonic() - started
        state.save(checkpoint, origin, progress)
        clock.restart()

    clock = Clock(config)
    with _stop_signals() as stopped:
        # An epoch is over when it stands in the history: a stop at its last batch leaves its validation.
        for epoch in range(len(progress.history), config.epochs):
            first = progress.step - epoch * steps
            batches = tqdm(
                task.batches.epoch(epoch, first), f"epoch {epoch + 1}", steps, initial=first,
                leave=False, disable=None if show_progress else True, unit="batch",
            )  # fmt: skip
            last: _Pending | None = None
            task.model.train()
            for batch in batches:
                loss = state.step(batch, progress.step)
                progress.step += 1
                # The loss of the step before is read while the device works on this one: no waiting.
                progress.loss_sum += _finite(last)
                last = (loss, progress.step, batch["ids"])
                todo = _todo(stopped, clock, progress.step, config)
                if todo == STOP or (todo == SAVE and progress.step % steps):
                    progress.loss_sum += _finite(last)
                    last = None
                    save()
                if todo == STOP:
                    raise Interrupted(
                        f"stopped at step {progress.step} of {state.total}; the same command continues there"
                    )
            progress.loss_sum += _finite(last)
            entry = {
                "epoch": epoch + 1,
                "step": progress.step,
                "lr": state.lr,
                "train_loss": distributed.mean(progress.loss_sum) / steps,
                "valid_loss": task.validate(state.weights()),
            }
            progress.history.append(entry)
            progress.loss_sum = 0.0
            log.info(
                "epoch %d/%d  train %.4f  valid %.4f  lr %.2e  %.0f s",
                epoch + 1, config.epochs, entry["train_loss"], entry["valid_loss"], entry["lr"],
                time.monotonic() - started,
            )  # fmt: skip
            task.epoch_done(entry)
            save()
    return state.weights(), progress


def _todo(stopped: list[int], clock: Clock, step: int, config: TrainingConfig) -> int:
    """What all processes do after this step: one of them may have got a signal, clocks may differ."""
    if distributed.world_size() > 1 and step % config.accumulation:
        return GO_ON  # each process holds gradients of its own, which a checkpoint has no place for
    return distributed.largest(STOP if stopped else SAVE if clock.due(step) else GO_ON)


_Pending = tuple[torch.Tensor, int, list[str]]  # loss on the device, step, ids of the batch


def _finite(pending: _Pending | None) -> float:
    if pending is None:
        return 0.0
    loss, step, ids = pending
    value = loss.item()
    if not math.isfinite(value):
        raise UserError(
            f"the loss is {value} at step {step} (batch: {', '.join(map(str, ids))}); "
            "lower lr, set clip_norm, or look at these images"
        )
    return value


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
