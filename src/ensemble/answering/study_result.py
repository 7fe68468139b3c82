"""What an experiment says of one study: a table, an HU volume, warnings, and where it came from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from ...data.incoming.study import PreparedStudy
from ...labels import LABELS
from .answers import Answers

SPREADS = tuple(f"{label}_spread" for label in LABELS)
COLUMNS = ("level", "id", "image_id", "SOPInstanceUID", "order", "position_mm", *LABELS, *SPREADS, "study_id")


@dataclass(frozen=True)
class StudyResult:
    """The answer for one study.

    probabilities: COLUMNS, the slices from below upwards, then a row of the study, the maximum over its
    slices; where stackers have a head for studies, then one of level `study_head`, their answer; seconds: of
    each part. The prepared slices stay on the disk for as long as this object lives.
    """

    study: PreparedStudy
    answers: Answers
    probabilities: pd.DataFrame
    seconds: Mapping[str, float]
    scratch: TemporaryDirectory = field(repr=False)

    @property
    def study_id(self) -> str:
        return self.study.study_id

    @property
    def warnings(self) -> list[str]:
        return self.study.warnings

    @property
    def volume(self) -> np.ndarray:
        """(slices, size, size) int16 HU as it was stored, in the order of `probabilities`."""
        volumes = self.study.prepared.volumes
        return np.stack([volumes.slice(image_id) for image_id in self.study.slices.index])

    def to_json(self) -> dict[str, Any]:
        """All that predictions.csv does not say; not the descriptions of series, which may name a patient."""
        return {
            "study_id": self.study_id,
            "slices": len(self.study.slices),
            "data": self.study.prepared.test_fingerprint,
            "combined": self.answers.combined,
            "warnings": self.warnings,
            "series": _records(self.study.series.drop(columns="description", errors="ignore")),
            "left_out": _records(self.study.left_out),
            "not_answered": self.answers.left_out,
            "look": self.study.look.numbers(),
            "seconds": {part: round(value, 3) for part, value in self.seconds.items()},
        }


def probability_table(study: PreparedStudy, answers: Answers) -> pd.DataFrame:
    """The rows of predictions.csv of one study."""
    blend = answers.blend
    slices = study.slices.loc[study.slices.index.isin(blend.slices.index)]
    of_slices = pd.DataFrame(
        {
            "level": "slice",
            "id": slices.index,
            "image_id": slices.index,
            "SOPInstanceUID": slices["sop_instance_uid"],
            "order": slices["order"].astype("Int64"),
            "position_mm": slices["position_mm"],
        },
        index=slices.index,
    )
    of_study = pd.DataFrame([{"level": "study", "id": study.study_id}])
    rows = [
        _with_probabilities(of_slices, blend.slices.loc[slices.index], blend.slice_spread.loc[slices.index]),
        _with_probabilities(of_study, blend.studies, blend.study_spread),
    ]
    if answers.head is not None:
        of_study = of_study.assign(level="study_head")
        rows.append(_with_probabilities(of_study, answers.head.studies, answers.head.spread))
    return pd.concat(rows, ignore_index=True).assign(study_id=study.study_id)[list(COLUMNS)]


def _with_probabilities(rows: pd.DataFrame, mean: pd.DataFrame, spread: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of the tables."""
    rows = rows.reset_index(drop=True)
    tables = [table[list(LABELS)].reset_index(drop=True) for table in (mean, spread)]
    return pd.concat([rows, tables[0], tables[1].set_axis(list(SPREADS), axis=1)], axis=1)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON objects, null for what is missing."""
    return json.loads(table.to_json(orient="records"))
