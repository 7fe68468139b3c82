"""The spread of the folds: by hand, and against the scores of whole and part."""

import pytest

from src.ensemble.experiment import Experiment
from src.evaluation.metrics import constant_predictions, prevalence, weighted_log_loss
from src.report.run.fold_section import FoldRow, fold_of, loss_rows, run_loss_rows
from src.report.run.run_section import run_rows


def test_mean_and_spread_by_hand() -> None:
    row = FoldRow("x", "stage1", {0: 0.1, 1: 0.2, 2: 0.6})
    assert row.mean == pytest.approx(0.3)
    assert row.sd == pytest.approx(0.07**0.5)  # (.04 + .01 + .09) / 2
    assert FoldRow("x", "stage1", {0: 0.1}).sd is None


def test_every_prediction_is_scored_on_the_slices_of_each_fold(experiment: Experiment) -> None:
    rows = {row.name: row for row in loss_rows(experiment)}
    assert list(rows) == ["prevalence baseline", *experiment.members, "mean", "blend"]
    assert [row.kind for row in rows.values()] == [
        "baseline",
        *["stage1"] * 2,
        *["stage2"] * 2,
        "mean",
        "blend",
    ]
    fold = fold_of(experiment).loc[experiment.labels.index]
    constant = constant_predictions(prevalence(experiment.labels), experiment.labels.index)
    tables = {"prevalence baseline": constant, "mean": experiment.mean.oof, "blend": experiment.blend.oof}
    for k in range(3):
        own = fold.index[fold == k]
        for name, table in tables.items():
            expected = weighted_log_loss(experiment.labels.loc[own], table.loc[own])
            assert rows[name].folds[k] == pytest.approx(expected, rel=1e-12)
    sizes = fold.value_counts()
    together = sum(sizes[k] * loss for k, loss in rows["blend"].folds.items()) / sizes.sum()
    assert together == pytest.approx(experiment.blend.oof_score, rel=1e-12)


def test_members_have_the_scores_of_their_run_folders(experiment: Experiment) -> None:
    rows = {row.name: row for row in loss_rows(experiment)}
    for row in run_loss_rows(run_rows(experiment.runs)):
        assert row.kind == rows[row.name].kind
        assert row.folds == pytest.approx(rows[row.name].folds, rel=1e-12)
