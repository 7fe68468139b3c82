"""The exact solver against a grid, SLSQP and scikit-free definitions."""

import numpy as np
import pytest
from scipy.optimize import minimize as scipy_minimize

from src.evaluation.blending.simplex import evaluate, least_quadratic, logistic, minimise, negative_log


def likelihoods(members: int, rows: int, seed: int) -> np.ndarray:
    """(members, rows) float32: what members of different skill give to what came true."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-2, 2, rows)
    y = rng.random(rows) < 1 / (1 + np.exp(-z))
    p = 1 / (1 + np.exp(-(z * rng.uniform(0.5, 1.5, (members, 1)) + rng.normal(0, 1, (members, rows)))))
    return np.where(y, p, 1 - p).astype(np.float32)


def slsqp(values: np.ndarray, loss) -> tuple[np.ndarray, float]:
    """The oracle, in float64 with the analytic gradient."""
    values = values.astype(np.float64)
    members = len(values)

    def mean_and_gradient(w: np.ndarray) -> tuple[float, np.ndarray]:
        losses, first, _ = loss(w @ values)
        return losses.mean(), values @ first / values.shape[1]

    found = scipy_minimize(
        mean_and_gradient,
        np.full(members, 1 / members),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * members,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(members)},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    return found.x, float(found.fun)


@pytest.mark.parametrize("loss", [negative_log, logistic])
@pytest.mark.parametrize("members, rows, seed", [(2, 500, 0), (5, 3000, 1), (10, 20_000, 2), (20, 10_000, 3)])
def test_as_good_as_slsqp(members, rows, seed, loss):
    values = likelihoods(members, rows, seed)
    if loss is logistic:
        values = np.log(values / (1 - values))
    found = minimise(values, [(0, rows)], loss)
    weights, expected = slsqp(values, loss)
    assert found.loss == pytest.approx(expected, abs=2e-7)
    assert found.loss - found.gap <= expected + 1e-7  # the certificate
    np.testing.assert_allclose(found.weights, weights, atol=5e-3)
    assert found.weights.min() >= 0
    assert found.weights.sum() == pytest.approx(1, abs=1e-12)


def test_a_grid_finds_nothing_better():
    values = likelihoods(3, 2000, 4)
    found = minimise(values, [(0, 2000)], negative_log)
    steps = np.linspace(0, 1, 41)
    grid = [(a, b, 1 - a - b) for a in steps for b in steps if a + b <= 1]
    best = min(-np.log(np.array(w) @ values).mean() for w in grid)
    assert found.loss <= best + 1e-7
    assert found.loss > best - 1e-3  # the grid is close, so the two mean the same


def test_two_members_by_hand():
    # rows (1/2, 1/4) and (1/4, 1/2): by symmetry the weights are equal and the loss is log(8/3)
    values = np.array([[0.5, 0.25], [0.25, 0.5]], np.float32)
    found = minimise(values, [(0, 2)], negative_log, np.array([1.0, 0.0]))
    np.testing.assert_allclose(found.weights, [0.5, 0.5], atol=1e-3)
    assert found.loss == pytest.approx(np.log(8 / 3), abs=1e-6)


def test_equal_members_share_alike_at_once():
    found = minimise(np.full((3, 4), 0.5, np.float32), [(0, 4)], negative_log)
    assert found.passes == 1 and found.weights.tolist() == [1 / 3] * 3
    assert found.loss == pytest.approx(np.log(2), rel=1e-6)


def test_what_needs_more_passes_gets_them_in_float64():
    values = likelihoods(4, 1000, 1)
    found, patient = (minimise(values, [(0, 1000)], negative_log, max_passes=n) for n in (1, 30))
    np.testing.assert_allclose(found.weights, patient.weights, atol=1e-3)


def test_a_member_that_is_always_better_takes_all():
    values = np.array([[0.6, 0.7, 0.8], [0.5, 0.6, 0.7]], np.float32)
    assert minimise(values, [(0, 3)], negative_log).weights.tolist() == [1, 0]


def test_rows_outside_the_parts_do_not_count():
    values = likelihoods(4, 3000, 5)
    kept = np.concatenate([values[:, :1000], values[:, 2000:]], axis=1)
    found = minimise(values, [(0, 1000), (2000, 3000)], negative_log)
    np.testing.assert_allclose(found.weights, minimise(kept, [(0, 2000)], negative_log).weights, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_certain_misses_and_equal_members_converge(seed):
    rng = np.random.default_rng(seed)
    y = rng.random(1000) < 0.3
    p = np.where(rng.random((5, 1000)) < 0.3, np.round(rng.random((5, 1000))), rng.random((5, 1000)))
    p[1] = p[0]
    p = np.clip(p, 1e-15, 1 - 1e-15)
    values = np.where(y, p, 1 - p).astype(np.float32)
    found = minimise(values, [(0, 1000)], negative_log)
    sums = evaluate(values.astype(np.float64), [(0, 1000)], negative_log, found.weights)
    assert -1 - sums.gradient.min() / 1000 < 2e-6  # the gap in float64: the gradient along w is exactly -1
    assert found.loss < 1


def test_derivatives_are_those_of_the_loss():
    values = likelihoods(3, 200, 6).astype(np.float64)
    weights, step = np.array([0.2, 0.5, 0.3]), 1e-6
    for loss in (negative_log, logistic):
        here = evaluate(values, [(0, 200)], loss, weights)
        for k in range(3):
            moved = [evaluate(values, [(0, 200)], loss, weights + s * step * np.eye(3)[k]) for s in (1, -1)]
            assert here.gradient[k] == pytest.approx((moved[0].loss - moved[1].loss) / (2 * step), rel=1e-5)
            numeric = (moved[0].gradient - moved[1].gradient) / (2 * step)
            np.testing.assert_allclose(here.hessian[k], numeric, rtol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_the_quadratic_solver_meets_its_optimality_conditions(seed):
    rng = np.random.default_rng(seed)
    factor, linear = rng.normal(size=(6, 6)), rng.normal(size=6) * 3
    hessian = factor @ factor.T
    w = least_quadratic(hessian, linear, np.full(6, 1 / 6))
    gradient = hessian @ w + linear
    level = w @ gradient
    assert (w >= 0).all()
    assert w.sum() == pytest.approx(1, abs=1e-12)
    assert (gradient >= level - 1e-7).all()
    np.testing.assert_allclose(gradient[w > 0], level, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_equals_share_at_any_scale(scale):
    hessian = np.full((2, 2), scale)
    np.testing.assert_allclose(least_quadratic(hessian, np.zeros(2), np.array([0.7, 0.3])), 0.5, atol=1e-4)


def test_where_nothing_is_curved_the_steepest_takes_all():
    found = least_quadratic(np.zeros((2, 2)), np.array([1.0, 0.0]), np.array([0.7, 0.3]))
    assert found.tolist() == [0, 1]
