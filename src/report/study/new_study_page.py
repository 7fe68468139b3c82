"""study.html of a new study: what an experiment answered, with the slices to look through."""

import logging
from pathlib import Path

import numpy as np

from ...ensemble.answering.predictor import Predictor
from ...ensemble.answering.study_result import StudyResult
from ...errors import UserError
from ...labels import LABELS
from .study_maps import study_maps
from .study_page import ShownStudy, pixel_mm, points_of, write_study_page

log = logging.getLogger("ich")
PAGE = "study.html"
MAPPED = 3  # slices of a label, the strongest ones


def write_new_study_page(
    result: StudyResult, predictor: Predictor, folder: Path, identified: bool = False, maps: bool = True
) -> None:
    """Write the page beside predictions.csv. maps: with Grad-CAM of the strongest slices of every label."""
    shown = shown_study(result, predictor, maps)
    write_study_page(folder / PAGE, shown, identified)


def shown_study(result: StudyResult, predictor: Predictor, maps: bool = True) -> ShownStudy:
    """What the page shows of an answer."""
    blend, slices = result.answers.blend, result.study.slices
    return ShownStudy(
        hu=result.volume,
        slices=blend.slices.loc[slices.index, list(LABELS)],
        spread=blend.slice_spread.loc[slices.index, list(LABELS)],
        study=blend.studies.iloc[0],
        study_spread=blend.study_spread.iloc[0],
        positions_mm=slices["position_mm"].to_numpy(np.float64),
        spacing_mm=pixel_mm(result.study.prepared, slices.index[0]),
        axes=result.study.axes,
        points=points_of(predictor.operating_points),
        maps=_strongest_maps(result, predictor) if maps else {},
        series=result.study.series if len(result.study.series) else None,
        left_out=result.study.left_out,
        warnings=result.warnings,
        answered_by=f"{predictor.experiment.name}, {len(predictor.experiment.runs)} folds of "
        f"{len(predictor.experiment.members)} networks",
        synthetic=predictor.experiment.synthetic,
        identity={"study": result.study_id, **result.study.identity},
    )


def _strongest_maps(result: StudyResult, predictor: Predictor) -> dict[tuple[str, str], np.ndarray]:
    """(image_id, label) -> map; nothing, and a word why, where there can be none."""
    slices = result.answers.blend.slices.loc[result.study.slices.index]
    strongest = {label: slices[label].nlargest(MAPPED).index for label in LABELS}
    images = [image for image in slices.index if any(image in own for own in strongest.values())]
    try:
        maps = study_maps(predictor, result, images)
    except UserError as error:
        log.warning("no maps on the page: %s", error)
        return {}
    place = {image: number for number, image in enumerate(images)}
    return {(image, label): maps[label][place[image]] for label in LABELS for image in strongest[label]}
