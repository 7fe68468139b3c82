"""ensemble.py on runs of other targets: scored by run and head, never blended, never mixed."""

import numpy as np
import pandas as pd
import pytest

from src.data.prepared import Prepared
from src.data.target_labels import target_labels
from src.ensemble.ensemble_config import EnsembleConfig
from src.ensemble.gather import experiment_targets
from src.ensemble.target_experiment import evaluate_target_experiment
from src.errors import UserError
from src.files import read_json
from src.labels import LABELS
from src.report.run.submission_folder import write_submission_folder
from src.report.run.target_report import member_triage
from src.settings import load_settings
from src.targets import HEMORRHAGE, SITES, find_targets
from src.training.runs import Run
from src.training.slices.slice_config import SliceConfig
from src.training.videos.video_config import VideoConfig
from tests.training.finished import finish, predict
from tests.training.prepared import rewrite, write_clean, write_settings

PRESENCE = find_targets("presence")


@pytest.fixture
def settings(tmp_path):
    settings = load_settings(write_settings(tmp_path))
    write_clean(settings.clean, studies=16)
    (tmp_path / "experiments/x").mkdir(parents=True)
    (tmp_path / "experiments/x/ensemble.json").write_text("{}")
    return settings


def write_runs(settings, name, config, right):
    """Both folds of a run that gives the truth .9 in a share `right` of its rows; presence .2 elsewhere."""
    prepared = Prepared(settings.clean)
    unit = "study" if isinstance(config, VideoConfig) else "image"
    key = {"study": "study_id", "image": "image_id"}[unit]
    labels = target_labels(prepared, config.predicted, unit)
    patients = prepared.slices.drop_duplicates(key).set_index(key)["patient_id"].loc[labels.index]
    folds = patients.map(prepared.folds.set_index("patient_id")["fold"])
    for fold in (0, 1):
        own = labels[(folds == fold).to_numpy()]
        hit = np.arange(len(own)) < right * len(own)
        p = pd.DataFrame(index=own.index)
        p["presence"] = np.where(hit, 0.1 + 0.8 * own["presence"], 0.2)
        for column in config.predicted.columns[1:]:
            p[column] = np.where(own[column] == 1, 0.6, 0.2)
        run = Run(name, fold, settings)
        run.save_predictions("oof", p)
        finish(run, config, prepared)
        test = prepared.slices[prepared.slices["split"] == "test"][key].unique()
        predict(run, prepared, "test", pd.DataFrame(0.5, pd.Index(test, name=key), p.columns))


def test_runs_on_slices_and_on_studies_stand_side_by_side(settings, tmp_path):
    write_runs(settings, "x/stage1/slices", SliceConfig(backbone="resnet18", targets="presence"), right=1)
    video = VideoConfig(kind="video", backbone="resnet18", targets="presence", frames=2)
    write_runs(settings, "x/stage1/studies", video, right=0)
    text = write_submission_folder(settings, tmp_path / "experiments/x", 1)
    out = settings.submissions / "x"
    assert sorted(path.name for path in out.iterdir()) == ["commands.txt", "report.html", "scores.json"]
    scores = read_json(out / "scores.json")
    assert scores["targets"] == "presence" and scores["data"] == "real"
    first, second = scores["members"].values()
    assert (first["unit"], first["rows"], first["patients"]) == ("image", 60, 12)
    assert (second["unit"], second["rows"], second["patients"]) == ("study", 12, 12)
    assert first["oof"] == pytest.approx(-np.log(0.9)) and second["oof"] == pytest.approx(-np.log(0.2))
    np.testing.assert_allclose(first["interval"], -np.log(0.9))
    assert first["baseline"] == pytest.approx(-0.4 * np.log(0.4) - 0.6 * np.log(0.6))
    assert first["heads"][0]["presence"]["counts"] == [36, 0, 0, 24]
    assert "60 slices" in text and "12 studies" in text and "submission:" not in text
    page = (out / "report.html").read_text()
    assert "x/stage1/studies" in page and "SYNTHETIC" not in page and "not a medical device" in page
    assert page.count("12 of 12 studies bleed") == 2  # slices 1 and 2 of every study do
    assert (
        page.count("roc-") == page.count("pr-") == 0 and page.count("ROC curves of") == 1
    )  # all studies bleed
    assert "python prepare_data.py" in page and "fold 1" in page and "all runs" in page


