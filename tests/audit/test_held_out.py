"""The numbers of trained runs on real data, by hand, and the tables made from them."""

import numpy as np
import pandas as pd
import pytest

from src.audit.held_out import HeldOut, evidence, lines_of, operating_rates
from src.data.prepared import Prepared
from src.errors import UserError
from src.files import read_json, write_text
from src.labels import LABELS
from src.report.real_scores import real_block, real_line, span
from src.settings import load_settings
from src.training.runs import Run
from src.training.slices.slice_config import SliceConfig
from src.training.split import split_fold
from tests.training.finished import finish
from tests.training.prepared import pair_studies, write_clean, write_settings

GOOD, BAD, LEAKY = "real/stage1/good", "real/stage1/bad", "real/stage1/leaky"


@pytest.fixture
def settings(tmp_path):
    settings = load_settings(write_settings(tmp_path))
    write_clean(settings.clean, studies=16)
    for name, right in ((GOOD, 0.9), (BAD, 0.5)):
        write_run(settings, name, right)
    return settings


def write_run(settings, name, right, split="patient"):
    """Fold 0 of a run that gives every true label `right`, every other 1 - right."""
    prepared = Prepared(settings.clean)
    held_out = split_fold(prepared, 0, split=split)[1].set_index("image_id")[list(LABELS)]
    run = Run(name, 0, settings)
    run.save_predictions("oof", held_out.astype(float) * (2 * right - 1) + (1 - right))
    finish(run, SliceConfig(backbone="resnet18", split=split), prepared)


def test_every_number_of_a_run_that_is_right_by_nine_tenths(settings):
    row = evidence([GOOD], [], settings)["rows"][0]
    assert (row["run"], row["folds"], row["slices"], row["patients"]) == (GOOD, [0], 30, 6)
    assert row["weighted_log_loss"] == pytest.approx([-np.log(0.9)] * 3)
    found = row["labels"]["any"]
    assert found["positives"] == 12 and found["auc"] == [1, 1, 1]
    assert found["brier"] == pytest.approx([0.01] * 3) and found["ece"] == pytest.approx([0.1] * 3)
    assert row["minus_baseline"][0] == pytest.approx(row["weighted_log_loss"][0] - row["baseline"][0])
    points = row["any"]["sensitivity_95"]
    assert points == {"sensitivity": [1, 1, 1], "specificity": [1, 1, 1]}
    assert row["studies"]["studies"] == row["studies"]["positives"] == 6
    assert row["studies"]["auc_any"][0] is None  # every study bleeds


def test_the_baseline_is_what_the_training_slices_say_of_the_held_out_ones(settings):
    prepared = Prepared(settings.clean)
    training, _ = split_fold(prepared, 0)
    constant = HeldOut.of(GOOD, settings, prepared).constant
    expected = training[list(LABELS)].mean().astype(float)
    pd.testing.assert_series_equal(constant.iloc[0].astype(float), expected, check_names=False)


def test_a_pair_is_compared_once(settings):
    found = evidence([GOOD], [GOOD, BAD], settings)["comparisons"]
    assert [(one["first"], one["second"]) for one in found] == [(BAD, GOOD)]


def test_runs_are_compared_on_the_same_slices_and_studies(settings):
    found = evidence([GOOD], [BAD], settings)
    assert [row["run"] for row in found["rows"]] == [GOOD, BAD]
    (one,) = found["comparisons"]
    gain = np.log(0.5) - np.log(0.9)
    assert (one["first"], one["second"], one["slices"]) == (GOOD, BAD, 30)
    assert one["difference"] == pytest.approx([gain] * 3)
    assert one["studies"]["weighted_log_loss"]["value"] == pytest.approx(gain)


