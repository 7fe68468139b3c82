"""An experiment that was split by series: called leaky wherever its scores stand, and never mixed."""

import json
import logging

import numpy as np
import pandas as pd
import pytest

from src.data.prepared import Prepared
from src.ensemble.answering.answers import TrainedExperiment
from src.ensemble.answering.export import held_out_answers, model_card
from src.ensemble.answering.known_patients import ALL_FOLDS, NO_FOLD, held_out_folds
from src.ensemble.replicates import plan
from src.errors import UserError
from src.files import read_json, write_csv, write_json
from src.labels import LABELS
from src.report.run.submission_folder import write_submission_folder
from src.settings import load_settings
from src.training.runs import Run
from src.training.slices.slice_config import SliceConfig
from src.training.split import labelled_slices, split_fold, unlabelled_slices
from tests.training.finished import finish, predict
from tests.training.prepared import pair_studies, rewrite, write_clean, write_settings

LEAK = "leaky: split by series; a patient may be in training and held-out"


@pytest.fixture
def settings(tmp_path):
    """Twelve patients of two series each, and a sample submission."""
    settings = load_settings(write_settings(tmp_path))
    write_clean(settings.clean, studies=32)
    pair_studies(settings.clean)
    known = {"pixel_spacing_mm": 2.0, "padded": False, "tilt_deg": 0.0}
    rewrite(
        settings.clean, "slices.parquet", lambda table: table.assign(series_id=table["study_id"], **known)
    )
    asked = unlabelled_slices(Prepared(settings.clean))["image_id"]
    sample = pd.DataFrame({"ID": [f"{image}_{label}" for image in asked for label in LABELS]})
    write_csv(settings.raw / "stage_2_sample_submission.csv", sample.assign(Label=0.5))
    return settings


def write_run(settings, name, split, noise=0.1):
    """Both folds of a run that knows the truth, more or less."""
    prepared = Prepared(settings.clean)
    rng, test = np.random.default_rng(0), unlabelled_slices(prepared)["image_id"]
    for fold in (0, 1):
        _, held_out = split_fold(prepared, fold, split=split)
        labels = held_out.set_index("image_id")[list(LABELS)].astype(float)
        run = Run(name, fold, settings)
        run.save_predictions("oof", 0.1 + 0.6 * labels + noise * rng.random(labels.shape))
        finish(run, SliceConfig(backbone="test_resnet", split=split), prepared)
        predict(run, prepared, "test", pd.DataFrame(0.3, pd.Index(test), list(LABELS)))


def experiment(tmp_path, **ensemble):
    folder = tmp_path / "experiments/x"
    write_json(folder / "ensemble.json", {"replicates": 100, "steps": [], **ensemble})
    return folder


def test_every_place_of_its_scores_says_that_they_leak(settings, tmp_path):
    write_run(settings, "x/stage1/a", "series")
    write_run(settings, "x/stage1/b", "series", noise=0.2)
    text = write_submission_folder(settings, experiment(tmp_path), 1, pages=1)
    out = settings.submissions / "x"
    assert LEAK in text.splitlines()
    for file in ("scores.json", "blend.json", "operating_points.json"):
        assert read_json(out / file)["leak"] == LEAK, file
    page = (out / "report.html").read_text()
    assert f'<p class="banner" role="note">{LEAK}</p>' in page
    assert "blend, held out (leaky)" in page and "Folds, by series" in page
    assert "models that saw no slice of its patient" not in page
    (study,) = (out / "studies").glob("*.html")
    assert LEAK in study.read_text() and "not trained on this patient" not in study.read_text()


def test_one_split_by_patient_calls_nothing_leaky(settings, tmp_path):
    write_run(settings, "x/stage1/a", "patient")
    text = write_submission_folder(settings, experiment(tmp_path), 1, pages=1)
    out = settings.submissions / "x"
    assert read_json(out / "scores.json")["leak"] is None
    everything = [text, *(path.read_text() for path in out.rglob("*") if path.suffix in (".json", ".html"))]
    assert not any("leaky" in one for one in everything)


