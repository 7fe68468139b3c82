"""The way from prevalence to the blend: which rungs there are, their scores and the steps between them."""

from itertools import pairwise
from pathlib import Path

import pytest

from src.ensemble.experiment import Experiment
from src.ensemble.rungs import ladder
from src.evaluation.metrics import constant_predictions, prevalence, weighted_log_loss
from src.files import write_parquet
from tests.report.conftest import build_experiment


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return build_experiment(tmp_path_factory.mktemp("ladder"))


def test_rungs_are_scored_as_everywhere_else(experiment: Experiment) -> None:
    rungs = {rung.name: rung for rung in ladder(experiment)}
    assert list(rungs) == [
        "prevalence",
        "fake/stage1/mobilenet, its best fold alone",
        "fake/stage1/mobilenet, the best",
        "mean of the 2 runs of stage 1",
        "fake/stage2/transformer, the best",
        "mean of all 4 members",
        "blend",
    ]
    assert [rung.kind for rung in rungs.values()] == [
        "baseline", "stage1", "stage1", "stage1", "stage2", "mean", "blend",
    ]  # fmt: skip
    members = experiment.members
    expected = {
        "fake/stage1/mobilenet, the best": members["fake/stage1/mobilenet"],
        "fake/stage2/transformer, the best": members["fake/stage2/transformer"],
        "mean of all 4 members": experiment.mean,
        "blend": experiment.blend,
    }
    for name, scored in expected.items():
        assert rungs[name].scores["oof"] == (scored.oof_score, *scored.interval)
        assert rungs[name].scores["test"] == (scored.test_score, *scored.test_interval)
    assert rungs["prevalence"].scores["oof"].estimate == pytest.approx(experiment.baseline)
    assert rungs["prevalence"].scores["test"].estimate == pytest.approx(experiment.test_baseline)
    both = (members["fake/stage1/resnet"].oof + members["fake/stage1/mobilenet"].oof) / 2
    mean = rungs["mean of the 2 runs of stage 1"].scores["oof"].estimate
    assert mean == pytest.approx(weighted_log_loss(experiment.labels, both), rel=1e-12)


@pytest.mark.parametrize("part", ["oof", "test"])
def test_a_step_leads_from_the_nearest_rung_of_its_part(experiment: Experiment, part: str) -> None:
    own = [rung for rung in ladder(experiment) if part in rung.scores]
    assert len(own) == {"oof": 6, "test": 7}[part]
    assert part not in own[0].gains
    for before, rung in pairwise(own):
        difference = rung.scores[part].estimate - before.scores[part].estimate
        assert rung.gains[part].estimate == pytest.approx(difference, abs=1e-12)
        assert rung.gains[part].low < difference < rung.gains[part].high or difference == 0


def test_the_fold_alone_is_the_one_that_held_out_best(tmp_path: Path) -> None:
    experiment = build_experiment(tmp_path, runs={"stage1/a": 1.0})
    scores = {run.fold: run.metrics()["score"] for run in experiment.runs}
    chosen = next(run for run in experiment.runs if run.fold == min(scores, key=scores.get))
    constant = constant_predictions(prevalence(experiment.labels), experiment.test_labels.index)
    write_parquet(chosen.folder / "test.parquet", constant.reset_index())
    alone = ladder(experiment)[1]
    assert alone.scores["test"].estimate == pytest.approx(experiment.test_baseline, rel=1e-6)
    assert alone.gains["test"].estimate == pytest.approx(0, abs=1e-6)


def test_what_an_experiment_has_not_is_left_out(tmp_path: Path) -> None:
    single = build_experiment(tmp_path / "single", runs={"stage1/a": 1.0}, folds=1, test=False)
    assert [rung.name for rung in ladder(single)] == ["prevalence", "fake/stage1/a", "blend"]
    stackers = build_experiment(tmp_path / "stackers", runs={"stage2/a": 1.0, "stage2/b": 0.8}, test=False)
    assert [rung.name for rung in ladder(stackers)] == [
        "prevalence", "fake/stage2/b, the best", "mean of all 2 members", "blend",
    ]  # fmt: skip
    slices = build_experiment(tmp_path / "slices", runs={"stage1/a": 1.0, "stage1/b": 0.8}, test=False)
    assert [rung.name for rung in ladder(slices)] == [
        "prevalence", "fake/stage1/b, the best", "mean of all 2 members", "blend",
    ]  # fmt: skip
