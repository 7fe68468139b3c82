"""SETTINGS.json: folders below its own; commands that are printed carry it."""

import json
import shlex

import pytest

from src.errors import UserError
from src.settings import load_settings
from src.training.runs import Run
from tests.training.prepared import write_settings


def test_folders_are_resolved_against_the_file(tmp_path):
    settings = load_settings(write_settings(tmp_path, RAW_DATA_DIR="/data/rsna", MODEL_DIR="../models"))
    assert settings.clean == tmp_path / "clean_data" and str(settings.raw) == "/data/rsna"
    assert settings.models == tmp_path.parent / "models"


def test_a_missing_and_an_unknown_key_are_refused(tmp_path):
    path = write_settings(tmp_path)
    values = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in values.items() if key != "LOGS_DIR"}))
    with pytest.raises(UserError, match="LOGS_DIR"):
        load_settings(path)
    path.write_text(json.dumps(values | {"LOG_DIR": "x"}))
    with pytest.raises(UserError, match="unknown key 'LOG_DIR'"):
        load_settings(path)


def test_a_printed_command_carries_the_settings_unless_they_are_the_default(tmp_path, monkeypatch):
    home = tmp_path / "with a space"
    home.mkdir()
    settings = load_settings(write_settings(home))
    command = "python train_stage2.py experiments/x/stage2/s.json --fold 3"
    assert shlex.split(Run("x/stage2/s", 3, settings).command) == [
        *command.split(),
        "--settings",
        str(settings.file),
    ]
    monkeypatch.chdir(tmp_path)
    assert settings.flag == " --settings 'with a space/SETTINGS.json'"
    monkeypatch.chdir(home)
    assert Run("x/stage2/s", 3, settings).command == command
