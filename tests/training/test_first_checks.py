"""What is wrong whatever the data say is one line, said before they are read, and once for all folds."""

import json
from argparse import Namespace
from pathlib import Path

import pytest

from src.data.prepared import Prepared
from src.ensemble.ensemble_config import load_ensemble
from src.errors import UserError
from src.settings import load_settings
from src.training import launch
from src.training.launch import predict_runs, train_folds
from src.training.runs import Run
from src.training.slices.slice_config import SliceConfig
from tests.training.finished import finish
from tests.training.prepared import write_clean, write_settings

SLICES = {"backbone": "test_resnet", "pretrained": False}
STACKER = {"stacker": "lstm", "members": ["tiny/stage1/a", "tiny/stage1/b"]}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A working directory with SETTINGS.json and configurations, nothing prepared."""
    write_settings(tmp_path)
    for name, values in {"stage1/a": SLICES, "stage1/b": SLICES, "stage2/s": STACKER}.items():
        file = tmp_path / "experiments/tiny" / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(name, stage, overrides=(), jobs=1):
    arguments = Namespace(
        settings="SETTINGS.json", config=f"experiments/tiny/{name}.json", overrides=list(overrides),
        fold=None, device="cpu", jobs=jobs, quiet=True,
    )  # fmt: skip
    with pytest.raises(UserError) as error:
        train_folds("train.py", arguments, stage)
    return str(error.value)


@pytest.mark.parametrize(("name", "script"), [("stage2/s", "stage1"), ("stage1/a", "stage2")])
def test_the_script_of_the_other_stage_names_the_right_one(home, monkeypatch, name, script):
    config, own = f"experiments/tiny/{name}.json", name.split("/")[0]
    monkeypatch.setattr("sys.argv", [f"train_{script}.py", config, "--set", 'source="a b"'])
    command = f"python train_{own}.py {config} --set 'source=\"a b\"'"
    assert refused(name, script) == f"{config}: is of {own}; run: {command}"


def test_an_unknown_backbone_is_named_before_the_data(home):
    assert refused("stage1/a", "stage1", ['backbone="resnet180"']).startswith(
        "backbone 'resnet180': not a model of timm"
    )
    assert "no manifest.json" in refused("stage1/a", "stage1")


def test_missing_members_are_said_once_with_a_command_each(home, monkeypatch):
    settings = load_settings("SETTINGS.json")
    write_clean(settings.clean)
    finish(Run("tiny/stage1/a", 1, settings), SliceConfig(backbone="resnet18"), Prepared(settings.clean))
    monkeypatch.setattr(launch, "in_processes", None)  # no process is started
    assert refused("stage2/s", "stage2", jobs=2) == (
        "tiny/stage2/s: needs every fold of its members; missing: tiny/stage1/a fold 0; tiny/stage1/b fold "
        "0, 1; run: python train_stage1.py experiments/tiny/stage1/a.json --set 'backbone=\"resnet18\"' "
        "--set pretrained=true && python train_stage1.py experiments/tiny/stage1/b.json"
    )


def test_weights_of_a_run_that_is_not_there_are_said_once(home, monkeypatch):
    write_clean(load_settings("SETTINGS.json").clean)
    monkeypatch.setattr(launch, "in_processes", None)
    said = refused("stage1/a", "stage1", ['pretrained="run:tiny/stage1/b"'], jobs=2)
    assert said.startswith(
        "tiny/stage1/a fold 0: starts from tiny/stage1/b fold 0, which is not complete; run"
    )


def test_an_experiment_that_is_not_there_is_told_from_one_that_is_not_trained(home):
    settings = load_settings("SETTINGS.json")
    for ask in (load_ensemble, lambda folder: predict_runs(settings, folder, "cpu", 1, True)):
        with pytest.raises(
            UserError, match=r"^experiments/tyni: no such experiment; did you mean experiments/tiny"
        ):
            ask(Path("experiments/tyni"))
    with pytest.raises(
        UserError, match=r"model/tiny: holds no complete run; .*: python train_stage1.py experi"
    ):
        predict_runs(settings, "experiments/tiny", "cpu", 1, True)
