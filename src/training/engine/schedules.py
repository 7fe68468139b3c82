"""Optimisers and learning rates: timm's, by step, a function of the step alone.

Nothing of a schedule is stored in a checkpoint: step 1,000 has the same rate whether or not a run was killed
at step 999.
"""

import math
from typing import Any

import torch
from torch import nn

from ...errors import UserError
from .training_config import TrainingConfig


def build_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """timm's optimiser; biases and norms without weight decay.

    With `layer_decay` every layer's rate is that of the next layer times the decay, the head's is `lr`. The
    model says which layers it has: `layer_groups(weight_decay, layer_decay)`.
    """
    from timm.optim import create_optimizer_v2

    options = {"opt": config.optimizer, "lr": config.lr, "weight_decay": config.weight_decay}
    if config.layer_decay is None:
        return create_optimizer_v2(model, **options)
    if not hasattr(model, "layer_groups"):
        raise UserError(f"layer_decay: {type(model).__name__} has no layers to tell apart; leave it out")
    return create_optimizer_v2(model.layer_groups(config.weight_decay, config.layer_decay), **options)


def build_schedule(optimizer: torch.optim.Optimizer, config: TrainingConfig, total: int) -> Any:
    """The schedule of `total` steps; `.step_update(step)` sets the rate of that step.

    Linear warm-up, then constant, cosine to `min_lr`, falling by `decay_rate` every `decay_epochs`, or
    cosines that restart every `restart_epochs`; or one cycle without warm-up of its own.
    """
    from timm.scheduler import CosineLRScheduler, StepLRScheduler

    warmup, an_epoch = round(config.warmup * total), total / config.epochs
    if config.schedule == "one_cycle":
        return _one_cycle(optimizer, total, warmup, config.min_lr)
    options = {
        "warmup_t": warmup,
        "warmup_lr_init": config.lr / 100,
        "warmup_prefix": True,
        "t_in_epochs": False,
    }
    if config.schedule == "constant":
        return StepLRScheduler(optimizer, decay_t=total + 1, decay_rate=1.0, **options)
    if config.schedule == "step":
        # Counted from the first step, as recipes state it: the warm-up lies within the first stretch.
        options["warmup_prefix"] = False
        decay_steps = max(1, round(config.decay_epochs * an_epoch))
        return StepLRScheduler(optimizer, decay_t=decay_steps, decay_rate=config.decay_rate, **options)
    if config.schedule == "restarts":
        cycle = max(1, round(config.restart_epochs * an_epoch))
        return CosineLRScheduler(
            optimizer, t_initial=cycle, lr_min=config.min_lr, cycle_limit=total, **options
        )
    return CosineLRScheduler(optimizer, t_initial=max(1, total - warmup), lr_min=config.min_lr, **options)


def _one_cycle(optimizer: torch.optim.Optimizer, total: int, rising: int, lowest: float) -> Any:
    """Half a cosine up from a 25th of the rate, half a cosine down to `lowest` (Smith and Topin, 2018)."""
    from timm.scheduler.scheduler import Scheduler

    class OneCycle(Scheduler):
        def _get_lr(self, t: int) -> list[float]:
            top = max(rising - 1, 0)  # the step with the full rate, as in torch's OneCycleLR
            if t < top:
                share, ends = t / top, [(rate / 25, rate) for rate in self.base_values]
            else:
                share = (t - top) / max(total - 1 - top, 1)
                ends = [(rate, lowest) for rate in self.base_values]
            wave = (1 + math.cos(math.pi * min(share, 1.0))) / 2
            return [end + (start - end) * wave for start, end in ends]

    return OneCycle(optimizer, "lr", t_in_epochs=False)
