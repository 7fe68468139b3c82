"""The hardest studies, by hand: four studies of two slices."""

import numpy as np
import pandas as pd
import pytest

from src.evaluation.hardest import WorstSlice, hardest_studies
from src.evaluation.metrics import weighted_log_loss
from src.labels import LABELS

STUDIES = pd.Series(np.repeat(["A", "B", "C", "D"], 2), [f"{s}{i}" for s in "ABCD" for i in (1, 2)])


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """A: subdural, found. B: subdural on B2, missed. C: none, a false alarm of epidural on C1. D: none."""
    labels = pd.DataFrame(0, STUDIES.index, LABELS)
    p = pd.DataFrame(0.1, STUDIES.index, LABELS)
    labels.loc[["A1", "B2"], ["subdural", "any"]] = 1
    p.loc["A1", ["subdural", "any"]] = 0.9
    p.loc["B2", ["subdural", "any"]] = [0.02, 0.3]
    p.loc["C1", ["epidural", "any"]] = [0.99, 0.8]
    return labels, p


def test_every_kind_has_its_own_order():
    found = hardest_studies(*tables(), STUDIES, each=3)
    assert [study.study_id for study in found.missed] == ["B", "A"]  # .3 before .9
    assert [study.study_id for study in found.alarms] == ["C", "D"]  # .8 before .1
    assert [study.study_id for study in found.loss] == ["C", "B", "A"]
    assert [len(kind) for kind in hardest_studies(*tables(), STUDIES, each=1)] == [1, 1, 1]


def test_a_study_is_described_by_its_slices():
    labels, p = tables()
    missed, alarm = (hardest_studies(labels, p, STUDIES, each=1)[kind][0] for kind in (1, 2))
    own = [labels.loc[["B1", "B2"]], p.loc[["B1", "B2"]]]
    assert missed.loss == pytest.approx(weighted_log_loss(*own), rel=1e-12)
    # -ln .02 = 3.9 counts once, -ln .3 = 1.2 twice
    assert missed.worst == WorstSlice("B2", "subdural", True, 0.02)
    assert missed.slices == 2 and missed.positives == {**dict.fromkeys(LABELS, 0), "subdural": 1, "any": 1}
    assert missed.highest == {**dict.fromkeys(LABELS, 0.1), "any": 0.3}
    assert alarm.worst == WorstSlice("C1", "epidural", False, 0.99)
    assert alarm.highest["epidural"] == 0.99 and alarm.positives["any"] == 0


def test_rows_may_come_in_any_order():
    labels, p = tables()
    expected = hardest_studies(labels, p, STUDIES, each=3)
    order = np.random.default_rng(0).permutation(len(p))
    assert hardest_studies(labels, p.iloc[order], STUDIES.iloc[order], each=3) == expected


def test_where_every_study_bleeds_there_is_no_alarm():
    labels, p = tables()
    bleeding = labels.assign(any=1)
    assert hardest_studies(bleeding, p, STUDIES, each=3).alarms == []
