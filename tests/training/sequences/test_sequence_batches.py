"""Runs of adjacent slices: whole studies a process, the same for the same seed, padding nowhere."""

import numpy as np
import pytest
import torch

from src.config import parse_config
from src.data.prepared import Prepared
from src.errors import UserError
from src.models.sequence_classifier import SequenceOutput
from src.training.engine import distributed
from src.training.sequences.kind import _stored
from src.training.sequences.sequence_batches import SequenceBatches
from src.training.sequences.sequence_config import SequenceConfig
from src.training.split import labelled_slices
from tests.training.prepared import write_clean

STILL = {"hflip": 0.0, "affine": 0.0, "intensity": 0.0}


def config(**values):
    base = {"kind": "sequence", "backbone": "test_resnet", "pretrained": False, "image_size": 64}
    return parse_config(SequenceConfig, {**base, "batch_size": 2, "length": 3, **values}, "test")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    write_clean(folder, studies=8, slices=5)
    return Prepared(folder)


def batches(prepared, **values):
    return SequenceBatches(prepared, labelled_slices(prepared), config(**values))


def test_both_embeddings_are_stored_where_there_are_two():
    assert config(context=None, embeddings="encoder").context is None
    assert config(embeddings="both").context is not None
    with pytest.raises(UserError, match="embeddings both: without a context there is one; take encoder"):
        config(context=None, embeddings="both")


def test_what_is_stored_of_a_slice_is_one_embedding_or_both_side_by_side():
    output = SequenceOutput(torch.zeros(1, 2, 6), torch.ones(1, 2, 3), torch.full((1, 2, 4), 2.0))
    for name, expected in (("encoder", [1] * 3), ("context", [2] * 4), ("both", [1] * 3 + [2] * 4)):
        assert _stored(output, config(embeddings=name))[0].tolist() == [expected] * 2


def test_an_epoch_has_every_study_once_by_a_run_of_adjacent_slices(prepared):
    made, starts = batches(prepared), set()
    for epoch in range(20):
        rows = made.rows(epoch)
        assert made.steps == 3 and len(rows) == 3
        runs = [run for batch in rows for run in np.split(batch, len(batch) // 3)]
        assert all((np.diff(run) == 1).all() and run[0] // 5 == run[-1] // 5 for run in runs)
        assert sorted(run[0] // 5 for run in runs) == list(range(6))
        starts |= {int(run[0] % 5) for run in runs}
    assert starts == {0, 1, 2}  # ends of studies are moved inside


def test_a_shorter_study_gives_all_its_slices_and_the_mask_says_so(prepared):
    slices = labelled_slices(prepared).drop(index=[1, 2, 3])  # the first study keeps its two ends
    made = SequenceBatches(prepared, slices, config(augmentation=STILL))
    for index, rows in enumerate(made.rows(0)):
        batch = made.batch(rows, (0, 0, index))
        assert batch["mask"].sum() == len(batch["ids"]) == len(batch["hu"]) == len(batch["labels"])
        lengths = batch["mask"].sum(1).tolist()
        studies = [image_id.split("_")[0] for image_id in batch["ids"]]
        assert lengths == [studies.count(study) for study in dict.fromkeys(studies)]
        assert all(length == (2 if study == "image00" else 3) for study, length in zip(
            dict.fromkeys(studies), lengths, strict=True
        ))  # fmt: skip


def test_slices_of_a_study_share_their_changes_where_they_are_drawn_by_study(prepared):
    for draws, shared in (("study", True), ("slice", False)):
        made = batches(prepared, draws=draws)
        numbers = made.drawn(made.rows(0)[0], (0, 0, 0))
        same = [np.allclose(numbers.matrices[0], numbers.matrices[k]) for k in range(1, 3)]
        assert all(same) == shared
        assert not np.allclose(numbers.matrices[0], numbers.matrices[3])
        assert len(set(numbers.noise_seeds)) == 6


def test_processes_have_whole_studies_and_weigh_their_losses(prepared, monkeypatch):
    slices = labelled_slices(prepared).drop(index=[1, 2, 3])
    made = SequenceBatches(prepared, slices, config(batch_size=4, augmentation=STILL))
    rows = next(rows for epoch in range(9) for rows in made.rows(epoch) if 0 in rows)
    whole, parts = made.batch(rows, (0, 0, 0)), []
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(distributed, "world_size", lambda: 2)
        parts.append(made.batch(rows, (0, 0, 0)))
    assert sorted(parts[0]["ids"] + parts[1]["ids"]) == sorted(whole["ids"])
    values = {image_id: float(n) for n, image_id in enumerate(whole["ids"])}
    means = [part["weight"] * np.mean([values[i] for i in part["ids"]]) for part in parts]
    assert np.mean(means) == pytest.approx(np.mean(list(values.values())))
    assert whole["weight"] == 1.0


def test_a_batch_is_a_function_of_seed_epoch_and_index(prepared):
    first, second = (list(batches(prepared).epoch(3)) for _ in range(2))
    later = list(batches(prepared).epoch(3, start=1))
    assert all(torch.equal(a["hu"], b["hu"]) for a, b in zip(first, second, strict=True))
    assert torch.equal(first[1]["hu"], later[0]["hu"])
