"""The ladder: its order, what each step is compared with, its numbers by hand, its table and picture."""

import numpy as np
import pytest

from src.audit import ladder
from src.config import read_values
from src.data.prepared import Prepared
from src.labels import LABELS
from src.settings import load_settings
from src.training.runs import Run
from src.training.slices.slice_config import SliceConfig
from src.training.split import split_fold
from tests.training.finished import finish
from tests.training.prepared import write_clean, write_settings

# Probability that a run gives each true label; one step is not there.
RIGHT = {"stage1/08_neighbours": 0.6, "stage2/10_context": 0.8, "stage2/11_deltas": 0.7}


@pytest.fixture
def result(tmp_path):
    settings = load_settings(write_settings(tmp_path))
    write_clean(settings.clean, studies=32)
    prepared = Prepared(settings.clean)
    held_out = split_fold(prepared, 0)[1].set_index("image_id")[list(LABELS)].astype(float)
    for name, right in RIGHT.items():
        run = Run(f"ladder/{name}", 0, settings)
        run.save_predictions("oof", held_out * (2 * right - 1) + (1 - right))
        finish(run, SliceConfig(backbone="resnet18"), prepared)
    paths = [path for path in ladder.steps() if path.stem[:2] in ("07", "08", "10", "11")]
    return ladder.ladder(paths, settings, prepared)


def test_every_step_is_compared_with_the_one_before_and_the_first_stacker_with_its_member():
    paths = ladder.steps()
    assert [path.stem[:2] for path in paths] == [f"{k:02d}" for k in range(1, len(paths) + 1)]
    found = ladder.below(paths)
    assert found["ladder/stage1/02_windows"] == "ladder/stage1/01_plain"
    assert found["ladder/stage2/10_context"] == "ladder/stage1/08_neighbours"
    assert found["ladder/stage2/11_deltas"] == "ladder/stage2/10_context"
    assert len(found) == len(paths) - 1 and all(read_values(path)["notes"] for path in paths)


def test_the_steps_have_their_losses_and_paired_differences(result):
    rows = {row["step"]: row for row in result["rows"]}
    assert list(rows) == ["08_neighbours", "10_context", "11_deltas", "blend", "calibration"]
    assert result["missing"] == ["ladder/stage1/07_views"] and result["slices"] == 60
    assert rows["10_context"]["weighted_log_loss"] == pytest.approx([-np.log(0.8)] * 3)
    assert rows["10_context"]["difference"] == pytest.approx([np.log(0.6) - np.log(0.8)] * 3)
    assert rows["11_deltas"]["difference"] == pytest.approx([np.log(0.8) - np.log(0.7)] * 3)
    assert rows["08_neighbours"]["difference"] is None  # what it is compared with was not run
    assert rows["blend"]["against"] == "10_context" and rows["calibration"]["against"] == "blend"
    assert rows["calibration"]["difference"][2] < 0


def test_table_and_picture_show_them(result, tmp_path):
    text = ladder.page(result)
    assert "Not run: ladder/stage1/07_views." in text
    assert (
        "| 10_context | an LSTM over the study, on logits | 0.2231 [0.2231, 0.2231] | 08_neighbours |" in text
    )
    for name in ("a", "b"):
        ladder.picture(result, tmp_path / f"{name}.svg")
    svg = (tmp_path / "a.svg").read_bytes()
    assert svg == (tmp_path / "b.svg").read_bytes() and len(svg) < 100_000
    assert b"an LSTM over the study, on logits" in svg and b"ResNeXt101 WSL instead" in svg
