"""Where the slice classifiers of an experiment find their evidence in a new study: Grad-CAM, on request.

maps = study_maps(predictor, result, "subdural")
"""

from typing import NamedTuple

import numpy as np

from ...ensemble.answering.predictor import Predictor
from ...ensemble.answering.study_result import StudyResult
from ...errors import UserError
from ...models.slice_classifier import build_slice_classifier
from ...training.engine.devices import choose_device
from ...training.kinds import kind_of
from ...training.runs import Run
from ...training.slices.slice_config import SliceConfig
from ..explainers import Explainer
from ..gradcam import normalise


class StudyMaps(NamedTuple):
    """Slices from below upwards, the part that the networks see, as sharp as it is stored."""

    hu: np.ndarray  # (slices, h, w) int16
    maps: np.ndarray  # (slices, h, w) float32, 0 to 1 over the study


def study_maps(predictor: Predictor, result: StudyResult, label: str = "any") -> StudyMaps:
    """The maps of one label: the mean over the folds of all slice classifiers, each divided by its largest
    value in the study. UserError where no member reads single slices, or for an unknown label.
    """
    runs = [run for run in predictor.experiment.runs if kind_of(run).config is SliceConfig]
    if not runs:
        raise UserError(
            f"{predictor.experiment.name}: no member classifies slices, so there is no map of one"
        )
    shown = [_of_fold(predictor, run, result, label) for run in runs]
    shapes = {maps.shape for _, maps in shown}
    if len(shapes) > 1:
        raise UserError(f"{predictor.experiment.name}: its networks see different parts of a slice")
    together = np.mean([normalise(maps, (0, 1, 2))[0] for _, maps in shown], axis=0)
    return StudyMaps(shown[0][0], together.astype(np.float32))


def _of_fold(
    predictor: Predictor, run: Run, result: StudyResult, label: str
) -> tuple[np.ndarray, np.ndarray]:
    """Slices and maps, not normalised, (slices, h, w)."""
    config = run.read_config(SliceConfig)
    if label not in config.predicted.columns:
        raise UserError(f"{label}: no such label; there are {', '.join(config.predicted.columns)}")
    model = run.load_weights(build_slice_classifier(config, pretrained=False))
    device = choose_device(predictor.experiment.device)
    explainer = Explainer(model, result.study.prepared, config, device)
    found = list(explainer.slices(list(result.study.slices.index)))
    column = explainer.columns.index(label)
    return np.stack([one.hu for one in found]), np.stack([one.maps[column] for one in found])
