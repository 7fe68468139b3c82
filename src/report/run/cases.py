"""What the blend says of slices and of whole studies, with their labels and patients."""

from typing import NamedTuple

import pandas as pd

from ...ensemble.experiment import Experiment
from ...evaluation.metrics import study_maximum


class Cases(NamedTuple):
    """Tables with the same index, columns LABELS; groups: the linked patients that each case belongs to."""

    labels: pd.DataFrame
    answers: pd.DataFrame
    groups: pd.Series


def slice_cases(experiment: Experiment, part: str) -> Cases:
    """part: `oof`, by blends that did not see the patient, or `test`."""
    labels = experiment.labels if part == "oof" else experiment.test_labels
    answers = experiment.blend.oof if part == "oof" else experiment.blend.test
    return Cases(labels, answers.loc[labels.index], experiment.groups.loc[labels.index])


def study_cases(experiment: Experiment, part: str) -> Cases:
    """A study has a label where any of its slices has it; its score is the maximum over them."""
    slices, studies = slice_cases(experiment, part), study_of(experiment)
    labels, answers = (study_maximum(table, studies) for table in (slices.labels, slices.answers))
    groups = slices.groups.groupby(studies.loc[slices.groups.index]).first()
    return Cases(labels, answers, groups.loc[labels.index])


def study_of(experiment: Experiment) -> pd.Series:
    """image_id -> study_id"""
    return experiment.slices.set_index("image_id")["study_id"]
