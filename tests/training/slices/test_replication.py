"""Copies of rare classes, and the split that leaks, by the published numbers of the dual-task system."""

import logging

import numpy as np
import pandas as pd
import pytest
import torch

from src.data.prepared import Prepared
from src.errors import UserError
from src.settings import load_settings
from src.targets import find_targets
from src.training.runs import Run
from src.training.slices.kind import KIND, split, training_batches
from src.training.slices.replication import copies, expected_twin_share, split_by_slice, twin_share
from tests.training.prepared import rewrite, write_clean, write_settings
from tests.training.slices.test_slice_config import parsed

CPU, TARGETS = torch.device("cpu"), find_targets("presence_and_location")
KINDS = {"normal": (0, None, None, None), "deep": (1, 1, 0, 0), "lobar": (1, 0, 1, 0), "sub": (1, 0, 0, 1)}


def labels(**counts):
    rows = [KINDS[name] for name, count in counts.items() for _ in range(count)]
    return pd.DataFrame(rows, columns=list(TARGETS.columns), dtype=float)


YULIN = {"normal": 4407, "deep": 6093, "lobar": 1656, "sub": 495}


def test_the_published_counts_make_the_published_numbers():
    times = copies(labels(**YULIN), TARGETS)
    assert times.tolist() == [3] * 4407 + [1] * 6093 + [3] * 1656 + [12] * 495
    assert times.sum() == 30_222
    training, test = split_by_slice(times, 0, seed=0)
    assert test.sum() == 3_023 and training.sum() == 24_178
    assert ((training + test) <= times).all()


def test_three_of_four_published_test_rows_have_a_twin_in_training():
    times = copies(labels(**YULIN), TARGETS)
    assert expected_twin_share(times) == pytest.approx(0.774, abs=5e-4)
    # 1 - .2^2 of the lobar and normal ones, 1 - .2^11 of the subtentorial ones, none of the deep ones
    by_hand = ((1 - 0.2**2) * (3 * 1656 + 3 * 4407) + (1 - 0.2**11) * 12 * 495) / 30_222
    assert expected_twin_share(times) == pytest.approx(by_hand)
    shares = [twin_share(*split_by_slice(times, fold, seed=1)) for fold in range(10)]
    assert np.mean(shares) == pytest.approx(0.774, abs=0.01)
    assert expected_twin_share(np.ones(9, int)) == twin_share(*split_by_slice(np.ones(90, int), 0, 0)) == 0


def test_the_ten_test_parts_are_disjoint_and_a_seed_draws_them():
    times = np.array([1, 2, 3] * 30)
    parts = [split_by_slice(times, fold, seed=0)[1] for fold in range(10)]
    assert (np.sum(parts, axis=0) == times).all()
    assert (split_by_slice(times, 0, seed=1)[1] != parts[0]).any()


def test_where_bleeding_is_rare_it_is_copied_and_nothing_is_copied_where_classes_are_even():
    rare = copies(labels(normal=40, deep=4, lobar=2, sub=1), TARGETS)
    assert rare.tolist() == [1] * 40 + [3] * 4 + [6] * 2 + [12]
    assert set(copies(labels(normal=6, deep=2, lobar=2, sub=2), TARGETS)) == {1}
    unknown = labels(normal=4, deep=1)
    unknown.loc[4, ["deep", "lobar", "subtentorial"]] = np.nan
    assert copies(unknown, TARGETS).tolist() == [1, 1, 1, 1, 4]


@pytest.fixture
def settings(tmp_path):
    """Of 30 slices 18 do not bleed, 10 are deep, 2 lobar."""
    settings = load_settings(write_settings(tmp_path))
    write_clean(settings.clean)

    def located(slices):
        bleeds = np.flatnonzero(slices["any"].fillna(0) == 1)
        lobar = np.isin(np.arange(len(slices)), bleeds[2:4])
        deep = np.isin(np.arange(len(slices)), np.delete(bleeds, [2, 3]))
        return slices.assign(deep=deep.astype(int), lobar=lobar.astype(int), subtentorial=0)

    rewrite(settings.clean, "slices.parquet", located)
    return settings


def config(**values):
    small = {"targets": "presence_and_location", "image_size": 32, "pretrained": False, "batch_size": 8}
    return parsed(**small, **values)


def test_copies_in_the_training_part_leave_the_patients_apart(settings):
    run, prepared = Run("x/stage1/y", 0, settings), Prepared(settings.clean)
    options = config(replication="minority")
    training, held_out = split(run, prepared, options)
    assert not set(training["patient_id"]) & set(held_out["patient_id"])
    assert training["image_id"].is_unique and held_out["image_id"].is_unique
    seen = pd.Series(training_batches(run, prepared, training, options, CPU).ids).value_counts()
    lobar, deep = (training.loc[training[site] == 1, "image_id"] for site in ("lobar", "deep"))
    assert (len(lobar), len(deep)) == (2, 4)  # of fold 0: 2 x 2 and 4 of 8, so 9 without bleeding stay
    assert set(seen[lobar]) == {2} and set(seen[deep]) == {1}


def test_the_published_split_has_twins_and_says_so(settings, caplog):
    run, prepared = Run("x/stage1/y", 0, settings), Prepared(settings.clean)
    with caplog.at_level(logging.WARNING, "ich"):
        training, held_out = split(run, prepared, config(replication="paper", split="slice"))
    assert set(training["patient_id"]) & set(held_out["patient_id"])
    assert set(training["image_id"]) & set(held_out["image_id"]) and held_out["image_id"].is_unique
    assert "split by slice: of 4 test rows, copies included, " in caplog.text
    plain, tested = split(run, prepared, config(split="slice"))
    assert not set(plain["image_id"]) & set(tested["image_id"]) and len(tested) == 3 and len(plain) == 24
    assert set(plain["patient_id"]) & set(tested["patient_id"])


def test_a_fold_of_the_published_split_trains_and_holds_every_image_once(settings, caplog):
    run, prepared = Run("x/stage1/y", 0, settings), Prepared(settings.clean)
    options = config(replication="paper", split="slice", epochs=1)
    KIND.train(run, prepared, options, CPU, logging.getLogger("ich"), False)
    oof = run.predictions("oof")
    assert run.leak == run.metrics()["leak"] and f"{run.leak}: " in caplog.text
    assert oof.index.is_unique and set(oof.index) == set(split(run, prepared, options)[1]["image_id"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"replication": "minority"}, "of presence and location; the six labels have neither"),
        ({"split": "slice"}, "of presence and location; the six labels have neither"),
        ({"replication": "paper", "targets": "presence"}, 'a leak; say "split": "slice"'),
    ],
)
def test_a_leak_has_to_be_asked_for_by_name(values, message):
    with pytest.raises(UserError, match=message):
        parsed(**values)
