"""The ladder: what each step stands on, its numbers by hand, its table and picture."""

import numpy as np
import pytest

from src.audit import ladder
from src.data.prepared import Prepared
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


@pytest.fixture
def result(tmp_path):
    settings = load_settings(write_settings(tmp_path))
    write_clean(settings.clean, studies=32)
    prepared = Prepared(settings.clean)
    held_out = split_fold(prepared, 0)[1].set_index("image_id")[list(LABELS)].astype(float)
    for name, right in RIGHT.items():
        run = Run(name, 0, settings)
        run.save_predictions("oof", held_out * (2 * right - 1) + (1 - right))
        finish(run, SliceConfig(backbone="resnet18"), prepared)
    return ladder.ladder(settings, prepared)


def test_every_step_has_its_configuration_and_stands_on_one_before_it():
    names = [name for name, _, _ in ladder.STEPS]
    files = [path.relative_to(ROOT / "experiments") for path in ROOT.glob("experiments/ladder/stage?/*.json")]
    assert all((ROOT / "experiments" / f"{name}.json").exists() for name in names)
    assert {path.with_suffix("").as_posix() for path in files} <= set(names)
    for place, (_, against, _) in enumerate(ladder.STEPS):
        assert against in names[:place] or place == 0


def test_the_steps_have_their_losses_and_paired_differences(result):
    rows = {row["step"].split("/")[-1]: row for row in result["rows"]}
    assert list(rows) == ["resnet", "context", "deltas", "blend", "calibration"]
    assert "ladder/stage1/views" in result["missing"] and len(result["missing"]) == len(ladder.STEPS) - 3
    assert result["slices"] == 60
    assert rows["context"]["weighted_log_loss"] == pytest.approx([-np.log(0.8)] * 3)
    assert rows["context"]["difference"] == pytest.approx([np.log(0.6) - np.log(0.8)] * 3)
    assert rows["deltas"]["difference"] == pytest.approx([np.log(0.8) - np.log(0.7)] * 3)
    assert rows["resnet"]["difference"] is None  # what it stands on was not run
    assert rows["blend"]["against"] == "ladder/stage2/context" and rows["calibration"]["against"] == "blend"
    assert rows["calibration"]["difference"][2] < 0


def test_table_and_picture_show_them(result, tmp_path):
    text = ladder.page(result)
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