def test_a_leaky_run_is_compared_where_both_held_out_and_called_so(settings):
    pair_studies(settings.clean)
    write_run(settings, GOOD, 0.9)
    write_run(settings, LEAKY, 0.95, split="series")
    found = evidence([LEAKY], [GOOD], settings)
    leaky, good = found["rows"]
    assert leaky["leak"].startswith("leaky: split by series") and "leak" not in good
    prepared = Prepared(settings.clean)
    both = set(Run(LEAKY, 0, settings).predictions("oof").index) & set(
        Run(GOOD, 0, settings).predictions("oof").index
    )
    (one,) = found["comparisons"]
    assert 0 < one["slices"] == len(both) < 30 and one["leak"] == leaky["leak"]
    assert one["difference"] == pytest.approx([np.log(0.9) - np.log(0.95)] * 3)
    training, _ = split_fold(prepared, 0, split="series")
    constant = HeldOut.of(LEAKY, settings, prepared).constant
    expected = training[list(LABELS)].mean().astype(float)
    pd.testing.assert_series_equal(constant.iloc[0].astype(float), expected, check_names=False)


def test_what_strangers_say_of_the_same_slices_is_compared_too(settings, tmp_path):
    labels = HeldOut.of(GOOD, settings, Prepared(settings.clean)).labels
    said = (labels * 0.6 + 0.2).rename_axis("id").reset_index().assign(level="slice")
    file = tmp_path / "predictions.csv"
    said.sample(frac=1, random_state=0).to_csv(file, index=False)
    (one,) = evidence([GOOD], [], settings, file)["comparisons"]
    assert one["second"] == "predictions" and one["slices"] == 30
    assert one["difference"] == pytest.approx([np.log(0.8) - np.log(0.9)] * 3)
    said.iloc[1:].to_csv(file, index=False)
    with pytest.raises(UserError, match=f"has no slice {said['id'][0]}"):
        evidence([GOOD], [], settings, file)


def test_a_run_without_a_complete_fold_is_refused_with_its_command(settings):
    with pytest.raises(UserError, match=r"no fold is complete; python train_stage1.py experiments/x"):
        evidence(["x/stage1/y"], [], settings)


def test_thresholds_come_from_the_other_half_of_the_patients():
    patients = np.arange(4)
    half = np.random.default_rng(0).permutation(4) % 2 == 0
    y, p = np.empty(4, bool), np.empty(4)
    y[half], y[~half] = [True, False], [True, False]
    p[half], p[~half] = [0.09, 0.02], [0.9, 0.2]  # a half's threshold calls all of the other, or nothing
    found = operating_rates(y, p, patients)["sensitivity_90"]
    assert found["sensitivity"][0] == 0.5 and found["specificity"][0] == 0.5
    assert operating_rates(np.ones(4, bool), p, patients) == {}


def test_the_tables_show_every_interval(settings, tmp_path):
    found = evidence([GOOD], [BAD], settings)
    write_text(tmp_path / "results" / "real_slices.json", lines_of(found))
    read = read_json(tmp_path / "results" / "real_slices.json")
    assert read["rows"][0]["labels"]["any"]["auc"] == [1, 1, 1] and read["comparisons"][0]["slices"] == 30
    assert lines_of(found).count("\n") == 10
    text = real_block(tmp_path, "real_slices")
    assert "| real/stage1/good | 0 | 30 (6) | 0.1054 [0.1054, 0.1054] |" in text
    assert "| real/stage1/good | real/stage1/bad | -0.5878 [-0.5878, -0.5878] |" in text
    assert "| any | 12 | 1.000 [1.000, 1.000] | 0.010 [0.010, 0.010] |" in text
    assert "| sensitivity .95 | 1.000 [1.000, 1.000] | 1.000 [1.000, 1.000] |" in text
    line = real_line(tmp_path)
    assert "fold 0, on a CPU: weighted log loss 0.105 [0.105, 0.105] on 30 held-out slices" in line


def test_what_is_not_there_is_named_in_its_place(tmp_path):
    assert "No results/real_studies.json yet" in real_block(tmp_path, "real_studies")
    assert "no results/real_slices.json yet" in real_line(tmp_path)
    assert span([None, None, None]) == "" and span([0.5, None, None]) == "0.500"
