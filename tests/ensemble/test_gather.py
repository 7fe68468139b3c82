"""Predictions of folds become predictions of runs, and what stackers say of missing slices joins them."""

import logging
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from src.ensemble.gather import run_predictions, without_leaks
from src.ensemble.quarantined import neighbour_predictions
from src.ensemble.scoring import Part
from src.errors import UserError
from src.evaluation.bootstrap import bootstrap_weighted_log_loss
from src.files import write_parquet
from src.labels import LABELS


def table(**rows):
    return pd.DataFrame({label: rows for label in LABELS}).rename_axis("image_id")


def fold(name, oof, test):
    return SimpleNamespace(name=name, predictions={"oof": oof, "test": test}.get)


def test_held_out_predictions_are_joined_and_test_predictions_averaged():
    runs = [
        fold("a", table(x=0.1), table(z=0.2)),
        fold("b", table(x=0.5), table(z=0.7)),
        fold("a", table(y=0.9), table(z=0.4)),
    ]
    found = run_predictions(runs)
    assert list(found) == ["a", "b"]
    oof, test = found["a"]
    assert oof["any"].to_dict() == {"x": 0.1, "y": 0.9}
    assert test["any"].to_dict() == {"z": pytest.approx(0.3)}
    assert found["b"][1]["any"].to_dict() == {"z": 0.7}


def test_leaky_runs_are_left_out_and_named_where_there_are_others(caplog):
    apart, *leaky = (
        SimpleNamespace(name=name, leak=leak) for name, leak in zip("abb", (None, "l", "l"), strict=True)
    )
    with caplog.at_level(logging.WARNING, "ich"):
        assert without_leaks(leaky) == leaky and without_leaks([apart]) == [apart]
        assert caplog.messages == []
        assert without_leaks([*leaky, apart]) == [apart]
    assert caplog.messages == ["b: left out, as leaky runs never join others"]


def test_stackers_that_know_missing_slices_are_averaged_and_one_has_to(tmp_path):
    runs = [SimpleNamespace(folder=tmp_path / name) for name in "abc"]
    with pytest.raises(UserError, match="no stacker predicted missing slices; train one with slice_dropout"):
        neighbour_predictions(SimpleNamespace(runs=runs))
    for run, said in zip(runs, (table(x=0.1), table(x=0.3, y=0.5)), strict=False):
        write_parquet(run.folder / "missing.parquet", said.reset_index())
    found = neighbour_predictions(SimpleNamespace(runs=runs))
    assert found["any"].to_dict() == {"x": pytest.approx(0.2), "y": 0.5}


def test_a_part_is_scored_by_replicates_and_seed_of_its_own():
    index = [f"i{k}" for k in range(8)]
    labels = pd.DataFrame({label: [0, 1] * 4 for label in LABELS}, index)
    p = pd.DataFrame(np.linspace(0.1, 0.9, 8)[:, None] * np.ones(6), index, list(LABELS))
    groups = pd.Series(list("aabbccdd"), index)
    found = Part(labels, groups, replicates=30, seed=4).score(p)
    assert found == bootstrap_weighted_log_loss(labels, p, groups, replicates=30, seed=4)
    assert found != bootstrap_weighted_log_loss(labels, p, groups, replicates=30, seed=5)
