"""The ladder: what each step stands on, its numbers by hand, its table and picture."""

import subprocess
import sys

import numpy as np
import pytest

from src.audit import ladder, systems
from src.config import read_values
from src.data.prepared import Prepared
from src.errors import UserError
from src.labels import LABELS
from src.settings import load_settings
from src.training.runs import Run
from src.training.slices.slice_config import SliceConfig
from src.training.split import split_fold
from tests.conftest import ROOT
from tests.training.finished import finish
from tests.training.prepared import write_clean, write_settings

# Probability that a run gives each true label; the other steps are not there.
RIGHT = {"demo/stage1/resnet": 0.6, "ladder/stage2/context": 0.8, "ladder/stage2/deltas": 0.7}
REAL = {"ladder/stage1/real_plain": 0.6, "ladder/stage1/real_imagenet": 0.8}


@pytest.fixture
def settings(tmp_path):
    settings = load_settings(write_settings(tmp_path))
    write_clean(settings.clean, studies=32)
    return settings


@pytest.fixture
def result(settings):
    say(settings, RIGHT, (0,))
    return ladder.ladder("demo", [0], settings, Prepared(settings.clean))


def say(settings, right, folds):
    """Complete runs that give each true label a probability."""
    prepared = Prepared(settings.clean)
    for fold in folds:
        held_out = split_fold(prepared, fold)[1].set_index("image_id")[list(LABELS)].astype(float)
        for name, share in right.items():
            run = Run(name, fold, settings)
            run.save_predictions("oof", held_out * (2 * share - 1) + (1 - share))
            finish(run, SliceConfig(backbone="resnet18"), prepared)


def test_every_step_has_its_configuration_and_stands_on_one_before_it():
    for known in ladder.LADDERS.values():
        names = [name for name, _, _ in known.steps]
        assert all((ROOT / "experiments" / f"{name}.json").exists() for name in names)
        for place, (_, against, _) in enumerate(known.steps):
            assert against in names[:place] or place == 0
    steps = {name for known in ladder.LADDERS.values() for name, _, _ in known.steps}
    files = [path.relative_to(ROOT / "experiments") for path in ROOT.glob("experiments/ladder/stage?/*.json")]
    assert {path.with_suffix("").as_posix() for path in files} <= steps


def test_a_step_on_real_slices_changes_the_values_that_it_names_and_no_other():
    configs = {name: read_values(ROOT / "experiments" / f"{name}.json") for name, _, _ in ladder.REAL}
    changed = {}
    for name, against, _ in ladder.REAL[1:]:
        new, old = configs[name], configs[against]
        changed[name.split("/")[-1]] = {key for key in {*new, *old} if new.get(key) != old.get(key)}
    assert changed == {
        "real_imagenet": {"pretrained"},
        "real_schedule": {"schedule", "warmup", "weight_decay", "loss"},
        "real_augmentation": {"augmentation"},
        "real_average": {"ema_decay"},
        "real_views": {"tta"},
        "real_size": {"image_size"},
        "lite0": {
            "image_size",
            "epochs",
            "dropout",
            "drop_path",
            "notes",
            "schedule",
            "warmup",
            "weight_decay",
            "loss",
            "augmentation",
            "ema_decay",
            "tta",
        },
    }


def test_the_steps_have_their_losses_and_paired_differences(result):
    rows = {row["step"].split("/")[-1]: row for row in result["rows"]}
    assert list(rows) == ["resnet", "context", "deltas", "blend", "calibration"]
    assert "ladder/stage1/views" in result["missing"] and len(result["missing"]) == len(ladder.DEMO) - 3
    assert result["slices"] == 60
    assert rows["context"]["weighted_log_loss"] == pytest.approx([-np.log(0.8)] * 3)
    assert rows["context"]["difference"] == pytest.approx([np.log(0.6) - np.log(0.8)] * 3)
    assert rows["deltas"]["difference"] == pytest.approx([np.log(0.8) - np.log(0.7)] * 3)
    assert rows["resnet"]["difference"] is None  # what it stands on was not run
    assert rows["blend"]["against"] == "ladder/stage2/context" and rows["calibration"]["against"] == "blend"
    assert rows["calibration"]["difference"][2] < 0


