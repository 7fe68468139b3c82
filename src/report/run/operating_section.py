"""What the report says of the operating points: confusion counts of slices and of studies at each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...ensemble.experiment import Experiment
from ...evaluation.operating import Judged, judge
from ...labels import LABELS
from .cases import Cases, slice_cases, study_cases

UNITS = {"slices": slice_cases, "studies": study_cases}


@dataclass(frozen=True)
class PointBlock:
    """The operating points of one label, judged on one part; rows: what each is for -> its counts."""

    label: str
    positives: int
    cases: int
    rows: dict[str, Judged]


def point_blocks(experiment: Experiment, points: Mapping[str, Any], part: str, unit: str) -> list[PointBlock]:
    """One block a label. points: `labels` of operating_points.json; unit: `slices`, or `studies` by their
    maximum, to which the thresholds of slices are applied.
    """
    cases = UNITS[unit](experiment, part)
    options = {"replicates": experiment.config.replicates, "seed": experiment.config.seed}
    return [_block(label, cases, points[label], options) for label in LABELS]


def _block(label: str, cases: Cases, points: Mapping[str, Any], options: Mapping[str, int]) -> PointBlock:
    y, scores = cases.labels[label].to_numpy() == 1, cases.answers[label].to_numpy()
    thresholds = {
        _words(name): point["threshold"]
        for name, point in points.items()
        if isinstance(point, dict) and point["threshold"] is not None
    }
    judged = (
        judge(y, scores, list(thresholds.values()), cases.groups.to_numpy(), **options) if thresholds else []
    )
    return PointBlock(label, int(y.sum()), len(y), dict(zip(thresholds, judged, strict=True)))


def _words(name: str) -> str:
    """sensitivity_90 -> `sensitivity 90 %`"""
    rate, percent = name.rsplit("_", 1)
    return f"{rate} {percent} %"
