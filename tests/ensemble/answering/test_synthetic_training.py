"""What was trained on synthetic images says so wherever it answers, with its training data long gone."""

import zipfile

import pytest

from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.prepared import Prepared
from src.ensemble.answering.answers import ON_SYNTHETIC, TrainedExperiment
from src.ensemble.answering.bundle import write_bundle
from src.ensemble.answering.export import export_bundle
from src.ensemble.answering.predictor import Predictor
from src.ensemble.answering.study_files import predict_studies
from src.files import read_json, write_json
from src.report.study.new_study_page import write_new_study_page
from tests.data.incoming.studies import write_study
from tests.ensemble.answering.sharp import sharp_predictor

BANNER = "Trained on SYNTHETIC images: probabilities say nothing about a patient"


def test_prepared_data_remember_the_generator_s_mark_beside_the_images(tmp_path):
    write_study(tmp_path / "raw")
    options = Options("dicom", size=64)
    prepare(tmp_path / "raw", tmp_path / "real", options)
    write_json(tmp_path / "raw" / "phantom.json", {})
    prepare(tmp_path / "raw", tmp_path / "synthetic", options)
    assert [Prepared(tmp_path / name).synthetic for name in ("real", "synthetic")] == [False, True]


@pytest.mark.parametrize("synthetic", [True, False])
def test_an_exported_experiment_says_what_it_was_trained_on(tmp_path, synthetic, caplog):
    trained = sharp_predictor(tmp_path, synthetic).experiment
    assert trained.synthetic == synthetic and not trained.runs[0].settings.raw.exists()
    path = export_bundle(trained.runs[0].settings, "sharp", tmp_path / "sharp.zip")
    card = zipfile.ZipFile(path).read("model_card.md").decode().splitlines()
    assert (
        card[2] == "**Trained on synthetic images: probabilities say nothing about a patient.**"
    ) == synthetic
    write_study(tmp_path / "study")
    out = tmp_path / "out"
    predict_studies(Predictor.load(path), tmp_path / "study", out, page=write_new_study_page)
    about = read_json(out / "predictions.json")
    assert next(iter(about.items())) == ("note", ON_SYNTHETIC if synthetic else None)
    assert about["synthetic"] == synthetic and (ON_SYNTHETIC in caplog.text) == synthetic
    assert (BANNER in (out / "study.html").read_text()) == synthetic


def test_runs_that_do_not_remember_are_known_by_the_data_they_lie_beside(tmp_path):
    run = sharp_predictor(tmp_path).experiment.runs[0]
    metrics = read_json(run.folder / "metrics.json")
    del metrics["synthetic"]
    write_json(run.folder / "metrics.json", metrics)
    assert not TrainedExperiment(run.settings, "sharp", "cpu").synthetic
    write_json(run.settings.raw / "phantom.json", {})
    trained = TrainedExperiment(run.settings, "sharp", "cpu")
    path = write_bundle(trained, {}, tmp_path / "sharp.zip")
    assert trained.synthetic and Predictor.load(path).experiment.synthetic