def test_table_and_picture_show_them(result, tmp_path):
    text = ladder.page(result, "picture.svg")
    assert "SYNTHETIC" not in text and "**Real data.** Fold 0, 60 held-out slices of 12 patients" in text
    assert "SYNTHETIC data" in ladder.page(result | {"synthetic": True}, "picture.svg")
    assert "](picture.svg)" in text and "| EfficientNet-B0, 224 px | 0.08047 |" in text
    assert "Not run: ladder/stage1/plain, " in text
    loss = "0.2231 [0.2231, 0.2231]"
    assert (
        f"| ladder/stage2/context | an LSTM over the study, on logits | {loss} | demo/stage1/resnet |" in text
    )
    for name in ("a", "b"):
        ladder.picture(result, tmp_path / f"{name}.svg")
    svg = (tmp_path / "a.svg").read_bytes()
    assert svg == (tmp_path / "b.svg").read_bytes() and len(svg) < 100_000
    assert b"an LSTM over the study, on logits" in svg and b"ResNeXt101 WSL instead" in svg


def test_two_folds_are_scored_together_and_a_ladder_of_one_stage_blends_all_its_runs(settings, tmp_path):
    say(settings, REAL, (0, 1))
    found = ladder.ladder("real_slices", [0, 1], settings, Prepared(settings.clean))
    alone = ladder.ladder("real_slices", [1], settings, Prepared(settings.clean))
    assert (found["folds"], found["slices"], alone["slices"]) == ([0, 1], 120, 60)
    rows = {row["step"]: row for row in found["rows"]}
    assert list(rows) == [*REAL, "blend", "calibration"]
    assert rows["ladder/stage1/real_imagenet"]["difference"] == pytest.approx([np.log(0.6) - np.log(0.8)] * 3)
    assert (rows["blend"]["against"], rows["blend"]["what"]) == (
        "ladder/stage1/real_imagenet",
        "the blend of all networks",
    )
    text = ladder.page(found, "ladder_real.svg")
    assert "Folds 0, 1, 120 held-out slices" in text and "2nd place" not in text
    ladder.picture(found, tmp_path / "a.svg")
    svg = (tmp_path / "a.svg").read_text()
    assert "weights of ImageNet" in svg and "2nd place" not in svg


def test_a_step_without_one_of_the_folds_is_named_and_nothing_at_all_is_refused(settings):
    say(settings, REAL, (0,))
    say(settings, {"ladder/stage1/real_plain": 0.6}, (1,))
    found = ladder.ladder("real_slices", [0, 1], settings, Prepared(settings.clean))
    assert [row["step"] for row in found["rows"]] == ["ladder/stage1/real_plain"]
    assert found["missing"][0] == "ladder/stage1/real_imagenet" and len(found["missing"]) == 7
    with pytest.raises(UserError, match="holds no step of the ladder demo; run without --trained"):
        ladder.ladder("demo", [0], settings, Prepared(settings.clean))


def test_the_command_trains_the_steps_of_its_ladder_as_their_files_say(settings, tmp_path, monkeypatch):
    say(settings, {"ladder/stage1/real_plain": 0.6}, (0,))
    commands = []

    def train(command, **_):
        commands.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(systems.subprocess, "run", train)
    out = tmp_path / "result.json"
    asked = ["ladder", "real_slices", "--settings", str(settings.file), "--jobs", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", asked)
    ladder.main()
    names = [systems.name_of(systems.Path(command[2])) for command in commands]
    assert names == [name for name, _, _ in ladder.REAL]
    assert all(command[3:] == commands[0][3:] for command in commands)
    assert "--set" not in commands[0] and commands[0][3:5] == ["--fold", "0"]
    assert "](result.svg)" in (tmp_path / "result.md").read_text() and (tmp_path / "result.svg").exists()
