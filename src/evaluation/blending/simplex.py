"""Exact minimisation of a blend's log loss over the simplex, for millions of rows and tens of members.

Both losses are convex in the weights, so a damped Newton method with an exact quadratic solver on the simplex
ends at the optimum in a handful of passes, and the Frank-Wolfe gap of the last gradient certifies how far the
loss can be above it.  Rows are float32 and read in blocks; sums over blocks are float64.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

BLOCK = 8_192  # rows; with 20 members a block of .6 MB stays in the second-level cache
ROUNDING = 1e-7  # of a mean of float32 losses, from one weight vector to the next

# value per row -> loss per row and its first and second derivative by that value
RowLoss = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


def negative_log(value: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Loss of a mixture of likelihoods: -log(value)."""
    inverse = 1 / value
    return -np.log(value), -inverse, inverse * inverse


def logistic(value: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Loss of a mixture of logits, signed to be positive where right: log(1 + exp(-value))."""
    miss = 1 / (1 + np.exp(value))
    return np.logaddexp(0, -value), -miss, miss * (1 - miss)


class Optimum(NamedTuple):
    """Weights on the simplex, their mean loss, and the most by which that can exceed the minimum."""

    weights: np.ndarray
    loss: float
    gap: float
    passes: int


class Sums(NamedTuple):
    """Loss, gradient and Hessian summed over rows."""

    rows: int
    loss: float
    gradient: np.ndarray
    hessian: np.ndarray


def minimise(
    values: np.ndarray,
    parts: Sequence[tuple[int, int]],
    row_loss: RowLoss,
    start: np.ndarray | None = None,
    tolerance: float = 1e-7,
    max_passes: int = 30,
) -> Optimum:
    """Weights w (members,) on the simplex that minimise the mean of row_loss(w @ values) over `parts`.

    values: (members, rows) float32; for `negative_log` every value must be above 0.  parts: half-open row
    ranges.  Raises ArithmeticError if the certified gap is not below `tolerance` after `max_passes`.
    """
    members = len(values)
    weights = np.full(members, 1 / members) if start is None else start
    here = evaluate(values, parts, row_loss, weights)
    for passes in range(1, max_passes + 1):
        gradient, hessian = here.gradient / here.rows, here.hessian / here.rows
        gap = float(weights @ gradient - gradient.min())
        if gap < tolerance:
            return Optimum(weights / weights.sum(), here.loss / here.rows, gap, passes)
        target = least_quadratic(hessian, gradient - hessian @ weights, weights)
        step, slope = 1.0, float(gradient @ (target - weights))
        while True:
            candidate = weights + step * (target - weights)
            there = evaluate(values, parts, row_loss, candidate)
            # near the optimum the promised decrease drowns in rounding: the gap decides there, not the loss
            change = (there.loss - here.loss) / here.rows
            if change <= 1e-4 * step * slope + ROUNDING:
                break
            step /= 2
        weights, here = candidate, there
    if values.dtype == np.float32:  # a few rows that nearly every member gets wrong can need more digits
        return minimise(values.astype(np.float64), parts, row_loss, weights, tolerance, 10 * max_passes)
    raise ArithmeticError(f"the blend did not converge: gap {gap:.1e} after {max_passes} passes in float64")


def evaluate(
    values: np.ndarray, parts: Sequence[tuple[int, int]], row_loss: RowLoss, weights: np.ndarray
) -> Sums:
    """One pass over the rows in `parts`."""
    members = len(values)
    rows, loss = 0, 0.0
    gradient, hessian = np.zeros(members), np.zeros((members, members))
    single = weights.astype(values.dtype)
    for start, stop in parts:
        rows += stop - start
        for begin in range(start, stop, BLOCK):
            block = values[:, begin : min(begin + BLOCK, stop)]
            losses, first, second = row_loss(single @ block)
            loss += float(losses.sum(dtype=np.float64))
            gradient += block @ first
            hessian += (block * second) @ block.T
    return Sums(rows, loss, gradient, hessian)


def least_quadratic(hessian: np.ndarray, linear: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The w on the simplex with the least w @ hessian @ w / 2 + linear @ w, by an active-set method.

    hessian: (m, m) positive semidefinite; `start` lies on the simplex.  A tiny ridge lets equals share.
    """
    members = len(linear)
    hessian = hessian + np.eye(members) * (1e-10 * np.trace(hessian) / members + 1e-300)
    weights, free = start.copy(), start > 0
    for _ in range(100 * members):
        target = _equality_constrained(hessian, linear, free)
        if target.min() >= 0:
            weights = target
            gradient = hessian @ weights + linear
            level = gradient[free].mean()
            blocked = np.where(free, np.inf, gradient)
            worst = int(blocked.argmin())
            if blocked[worst] >= level - 1e-12 * (1 + abs(level)):
                return weights
            free[worst] = True
        else:  # walk towards the target until the first weight reaches 0
            falling = target < 0
            reach = np.where(falling, weights / np.where(falling, weights - target, 1), np.inf)
            first = int(reach.argmin())
            weights = np.maximum(weights + reach[first] * (target - weights), 0)
            weights[first], free[first] = 0.0, False
    return weights


def _equality_constrained(hessian: np.ndarray, linear: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Minimum of the quadratic with the free weights summing to 1 and the others 0."""
    chosen = np.flatnonzero(free)
    system = np.ones((len(chosen) + 1, len(chosen) + 1))
    system[:-1, :-1] = hessian[np.ix_(chosen, chosen)]
    system[-1, -1] = 0
    weights = np.zeros(len(linear))
    weights[chosen] = np.linalg.solve(system, np.append(-linear[chosen], 1))[:-1]
    return weights
