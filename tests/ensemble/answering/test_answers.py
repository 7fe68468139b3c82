"""A trained experiment is asked about any data that fit; nothing is written into its run folders."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from src.config import parse_config
from src.data.prepared import Prepared
from src.ensemble.answering.answers import StudyHead, TrainedExperiment, spread
from src.ensemble.answering.known_patients import held_out_folds
from src.errors import UserError
from src.files import read_json, write_json
from src.labels import LABELS
from src.training.kinds import load_kind
from src.training.runs import Run
from tests.ensemble.tiny_experiment import CONFIGS, FOLDS, PIXELS
from tests.training.finished import finish
from tests.training.prepared import image_name, rewrite, study_name, write_clean


def everything_below(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_the_test_part_gets_the_mean_of_its_test_predictions_and_their_blend(
    trained,
):
    settings, blend = trained
    prepared, before = Prepared(settings.clean), everything_below(settings.models)
    asked = [image_name(7, 3), image_name(6, 0), image_name(7, 1)]
    answers = TrainedExperiment(settings, "tiny", "cpu", keep=True).predict(prepared, asked)
    assert everything_below(settings.models) == before
    expected = {}
    for name in CONFIGS:
        folds = [Run(name, k, settings).predictions("test") for k in FOLDS]
        expected[name], answer = sum(folds) / 2, answers.members[name]
        assert list(answer.slices.index) == asked
        np.testing.assert_allclose(answer.slices, expected[name].loc[asked], atol=1e-6)
        halves = np.abs(folds[0] - folds[1]).loc[asked] / np.sqrt(2)  # the sample deviation of two values
        np.testing.assert_allclose(answer.slice_spread, halves, atol=1e-6)
        largest = expected[name].loc[asked].groupby([study_name(7), study_name(6), study_name(7)]).max()
        np.testing.assert_allclose(answer.studies, largest, atol=1e-6)
        assert list(answer.studies.index) == [study_name(6), study_name(7)]
    assert answers.combined == "blend"
    np.testing.assert_allclose(answers.blend.slices, blend.apply(expected).loc[asked], atol=1e-6)


def test_own_training_images_are_answered_by_the_fold_that_held_them_out(trained):
    settings, _ = trained
    asked = [image_name(study, order) for study in (0, 1) for order in range(5)]
    answers = TrainedExperiment(settings, "tiny", "cpu").predict(Prepared(settings.clean), asked)
    for name in CONFIGS:
        held_out = pd.concat([Run(name, k, settings).predictions("oof") for k in FOLDS])
        np.testing.assert_allclose(answers.members[name].slices, held_out.loc[asked], atol=2e-5)
        assert answers.members[name].slice_spread.isna().all(axis=None)


def test_a_head_for_studies_answers_beside_the_maximum(trained):
    settings, _ = trained
    answers = TrainedExperiment(settings, "tiny", "cpu").predict(Prepared(settings.clean))
    folds = [Run("tiny/stage2/aligned", k, settings).study_head() for k in FOLDS]
    test = [study_name(6), study_name(7)]
    np.testing.assert_allclose(answers.head.studies.loc[test], sum(folds).loc[test] / 2, atol=1e-6)
    halves = np.abs(folds[0] - folds[1]).loc[test] / np.sqrt(2)
    np.testing.assert_allclose(answers.head.spread.loc[test], halves, atol=1e-6)
    assert answers.head.spread.loc[study_name(0)].isna().all()  # trained on: the fold that held it out alone
    assert list(answers.head.studies.index) == list(answers.blend.studies.index)


def test_the_head_s_answer_is_the_mean_over_members_of_a_fold_then_over_folds():
    tables = {k: [pd.DataFrame(value, ["s"], LABELS) for value in values] for k, values in SAID.items()}
    head = StudyHead.of(tables)
    assert (head.studies.loc["s"] == 0.45).all()
    np.testing.assert_allclose(head.spread.loc["s"], np.std([0.3, 0.6], ddof=1))
    assert StudyHead.of({0: [], 1: []}) is None


SAID = {0: [0.2, 0.4], 1: [0.6]}


def test_strangers_are_answered_by_every_fold_without_the_training_data(trained, elsewhere):
    settings, blend = trained
    prepared = Prepared(elsewhere.clean)
    answers = TrainedExperiment(elsewhere, "tiny", "cpu").predict(prepared)
    assert len(answers.blend.slices) == 60 and not answers.left_out
    # the pixels are those of the studies of the training data with the same number
    again = TrainedExperiment(settings, "tiny", "cpu").predict(Prepared(settings.clean), [image_name(7, 2)])
    for name, answer in answers.members.items():
        one = answer.slices.loc[["other/image07_2".replace("0", "o")]]
        np.testing.assert_allclose(one, again.members[name].slices, atol=1e-5)
        assert (answer.slice_spread > 0).any(axis=None)
    np.testing.assert_allclose(
        answers.blend.slices, blend.apply({n: a.slices for n, a in answers.members.items()}), atol=1e-12
    )


def test_patients_are_known_by_the_images_that_folds_held_out(trained, elsewhere):
    settings, _ = trained
    runs = [Run("tiny/stage1/a", k, settings) for k in FOLDS]

    def mixed(slices):  # study 3 of the training data under a path, and one more study of its patient
        own = slices["study_id"] == "other/" + study_name(3).replace("0", "o")
        slices.loc[own, "image_id"] = [f"ct/{image_name(3, order)}" for order in range(5)]
        patient = slices.loc[own, "patient_id"].iloc[0]
        slices.loc[slices["study_id"].str.endswith("study11"), "patient_id"] = patient
        return slices

    rewrite(elsewhere.clean, "slices.parquet", mixed)
    held_out = held_out_folds(runs, Prepared(elsewhere.clean))
    assert set(held_out.index[held_out != -1]) == {"other/studyo3", "other/study11"}
    assert held_out["other/studyo3"] == held_out["other/study11"] == 3 % 2
    alone = held_out_folds(runs[:1], Prepared(settings.clean))  # fold 1 is not there to answer
    assert [alone[study_name(k)] for k in range(8)] == [0, -2, 0, -2, 0, -2, -1, -1]


def test_grown_data_keep_out_what_a_missing_fold_held_out(trained, tmp_path):
    settings, _ = trained
    write_clean(tmp_path / "clean", studies=12)  # 9 training studies, folds by their order as before
    grown = Prepared(tmp_path / "clean")
    runs = [Run("tiny/stage1/a", 0, settings)]
    assert held_out_folds(runs, grown).tolist() == [0, -2, 0, -2, 0, -2, 0, -2, 0, -1, -1, -1]


def test_what_no_fold_may_answer_is_left_out_and_only_that_raises(trained, tmp_path, caplog):
    settings, _ = trained
    shutil.copytree(settings.models, tmp_path / "models")
    for name in CONFIGS:
        shutil.rmtree(tmp_path / "models" / name / "fold1")
    alone = replace(settings, models=tmp_path / "models")
    with pytest.raises(UserError, match="what it was trained from has changed"):  # stage 2 needs both folds
        TrainedExperiment(alone, "tiny", "cpu")
    for stage2 in (tmp_path / "models/tiny/stage2").iterdir():
        shutil.rmtree(stage2)
    alone = replace(alone, submissions=tmp_path)
    experiment = TrainedExperiment(alone, "tiny", "cpu")
    asked = [image_name(1, 0), image_name(2, 0)]
    answers = experiment.predict(Prepared(settings.clean), asked)
    assert (answers.left_out, list(answers.blend.slices.index)) == ([asked[0]], asked[1:])
    assert "1 of 2 images are left out" in caplog.text
    with pytest.raises(UserError, match="no complete fold held out the patients of the 1 images"):
        experiment.predict(Prepared(settings.clean), asked[:1])


def test_without_a_blend_the_mean_of_the_members_answers_and_says_so(trained, tmp_path, caplog):
    experiment = TrainedExperiment(replace(trained[0], submissions=tmp_path), "tiny", "cpu")
    answers = experiment.predict(Prepared(trained[0].clean), [image_name(7, 0)])
    assert answers.combined == "mean" and "the mean of the members answers" in caplog.text
    mean = sum(answer.slices for answer in answers.members.values()) / len(CONFIGS)
    np.testing.assert_allclose(answers.blend.slices, mean, rtol=1e-12)


def test_kept_outputs_and_networks_are_not_made_again(trained, elsewhere, tmp_path):
    experiment = TrainedExperiment(elsewhere, "tiny", "cpu", keep=True)
    prepared = Prepared(elsewhere.clean)
    first = experiment.predict(prepared, folder=tmp_path / "kept")
    written = everything_below(tmp_path / "kept")
    networks = dict(experiment.loaded)
    again = TrainedExperiment(elsewhere, "tiny", "cpu").predict(prepared, folder=tmp_path / "kept")
    assert {p: t for p, t in everything_below(tmp_path / "kept").items() if p.suffix == ".parquet"} == {
        p: t for p, t in written.items() if p.suffix == ".parquet"
    }
    pd.testing.assert_frame_equal(again.blend.slices, first.blend.slices)
    experiment.predict(prepared)
    assert len(networks) == 10 and all(experiment.loaded[key] is kept for key, kept in networks.items())


def test_a_question_that_was_killed_goes_on_where_it_was(trained, elsewhere, tmp_path, monkeypatch):
    prepared, place = Prepared(elsewhere.clean), tmp_path / "kept"
    whole = TrainedExperiment(elsewhere, "tiny", "cpu").predict(prepared)
    real, calls = Run.save_predictions, []

    def mortal(run, *arguments, **named):
        calls.append(run)
        if len(calls) == 4:
            raise KeyboardInterrupt
        real(run, *arguments, **named)

    monkeypatch.setattr(Run, "save_predictions", mortal)
    with pytest.raises(KeyboardInterrupt):
        TrainedExperiment(elsewhere, "tiny", "cpu").predict(prepared, folder=place)
    count = len(calls)
    again = TrainedExperiment(elsewhere, "tiny", "cpu").predict(prepared, folder=place)
    pd.testing.assert_frame_equal(again.blend.slices, whole.blend.slices)
    assert count == 4 and len(calls) - count < 10


def test_what_cannot_be_answered_is_named_with_its_remedy(trained, elsewhere, tmp_path):
    settings, _ = trained
    with pytest.raises(UserError, match=r"1 of the images asked for are not there .*nobody"):
        TrainedExperiment(settings, "tiny", "cpu").predict(Prepared(settings.clean), ["nobody"])
    write_clean(tmp_path / "large", size=128)
    with pytest.raises(UserError, match="size 64, here 128; prepare these data"):
        TrainedExperiment(settings, "tiny", "cpu").predict(Prepared(tmp_path / "large"))
    with pytest.raises(UserError, match="experiments/nothing: no such experiment"):
        TrainedExperiment(settings, "nothing", "cpu")
    values = read_json(settings.submissions / "tiny/blend.json")
    values["weights"]["external/friend"] = values["weights"]["tiny/stage1/a"]
    write_json(tmp_path / "tiny/blend.json", values)
    with pytest.raises(UserError, match="external/friend was predicted elsewhere"):
        TrainedExperiment(replace(settings, submissions=tmp_path), "tiny", "cpu")


def test_runs_of_other_targets_or_other_data_are_refused(trained, tmp_path):
    settings, _ = trained
    kind = load_kind("slice")
    shutil.copytree(settings.models / "tiny/stage1/a", tmp_path / "models/tiny/stage1/a")
    own = replace(settings, models=tmp_path / "models", submissions=tmp_path, checkpoints=tmp_path / "check")
    other = Run("tiny/stage1/c", 0, own)
    presence = parse_config(kind.config, PIXELS | {"targets": "presence"}, "c")
    other.save_predictions("oof", Run("tiny/stage1/a", 0, own).predictions("oof")[["any"]])
    finish(other, presence, Prepared(settings.clean))
    with pytest.raises(UserError, match="predicts presence; only runs that predict the six labels"):
        TrainedExperiment(own, "tiny", "cpu")
    shutil.rmtree(other.folder)
    write_clean(tmp_path / "other", studies=12)
    other.save_predictions("oof", Run("tiny/stage1/a", 0, own).predictions("oof"))
    finish(other, parse_config(kind.config, PIXELS, "c"), Prepared(tmp_path / "other"))
    with pytest.raises(UserError, match="was trained on other data than"):
        TrainedExperiment(own, "tiny", "cpu")


def test_spread_is_the_sample_deviation_over_the_folds_that_answered():
    index = pd.Index(["a", "b", "c"], name="image_id")
    folds = [
        pd.DataFrame(value, index[:rows], list(LABELS)) for value, rows in ((0.1, 3), (0.3, 2), (0.8, 1))
    ]
    expected = [np.std([0.1, 0.3, 0.8], ddof=1), np.std([0.1, 0.3], ddof=1), np.nan]
    np.testing.assert_allclose(spread(folds, index)["any"], expected)
    assert spread(folds[:1], index).isna().all(axis=None)
