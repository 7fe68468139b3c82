"""Systems that answer for a study are scored by study, whatever their kind."""

import pandas as pd
import pytest

from src.audit.system_tables import studies as study_tables
from src.data.prepared import Prepared
from src.settings import load_settings
from src.training.runs import Run
from tests.training.prepared import image_name, rewrite, study_name, write_clean, write_settings

VIDEO, SLICES = (f"x/stage1/{name}" for name in ("video", "slices"))


@pytest.fixture
def settings(tmp_path, monkeypatch):
    settings = load_settings(write_settings(tmp_path))
    write_clean(settings.clean, studies=8, slices=3)
    slices = Prepared(settings.clean).slices
    slices.loc[slices["study_id"].isin([study_name(0), study_name(1)]), "any"] = 0
    rewrite(settings.clean, "slices.parquet", lambda table: slices)
    ids = pd.Index([study_name(k) for k in range(4)], name="study_id")
    Run(VIDEO, 0, settings).save_predictions("oof", pd.DataFrame({"presence": [0.1, 0.6, 0.7, 0.4]}, ids))
    rows = {image_name(s, k): 0.1 * s + 0.01 * k for s in range(4) for k in range(3)}
    Run(SLICES, 0, settings).save_predictions("oof", pd.Series(rows).to_frame("presence"))
    monkeypatch.setattr(study_tables, "CLAIMS", ((VIDEO, SLICES, "one beats the other"),))
    return settings


def test_studies_are_those_held_out_and_slices_count_by_their_maximum(settings):
    truth, (video, slices) = study_tables.studies_of([VIDEO, SLICES], settings, Prepared(settings.clean), [0])
    assert truth.tolist() == [False, False, True, True] and video.tolist() == [0.1, 0.6, 0.7, 0.4]
    assert slices.tolist() == pytest.approx([0.02, 0.12, 0.22, 0.32])


def test_a_claim_on_studies_is_the_paired_difference_of_the_auc(settings):
    (found,) = study_tables.study_claims(settings, Prepared(settings.clean), [0], {VIDEO, SLICES})
    assert found["difference"][0] == pytest.approx(0.75 - 1) and found["answer"] == "inside the noise"
    assert not study_tables.study_claims(settings, Prepared(settings.clean), [0], {VIDEO})


def test_the_page_says_where_nothing_is_called_positive():
    row = {
        "run": VIDEO, "studies": 4, "positive": 2, "parameters": 1234, "training_seconds": 1.0,
        "seconds_a_study": 0.5, "study_auc": [0.75, 0.5, 1.0], "accuracy": 0.5, "recall": 0.0,
        "precision": None, "accuracy_all_negative": 0.5,
    }  # fmt: skip
    text = "\n".join(study_tables.study_page([row], []))
    expected = (
        "| x/stage1/video | 1,234 | 1 | 0.50 | 0.750 [0.500, 1.000] | 0.50 | 0.00 | none called positive |"
    )
    assert expected in text and "4 held-out studies, 2 positive" in text
