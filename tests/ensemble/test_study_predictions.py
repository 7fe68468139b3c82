"""Runs on slices and runs on studies say the same kind of thing of a study."""

import numpy as np
import pandas as pd
import pytest

from src.data.prepared import Prepared
from src.ensemble.study_predictions import study_predictions
from src.labels import LABELS
from src.settings import load_settings
from src.training.runs import Run
from tests.training.prepared import image_name, study_name, write_clean, write_settings


@pytest.fixture
def settings(tmp_path):
    settings = load_settings(write_settings(tmp_path))
    write_clean(settings.clean, studies=4, slices=3)
    return settings


def saved(settings, part, frame):
    run = Run("x/stage1/y", 0, settings)
    run.save_predictions(part, frame)
    return run


@pytest.mark.parametrize("column", ["any", "presence"])
def test_a_study_is_positive_where_any_of_its_slices_is(settings, column):
    ids = [image_name(2, k) for k in (2, 0, 1)] + [image_name(0, k) for k in (1, 2, 0)]
    chances = [0.2, 0.5, 0.1, 0.49, 0.3, 0.05]
    frame = pd.DataFrame(0.9, ids, list(LABELS) if column == "any" else [column]).assign(**{column: chances})
    run = saved(settings, "oof", frame)
    found = study_predictions(run, "oof")
    assert found.to_dict() == {study_name(0): 0.49, study_name(2): 0.5} and found.index.name == "study_id"
    study = pd.Series(ids, ids).map(lambda name: study_name(int(name[5:7])))
    by_rule = (frame[column] >= 0.5).groupby(study).any()
    np.testing.assert_array_equal((found >= 0.5).to_numpy(), by_rule[found.index].to_numpy())
    assert found.equals(study_predictions(run, "oof", Prepared(settings.clean)))


def test_a_run_on_studies_says_it_itself(settings):
    ids = pd.Index([study_name(3), study_name(1)], name="study_id")
    run = saved(settings, "test", pd.DataFrame({"presence": [0.7, 0.6]}, ids))
    assert study_predictions(run, "test").to_dict() == {study_name(1): 0.6, study_name(3): 0.7}
