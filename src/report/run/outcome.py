"""What step 5 finds and does besides the scores of an experiment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from ...ensemble.experiment import Experiment
from ...evaluation.hardest import Hardest, hardest_studies
from ...evaluation.operating import operating_points
from .cases import study_of

EACH = 3  # hard studies of a kind
MOST_PAGES = 3 * EACH


@dataclass(frozen=True)
class Outcome:
    """points: operating_points.json;  pages: study_id -> address of its page, seen from the report;
    commands: as in commands.txt;  seconds: by what took them
    """

    points: Mapping[str, Any]
    hardest: Hardest
    pages: Mapping[str, str] = field(default_factory=dict)
    commands: Sequence[str] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, experiment: Experiment) -> Self:
        """Without pages, commands and seconds."""
        labels, oof = experiment.labels, experiment.blend.oof
        hardest = hardest_studies(labels, oof, study_of(experiment), EACH)
        return cls(operating_points(labels.astype(bool), oof.loc[labels.index]), hardest)
