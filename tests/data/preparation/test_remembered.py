"""Options that are not given are those of the prepared folder; what remakes volumes asks for --again."""

import json

import pytest

from src.data.preparation.options import Options
from src.data.preparation.remembered import chosen
from src.errors import UserError

BEFORE = Options(size=256, crop=True, folds=3, limit=50, folds_file="/a/folds.csv")


@pytest.fixture
def clean(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"settings": BEFORE.recorded | {"gone": 1}}))
    return tmp_path


def test_a_new_folder_has_the_defaults(tmp_path):
    assert chosen(tmp_path, {}) == Options()
    assert chosen(tmp_path / "none", {"size": 384}) == Options(size=384)


def test_what_is_given_is_not_among_what_stays(clean, caplog):
    caplog.set_level("INFO", logger="ich")
    chosen(clean, {"size": BEFORE.size})
    assert "flags not given" in caplog.text and "size" not in caplog.text


def test_what_is_not_given_stays_and_is_said(clean, caplog):
    caplog.set_level("INFO", logger="ich")
    assert chosen(clean, {}) == BEFORE
    assert "flags not given stay as it was prepared" in caplog.text and "size 512 -> 256" in caplog.text
    assert chosen(clean, {"limit": None}) == Options(size=256, crop=True, folds=3, folds_file="/a/folds.csv")


def test_folds_that_are_asked_for_take_the_place_of_a_file(clean):
    assert chosen(clean, {"folds": 4}) == Options(size=256, crop=True, folds=4, limit=50)
    assert chosen(clean, {"folds": 4, "folds_file": "/b.csv"}).folds_file == "/b.csv"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"size": 512}, "size 256 -> 512"),
        ({"crop": False}, "crop True -> False"),
        ({"dataset": "dicom"}, "rsna"),
    ],
)
def test_a_change_that_remakes_the_volumes_asks_for_again(clean, given, named):
    with pytest.raises(UserError, match=rf"{named}.* would remake all its volumes, .*; add --again"):
        chosen(clean, given)
    assert chosen(clean, given, again=True).recorded == BEFORE.recorded | given
    assert chosen(clean, {"size": 256, "crop": True}) == BEFORE


def test_the_file_of_another_data_set_is_forgotten(tmp_path):
    before = Options(dataset="folder", folder_config="/a.json")
    (tmp_path / ".manifest.json.previous").write_text(json.dumps({"settings": before.recorded}))
    assert chosen(tmp_path, {}) == before  # a run that was stopped while it wrote the tables
    assert chosen(tmp_path, {"dataset": "dicom"}, again=True).folder_config is None
