"""The commands that make a result again: every run, what it reads, what differs from its file."""

import json

import pytest

from src.data.prepared import Prepared
from src.ensemble.ensemble_config import EnsembleConfig, External
from src.ensemble.gather import experiment_runs
from src.ensemble.reproduce import reproduction_commands
from src.errors import UserError
from src.files import read_json, write_json
from src.settings import load_settings
from src.training.runs import Run
from src.training.slices.slice_config import SliceConfig
from src.training.studies.stacker_config import StackerConfig
from tests.training.finished import finish
from tests.training.prepared import rewrite, write_clean, write_settings


@pytest.fixture
def settings(tmp_path):
    settings = load_settings(write_settings(tmp_path).rename(tmp_path / "other.json"))
    write_clean(settings.clean)
    options = {"dataset": "rsna", "size": 256, "crop": True, "folds": 2, "seed": 0, "limit": None}
    change_manifest(settings.clean, settings=options)
    return settings


def change_manifest(clean, **values):
    path = clean / "manifest.json"
    write_json(path, read_json(path) | values)


def complete(settings, name, config, folds=(0, 1)):
    for fold in folds:
        finish(Run(name, fold, settings), config, Prepared(settings.clean))


def test_what_a_run_reads_comes_first_and_overrides_are_spelled_out(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained = SliceConfig(backbone="resnet18", lr=0.5)
    complete(settings, "x/stage1/a", trained)
    complete(settings, "x/stage1/unused", trained)
    stacker = StackerConfig(stacker="lstm", members=("x/stage1/a",))
    complete(settings, "x/stage2/s", stacker, folds=(1,))
    root = tmp_path / "experiments"
    (root / "x/stage1").mkdir(parents=True)
    (root / "x/stage1/a.json").write_text(json.dumps({"backbone": "resnet18"}))
    file = tmp_path / "their file.csv"
    file.write_text("abc")
    external = {"team": External(oof=str(file), test=str(file))}
    members = ["x/stage2/s", "external/team"]
    found = reproduction_commands(settings, root / "x", members, external)
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of abc, FIPS 180-2
    assert found == [
        f"echo '{digest}  {file}' | sha256sum --check",
        "python prepare_data.py --size 256 --crop --folds 2 --settings other.json",
        f"python train_stage1.py {root}/x/stage1/a.json --set lr=0.5 --settings other.json",
        f"# {root}/x/stage2/s.json is gone; its content: {settings.models}/x/stage2/s/fold1/config.json",
        f"python train_stage2.py {root}/x/stage2/s.json --fold 1 --settings other.json",
        f"python predict.py {root}/x --settings other.json",
        f"python ensemble.py {root}/x --settings other.json",
    ]


def test_files_that_training_started_from_are_checked(settings, tmp_path):
    file = tmp_path / "soft.csv"
    file.write_text("abc")
    finish(Run("x/stage1/a", 0, settings), SliceConfig(backbone="resnet18"), Prepared(settings.clean), [file])
    lines = reproduction_commands(settings, tmp_path / "x", ["x/stage1/a"], {})
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert lines[0] == f"echo '{digest}  {file}' | sha256sum --check"


def test_a_run_on_other_prepared_data_is_refused(settings):
    complete(settings, "x/stage1/a", SliceConfig(backbone="resnet18"))
    rewrite(settings.clean, "folds.csv", lambda folds: folds.assign(fold=1 - folds["fold"]))
    with pytest.raises(UserError, match=r"a/fold0: was trained on other prepared data than .*clean_data; "):
        experiment_runs(settings, Prepared(settings.clean), "x", EnsembleConfig())


def test_folds_of_data_that_grew_are_given_by_their_file(settings, tmp_path):
    complete(settings, "x/stage1/a", SliceConfig(backbone="resnet18"))
    change_manifest(settings.clean, folds_grew=True)
    lines = reproduction_commands(settings, tmp_path / "x", ["x/stage1/a"], {})
    options = f"--size 256 --crop --folds 2 --folds-file {settings.clean}/folds.csv"
    assert lines[0] == f"python prepare_data.py {options} --settings {settings.file}"
