"""The ways to combine, and what stands after them: fitted without whatever folds are left out."""

import numpy as np
import pandas as pd
import pytest

from src.evaluation.blending.adjustments import Calibration, RaiseAny, fit_platt, fit_steps
from src.evaluation.blending.candidates import BestSingle, CrossFit, ExactWeights, Greedy, Mean, Problem
from src.evaluation.blending.crossfit import NOTHING, PatientFolds
from src.evaluation.blending.members import SPACES
from src.evaluation.blending.stacking import Boosting
from src.evaluation.bootstrap import PatientBootstrap, difference_interval
from src.evaluation.metrics import WEIGHTS, log_losses, weighted_log_loss
from src.labels import LABELS
from tests.evaluation.simulated import study

WAYS = [
    BestSingle(),
    Mean(SPACES["logit"]),
    ExactWeights(),
    ExactWeights(SPACES["logit"]),
    Greedy(),
    Boosting(0),
]


def problem_of(y, members, groups, folds=4):
    return Problem.of(y, members, groups, folds, 0, 1e-15)


@pytest.fixture(scope="module")
def problem():
    return problem_of(*study([0.8, 1.0, 2.0], patients=60, slices=5))


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
@pytest.mark.parametrize("held", [NOTHING, frozenset({1}), frozenset({0, 2})])
def test_no_row_is_predicted_with_labels_of_its_own_fold_or_of_those_held(problem, way, held):
    """Turned labels in a fold change no prediction that must not know them."""
    before = CrossFit(problem, way).predictions(held)
    for fold in range(4):
        own = problem.folds.fold == fold
        turned = Problem(problem.members, problem.y ^ own[:, None], problem.folds, problem.eps)
        after = CrossFit(turned, way).predictions(held)
        blind = problem.folds.rows_outside(NOTHING) if fold in held else own
        np.testing.assert_array_equal(after[blind], before[blind])
        if way.name not in ("best single", "mean, logit") and fold not in held:
            assert (after[~own] != before[~own]).any()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_predictions_are_those_of_a_fit_on_the_other_rows_alone(way):
    y, members, groups = study([0.8, 1.0, 2.0], patients=60, slices=5, seed=1)
    problem = problem_of(y, members, groups)
    predictions = CrossFit(problem, way).predictions(frozenset({3}))
    for fold in range(3):
        rest = ~np.isin(problem.folds.fold, [fold, 3])
        alone = problem_of(y[rest], {name: p[rest] for name, p in members.items()}, groups[rest], folds=2)
        (fit,) = way.fit(alone, [NOTHING])
        own = problem.folds.fold == fold
        expected = way.predict(problem, [fit] * 4)[own]
        np.testing.assert_allclose(predictions[own], expected, atol=2e-3)


def test_the_best_member_is_that_of_the_other_folds():
    """`a` is best on all rows, for it is so much better on the first fold; elsewhere `b` is."""
    index = pd.Index([f"ID_{k}" for k in range(40)])
    groups = pd.Series(np.repeat(np.arange(4), 10), index)
    y = pd.DataFrame(np.tile(np.arange(40)[:, None] % 2, (1, 6)), index, list(LABELS))
    fold = PatientFolds(y.to_numpy() == 1, groups.to_numpy(), 2, 0).fold
    right = {"a": np.where(fold == 0, 0.99, 0.6), "b": np.where(fold == 0, 0.5, 0.7)}
    members = {
        name: pd.DataFrame(np.where(y == 1, p[:, None], 1 - p[:, None]), index, list(LABELS))
        for name, p in right.items()
    }
    crossfit = CrossFit(Problem.of(y, members, groups, 2, 0, 1e-15), BestSingle())
    whole, first, second = crossfit.fits([NOTHING, frozenset({0}), frozenset({1})])
    assert [fit[:, 0].tolist() for fit in (whole, first, second)] == [[1, 0], [0, 1], [1, 0]]
    expected = np.where((fold == 0)[:, None], members["b"], members["a"])
    np.testing.assert_array_equal(crossfit.predictions(), expected)
    by_hand = pd.DataFrame(expected, index, list(LABELS))
    assert crossfit.score() == pytest.approx(weighted_log_loss(y, by_hand), rel=1e-12)
    assert crossfit.score() > weighted_log_loss(y, members["b"])