def test_runs_of_both_splits_never_blend(settings, tmp_path, caplog):
    write_run(settings, "x/stage1/a", "series")
    write_run(settings, "x/stage1/b", "patient")
    both = (
        r"x: its runs were split differently.* \(by series: x/stage1/a; by patient: x/stage1/b\); name those"
    )
    with pytest.raises(UserError, match=both):
        write_submission_folder(settings, experiment(tmp_path, members=["x/stage1/a", "x/stage1/b"]), 1)
    with caplog.at_level(logging.WARNING, "ich"):
        write_submission_folder(settings, experiment(tmp_path), 1, pages=0)  # nobody asked for both
    assert "x/stage1/a: left out, as leaky runs never join others" in caplog.text
    scores = read_json(settings.submissions / "x/scores.json")
    assert scores["leak"] is None and "x/stage1/a" not in json.dumps(scores)


def test_what_was_predicted_elsewhere_does_not_blend_with_a_leaky_run(settings, tmp_path):
    write_run(settings, "x/stage1/a", "series")
    ids = [f"{i}_{label}" for i in labelled_slices(Prepared(settings.clean))["image_id"] for label in LABELS]
    write_csv(tmp_path / "oof.csv", pd.DataFrame({"ID": ids, "Label": 0.3}))
    files = {"oof": str(tmp_path / "oof.csv"), "test": str(settings.raw / "stage_2_sample_submission.csv")}
    with pytest.raises(UserError, match=r"\(by series: x/stage1/a; by patient: external/theirs\)"):
        write_submission_folder(settings, experiment(tmp_path, external={"theirs": files}), 1)


def test_without_a_blend_leaky_runs_answer_only_where_there_is_no_other(settings, caplog):
    write_run(settings, "x/stage1/a", "series")
    assert TrainedExperiment(settings, "x").members == ["x/stage1/a"]
    write_run(settings, "x/stage1/b", "patient")
    with caplog.at_level(logging.WARNING, "ich"):
        assert TrainedExperiment(settings, "x").members == ["x/stage1/b"]
    assert "x/stage1/a: left out, as leaky runs never join others" in caplog.text


def test_a_leaky_fold_held_nobody_out_whole(settings):
    write_run(settings, "x/stage1/a", "series")
    write_run(settings, "x/stage1/b", "patient")
    prepared = Prepared(settings.clean)
    leaky, apart = ([Run(f"x/stage1/{name}", fold, settings) for fold in (0, 1)] for name in "ab")
    labelled = prepared.slices["split"] == "train"
    known, strangers = (prepared.slices.loc[part, "study_id"].unique() for part in (labelled, ~labelled))
    assert set(held_out_folds(leaky, prepared).loc[known]) == {NO_FOLD}
    assert set(held_out_folds(apart, prepared).loc[known]) == {0, 1}
    assert set(held_out_folds(leaky, prepared).loc[strangers]) == {ALL_FOLDS}


def test_the_model_card_says_so(settings):
    write_run(settings, "x/stage1/a", "series")
    trained = TrainedExperiment(settings, "x")
    answers = held_out_answers(trained)
    labels = labelled_slices(Prepared(settings.clean))
    labels = labels.set_index("image_id").loc[answers.index, list(LABELS)].astype(bool)
    assert f"**L{LEAK[1:]}.**" in model_card(trained, labels, answers)


def test_replicates_are_divided_by_patient(tmp_path):
    path = tmp_path / "experiments/x/stage1/a.json"
    write_json(path, {"backbone": "test_resnet", "split": "series"})
    with pytest.raises(UserError, match=r"leaky: split by series.* replicates are divided by patient"):
        plan(path)
    (step,) = plan(path, ['split="patient"'])
    assert step.config.split == "patient"
