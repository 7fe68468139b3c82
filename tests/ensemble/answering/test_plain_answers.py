"""What needs no trained network: names, texts, and what is refused before anything is loaded."""

import pandas as pd
import pytest

from src.ensemble.answering.answers import usable_images
from src.ensemble.answering.evaluate_table import text_of
from src.ensemble.answering.predictor import Predictor
from src.ensemble.answering.study_files import ABOUT, TABLE, _finished, folder_name
from src.errors import UserError
from src.files import fingerprint, write_json


def test_the_text_of_scores_has_a_line_for_every_label_with_an_area():
    one = {"auc": 0.9, "interval": [0.8, 0.95], "positives": 1200}
    scores = {"images": 5000, "patients": 40, "weighted_log_loss": None, "labels": {"any": one}}
    scores["labels"]["epidural"] = {"auc": None, "interval": None, "positives": 0}
    assert text_of(scores).splitlines() == [
        "5,000 images of 40 patients",
        "any                AUC 0.900 [0.800, 0.950], 1,200 positives",
    ]
    loss = {"value": 0.1, "interval": None}
    assert "weighted log loss  0.1000" in text_of(scores | {"weighted_log_loss": loss}).splitlines()


def test_only_usable_images_can_be_asked_for():
    usable = pd.DataFrame({"status": "ok"}, ["a", "b"])
    assert usable_images(usable, ("b", "a"), "data") == ["b", "a"]
    with pytest.raises(UserError, match=r"^data: 2 of the images asked for .*\(c, \.\.\.\)"):
        usable_images(usable, ["a", "c", "d"], "data")


def test_a_study_s_folder_is_its_id_where_that_is_a_name():
    assert folder_name("1.2.840-x_Y") == "1.2.840-x_Y"
    odd = "../a b"
    assert folder_name(odd) == f"_a_b-{fingerprint(odd)[:8]}"
    assert folder_name("x" * 99) == f"{'x' * 80}-{fingerprint('x' * 99)[:8]}"


def test_a_study_is_answered_when_both_files_say_so(tmp_path):
    study = {"made_from": "f", "study_id": "s"}
    write_json(tmp_path / ABOUT, {"studies": [study]})
    assert _finished(tmp_path, "f") is None
    (tmp_path / TABLE).write_text("level,id\n")
    assert _finished(tmp_path, "f") == {"studies": [study]} and _finished(tmp_path, "g") is None
    write_json(tmp_path / ABOUT, {"studies": [study, study]})
    assert _finished(tmp_path, "f") is None


def test_what_is_called_a_zip_is_a_bundle_even_where_there_is_none(tmp_path):
    with pytest.raises(UserError, match=r"no\.zip: no such file; make one with: python predict\.py"):
        Predictor.load(tmp_path / "no.zip")
