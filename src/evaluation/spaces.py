"""Where members are averaged: as probabilities, or as logits (their geometric mean, renormalised)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from .metrics import likelihood
from .simplex import RowLoss, logistic, negative_log


@dataclass(frozen=True)
class Space:
    """Members go `into` the space, are averaged there and come `back`; `agreement` of a row is the member's
    value for what came true, in which the blend's `row_loss` is convex."""

    name: str
    into: Callable[[np.ndarray, float], np.ndarray]  # (p, eps) -> value
    back: Callable[[np.ndarray], np.ndarray]  # mean value -> p
    agreement: Callable[[np.ndarray, np.ndarray, float], np.ndarray]  # (y, p, eps) -> value
    row_loss: RowLoss


def _logit(p: np.ndarray, eps: float) -> np.ndarray:
    return logit(np.clip(p, eps, 1 - eps))


def _signed_logit(y: np.ndarray, p: np.ndarray, eps: float) -> np.ndarray:
    value = _logit(p, eps)
    return np.where(y, value, -value)


SPACES = {
    "probability": Space("probability", lambda p, eps: p, lambda value: value, likelihood, negative_log),
    "logit": Space("logit", _logit, expit, _signed_logit, logistic),
}
