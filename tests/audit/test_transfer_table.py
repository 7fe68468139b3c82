"""Several transfer.json become one file and one table, with the words for the data as given."""

import pytest

from src.audit.transfer import collect, page
from src.errors import UserError
from src.files import write_json
from src.labels import LABELS


def scores(loss):
    one = {"positives": 3, "auc": 0.75, "interval": [0.5, 0.9], "brier": 0.1, "ece": 0.1}
    by_study = {
        "images": 40, "studies": 10, "patients": 9, "weighted_log_loss": {"value": loss, "interval": None},
        "labels": dict.fromkeys(LABELS, one),
    }  # fmt: skip
    nothing = dict.fromkeys(("patients", "weighted_log_loss", "labels"))
    return {
        "experiment": "tiny", "data": {"synthetic": True, "dataset": "cq500"}, "left_out": 0,
        "baseline": {"images": None, "studies": 0.3}, "comparisons": [],
        "members": {"tiny/stage1/a": {"images": 0, **nothing, "studies": by_study}},
    }  # fmt: skip


def test_files_are_gathered_and_shown_under_their_names(tmp_path):
    for name, loss in (("a", 0.25), ("b", 0.5)):
        write_json(tmp_path / f"{name}.json", scores(loss))
    found = collect([f"the first={tmp_path / 'a.json'}", f"the second={tmp_path / 'b.json'}"])
    assert [one["what"] for one in found] == ["the first", "the second"]
    text = page(found)
    assert "## tiny: the second (SYNTHETIC images)" in text and "10 labelled studies." in text
    row = "| tiny/stage1/a | 0.2500 | " + " | ".join(["0.750 [0.500, 0.900] (3)"] * 6) + " |"
    assert row in text and "By image" not in text


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(UserError, match=r"x=none\.json: expected WORDS=FILE"):
        collect(["x=none.json"])
