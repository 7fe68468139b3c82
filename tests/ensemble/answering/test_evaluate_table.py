"""predict.py --evaluate: the images of a labelled table, answered and scored without a step before."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest

from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.prepared import Prepared
from src.ensemble.answering import evaluate_table as module
from src.ensemble.answering.answers import TrainedExperiment
from src.ensemble.answering.bundle import write_bundle
from src.ensemble.answering.evaluate_table import evaluate_table
from src.errors import UserError
from src.evaluation.metrics import study_maximum, weighted_log_loss
from src.evaluation.reliability import expected_calibration_error
from src.evaluation.roc import delong
from src.files import read_json, write_csv
from src.labels import LABELS, SUBTYPES
from src.report.transfer_page import evaluation_page
from tests.conftest import ROOT
from tests.training.prepared import pixel_values

STUDIES, SLICES = 6, 4
WINDOW = {"window_center": 40.0, "window_width": 510.0}
KEYS = [
    "images", "patients", "weighted_log_loss", "labels", "studies", "baseline", "subgroups", "comparisons",
    "trained_on_synthetic",
]  # fmt: skip
OF_LABEL = ["positives", "auc", "interval", "brier", "ece"]


@pytest.fixture
def pictures(tmp_path):
    """A folder of PNG of known window, every second study bleeding on two slices, and their table."""
    rows = []
    for study in range(STUDIES):
        for order in range(SLICES):
            bleeds = study % 2 == 0 and order in (1, 2)
            hu = pixel_values(50 + study, order, bleeds).astype(float)
            gray = ((hu - WINDOW["window_center"] + WINDOW["window_width"] / 2) / 2).clip(0, 255)
            name = f"pictures/s{study}_{order}.png"
            (tmp_path / "pictures").mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / name), gray.round().astype(np.uint8))
            labels = {label: int(bleeds and SUBTYPES[study % 5] == label) for label in SUBTYPES}
            labels |= {"any": int(bleeds)}
            groups = {"patient_id": f"p{study // 2}", "study_id": f"s{study}", "position_mm": 5 * order}
            rows.append({"path": name, **groups, **WINDOW, **labels})
    table = pd.DataFrame(rows)
    write_csv(tmp_path / "table.csv", table)
    return tmp_path, table


@pytest.fixture
def tiny(trained):
    return TrainedExperiment(trained[0], "tiny", "cpu", keep=True)


def test_scores_are_those_of_the_predictions_beside_them(pictures, tiny):
    home, table = pictures
    scores = evaluate_table(tiny, home / "table.csv", None, home / "out")
    assert sorted(path.name for path in (home / "out").iterdir()) == ["predictions.csv", "scores.json"]
    assert read_json(home / "out/scores.json") == scores
    assert list(scores) == KEYS and (scores["images"], scores["patients"]) == (24, 3)
    assert [list(one) for one in scores["labels"].values()] == [OF_LABEL] * 6
    assert list(scores["labels"]) == list(LABELS)
    said = pd.read_csv(home / "out/predictions.csv")
    slices, studies = (
        said[said["level"] == level].set_index("id")[list(LABELS)] for level in ("slice", "study")
    )
    labels = table.assign(id=table["path"].str[:-4]).set_index("id")
    assert scores["weighted_log_loss"]["value"] == pytest.approx(
        weighted_log_loss(labels[list(LABELS)], slices)
    )
    y, p = labels["any"] == 1, slices["any"].loc[labels.index]
    one = scores["labels"]["any"]
    assert (one["positives"], one["brier"]) == (6, pytest.approx(((p - y) ** 2).mean()))
    assert one["ece"] == pytest.approx(expected_calibration_error(y.to_numpy(), p.to_numpy()))
    low, high = one["interval"]
    assert low <= one["auc"] <= high
    by_study = scores["studies"]
    assert set(KEYS[:4]) < set(by_study) and (by_study["studies"], by_study["patients"]) == (6, 3)
    truth = study_maximum(labels[list(LABELS)], labels["study_id"])
    area = delong(truth["any"].to_numpy() == 1, studies["any"].loc[truth.index].to_numpy())
    found = by_study["labels"]["any"]
    assert (found["auc"], found["interval"]) == (
        pytest.approx(area.auc),
        pytest.approx([area.low, area.high]),
    )


def test_images_are_prepared_as_those_the_networks_were_trained_on(pictures, tiny):
    home, _ = pictures
    evaluate_table(tiny, home / "table.csv", home, home / "out")
    said = pd.read_csv(home / "out/predictions.csv").query("level == 'slice'").set_index("id")
    prepare(home, home.parent / "prepared", Options(dataset="table", table="table.csv", size=64, folds=2))
    expected = tiny.predict(Prepared(home.parent / "prepared")).blend.slices
    np.testing.assert_allclose(said.loc[expected.index, list(LABELS)], expected, atol=1e-9)


def test_one_image_of_one_patient_is_answered_without_intervals_or_studies(pictures, tiny):
    home, table = pictures
    one = table.iloc[[1]][["path", *WINDOW, "any"]]
    write_csv(home / "one.csv", one.assign(split="train"))
    scores = evaluate_table(tiny, home / "one.csv", None, home / "out")
    assert (scores["images"], scores["patients"], scores["studies"]) == (1, 1, None)
    assert scores["weighted_log_loss"] is None  # the subtypes are not known
    assert scores["labels"]["any"]["positives"] == 1 and scores["labels"]["any"]["auc"] is None
    assert pd.read_csv(home / "out/predictions.csv")["level"].tolist() == ["slice"]


def test_gray_pictures_are_refused_by_networks_that_read_hu(pictures, tiny):
    home, table = pictures
    write_csv(home / "gray.csv", table.drop(columns=list(WINDOW)))
    message = "gray.csv: its images are gray levels, and tiny/stage1/a was trained on HU; fill in"
    with pytest.raises(UserError, match=message):
        evaluate_table(tiny, home / "gray.csv", None, home / "out")
    assert not (home / "out").exists()


def test_images_without_labels_are_answered_and_unreadable_ones_named(pictures, tiny, caplog):
    home, table = pictures
    table.loc[0, list(LABELS)] = None
    write_csv(home / "table.csv", table)
    (home / table["path"][1]).unlink()
    scores = evaluate_table(tiny, home / "table.csv", None, home / "out")
    said = pd.read_csv(home / "out/predictions.csv").query("level == 'slice'")
    assert scores["images"] == 22 and len(said) == 23
    assert scores["studies"]["studies"] == 5  # what the unlabelled slice shows nobody knows
    assert "1 images are not answered: no file: named in table.csv, such as pictures/s0_1" in caplog.text
    write_csv(home / "table.csv", table.assign(**dict.fromkeys(LABELS)))
    with pytest.raises(UserError, match="no readable image has one of the labels epidural"):
        evaluate_table(tiny, home / "table.csv", None, home / "out")


def test_a_study_of_several_images_needs_their_positions_where_a_stacker_reads_them(pictures, tiny):
    home, table = pictures
    write_csv(home / "table.csv", table.drop(columns="position_mm"))
    with pytest.raises(UserError, match="position_mm is missing for some usable slices; give it"):
        evaluate_table(tiny, home / "table.csv", None, home / "out")


def test_nothing_is_written_before_the_end_so_the_same_command_ends_it(pictures, tiny, monkeypatch):
    home, _ = pictures
    with monkeypatch.context() as patched:
        patched.setattr(module, "answer_table", lambda answer: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            evaluate_table(tiny, home / "table.csv", None, home / "out")
    assert not (home / "out").exists()
    evaluate_table(tiny, home / "table.csv", None, home / "out")
    assert (home / "out/scores.json").exists()


def test_another_experiments_answers_to_the_same_table_are_compared_pair_by_pair(pictures, tiny):
    home, _ = pictures
    evaluate_table(tiny, home / "table.csv", None, home / "first")
    said = pd.read_csv(home / "first/predictions.csv")
    said[list(LABELS)] = 1 - said[list(LABELS)]
    write_csv(home / "first/predictions.csv", said)
    asked = [str(home / "first/predictions.csv"), "tiny/stage1/b"]
    scores = evaluate_table(tiny, home / "table.csv", None, home / "second", against=asked)
    assert [(one["first"], one["second"]) for one in scores["comparisons"]] == [
        ("tiny", "first"),
        ("tiny", "tiny/stage1/b"),
    ]
    reversed_, member = scores["comparisons"]
    found = reversed_["studies"]["auc"]["any"]
    assert found["first"] == scores["studies"]["labels"]["any"]["auc"]
    assert found["second"] == pytest.approx(1 - found["first"]) and found["positives"] == 3
    assert member["images"]["rows"] == reversed_["images"]["rows"] == 24
    page = evaluation_page("tiny", "table.csv", scores)
    assert "<h2>Against first</h2>" in page and "<h2>Against tiny/stage1/b</h2>" in page
    with pytest.raises(UserError, match=r"expected a predictions\.csv, or a member; these are tiny"):
        evaluate_table(tiny, home / "table.csv", None, home / "third", against=["other"])


def test_the_command_prints_the_scores_and_refuses_half_a_question(pictures, trained):
    home, _ = pictures

    def run(*more, asked=("experiments/tiny", "--settings", trained[0].file)):
        command = [sys.executable, ROOT / "predict.py", "--jobs", 1, *asked, *more]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)

    table = home / "table.csv"
    found = run("--evaluate", table, "--root", home, "--out", home / "out", "--device", "cpu")
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("24 images of 3 patients\nweighted log loss ")
    assert list(json.loads((home / "out/scores.json").read_text())) == KEYS
    bundle = write_bundle(TrainedExperiment(trained[0], "tiny", "cpu", quiet=True), {}, home / "tiny.zip")
    found = run(
        "--evaluate", table, "--out", home / "elsewhere", "--device", "cpu", asked=("--bundle", bundle)
    )
    assert found.returncode == 0, found.stderr
    for file in ("scores.json", "predictions.csv"):
        assert (home / "elsewhere" / file).read_bytes() == (home / "out" / file).read_bytes()
    for half in (
        ["--evaluate", table],
        ["--root", home],
        ["--against", table],
        ["--evaluate", table, "--labelled", "--out", home],
    ):
        assert run(*half).returncode == 2
    found = run("--evaluate", home / "none.csv", "--out", home / "out")
    assert found.returncode == 1 and "none.csv: no such file" in found.stderr
