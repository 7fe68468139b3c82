"""What counts as the same computation, and what is allowed where the machine is another one."""

import copy

import pytest

from src.audit import verify
from src.errors import UserError
from src.files import read_json
from src.settings import load_settings
from src.training.runs import Run

RECORDED = {
    "environment": {"processor": "x", "torch": "2.13.0"},
    "data": "d",
    "scores": {"score": 0.25, "any": 0.5},
    "bytes": {"oof.parquet": "a" * 64},
}


def changed(**values):
    found = copy.deepcopy(RECORDED)
    for key, value in values.items():
        found[key] = found[key] | value if isinstance(value, dict) else value
    return found


def refused(found):
    return [what for what, *_, allowed in verify.rows(RECORDED, found) if not allowed]


def test_on_the_same_machine_every_bit_counts():
    assert refused(changed()) == []
    assert refused(changed(scores={"any": 0.5 + 1e-12})) == ["any"]
    assert refused(changed(bytes={"oof.parquet": "b" * 64})) == ["oof.parquet"]
    assert refused(changed(data="e")) == ["data"]


def test_on_another_machine_scores_are_bounded_and_bytes_free():
    other = {"environment": {"torch": "2.14.0"}, "data": "e", "bytes": {"oof.parquet": "b" * 64}}
    near, far = 0.5 + 0.99 * verify.TOLERANCE, 0.5 - 1.01 * verify.TOLERANCE
    assert refused(changed(**other, scores={"any": near})) == []
    assert refused(changed(**other, scores={"any": far})) == ["any"]


def test_the_table_says_what_differs_and_whether_it_may():
    found = changed(environment={"processor": "y"}, scores={"any": 0.6}, data="e")
    lines = verify.table(list(verify.rows(RECORDED, found))).splitlines()
    assert lines[0].split() == ["recorded", "found"]
    assert "data         d                 e                 differs, allowed" in lines
    assert next(line for line in lines if line.startswith("any")).endswith("DIFFERS")
    assert "torch        2.13.0            2.13.0" in lines


def test_the_record_is_of_all_that_is_compared():
    recorded = read_json(verify.RECORD)
    assert set(recorded["environment"]) == set(verify.environment())
    assert (
        set(recorded["bytes"]) == set(verify.COMPARED)
        and recorded["scores"]["score"] < 0.9 * (recorded["scores"]["baseline"])
    )


def test_a_training_that_is_not_repeated_is_an_error(tmp_path, monkeypatch):
    keys = ("RAW_DATA", "CLEAN_DATA", "MODEL", "CHECKPOINT", "LOGS", "SUBMISSION")
    verify.write_json(tmp_path / "SETTINGS.json", {f"{key}_DIR": key.lower() for key in keys})
    run = Run(verify.NAME, 0, load_settings(tmp_path / "SETTINGS.json"))
    run.folder.mkdir(parents=True)
    first = {"bytes": dict.fromkeys(verify.COMPARED, "a")}
    monkeypatch.setattr(verify, "train", lambda home: (home, run.folder.exists()))
    monkeypatch.setattr(verify, "found_in", lambda trained: first)
    verify.check_repeated(tmp_path, run, first)
    monkeypatch.setattr(verify, "found_in", lambda _: {"bytes": first["bytes"] | {"oof.parquet": "b"}})
    with pytest.raises(UserError, match=r"^oof\.parquet: trained twice with one seed, and not the same"):
        verify.check_repeated(tmp_path, run, first)
    assert not run.folder.exists()
