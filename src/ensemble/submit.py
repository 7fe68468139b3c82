"""The submission of an experiment: its blend for every image of the sample submission in RAW_DATA_DIR."""

from pathlib import Path

import pandas as pd

from ..errors import UserError
from ..evaluation.submission import read_sample, validate_submission, write_submission
from .experiment import Experiment
from .quarantined import fill_quarantined


def write_experiment_submission(experiment: Experiment, raw: Path, path: Path) -> pd.DataFrame | None:
    """Write and check the submission, in the order of the sample; give the images that were filled in
    (image_id, cause, value). Of a data set without test part there is nothing to submit: None.
    """
    if not (experiment.slices["split"] == "test").any():
        return None
    sample = read_sample(sample_submission(raw))
    probabilities, filled = fill_quarantined(experiment, sample.image_ids)
    write_submission(path, sample, probabilities, experiment.config.submission_eps)
    validate_submission(path, sample)
    return filled


def sample_submission(raw: Path) -> Path:
    """The sample submission as the contest names it."""
    found = sorted(raw.glob("*sample_submission.csv"))
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise UserError(
            f"{raw}: expected one *sample_submission.csv, found {names}; put the contest's file there"
        )
    return found[0]
