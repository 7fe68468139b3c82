"""Studies: their labels and scores are maxima over slices; operating points of slices are applied to them."""

import numpy as np
import pytest

from src.ensemble.experiment import Experiment
from src.evaluation.operating import at_threshold
from src.labels import LABELS
from src.report.run.cases import slice_cases, study_cases
from src.report.run.operating_section import point_blocks
from src.report.run.outcome import Outcome


@pytest.mark.parametrize("part", ["oof", "test"])
def test_a_study_is_the_maximum_of_its_slices(experiment: Experiment, part: str) -> None:
    slices, studies = slice_cases(experiment, part), study_cases(experiment, part)
    owners = experiment.slices.set_index("image_id").loc[slices.labels.index]
    assert len(studies.labels) == owners["study_id"].nunique() == {"oof": 32, "test": 8}[part]
    for study, images in owners.groupby("study_id").groups.items():
        for label in LABELS:
            assert studies.labels.loc[study, label] == max(slices.labels.loc[i, label] for i in images)
            assert studies.answers.loc[study, label] == max(slices.answers.loc[i, label] for i in images)
        assert {studies.groups[study]} == set(experiment.groups[images])


@pytest.mark.parametrize("part", ["oof", "test"])
@pytest.mark.parametrize("unit", ["slices", "studies"])
def test_every_operating_point_is_counted(experiment: Experiment, part: str, unit: str) -> None:
    points = Outcome.of(experiment).points["labels"]
    cases = {"slices": slice_cases, "studies": study_cases}[unit](experiment, part)
    for block in point_blocks(experiment, points, part, unit):
        y, scores = cases.labels[block.label].to_numpy() == 1, cases.answers[block.label].to_numpy()
        assert (block.positives, block.cases) == (y.sum(), len(y))
        assert list(block.rows) == [
            "sensitivity 90 %",
            "sensitivity 95 %",
            "specificity 90 %",
            "specificity 95 %",
        ]
        for name, row in block.rows.items():
            threshold = points[block.label][name.replace(" %", "").replace(" ", "_")]["threshold"]
            point = at_threshold(y, scores, threshold)
            assert row.counts == (point.tn, point.fp, point.fn, point.tp)
            if part == "oof" and unit == "slices":
                rate, asked = name.split()[:2]
                assert getattr(row, rate).estimate >= int(asked) / 100


def test_a_threshold_that_is_not_there_has_no_row(experiment: Experiment) -> None:
    point = {"threshold": 0.5, "sensitivity": [1, 1, 1], "specificity": [1, 1, 1]}
    points = {label: {"positives": 0, "negatives": 9} for label in LABELS}
    points |= {"any": {"specificity_90": point, "specificity_95": point | {"threshold": None}}}
    *others, any_bleeding = point_blocks(experiment, points, "oof", "slices")
    assert all(block.rows == {} for block in others)
    assert list(any_bleeding.rows) == ["specificity 90 %"]
    assert np.isfinite(any_bleeding.rows["specificity 90 %"].ppv.estimate)
