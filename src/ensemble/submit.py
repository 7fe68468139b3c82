"""The submission of an experiment: its blend for every image of the contest's sample submission; where the
data set is a table, or was prepared with --limit, for every test image.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from ..data.contest_csv import COLUMNS, TABLES, LongRows, find_contest_files
from ..data.source import Source
from ..errors import UserError
from ..evaluation.submission import read_sample, validate_submission, write_submission
from ..labels import LABELS
from .experiment import Experiment
from .quarantined import fill_quarantined

log = logging.getLogger("ich")


def write_experiment_submission(experiment: Experiment, raw: Path, path: Path) -> pd.DataFrame | None:
    """Write and check the submission, in the order of the sample; give the images that were filled in
    (image_id, cause, value). Of a data set without test part there is nothing to submit: None.
    """
    test = experiment.slices.loc[experiment.slices["split"] == "test", "image_id"]
    if test.empty:
        return None
    prepared = experiment.prepared
    if (limit := prepared.settings.get("limit")) is not None:
        text = "%s: prepared with --limit %d: its %d test images are submitted, the contest asks for all"
        log.warning(text, prepared, limit, len(test))
    if prepared.settings.get("dataset") == "table" or limit is not None:
        sample = rows_of(pd.Index(test), prepared.folder)
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


def sample_submission(raw: Path) -> Source:
    """The contest's sample submission, wherever step 1 finds it: below `raw`, or in its zip archive."""
    if (direct := raw / TABLES["test"]).is_file():  # no need to list 874,035 images
        return direct
    found = find_contest_files(raw)[1].get("test")
    if found is None:
        raise UserError(f"{raw}: no {TABLES['test']} there, below it or in a zip archive; put it there")
    return found
