"""Batches of studies: every study once, a function of seed, epoch and index, padded behind a mask."""

import numpy as np
import pytest
import torch

from src.training.engine import distributed
from src.training.runs import Run
from src.training.studies.study_batches import StudyBatches, bucketed, collate, share
from src.training.studies.study_draws import draw_hidden, draw_slices
from src.training.studies.study_inputs import StudyInputs
from tests.training.stage2_tables import MEMBER, config, settings_below, table, write


@pytest.fixture
def inputs(tmp_path):
    slices = table([2, 3, 4, 5, 6])
    run = Run(MEMBER, 0, settings_below(tmp_path))
    write(run, slices["image_id"])
    return StudyInputs(slices, {MEMBER: [run]}, "oof", config())


def test_an_epoch_holds_every_study_once_in_batches_of_similar_length():
    lengths = np.random.default_rng(0).integers(20, 61, 500)
    batches = bucketed(lengths, 16, np.random.default_rng(1))
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(500))
    padding = sum(lengths[b].max() * len(b) for b in batches) / lengths.sum() - 1
    assert padding < 0.1
    other = bucketed(lengths, 16, np.random.default_rng(2))
    assert any(not np.array_equal(a, b) for a, b in zip(batches, other, strict=True))


def test_of_many_studies_nearly_every_batch_has_one_length_and_other_studies():
    lengths = np.random.default_rng(0).integers(20, 61, 17_000)
    batches = bucketed(lengths, 32, np.random.default_rng(1))
    assert np.mean([len(np.unique(lengths[b])) == 1 for b in batches]) > 0.9
    others = bucketed(lengths, 32, np.random.default_rng(2))
    mates = {frozenset(b.tolist()) for b in batches} & {frozenset(b.tolist()) for b in others}
    assert not mates


def test_a_study_gives_every_second_slice_a_run_of_them_or_the_reverse():
    lengths = np.array([40] * 300 + [10] * 50)
    picks = draw_slices(lengths, config(crop=12, subsample=0.5, reverse=0.5), np.random.default_rng(0))
    steps = [set(np.diff(pick).tolist()) for pick in picks]
    assert all(len(step) == 1 for step in steps)
    long = [step.pop() for step in steps[:300]]
    assert all(0.18 < long.count(step) / 300 < 0.32 for step in (1, -1, 2, -2))  # a quarter each
    assert {len(pick) for pick in picks[:300]} == {12}
    assert {abs(step.pop()) for step in steps[300:]} == {1}  # short ones keep all
    assert {len(pick) for pick in picks[300:]} == {10}
    assert {min(pick[0], pick[-1]) for pick in picks[:300] if abs(pick[0] - pick[1]) == 1} == set(range(29))


def test_hidden_slices_have_their_share_and_one_is_left():
    rng = np.random.default_rng(0)
    assert np.mean([draw_hidden(40, 0.1, rng).mean() for _ in range(500)]) == pytest.approx(0.1, abs=0.01)
    assert all(draw_hidden(3, 1.0, rng).sum() == 2 for _ in range(20))


def test_collate_masks_what_is_padding_and_turns_all_inputs_of_a_study_together(inputs):
    batch = collate(inputs, np.array([0, 2]), picks=[np.array([1, 0]), np.arange(4)])
    assert batch["mask"].tolist() == [[True, True, False, False], [True] * 4]
    assert batch["embeddings"][0, :, 1].tolist() == [1, 0, 0, 0]
    assert batch["labels"][0, :2].tolist() == inputs.study(0)["labels"][::-1].tolist()
    assert batch["embeddings"][1, :, 1].tolist() == [0, 1, 2, 3]
    assert batch["folds"].tolist() == [[0], [0]]
    assert batch["ids"] == ["0-0", "2-0"]


def test_a_hidden_slice_is_missing_and_has_its_neighbours_logits(inputs):
    batch = collate(
        inputs, np.array([2]), picks=[np.arange(4)], hidden=[np.array([False, True, False, False])]
    )
    assert batch["missing"].tolist() == [[False, True, False, False]]
    np.testing.assert_allclose(batch["logits"][0, :, 5], [0, 1, 2, 3], atol=1e-5)
    batch = collate(
        inputs, np.array([2]), picks=[np.array([3, 1, 0])], hidden=[np.array([False, True, False])]
    )
    np.testing.assert_allclose(batch["logits"][0, :, 5], [3, 1.5, 0], atol=1e-5)


def test_batches_depend_on_the_epoch_and_can_start_anywhere(inputs):
    batches = StudyBatches(inputs, config(batch_size=2, reverse=0.5, slice_dropout=0.3))
    whole, late = list(batches.epoch(3)), list(batches.epoch(3, start=1))
    assert len(whole) == batches.steps == 3
    assert batches.current_epoch == 3
    for a, b in zip(whole[1:], late, strict=True):
        assert a["ids"] == b["ids"]
        assert all((a[key] == b[key]).all() for key in ("embeddings", "logits", "missing", "labels"))


@pytest.mark.parametrize(("lengths", "processes"), [([4, 9, 2, 7, 5], 2), ([4, 9], 3), ([7], 3), ([4, 9], 1)])
def test_processes_share_a_batch_and_their_weighted_means_are_its_mean(lengths, processes):
    lengths, rng = np.array(lengths), np.random.default_rng(0)
    values, of_study = [rng.random(length) for length in lengths], rng.random(len(lengths))
    parts = [share(lengths, rank, processes) for rank in range(processes)]
    assert all(len(own) for own, _ in parts)
    slices = [weight[0] * np.concatenate([values[i] for i in own]).mean() for own, weight in parts]
    studies = [weight[1] * of_study[own].mean() for own, weight in parts]
    assert np.mean(slices) == pytest.approx(np.concatenate(values).mean())
    assert np.mean(studies) == pytest.approx(of_study.mean())


def test_processes_get_the_studies_and_hidden_slices_that_one_would_have(inputs, monkeypatch):
    own = config(batch_size=5, slice_dropout=0.5, reverse=0.5)
    (alone,) = StudyBatches(inputs, own).epoch(0)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        (part,) = StudyBatches(inputs, own).epoch(0)
        assert part["ids"] == alone["ids"][rank::2]
        longest = part["mask"].shape[1]
        for key in ("mask", "missing", "logits", "labels", "embeddings"):
            assert torch.equal(part[key], alone[key][rank::2, :longest]), key
