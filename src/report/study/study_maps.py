"""Where the slice classifiers of an experiment find their evidence in a new study: Grad-CAM, on request.

maps = study_maps(predictor, result)["subdural"]
"""

from collections.abc import Sequence

import numpy as np

from ...data.square import Square, lay_back
from ...ensemble.answering.predictor import Predictor
from ...ensemble.answering.study_result import StudyResult
from ...errors import UserError
from ...labels import LABELS
from ...models.slice_classifier import SliceClassifier, build_slice_classifier
from ...training.engine.devices import choose_device
from ...training.kinds import kind_of
from ...training.runs import Run, keep
from ...training.slices.slice_config import SliceConfig
from ..maps.cam_pictures import normalise
from ..maps.explainers import Explainer


def study_maps(
    predictor: Predictor, result: StudyResult, images: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Label -> (slices, size, size) float32, 0 to 1, in the pixels of `StudyResult.volume`.

    The mean over the folds of all slice classifiers, each divided by its largest value in these slices; 0
    where a network does not look. images: image ids, by default all from below upwards. UserError where no
    member reads single slices.
    """
    experiment = predictor.experiment
    runs = [run for run in experiment.runs if kind_of(run).config is SliceConfig]
    if not runs:
        raise UserError(f"{experiment.name}: no member classifies slices, so there is no map of one")
    asked = list(result.study.slices.index if images is None else images)
    maps = np.zeros((len(LABELS), len(asked), *[result.study.prepared.size] * 2), np.float32)
    for run in runs:
        maps += normalise(_of_fold(predictor, run, result, asked), (1, 2, 3))[0] / len(runs)
    return dict(zip(LABELS, maps, strict=True))


def _of_fold(predictor: Predictor, run: Run, result: StudyResult, images: list[str]) -> np.ndarray:
    """(labels, slices, size, size), not normalised: of all labels by one pass of the network."""
    config = run.read_config(SliceConfig)
    device = choose_device(predictor.experiment.device)

    def load() -> SliceClassifier:
        return run.load_weights(build_slice_classifier(config, pretrained=False)).to(device)

    model = keep(predictor.experiment.loaded, run, load)
    explainer = Explainer(model, result.study.prepared, config, device)
    return np.stack([explainer.as_stored(one) for one in explainer.slices(images)], axis=1)


def maps_in_source(maps: np.ndarray, result: StudyResult, images: Sequence[str]) -> list[np.ndarray]:
    """(slices, size, size) of these images -> each (rows, columns) in the pixels of its own file; of a volume
    those of its slice, patient's right to the left and front to back.
    """
    rows = result.study.prepared.slices.set_index("image_id").loc[list(images)]
    return [
        lay_back(one, Square(row.square_top, row.square_left, row.square_side), (row.rows, row.columns))
        for one, row in zip(maps, rows.itertuples(), strict=True)
    ]
