"""Run folders: named by their configuration's path, complete when metrics.json stands, checked when read."""

import numpy as np
import pandas as pd
import pytest
from torch import nn

from src.data.prepared import Prepared
from src.errors import UserError
from src.files import fingerprint
from src.labels import LABELS
from src.settings import load_settings
from src.training.provenance import origin
from src.training.runs import Run, checkpoint_origin, experiment_name, keep, run_name, runs_of
from src.training.slices.slice_config import SliceConfig
from tests.training.finished import finish, predict
from tests.training.prepared import rewrite, write_clean, write_settings

CONFIG = SliceConfig(backbone="test_resnet")
TABLE = pd.DataFrame(np.linspace(0, 1, 18).reshape(3, 6), ["b", "a", "c"], list(LABELS))


@pytest.fixture
def run(tmp_path):
    return Run("demo/stage1/small", 0, load_settings(write_settings(tmp_path)))


@pytest.fixture
def prepared(run):
    write_clean(run.settings.clean)
    return Prepared(run.settings.clean)


def test_a_run_is_named_by_the_path_of_its_configuration(tmp_path):
    assert run_name("experiments/demo/stage1/small.json") == "demo/stage1/small"
    assert run_name(tmp_path / "experiments/tiny/stage2/lstm.json") == "tiny/stage2/lstm"
    with pytest.raises(UserError, match="outside experiments/"):
        run_name(tmp_path / "stage1/small.json")
    with pytest.raises(UserError, match="expected experiments/EXPERIMENT/stage1"):
        run_name("experiments/demo/small.json")
    assert experiment_name("experiments/demo/") == "demo"


def test_the_command_of_a_fold_has_the_set_it_was_trained_with(run, prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "experiments/demo/stage1/small.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"backbone": "test_resnet"}')
    plain = "python train_stage1.py experiments/demo/stage1/small.json --fold 0"
    assert run.command == plain  # nothing is trained yet
    finish(run, SliceConfig(backbone="test_resnet", lr=0.5, windows=((40, 80),), notes="x"), prepared)
    windows = "--set 'windows=[[40.0, 80.0]]'"
    assert run.command == f"{plain.removesuffix(' --fold 0')} {windows} --set lr=0.5 --fold 0"
    (run.folder / "config.json").write_text("{")
    assert run.command == plain


def test_a_missing_file_names_the_command_that_makes_it_settings_and_all(run):
    command = (
        "python train_stage1.py experiments/demo/stage1/small.json --fold 0 --settings .*/SETTINGS.json$"
    )
    with pytest.raises(UserError, match=f"oof.parquet: missing; run: {command}"):
        run.predictions("oof")


def test_predictions_and_embeddings_come_back_row_by_row(run):
    run.save_predictions("oof", TABLE, np.arange(6.0).reshape(3, 2))
    pd.testing.assert_frame_equal(run.predictions("oof"), TABLE, check_names=False)
    assert run.embeddings("oof").tolist() == [[0, 1], [2, 3], [4, 5]]


def test_an_embedding_that_float16_cannot_hold_is_refused(run):
    run.save_predictions("oof", TABLE, np.full((3, 2), 65504.0))
    with pytest.raises(UserError, match=r"an embedding is 7e\+04, beyond what float16 holds; lower lr"):
        run.save_predictions("oof", TABLE, np.full((3, 2), -7e4))


def test_a_part_is_there_when_this_training_predicted_it_for_these_data(run, prepared):
    run.save_predictions("oof", TABLE)
    finish(run, CONFIG, prepared)
    assert not run.has("test", prepared.test_fingerprint)
    predict(run, prepared, "test", TABLE, np.zeros((3, 2)))
    assert run.has("test", prepared.test_fingerprint) and not run.has("test", "other data")
    run.embeddings_file("test").unlink()
    assert not run.has("test", prepared.test_fingerprint)
    predict(run, prepared, "test", TABLE)
    run.save_predictions("oof", 1 - TABLE)
    finish(run, CONFIG, prepared)  # another training by the same name
    assert not run.has("test", prepared.test_fingerprint)


def test_a_new_training_begins_without_what_was_derived_from_the_old(run):
    parts = ("oof", "oof_hflip", "train", "probe", "test", "test_hflip")
    for part in parts:
        run.save_predictions(part, TABLE, np.zeros((3, 2)))
    run.save_config(CONFIG)
    (run.folder / "missing.parquet").touch()
    assert len(list(run.folder.iterdir())) == 2 * len(parts) + 2
    run.remove_derived()
    assert [path.name for path in run.folder.iterdir()] == ["config.json"]


def test_weights_and_held_out_predictions_are_those_that_training_wrote(run, prepared):
    run.save_weights(nn.Linear(30, 30))
    run.save_predictions("oof", TABLE)
    finish(run, CONFIG, prepared)
    layer = run.load_weights(nn.Linear(30, 30))
    run.save_predictions("oof", TABLE * 0.99)  # a whole table, but another one
    weights = run.folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-100:-50] = bytes(50)
    weights.write_bytes(data)
    for file, read in {
        "model.safetensors": lambda: run.load_weights(layer),
        "oof.parquet": lambda: run.predictions("oof"),
    }.items():
        with pytest.raises(
            UserError, match=rf"{file}: is not the file that training wrote; delete .*fold0 and run"
        ):
            read()


def test_a_checkpoint_belongs_to_its_fold_seed_configuration_and_data(run, prepared):
    def belongs(fold=0, config=CONFIG, prepared=prepared, seed=0):
        made_from = origin(Run(run.name, fold, run.settings), config, prepared)
        return fingerprint(checkpoint_origin(config.model_copy(update={"seed": seed}), made_from))

    first = belongs()
    assert belongs(config=CONFIG.model_copy(update={"notes": "a remark"})) == first
    rewrite(run.settings.clean, "folds.csv", lambda folds: folds.assign(fold=1 - folds["fold"]))
    others = [
        belongs(fold=1), belongs(config=CONFIG.model_copy(update={"lr": 1.0})),
        belongs(prepared=Prepared(run.settings.clean)), belongs(seed=1),
    ]  # fmt: skip
    assert len({first, *others}) == 5


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


def test_what_is_kept_is_loaded_once_a_fold(run):
    loads, kept = [], {}

    def load():
        loads.append(1)
        return f"network {len(loads)}"

    assert [keep(kept, run, load) for _ in range(2)] == ["network 1"] * 2
    assert keep(kept, Run(run.name, 1, run.settings), load) == "network 2"
    assert [keep(None, run, load) for _ in range(2)] == ["network 3", "network 4"]
