"""Maps of a new study: of all labels at once, in the pixels of what is shown and of what came in."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from src.data.incoming.find import find_studies
from src.data.incoming.study import prepare_study
from src.ensemble.answering.answers import TrainedExperiment
from src.ensemble.answering.predictor import Predictor
from src.ensemble.answering.study_result import SPREADS
from src.errors import UserError
from src.labels import LABELS
from src.models.cam_targets import CamTarget, as_it_is
from src.report.maps.cam_pictures import normalise
from src.report.maps.explainers import Explainer
from src.report.maps.gradcam import grad_cam
from src.report.study.study_maps import maps_in_source, study_maps
from src.training.slices.slice_batches import plain_batches
from src.training.slices.slice_config import SliceConfig
from tests.data.incoming.studies import volume, write_study
from tests.ensemble.answering.sharp import sharp_predictor

SLICE, ROW, COLUMN = 12, 52, 97  # of the marker, in pixels of the file


@pytest.fixture
def study(tmp_path):
    write_study(tmp_path / "study")
    return tmp_path / "study"


def test_maps_of_a_study_lie_on_its_slices(study, tmp_path):
    predictor = sharp_predictor(tmp_path)
    result = predictor.study(study)
    assert result.answers.combined == "mean" and result.probabilities[list(SPREADS)].isna().all(axis=None)
    maps = study_maps(predictor, result)
    assert list(maps) == list(LABELS)
    for one in maps.values():
        assert one.shape == result.volume.shape and one.dtype == np.float32
        assert one.min() >= 0 and (one.max() == pytest.approx(1) or not one.any())
    first, second, *_ = [one for one in maps.values() if one.any()]
    assert not np.array_equal(first, second)


def test_one_pass_gives_the_maps_that_a_pass_for_every_label_gives(study, tmp_path, monkeypatch):
    predictor = sharp_predictor(tmp_path, batch_size=4)
    result = predictor.study(study)
    images = list(result.study.slices.index[3:14])
    passes = []
    forward = type(model_of(predictor)).forward
    monkeypatch.setattr(type(model_of(predictor)), "forward", lambda *a: passes.append(1) or forward(*a))
    maps = study_maps(predictor, result, images)
    assert len(passes) == 3  # of 4, 4 and 3 slices
    config = predictor.experiment.runs[0].read_config(SliceConfig)
    for label in LABELS:
        inputs = [[b["hu"], b["windows"]] for b in plain_batches(result.study.prepared, images, config, 4)]
        alone = np.concatenate([grad_cam(model_of(predictor), i, [label]).maps[0] for i in inputs])
        np.testing.assert_allclose(maps[label], normalise(alone, (0, 1, 2))[0], rtol=0, atol=1e-6)


def model_of(predictor):
    return predictor.experiment.loaded["sharp/stage1/a fold 0"]


def test_where_no_member_reads_single_slices_there_is_no_map(trained, study):
    predictor = Predictor(TrainedExperiment(trained[0], "tiny", "cpu", keep=True, quiet=True))
    result = predictor.study(study)
    predictor.experiment.runs = [run for run in predictor.experiment.runs if "stage1/a" not in run.name]
    with pytest.raises(UserError, match="tiny: no member classifies slices, so there is no map of one"):
        study_maps(predictor, result)


class Bright(nn.Module):
    """Its map is what is brighter than 1500 HU."""

    def __init__(self):
        super().__init__()
        self.features = nn.ReLU()

    def forward(self, hu, windows):
        embeddings = self.features(hu[:, :1].float() - 1500).mean((2, 3))
        return embeddings.expand(-1, len(LABELS)), embeddings

    def cam_targets(self):
        return {"features": CamTarget(self.features, as_it_is)}


@pytest.mark.parametrize("prepared_crop", [False, True])
@pytest.mark.parametrize("crop", [1.0, 0.75, "head"])
def test_a_marker_in_a_file_is_found_in_its_map(tmp_path, prepared_crop, crop):
    """Padded from 128 x 160 pixels to a square, cut to the head, resized to 64, cut again to 48."""
    hu = np.pad(volume(), ((0, 0), (0, 0), (10, 22)), constant_values=-1000)
    rows, columns = np.mgrid[:128, :160]
    hu[SLICE][np.hypot(rows - ROW, columns - COLUMN) < 5] = 3000
    write_study(tmp_path / "study", hu, PixelSpacing=["1.7", "1.7"])
    predictor = sharp_predictor(tmp_path, crop=crop, image_size=48)
    predictor.experiment.loaded["sharp/stage1/a fold 0"] = Bright()
    (found,) = find_studies(tmp_path / "study", tmp_path)
    geometry = predictor.geometry | {"crop": prepared_crop}
    result = SimpleNamespace(study=prepare_study(found, geometry, tmp_path / "clean"))
    image = result.study.slices.index[SLICE]
    maps = study_maps(predictor, result, [image])["any"]
    (shown,) = maps
    stored = result.study.prepared.volumes.slice(image)
    assert np.hypot(*(center(shown) - center(np.maximum(stored - 1500.0, 0)))) < 0.3
    (source,) = maps_in_source(maps, result, [image])
    assert source.shape == (128, 160)
    assert np.hypot(*(center(source) - (ROW, COLUMN))) < 1
    inside = np.hypot(rows - ROW, columns - COLUMN) < 10
    assert source[~inside].max() < 0.05 < source[ROW, COLUMN]


def center(weights):
    return np.array(
        [np.average(axis, weights=weights) for axis in np.mgrid[: len(weights), : weights.shape[1]]]
    )


def test_a_network_that_sees_a_part_says_nothing_of_the_rest(study, tmp_path):
    predictor = sharp_predictor(tmp_path, crop=0.5)
    result = predictor.study(study)
    config = predictor.experiment.runs[0].read_config(SliceConfig)
    explainer = Explainer(model_of(predictor), result.study.prepared, config, torch.device("cpu"))
    (one,) = explainer.slices([result.study.slices.index[9]])
    stored = explainer.as_stored(one)
    assert stored.shape == (6, 64, 64) and stored[:, 16:48, 16:48].any()
    outside = np.ones((64, 64), bool)
    outside[16:48, 16:48] = False
    assert not stored[:, outside].any()
