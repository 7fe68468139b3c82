"""Run folders: named by their configuration's path, complete when metrics.json stands, never overwritten."""

import logging

import numpy as np
import pandas as pd
import pytest
import torch

from src.errors import UserError
from src.labels import LABELS
from src.settings import Settings
from src.training.engine.loop import Progress
from src.training.runs import Run, experiment_name, run_name, runs_of
from src.training.slices.slice_config import SliceConfig

CONFIG = SliceConfig(backbone="test_resnet")


@pytest.fixture
def run(tmp_path):
    settings = Settings(
        tmp_path / "SETTINGS.json", *(tmp_path / name for name in ("raw", "clean", "m", "c", "l", "s"))
    )
    return Run("demo/stage1/small", 0, settings)


def finish(run, config=CONFIG, data="d1"):
    run.save_config(config)
    scores = {"score": 0.1, "baseline": 0.2}
    run.finish(scores, 0, torch.device("cpu"), data, Progress(), logging.getLogger("test"))


def test_a_run_is_named_by_the_path_of_its_configuration(tmp_path):
    assert run_name("experiments/demo/stage1/small.json") == "demo/stage1/small"
    assert run_name(tmp_path / "experiments/tiny/stage2/lstm.json") == "tiny/stage2/lstm"
    with pytest.raises(UserError, match="outside experiments/"):
        run_name(tmp_path / "stage1/small.json")
    with pytest.raises(UserError, match="expected experiments/EXPERIMENT/stage1"):
        run_name("experiments/demo/small.json")
    assert experiment_name("experiments/demo/") == "demo"


def test_metrics_json_marks_a_fold_complete(run):
    run.save_config(CONFIG)
    assert not run.is_done(CONFIG, "d1")
    finish(run)
    assert run.is_done(CONFIG, "d1")


def test_a_complete_fold_of_another_configuration_is_not_taken_for_this_one(run):
    finish(run)
    with pytest.raises(UserError, match=r"another configuration \(epochs, lr\); delete that folder"):
        run.is_done(CONFIG.model_copy(update={"lr": 1.0, "epochs": 9}), "d1")
    assert run.is_done(CONFIG.model_copy(update={"notes": "a remark", "checkpoint_steps": 7}), "d1")


def test_a_complete_fold_of_other_data_is_refused(run):
    finish(run)
    with pytest.raises(UserError, match="trained on other prepared data"):
        run.is_done(CONFIG, "d2")


def test_a_missing_file_names_the_command_that_makes_it(run):
    with pytest.raises(
        UserError, match=r"run: python train_stage1.py experiments/demo/stage1/small.json --fold 0"
    ):
        run.predictions("oof")


def test_predictions_and_embeddings_come_back_row_by_row(run):
    ids = ["b", "a", "c"]
    probabilities = pd.DataFrame(np.linspace(0, 1, 18).reshape(3, 6), ids, list(LABELS))
    run.save_predictions("oof", probabilities, np.arange(6.0).reshape(3, 2))
    pd.testing.assert_frame_equal(run.predictions("oof"), probabilities, check_names=False)
    assert run.embeddings("oof").tolist() == [[0, 1], [2, 3], [4, 5]]


def test_the_runs_of_an_experiment_are_found_in_order(run):
    for name, fold in (
        ("demo/stage2/lstm", 10),
        ("demo/stage2/lstm", 9),
        ("demo/stage1/small", 0),
        ("x/stage1/y", 0),
    ):
        Run(name, fold, run.settings).folder.mkdir(parents=True)
    found = [(r.name, r.fold) for r in runs_of(run.settings, "demo")]
    assert found == [("demo/stage1/small", 0), ("demo/stage2/lstm", 9), ("demo/stage2/lstm", 10)]
