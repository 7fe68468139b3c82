"""Several transfer.json become one file and one table, with the words for the data as given."""

import json

import pytest

from src.audit.transfer import collect, lines_of, merged, page
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
    assert json.loads(lines_of(found)) == found and lines_of(found).count("\n") == 4
    text = page(found)
    assert "## tiny: the second (SYNTHETIC images)" in text and "10 labelled studies." in text
    assert "| tiny/stage1/a |  | 0.750 [0.500, 0.900] (3) |" in text  # no image has a label of its own


def test_results_made_again_take_their_place_and_others_stay():
    first, second = ({"experiment": "x", "what": what, "eps": 1} for what in "ab")
    other = {"experiment": "y", "what": "a", "eps": 1}
    again = second | {"eps": 2}
    assert merged([first, second], [other, again]) == [first, again, other]


def test_members_stand_beside_what_they_are_compared_with():
    loss = {"value": 0.2, "interval": [0.1, 0.3]}
    difference = {"value": -0.05, "interval": [-0.1, 0.01]}
    found = {"what": "x", **scores(0.25)}
    member = found["members"]["tiny/stage1/a"] | {"images": 40, "patients": 9, "weighted_log_loss": loss}
    member["labels"] = member["studies"]["labels"]
    area = {"difference": 0.1, "low": -0.1, "high": 0.3, "p": 0.3}
    one = {"first": "tiny/stage1/a", "second": "tiny/stage1/b"}
    one |= {"images": {"weighted_log_loss": difference}, "studies": {"auc": {"any": area}}}
    found |= {"members": {"tiny/stage1/a": member, "tiny/stage1/b": member}, "comparisons": [one]}
    text = page([found])
    assert "| log loss minus tiny/stage1/b | AUC minus its |" in text
    compared = "-0.0500 [-0.1000, +0.0100] | +0.100 [-0.100, +0.300], p 0.3 |"
    assert f"| tiny/stage1/a | 0.2000 [0.1000, 0.3000] | 0.750 [0.500, 0.900] (3) | {compared}" in text


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(UserError, match=r"x=none\.json: expected WORDS=FILE"):
        collect(["x=none.json"])
