"""Pages of the studies on which the blend does worst, beside the report."""

import hashlib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed

from ...ensemble.experiment import Experiment
from ...errors import UserError
from ...evaluation.hardest import Hardest
from ...labels import LABELS
from ..data_overview import is_gray

log = logging.getLogger("ich")
FOLDER = "studies"  # beside report.html
KEPT_APART = "by networks that were not trained on this patient"


def write_hardest_pages(
    out: Path, experiment: Experiment, hardest: Hardest, points: Mapping[str, Any], most: int, jobs: int = 1
) -> dict[str, str]:
    """Write a page for up to `most` studies, the worst of every kind first: study_id -> address seen from
    the report. Without prepared volumes, or of pictures, which have no HU to look through, there is none.

    points: `labels` of operating_points.json. The name of a page is that of its study, hashed.
    """
    chosen = hardest.study_ids[:most]
    if chosen and is_gray(experiment.slices):
        log.warning("no pages of studies: the images have no Hounsfield units")
        return {}
    addresses = {
        study: f"{FOLDER}/{hashlib.sha256(study.encode()).hexdigest()[:12]}.html" for study in chosen
    }
    tasks = [delayed(_write)(out / path, experiment, study, points) for study, path in addresses.items()]
    try:
        Parallel(jobs, prefer="threads")(tasks)
    except (UserError, FileNotFoundError) as error:
        log.warning("no pages of studies: %s", error)
        return {}
    return addresses


def remove_other_pages(out: Path, addresses: Iterable[str]) -> None:
    """Delete the pages of an earlier report that this one does not lead to."""
    kept = {out / address for address in addresses}
    for path in (out / FOLDER).glob("*.html"):
        if path not in kept:
            path.unlink()
    if (out / FOLDER).is_dir() and not any((out / FOLDER).iterdir()):
        (out / FOLDER).rmdir()


def _write(path: Path, experiment: Experiment, study_id: str, points: Mapping[str, Any]) -> None:
    from ..study.study_page import ShownStudy, pixel_mm, points_of, write_study_page

    prepared, oof = experiment.prepared, experiment.blend.oof
    images = [image for image in prepared.volumes.study_images(study_id) if image in oof.index]
    slices = oof.loc[images, list(LABELS)]
    positions = experiment.slices.set_index("image_id")["position_mm"]
    shown = ShownStudy(
        hu=prepared.volumes.slices(images),
        slices=slices,
        study=slices.max(),
        positions_mm=positions.loc[images].to_numpy(float),
        spacing_mm=pixel_mm(prepared, images[0]),
        points=points_of(points),
        labels=experiment.labels.loc[images, list(LABELS)],
        back=("../report.html#hardest", f"Report of {experiment.name}"),
        answered_by=f"the blend of {experiment.name}, {experiment.leak or KEPT_APART}",
        synthetic=experiment.synthetic,
    )
    write_study_page(path, shown)
