"""Optimisers and learning rates: timm's, by step, a function of the step alone.

Nothing of a schedule is stored in a checkpoint: step 1,000 has the same rate whether or not a run was killed
at step 999.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any

import torch
from pydantic import Field, model_validator
from torch import nn

from ...config import Count, Fraction, NotNegative, OneOf, Positive, StrictModel
from ...errors import UserError

OPTIMIZERS = ("adamw", "adam", "sgd")  # timm's names


def cosine(optimizer: torch.optim.Optimizer, options: "RateOptions", total: int) -> Any:
    """Warm-up, then half a cosine to `min_lr`."""
    from timm.scheduler import CosineLRScheduler

    warmup = _warmup(options, total)
    length = max(1, total - warmup["warmup_t"])
    return CosineLRScheduler(optimizer, t_initial=length, lr_min=options.min_lr, **warmup)


def linear(optimizer: torch.optim.Optimizer, options: "RateOptions", total: int) -> Any:
    """Warm-up, then a straight line to `min_lr`."""
    from timm.scheduler import PolyLRScheduler

    warmup = _warmup(options, total)
    length = max(1, total - warmup["warmup_t"])
    return PolyLRScheduler(optimizer, t_initial=length, power=1.0, lr_min=options.min_lr, **warmup)


def constant(optimizer: torch.optim.Optimizer, options: "RateOptions", total: int) -> Any:
    """Warm-up, then the same rate to the end."""
    from timm.scheduler import StepLRScheduler

    return StepLRScheduler(optimizer, decay_t=total + 1, decay_rate=1.0, **_warmup(options, total))


def step(optimizer: torch.optim.Optimizer, options: "RateOptions", total: int) -> Any:
    """Falling by `decay_rate` every `decay_epochs`, counted from the first step, as recipes state it: the
    warm-up lies within the first stretch.
    """
    from timm.scheduler import StepLRScheduler

    steps = max(1, round(options.decay_epochs * (total / options.epochs)))
    warmup = _warmup(options, total) | {"warmup_prefix": False}
    return StepLRScheduler(optimizer, decay_t=steps, decay_rate=options.decay_rate, **warmup)


def restarts(optimizer: torch.optim.Optimizer, options: "RateOptions", total: int) -> Any:
    """Warm-up, then half cosines to `min_lr` that start again every `restart_epochs`."""
    from timm.scheduler import CosineLRScheduler

    cycle = max(1, round(options.restart_epochs * (total / options.epochs)))
    return CosineLRScheduler(
        optimizer, t_initial=cycle, lr_min=options.min_lr, cycle_limit=total, **_warmup(options, total)
    )


def one_cycle(optimizer: torch.optim.Optimizer, options: "RateOptions", total: int) -> Any:
    """Half a cosine up from a 25th of the rate, half a cosine down to `min_lr` (Smith and Topin, 2018)."""
    from timm.scheduler.scheduler import Scheduler

    top = max(round(options.warmup * total) - 1, 0)  # the step with the full rate, as in torch's OneCycleLR

    class OneCycle(Scheduler):
        def _get_lr(self, t: int) -> list[float]:
            if t < top:
                share, ends = t / top, [(rate / 25, rate) for rate in self.base_values]
            else:
                share = (t - top) / max(total - 1 - top, 1)
                ends = [(rate, options.min_lr) for rate in self.base_values]
            wave = (1 + math.cos(math.pi * share)) / 2
            return [end + (start - end) * wave for start, end in ends]

    return OneCycle(optimizer, "lr", t_in_epochs=False)


def _warmup(options: "RateOptions", total: int) -> dict[str, Any]:
    """timm's options for a linear rise before the schedule."""
    return {
        "warmup_t": round(options.warmup * total), "warmup_lr_init": options.lr / 100, "warmup_prefix": True,
        "t_in_epochs": False,
    }  # fmt: skip


SCHEDULES: dict[str, Callable[[torch.optim.Optimizer, "RateOptions", int], Any]] = {
    "cosine": cosine, "linear": linear, "constant": constant, "step": step, "one_cycle": one_cycle,
    "restarts": restarts,
}  # fmt: skip


class RateOptions(StrictModel):
    """The optimiser and its learning rate."""

    epochs: Count = 4
    """times the training data are gone through"""
    optimizer: Annotated[str, OneOf(OPTIMIZERS)] = "adamw"
    """timm's, by its name"""
    lr: Positive = 3e-4
    """highest learning rate"""
    weight_decay: NotNegative = 0.01
    """of everything but biases and norms"""
    eps: Positive | None = None
    """epsilon of Adam and its kin; null: the optimiser's own"""
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """the rate of a layer over that of the next; null: one rate for all"""
    encoder_rate: Positive | None = None
    """the rate of the pretrained encoder over that of what stands on it; null: one rate for all"""
    schedule: Annotated[str, OneOf(SCHEDULES)] = "cosine"
    """how the rate falls after the warm-up; one_cycle rises and falls by half cosines"""
    warmup: Fraction = 0.05
    """share of all steps with linearly rising rate; one_cycle: of the rising half wave"""
    min_lr: NotNegative = 0.0
    """where a cosine or a line ends"""
    decay_epochs: Positive = 1.0
    """step: the rate falls by `decay_rate` after every so many"""
    decay_rate: Fraction = 0.1
    """step: what the rate is multiplied by"""
    restart_epochs: Positive = 1.0
    """restarts: length of one cosine"""

    @model_validator(mode="after")
    def _eps_has_an_effect(self) -> "RateOptions":
        if self.eps is not None and self.optimizer == "sgd":
            raise ValueError("eps: sgd has none; leave it out")
        return self

    @model_validator(mode="after")
    def _one_division(self) -> "RateOptions":
        if self.layer_decay is not None and self.encoder_rate is not None:
            raise ValueError("layer_decay and encoder_rate divide the network in two ways; leave one out")
        return self


def build_optimizer(model: nn.Module, options: RateOptions) -> torch.optim.Optimizer:
    """timm's optimiser; biases and norms without weight decay.

    With `layer_decay` every layer's rate is that of the next layer times the decay, the head's is `lr`; with
    `encoder_rate` the encoder has a rate of its own. The model says which parameters these are:
    `layer_groups(weight_decay, layer_decay)`, `rate_groups(weight_decay, encoder_rate)`.
    """
    from timm.optim import create_optimizer_v2

    values: dict[str, Any] = {
        "opt": options.optimizer,
        "lr": options.lr,
        "weight_decay": options.weight_decay,
    }
    if options.eps is not None:
        values["eps"] = options.eps
    for option, groups in (("layer_decay", "layer_groups"), ("encoder_rate", "rate_groups")):
        if (share := getattr(options, option)) is None:
            continue
        if not hasattr(model, groups):
            raise UserError(f"{option}: {type(model).__name__} has no parts to tell apart; leave it out")
        return create_optimizer_v2(getattr(model, groups)(options.weight_decay, share), **values)
    return create_optimizer_v2(model, **values)


def build_schedule(optimizer: torch.optim.Optimizer, options: RateOptions, total: int) -> Any:
    """The schedule of `total` steps; `.step_update(step)` sets the rate of that step."""
    return SCHEDULES[options.schedule](optimizer, options, total)
