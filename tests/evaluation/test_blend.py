"""The blend: exact, nested with its own choice, applied by key, explained in JSON."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from src.errors import UserError
from src.evaluation.alignment import label_values
from src.evaluation.blend import Blend, fit_blend
from src.evaluation.blending.adjustments import STEPS, fit_platt
from src.evaluation.blending.crossfit import PatientFolds
from src.evaluation.bootstrap import PatientBootstrap, difference_interval
from src.evaluation.metrics import WEIGHTS, label_log_losses, log_losses, row_losses, weighted_log_loss
from src.labels import LABELS
from tests.evaluation.simulated import study

UNEQUAL = study([0.7, 1.0, 3.0])


def test_the_weights_are_the_best_of_a_fine_grid():
    y, members, groups = UNEQUAL
    blend = fit_blend(y, members, groups)
    assert list(blend.weights.index) == ["m0", "m1", "m2"]
    np.testing.assert_allclose(blend.weights.sum(), 1, atol=1e-12)
    steps = np.linspace(0, 1, 26)
    grid = [(a, b, 1 - a - b) for a in steps for b in steps if a + b <= 1 + 1e-12]
    fitted = label_log_losses(y, blend.apply(members))
    for label in LABELS:
        p = np.stack([members[name][label] for name in members])
        q = np.where(y[label] == 1, p, 1 - p)
        best = min(-np.log(np.array(w) @ q).mean() for w in grid)
        assert best - 1e-3 < fitted[label] <= best + 1e-7


def test_the_blend_is_the_weighted_sum():
    y, members, groups = UNEQUAL
    blend = fit_blend(y, members, groups)
    expected = sum(members[name] * blend.weights.loc[name] for name in members)
    np.testing.assert_allclose(blend.apply(members), expected, rtol=1e-12)
    assert blend.optimistic_score == pytest.approx(weighted_log_loss(y, blend.apply(members)), rel=1e-12)


def test_the_nested_score_is_that_of_weights_fitted_without_the_patient():
    y, members, groups = UNEQUAL
    blend = fit_blend(y, members, groups, folds=4, seed=7)
    assert blend.nested_score == pytest.approx(weighted_log_loss(y, blend.nested_predictions), rel=1e-12)
    assert blend.nested_score > blend.optimistic_score
    folds = PatientFolds(label_values(y), groups.to_numpy(), 4, 7)
    for fold in range(4):
        held = folds.fold == fold
        assert not set(groups[held]) & set(groups[~held])
        rest = fit_blend(y[~held], {name: p[~held] for name, p in members.items()}, groups[~held])
        expected = rest.apply({name: p[held] for name, p in members.items()})
        np.testing.assert_allclose(blend.nested_predictions[held], expected, atol=2e-4)


def test_folds_share_the_rare_label():
    y, _, groups = UNEQUAL
    rare = y.copy()
    rare["epidural"] = groups.isin(groups.unique()[:10]).astype("int8")
    folds = PatientFolds(label_values(rare), groups.to_numpy(), 5, 0)
    counts = [groups[(folds.fold == k) & (rare["epidural"] == 1)].nunique() for k in range(5)]
    assert max(counts) - min(counts) <= 2
    assert [groups[folds.fold == k].nunique() for k in range(5)] == [30] * 5


def test_the_order_of_rows_and_members_tables_does_not_matter():
    y, members, groups = UNEQUAL
    blend = fit_blend(y, members, groups)
    mixed = {
        name: p.sample(frac=1, random_state=k)[list(LABELS[::-1])]
        for k, (name, p) in enumerate(members.items())
    }
    again = fit_blend(y.sample(frac=1, random_state=9), mixed, groups.sample(frac=1, random_state=8))
    np.testing.assert_allclose(again.weights, blend.weights, atol=2e-4)
    assert again.nested_score == pytest.approx(blend.nested_score, abs=1e-7)
    applied = again.apply(mixed)
    np.testing.assert_allclose(applied.loc[y.index], again.apply(members), rtol=1e-12)


def test_alike_members_are_averaged_alike():
    y, members, groups = study([1.0, 1.0, 1.0, 1.0], patients=60, seed=1)
    blend = fit_blend(y, members, groups)
    assert (blend.weights == 0.25).all(axis=None)
    assert blend.decision.startswith("mean: of 3 ways to combine the lowest nested score, 0.")
    assert blend.nested["mean"] < min(blend.nested[name] for name in (*members, "weights, probability"))


def test_a_useless_companion_leaves_the_single_member():
    y, members, groups = study([0.0], patients=60, seed=2)
    members["noise"] = pd.DataFrame(1 - members["m0"], y.index, list(LABELS))
    blend = fit_blend(y, members, groups)
    assert (blend.weights.loc["m0"] == 1).all()
    assert blend.decision.startswith("best single (m0): of 3 ways")


def test_the_way_with_the_lowest_nested_score_is_used_inside_the_noise_too():
    y, members, groups = study([0.9, 1.0], patients=20, seed=3)
    blend = fit_blend(y, members, groups)
    ways = {name: blend.nested[name] for name in ("best single", "mean", "weights, probability")}
    assert min(ways, key=ways.get) == "weights, probability"
    losses = [row_losses(y, p) @ WEIGHTS for p in (sum(members.values()) / 2, blend.nested_predictions)]
    gain = difference_interval(*losses, PatientBootstrap(groups.to_numpy()))
    assert gain.low < 0 < gain.high
    assert blend.decision == (
        f"weights, probability: of 3 ways to combine the lowest nested score, {min(ways.values()):.6f}"
    )


def test_the_choice_is_part_of_what_is_nested():
    """Members that take turns: another fold's patients call for another way."""
    y, members, groups = study([1.0, 1.05, 1.1], patients=15, slices=4, seed=4)
    blend = fit_blend(y, members, groups, folds=3, seed=1)
    folds = PatientFolds(label_values(y), groups.to_numpy(), 3, 1).fold
    chosen, expected = [], pd.DataFrame(np.nan, y.index, list(LABELS))
    for outer in range(3):
        inner = [fold for fold in range(3) if fold != outer]
        p = pd.concat({fold: by_hand(y, members, folds == 3 - outer - fold, folds == fold) for fold in inner})
        score = {w: weighted_log_loss(y.loc[rows.index], rows) for w, rows in pool(p).items()}
        chosen.append(min(score, key=score.get))
        own = folds == outer
        expected[own] = by_hand(y, members, ~own, own).xs(chosen[-1])
    assert len(set(chosen)) > 1
    np.testing.assert_allclose(blend.nested_predictions, expected, atol=2e-3)


