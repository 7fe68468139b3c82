"""Kinds of runs: found by name, of the stage they belong to, or an error that names them all."""

from typing import Literal

import pytest

from src.errors import UserError
from src.files import write_json
from src.settings import load_settings
from src.training.kinds import ROOMS, STAGES, kind_of, load_kind, load_run_config
from src.training.runs import Run
from src.training.slices.slice_config import SliceConfig
from src.training.studies.stacker_config import StackerConfig
from tests.training.prepared import write_settings


@pytest.mark.parametrize("name", ROOMS)
def test_a_kind_has_a_configuration_that_names_it(name):
    assert load_kind(name).config.model_fields["kind"].annotation == Literal[name]
    assert STAGES[name] in ("stage1", "stage2")


def test_without_a_kind_a_stage_has_its_usual_one(tmp_path):
    slices, stacker = {"backbone": "test_resnet"}, {"stacker": "lstm", "members": ["x/stage1/a"]}
    for stage, values, model in (("stage1", slices, SliceConfig), ("stage2", stacker, StackerConfig)):
        write_json(tmp_path / "c.json", values)
        kind, config = load_run_config(tmp_path / "c.json", stage, ["epochs=3"])
        assert kind.config is type(config) is model and config.epochs == 3
        run = Run(f"x/{stage}/r", 0, load_settings(write_settings(tmp_path)))
        run.save_config(config)
        assert kind_of(run) is kind


@pytest.mark.parametrize(("kind", "stage"), [("stacker", "stage1"), ("slice", "stage2"), ("movie", "stage1")])
def test_a_kind_that_does_not_belong_to_the_stage_is_refused(tmp_path, kind, stage):
    write_json(tmp_path / "c.json", {"backbone": "test_resnet", "kind": kind})
    with pytest.raises(UserError, match=rf"c\.json: kind '{kind}': the kinds of {stage} are"):
        load_run_config(tmp_path / "c.json", stage)