def test_triage_of_a_run_is_by_study(settings, tmp_path):
    def half_bleed(slices):
        return slices.assign(any=slices["any"].where(slices["study_id"] < "study06", 0))

    rewrite(settings.clean, "slices.parquet", half_bleed)
    write_runs(settings, "x/stage1/slices", SliceConfig(backbone="resnet18", targets="presence"), right=1)
    experiment = evaluate_target_experiment(settings, "x", EnsembleConfig(), PRESENCE)
    found = member_triage(experiment, "x/stage1/slices")
    assert (found.cases, found.positives) == (12, 6)  # of five slices each
    assert [(row.cases, row.found) for row in found.read] == [(1, 1), (2, 2), (3, 3), (4, 4), (6, 6)]
    assert [row.cases for row in found.needed] == [6, 6, 6]


def test_both_heads_are_in_the_score_and_in_the_report(settings, tmp_path):
    def located(slices):
        bleeds = slices["any"].fillna(0).eq(1).to_numpy()
        place = np.cumsum(bleeds) % 3
        return slices.assign(**{site: (bleeds & (place == k)).astype(int) for k, site in enumerate(SITES)})

    rewrite(settings.clean, "slices.parquet", located)
    config = SliceConfig(backbone="resnet18", targets="presence_and_location")
    write_runs(settings, "x/stage1/two", config, right=1)
    write_submission_folder(settings, tmp_path / "experiments/x", 1)
    (member,) = read_json(settings.submissions / "x/scores.json")["members"].values()
    assert member["oof"] == pytest.approx(-np.log(0.9) - np.log(0.6))
    assert member["heads"][1]["confusion"] == [[8, 0, 0], [0, 8, 0], [0, 0, 8]]
    assert member["shares"]["location"]["recall"] == [1, 1, 1] and member["leak"] is None
    page = (settings.submissions / "x/report.html").read_text()
    names = ("no presence", "presence", *SITES)
    assert all(f'<th scope="col">{name}</th>' in page for name in names) and ">called</th>" in page


def test_a_run_that_was_split_by_slice_is_called_leaky(settings, tmp_path):
    config = SliceConfig(backbone="resnet18", targets="presence", split="slice")
    write_runs(settings, "x/stage1/leaky", config, right=1)
    text = write_submission_folder(settings, tmp_path / "experiments/x", 1)
    (member,) = read_json(settings.submissions / "x/scores.json")["members"].values()
    leak = "leaky: split by slice; a patient may be in training and held-out"
    assert (
        member["leak"] == leak and leak in text.splitlines() and "x/stage1/leaky (leaky)  60 slices" in text
    )
    page = (settings.submissions / "x/report.html").read_text()
    assert leak in page and page.count("x/stage1/leaky (leaky)") > 2
    assert 'id="triage"' not in page and "#triage" not in page  # no whole study was held out


def test_targets_are_never_mixed(settings):
    write_runs(settings, "x/stage1/p", SliceConfig(backbone="resnet18", targets="presence"), right=1)
    run = Run("x/stage1/six", 0, settings)
    prepared = Prepared(settings.clean)
    run.save_predictions("oof", pd.DataFrame(0.5, pd.Index(["image00_0"], name="image_id"), list(LABELS)))
    finish(run, SliceConfig(backbone="resnet18"), prepared)
    with pytest.raises(UserError, match=r"different targets.*\(presence: x/stage1/p; .*six\)"):
        experiment_targets(settings, "x", EnsembleConfig())
    assert experiment_targets(settings, "x", EnsembleConfig(members=("x/stage1/six",))) == HEMORRHAGE
    assert experiment_targets(settings, "x", EnsembleConfig(members=("x/stage1/p",))) == PRESENCE