def by_hand(y, members, fitted_on, applied_to):
    """Way -> predictions of some rows by what was fitted on others; the weights by SciPy."""
    single = min(members, key=lambda name: weighted_log_loss(y[fitted_on], members[name][fitted_on]))
    own = {name: p[applied_to] for name, p in members.items()}
    weights = {}
    for label in LABELS:
        p = np.stack([members[name][label][fitted_on] for name in members])
        right = np.where(y[label][fitted_on] == 1, p, 1 - p)
        weights[label] = minimize(
            lambda w, right=right: -np.log(w @ right).mean(), np.full(len(p), 1 / len(p)),
            bounds=[(0, 1)] * len(p), constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            options={"ftol": 1e-12},
        ).x  # fmt: skip
    weighted = sum(own[name] * [weights[label][m] for label in LABELS] for m, name in enumerate(own))
    mean = sum(own.values()) / len(own)
    return pd.concat({"single": own[single], "mean": mean, "weights": weighted})


def pool(p):
    """Way -> the rows of all inner folds; p is indexed by fold, way, image."""
    return {way: p.xs(way, level=1).droplevel(0) for way in ("single", "mean", "weights")}


def test_one_member_is_itself():
    y, members, groups = study([1.0], patients=20)
    blend = fit_blend(y, members, groups)
    assert (blend.weights == 1).all(axis=None)
    assert blend.nested_score == pytest.approx(weighted_log_loss(y, members["m0"]), rel=1e-12)


def test_shuffled_labels_leave_nothing_to_gain():
    y, members, groups = study([0.7, 1.0, 3.0], seed=3)
    shuffled = pd.DataFrame(np.random.default_rng(0).permutation(y.to_numpy()), y.index, list(LABELS))
    prior = y.mean().to_numpy() + np.zeros(y.shape)
    members["prior"] = pd.DataFrame(prior, y.index, list(LABELS))
    blend = fit_blend(shuffled, members, groups)
    baseline = weighted_log_loss(shuffled, members["prior"])
    assert blend.nested_score == pytest.approx(baseline, abs=2e-3)
    assert blend.weights.loc["prior"].min() > 0.9


