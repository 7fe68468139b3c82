"""study.html of a new study says what predictions.csv says, of the same slices."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from src.ensemble.answering.answers import TrainedExperiment
from src.ensemble.answering.predictor import Predictor
from src.ensemble.answering.study_files import predict_studies
from src.evaluation.operating import operating_points
from src.files import write_json
from src.labels import LABELS
from src.report.study.new_study_page import MAPPED, shown_study, write_new_study_page
from src.report.study.study_page import Point, points_of
from tests.data.incoming.studies import write_study
from tests.ensemble.answering.sharp import sharp_predictor


@pytest.fixture(scope="session")
def predictor(trained):
    return Predictor(TrainedExperiment(trained[0], "tiny", "cpu", keep=True, quiet=True))


@pytest.fixture
def study(tmp_path):
    write_study(tmp_path / "study")
    return tmp_path / "study"


def test_the_page_shows_the_answer_slice_by_slice(predictor, study):
    result = predictor.study(study)
    shown = shown_study(result, predictor)
    table = result.probabilities[result.probabilities["level"] == "slice"]
    np.testing.assert_array_equal(shown.slices, table[list(LABELS)])
    assert list(shown.slices.index) == list(table["image_id"])
    np.testing.assert_array_equal(shown.positions_mm, table["position_mm"])
    np.testing.assert_array_equal(shown.hu[3], result.study.prepared.volumes.slice(table["image_id"].iloc[3]))
    assert shown.axes == ((1, 0, 0), (0, 1, 0))
    row = result.study.prepared.slices.iloc[0]
    side = row["pixel_spacing_mm"] * row["square_side"] / shown.hu.shape[1]
    assert shown.spacing_mm == (side, side)


def test_every_label_has_maps_of_its_strongest_slices(study, tmp_path):
    sharp = sharp_predictor(tmp_path)
    shown = shown_study(sharp.study(study), sharp)
    for label in LABELS:
        own = [image for image, of in shown.maps if of == label]
        assert set(own) == set(shown.slices[label].nlargest(MAPPED).index)


def test_where_there_can_be_no_maps_the_page_does_without(predictor, study, caplog):
    assert not shown_study(predictor.study(study), predictor).maps
    assert "no maps on the page: " in caplog.text
    assert not shown_study(predictor.study(study), predictor, maps=False).maps


def test_the_page_lies_beside_the_predictions_and_names_nobody_unasked(predictor, tmp_path):
    secrets = {"PatientName": "Doe^Jane", "StudyDate": "20191107", "AccessionNumber": "ACC4711"}
    study = tmp_path / "named"
    write_study(study, **secrets, SeriesDescription="HEAD of Jane, 20191107")
    for identified in (False, True):
        out = tmp_path / f"out{identified}"
        page = partial(write_new_study_page, identified=identified, maps=False)
        predict_studies(predictor, study, out, page=page)
        text = (out / "study.html").read_text()
        assert "not a medical device" in text and ("HEAD of" in text) == identified
        for secret in ("1.2.1", "Doe", "Jane", "20191107", "ACC4711"):
            assert (secret in text) == identified


def test_operating_points_are_those_that_step_5_left(tmp_path):
    y, p = np.zeros((20, 6), bool), np.tile(np.linspace(0.05, 1, 20)[:, None], 6)
    y[15:] = True  # at .8 and above
    tables = (pd.DataFrame(values, columns=list(LABELS)) for values in (y, p))
    runs = [SimpleNamespace(settings=SimpleNamespace(submissions=tmp_path))]
    predictor = Predictor(SimpleNamespace(name="x", runs=runs))
    assert points_of(predictor.operating_points) == {}
    write_json(tmp_path / "x" / "operating_points.json", operating_points(*tables))
    assert points_of(predictor.operating_points)["any"] == Point(pytest.approx(0.8), 1.0, 1.0)


def test_a_label_without_cases_has_no_point():
    absent = {"positives": 0, "negatives": 9}
    unreached = {"specificity_90": {"threshold": None, "sensitivity": [0.0], "specificity": [1.0]}}
    assert not points_of({"any": absent, "subdural": unreached})
