"""The published split by series: no series is on both sides, a patient may be, and every score says so."""

import logging

import pytest
import torch

from src.config import parse_config
from src.data.prepared import Prepared
from src.errors import UserError
from src.training.kinds import load_kind
from src.training.runs import Run
from src.training.split import series_folds, split_fold
from tests.training.prepared import pair_studies, rewrite, write_clean

CPU, LOG = torch.device("cpu"), logging.getLogger("ich.test")
LEAK = "leaky: split by series; a patient may be in training and held-out"
SLICE = {"backbone": "test_resnet", "pretrained": False, "image_size": 32, "epochs": 1, "batch_size": 8}
STACKER = {"stacker": "gru", "width": 8, "hidden": 8, "epochs": 1}


@pytest.fixture
def settings(settings):
    """Twelve training series of six patients; neighbours in the order of names share a patient and a fold."""
    write_clean(settings.clean, studies=16)
    pair_studies(settings.clean)
    return settings


def train(settings, kind, name, folds=(0, 1), **values):
    """The last fold of a run, every one of which is trained."""
    stage = "stage2" if kind == "stacker" else "stage1"
    loaded = load_kind(kind)
    config = parse_config(loaded.config, values, name)
    for fold in folds:
        run = Run(f"tiny/{stage}/{name}", fold, settings)
        loaded.train(run, Prepared(settings.clean), config, CPU, LOG, False)
    return run


def studies(prepared, image_ids):
    slices = prepared.slices.set_index("image_id")
    return set(slices.loc[image_ids, "study_id"])


def test_no_series_is_on_both_sides_and_a_patient_with_two_can_be(settings):
    prepared, seen = Prepared(settings.clean), []
    for fold in (0, 1):
        training, held_out = split_fold(prepared, fold, split="series")
        assert not set(training["study_id"]) & set(held_out["study_id"])
        assert set(training["patient_id"]) & set(held_out["patient_id"])
        assert training["study_id"].nunique() == held_out["study_id"].nunique() == 6
        seen += held_out["study_id"].unique().tolist()
        by_patient = split_fold(prepared, fold)
        assert not set(by_patient[0]["patient_id"]) & set(by_patient[1]["patient_id"])
    assert sorted(seen) == [f"study{number:02d}" for number in range(12)]  # the test part is in none


def test_shares_are_even_and_have_the_numbers_of_the_folds_by_patient(settings):
    rewrite(settings.clean, "folds.csv", lambda folds: folds.assign(fold=[0, 1, 2, 3, 4, 0]))
    counts = series_folds(Prepared(settings.clean)).value_counts()
    assert sorted(counts.index) == [0, 1, 2, 3, 4] and sorted(counts) == [2, 2, 2, 3, 3]
    with pytest.raises(UserError, match=r"fold 5: folds.csv has the folds 0, 1, 2, 3, 4"):
        split_fold(Prepared(settings.clean), 5, split="series")


def test_a_series_run_and_the_stacker_on_it_hold_out_the_same_and_say_that_they_leak(settings, caplog):
    prepared = Prepared(settings.clean)
    with caplog.at_level(logging.INFO, "ich.test"):
        member = train(settings, "slice", "a", **SLICE, split="series")
        values = {**STACKER, "members": ["tiny/stage1/a"], "split": "series"}
        stacked = train(settings, "stacker", "in_fold", **values, embedding_space="in_fold")
        pooled = train(settings, "stacker", "pooled", **values)
    training, held_out = split_fold(prepared, 1, split="series")
    for run in (member, stacked, pooled):
        assert studies(prepared, run.predictions("oof").index) == set(held_out["study_id"])
        assert run.metrics()["leak"] == run.leak == LEAK
    assert studies(prepared, member.predictions("train").index) == set(training["study_id"])
    shared = len(set(training["patient_id"]) & set(held_out["patient_id"]))
    assert f"{LEAK}: {shared} of the {held_out['patient_id'].nunique()} held-out patients are" in caplog.text
    assert caplog.text.count(f"({LEAK})") == 6  # behind the score of every fold


def test_a_run_split_by_patient_calls_nothing_leaky(settings):
    run = train(settings, "slice", "a", folds=(0,), **SLICE)
    assert run.leak is None and "leak" not in run.metrics() and run.split == "patient"


@pytest.mark.parametrize(("own", "others"), [("patient", "series"), ("series", "patient")])
def test_a_stacker_and_its_members_are_split_alike(settings, own, others):
    train(settings, "slice", "a", **SLICE, split=others)
    with pytest.raises(UserError, match=rf"s: is split by {own}, its member tiny/stage1/a by {others}"):
        train(settings, "stacker", "s", **STACKER, members=["tiny/stage1/a"], split=own)


@pytest.mark.parametrize(("own", "others"), [("patient", "series"), ("series", "patient")])
def test_a_run_starts_from_one_that_was_split_alike(settings, own, others):
    train(settings, "slice", "a", folds=(0,), **SLICE, split=others)
    start = SLICE | {"pretrained": "run:tiny/stage1/a"}
    with pytest.raises(
        UserError, match=rf"split by {own}, starts from .* fold 0, which was split by {others}"
    ):
        train(settings, "slice", "b", folds=(0,), **start, split=own)
    train(settings, "slice", "c", folds=(0,), **start, split=others)


def test_a_split_that_no_stage_knows_is_refused():
    with pytest.raises(UserError, match="split: unknown name 'serie'; did you mean 'series'"):
        parse_config(load_kind("slice").config, SLICE | {"split": "serie"}, "x.json")
    with pytest.raises(UserError, match=r"split: unknown name 'slice'; .*known: patient, series"):
        parse_config(load_kind("stacker").config, {**STACKER, "members": ["a"], "split": "slice"}, "x.json")