def test_flattened_members_are_better_mixed_as_logits_and_steps_mend_them():
    y, members, groups = study([0.8, 0.8, 0.8], patients=300, seed=4, scale=0.5)
    plain = fit_blend(y, members, groups)
    both = fit_blend(y, members, groups, spaces=("probability", "logit"), steps=STEPS)
    assert both.space == "logit"
    assert both.nested["mean, logit"] < plain.nested_score
    assert {step.label for step in both.steps if step.kind in ("logit_line", "isotonic")} == set(LABELS)
    assert both.nested_score < plain.nested_score - 0.01
    assert both.nested_score == pytest.approx(weighted_log_loss(y, both.nested_predictions), rel=1e-12)
    assert weighted_log_loss(y, both.apply(members)) < both.nested_score


def test_steps_are_chosen_and_fitted_without_the_patients_they_are_scored_on():
    """Of a single member nothing stands below the steps: Platt's line is tried and fitted on other folds."""
    y, members, groups = study([1.0], patients=14, slices=6, seed=0, scale=1.1)
    blend = fit_blend(y, members, groups, steps=("platt",))
    truth, p = label_values(y), members["m0"].to_numpy()
    folds = PatientFolds(truth, groups.to_numpy(), 5, 0).fold
    expected, used = p.copy(), []
    for outer in range(5):
        for column, label in enumerate(LABELS):
            tried = p.copy()
            for inner in set(range(5)) - {outer}:
                others = (folds != inner) & (folds != outer)
                line = fit_platt(label, truth[others, column], p[others, column])
                tried[folds == inner] = line.apply(p[folds == inner])
            rest = folds != outer
            losses = [log_losses(truth[rest, column], q[rest, column]).mean() for q in (p, tried)]
            used.append(losses[1] < losses[0])
            if used[-1]:
                line = fit_platt(label, truth[rest, column], p[rest, column])
                expected[~rest, column] = line.apply(p[~rest])[:, column]
    assert 5 < sum(used) < 25
    np.testing.assert_allclose(blend.nested_predictions, expected, rtol=1e-9)


def test_independent_labels_are_not_bounded_and_the_remark_says_where_any_is_too_low():
    y, members, groups = UNEQUAL
    blend = fit_blend(y, members, groups, steps=("raise_any", "meet_any"))
    assert blend.steps == ()
    p = blend.nested_predictions
    below = int((p["any"] < p.drop(columns="any").max(axis=1)).sum())
    assert below > 100
    bounds, last = blend.remarks[:2], blend.remarks[2]
    assert [remark.split(":")[0] for remark in bounds] == ["raise_any", "meet_any"]
    assert all("gain -" in remark and remark.endswith("not used") for remark in bounds)
    assert last == f"any is below the largest subtype on {below:,} of 1,800 held-out slices"
    raised = {name: p.assign(any=p.max(axis=1)) for name, p in members.items()}
    assert not any("below" in remark for remark in fit_blend(y, {"m": raised["m0"]}, groups).remarks)


def test_json_gives_the_same_blend_back():
    y, members, groups = study([0.8, 1.2], patients=80, seed=5, scale=0.5)
    blend = fit_blend(y, members, groups, spaces=("logit",), steps=("isotonic", "platt", "raise_any"))
    assert blend.steps
    text = json.dumps(blend.to_dict(), allow_nan=False)
    with pytest.raises(UserError, match="lacks weights"):
        Blend.from_dict({"space": "logit"} | {"steps": []})
    again = Blend.from_dict(json.loads(text))
    pd.testing.assert_frame_equal(again.apply(members), blend.apply(members), check_exact=True)
    assert again.to_dict() == blend.to_dict()
    assert "decision" in json.loads(text)


def test_what_is_missing_is_named():
    y, members, groups = UNEQUAL
    blend = fit_blend(y, members, groups)
    few = {name: members[name] for name in ("m0", "m1")}
    short = members | {"m1": members["m1"].drop("ID_00005")}
    for given, named in (
        (few, "missing: m2"),
        (members | {"other": members["m0"]}, "unknown: other"),
        (short, "m1: 1799 ids where 1800 are expected, 1 missing (ID_00005)"),
    ):
        with pytest.raises(UserError) as error:
            blend.apply(given)
        assert named in str(error.value)
    with pytest.raises(UserError, match="ID_00005"):
        fit_blend(y, short, groups)
    with pytest.raises(UserError, match="ID_00007"):
        fit_blend(y, members, groups.drop("ID_00007"))
    with pytest.raises(UserError, match="m2: ID_00003 has no probability"):
        broken = members["m2"].copy()
        broken.loc["ID_00003", "any"] = np.nan
        fit_blend(y, members | {"m2": broken}, groups)
    with pytest.raises(UserError, match="at least one member"):
        fit_blend(y, {}, groups)