def test_greedy_selection_is_that_of_its_definition_on_the_other_folds(problem):
    weights = Greedy().fit(problem, [frozenset({2})])[0]
    rows = problem.folds.fold != 2
    for column, label in enumerate(LABELS):
        p = np.stack([problem.members.column(name, label)[rows] for name in problem.members.names])
        right = np.where(problem.y[rows, column], p, 1 - p)
        picked, losses = [], []
        for _ in range(50):
            trials = [-np.log(right[[*picked, m]].mean(axis=0)).mean() for m in range(3)]
            picked.append(int(np.argmin(trials)))
            losses.append(min(trials))
        best = picked[: int(np.argmin(losses)) + 1]
        np.testing.assert_allclose(weights[:, column], np.bincount(best, minlength=3) / len(best))


def test_greedy_weights_come_close_to_the_exact_ones_and_never_below(problem):
    exact, greedy = (CrossFit(problem, way).fits([NOTHING])[0] for way in (ExactWeights(), Greedy()))
    for column, label in enumerate(LABELS):
        right = problem.agreement(SPACES["probability"], label).astype(float)
        losses = [-np.log(weights[:, column] @ right).mean() for weights in (exact, greedy)]
        assert -1e-7 < losses[1] - losses[0] < 2e-4


def test_calibrators_are_fitted_on_predictions_whose_weights_did_not_see_the_fold_either(problem):
    crossfit = CrossFit(problem, ExactWeights())
    p = crossfit.predictions()
    column = Calibration(crossfit, NOTHING, p).column("platt", "any")
    for fold in range(4):
        below = np.empty_like(p)
        for other in set(range(4)) - {fold}:
            weights = ExactWeights().fit(problem, [frozenset({fold, other})])
            rows = problem.folds.fold == other
            below[rows] = ExactWeights().predict(problem, weights * 4)[rows]
        own = problem.folds.fold == fold
        line = fit_platt("any", problem.y[~own, -1], below[~own, -1])
        np.testing.assert_allclose(column[own], line.apply(p[own])[:, -1], atol=1e-4)


def test_a_calibrator_is_kept_where_it_helps_other_patients_however_little():
    """Of six labels some gain and some lose; the steps are those that gain, fitted on all rows."""
    problem = problem_of(*study([1.0], patients=12, slices=5, seed=1, scale=1.15))
    crossfit = CrossFit(problem, BestSingle())
    p, steps = crossfit.predictions(), []
    for column, label in enumerate(LABELS):
        y, after = problem.y[:, column], p[:, column].copy()
        for fold in range(4):
            own = problem.folds.fold == fold
            after[own] = fit_platt(label, y[~own], p[~own, column]).apply(p[own])[:, column]
        if log_losses(y, after).mean() < log_losses(y, p[:, column]).mean():
            steps.append(fit_platt(label, y, p[:, column]))
    assert 0 < len(steps) < len(LABELS)
    kept, remarks = fit_steps(("platt",), crossfit)
    assert list(kept) == steps
    used = [not remark.endswith("not used") for remark in remarks]
    assert used == [label in {step.label for step in steps} for label in LABELS]


@pytest.mark.parametrize("lift", [-0.02, 0.02])
def test_a_bound_is_kept_where_it_lowers_the_score_however_little(lift):
    """`any` lies .02 below the largest subtype on all slices; what is true lies `lift` above it or below."""
    rng = np.random.default_rng(0)
    index = pd.Index([f"ID_{k}" for k in range(400)])
    subtypes = rng.uniform(0.3, 0.6, (400, 5))
    p = np.column_stack([subtypes, subtypes.max(axis=1) - 0.02])
    y = pd.DataFrame((rng.random((400, 6)) < p + lift * np.eye(6)[-1]).astype(int), index, list(LABELS))
    groups = pd.Series(np.arange(400) // 4, index)
    problem = problem_of(y, {"m": pd.DataFrame(p, index, list(LABELS))}, groups)
    kept, remarks = fit_steps(("raise_any",), CrossFit(problem, BestSingle()))
    losses = [log_losses(problem.y, table) @ WEIGHTS for table in (p, RaiseAny().apply(p))]
    gain = difference_interval(*losses, PatientBootstrap(groups.to_numpy()))
    assert gain.low < 0 < gain.high and (gain.estimate > 0) == (lift > 0)
    assert kept == ((RaiseAny(),) if lift > 0 else ())
    assert remarks == [f"raise_any: gain {gain.estimate:.6f}, {'used' if lift > 0 else 'not used'}"]


def test_steps_need_three_folds():
    y, members, groups = study([1.0], patients=2, slices=8)
    kept, remarks = fit_steps(("platt", "raise_any"), CrossFit(problem_of(y, members, groups), BestSingle()))
    assert (kept, remarks) == ((), ["too few patients to try platt, raise_any"])
