"""The submission of an experiment: its blend for every image of the sample submission in RAW_DATA_DIR, of a
table as data set for every test image.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from ..data.contest_csv import COLUMNS, LongRows
from ..errors import UserError
from ..evaluation.submission import read_sample, validate_submission, write_submission
from ..labels import LABELS
from .experiment import Experiment
from .quarantined import fill_quarantined


def write_experiment_submission(experiment: Experiment, raw: Path, path: Path) -> pd.DataFrame | None:
    """Write and check the submission, in the order of the sample; give the images that were filled in
    (image_id, cause, value). Of a data set without test part there is nothing to submit: None.
    """
    test = experiment.slices.loc[experiment.slices["split"] == "test", "image_id"]
    if test.empty:
        return None
    if experiment.prepared.settings.get("dataset") == "table":
        sample = rows_of(pd.Index(test), experiment.prepared.folder)
    else:
        sample = read_sample(sample_submission(raw))
    probabilities, filled = fill_quarantined(experiment, sample.image_ids)
    write_submission(path, sample, probabilities, experiment.config.submission_eps)
    validate_submission(path, sample)
    return filled


def rows_of(image_ids: pd.Index, source: Path) -> LongRows:
    """What a sample submission of these images would hold."""
    image = np.repeat(np.arange(len(image_ids)), len(LABELS))
    label = np.tile(np.arange(len(LABELS), dtype=np.int8), len(image_ids))
    return LongRows(source, COLUMNS, image_ids, image, label, np.full(len(image), 0.5))


def sample_submission(raw: Path) -> Path:
    """The sample submission as the contest names it."""
    found = sorted(raw.glob("*sample_submission.csv"))
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise UserError(
            f"{raw}: expected one *sample_submission.csv, found {names}; put the contest's file there"
        )
    return found[0]
