"""Batches of slices: neighbours by slice order, windows of the file, the same draw for a stack."""

import numpy as np
import pytest
import torch

from src.data.prepared import Prepared
from src.errors import UserError
from src.training.engine import distributed
from src.training.slices.draws import Augmentation
from src.training.slices.sample_changes import on_device
from src.training.slices.slice_batches import SliceBatches, SliceReader, middle, plain_batches, prefetch
from src.training.slices.slice_config import SliceConfig
from src.training.slices.warps import AIR
from src.training.split import labelled_slices
from tests.training.prepared import image_name, rewrite, write_clean

STILL = Augmentation(hflip=0.0, affine=0.0)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    write_clean(folder)
    return Prepared(folder)


def config(**options):
    return SliceConfig(**{"backbone": "test_resnet", "image_size": 64, "batch_size": 6, **options})


def orders(stack):
    """Which slice of its study each image is: its mean HU is 30 plus that, or AIR."""
    head = stack[:, :, 8:20, 8:20].astype(float).mean((2, 3))
    return np.where(head < -500, -1, np.round(head - 30))


def test_neighbours_are_the_slices_before_and_after_in_the_study(prepared):
    ids = [image_name(2, order) for order in (0, 3, 4)]
    stack = SliceReader(prepared, config(neighbours=(1, 0, -1))).hu(ids)
    assert orders(stack).tolist() == [
        [1, 0, 0],
        [4, 3, 2],
        [4, 4, 3],
    ]  # the edge slice stands for what is missing


def test_beyond_the_ends_of_a_study_lies_air_if_asked(prepared):
    ids = [image_name(0, 0), image_name(0, 4)]
    stack = SliceReader(prepared, config(neighbours=(-2, -1, 0, 1), edge="air")).hu(ids)
    assert orders(stack).tolist() == [[-1, -1, 0, 1], [2, 3, 4, -1]]
    assert (stack[0, 0] == AIR).all()


def test_a_missing_image_is_named(prepared):
    for neighbours in ((0,), (0, 1)):
        with pytest.raises(UserError, match="no usable image 'nobody'"):
            SliceReader(prepared, config(neighbours=neighbours)).hu(["nobody"])


def test_an_image_s_own_window_stands_where_the_configuration_says_file(prepared):
    reader = SliceReader(prepared, config(windows=((80.0, 200.0), "file")))
    windows = reader.windows([image_name(3, 0), image_name(5, 1)])
    assert windows.tolist() == [[[80, 200], [43, 80]], [[80, 200], [45, 80]]]


def test_gray_pictures_are_seen_through_their_own_levels_only(tmp_path):
    write_clean(tmp_path, studies=4)
    rewrite(tmp_path, "slices.parquet", lambda slices: slices.assign(units="gray"))
    with pytest.raises(UserError, match="so the window brain means nothing there"):
        SliceReader(Prepared(tmp_path), config())
    reader = SliceReader(Prepared(tmp_path), config(windows=("gray",)))
    assert reader.windows([image_name(0, 0)]).tolist() == [[[127.5, 255]]]


def test_a_stack_shares_one_draw_of_the_geometry(prepared):
    settings = config(neighbours=(-1, 0, 1), augmentation=Augmentation(rotate_deg=30.0, shift=0.2))
    batches = SliceBatches(prepared, labelled_slices(prepared), settings)
    batch = next(iter(batches.epoch(0)))
    inside = batch["hu"].numpy() > -300
    for stack in inside:  # the heads of a study have one outline
        assert (stack[0] == stack[1]).mean() > 0.98 and (stack[1] == stack[2]).mean() > 0.98
    assert len({tuple(stack[1].any(1)) for stack in inside}) > 1


def test_a_batch_is_a_function_of_seed_epoch_and_index(prepared):
    settings = config(augmentation=Augmentation(elastic=0.5, noise=0.5, erase=0.5, cutmix=0.5))
    slices = labelled_slices(prepared)
    whole = list(SliceBatches(prepared, slices, settings).epoch(2))
    later = list(SliceBatches(prepared, slices, settings).epoch(2, start=3))
    assert len(whole) == 5 and len(later) == 2
    for a, b in zip(whole[3:], later, strict=True):
        assert a["ids"] == b["ids"]
        assert all(torch.equal(a[key], b[key]) for key in ("hu", "windows", "labels"))


def test_processes_share_a_batch_as_one_would_have_it(prepared, monkeypatch):
    settings = config(neighbours=(0, 1), augmentation=Augmentation(window_center_jitter=5.0))
    slices = labelled_slices(prepared)
    alone = next(iter(SliceBatches(prepared, slices, settings).epoch(0)))
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        part = next(iter(SliceBatches(prepared, slices, settings).epoch(0)))
        assert part["ids"] == alone["ids"][rank::2]
        assert all(torch.equal(part[key], alone[key][rank::2]) for key in ("hu", "windows", "labels"))
    with pytest.raises(UserError, match="batch_size 5: does not divide among 2 processes"):
        SliceBatches(prepared, slices, config(batch_size=5))


@pytest.mark.parametrize("stored", [False, True])
def test_processes_mix_the_same_pairs_as_one(prepared, monkeypatch, stored):
    everything = Augmentation(cutmix=0.5, mixup=0.3, noise=0.8, blur=0.8, elastic=0.5, erase=0.5)
    settings = config(augmentation=everything, batch_size=12)
    slices = labelled_slices(prepared)

    def first_batch():
        batches = SliceBatches(prepared, slices, settings)
        batches.on_cpu = not stored  # stored: as for a GPU, changed on the device
        return on_device(next(iter(batches.epoch(0))), settings)

    alone = first_batch()
    assert ((alone["labels"] > 0) & (alone["labels"] < 1)).any()
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    lent = 0
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        part = first_batch()
        assert part["ids"][:4] == alone["ids"][rank::3]
        lent += len(part["ids"]) - 4
        assert torch.equal(part["labels"], alone["labels"][rank::3])
        assert torch.equal(part["windows"], alone["windows"][rank::3])
        torch.testing.assert_close(part["hu"], alone["hu"][rank::3], rtol=0, atol=1e-3)
    assert lent > 0


def test_prediction_shows_every_slice_once_unchanged_and_in_order(prepared):
    volumes = prepared.volumes
    ids = volumes.image_ids[::-1]
    batches = list(plain_batches(prepared, ids, config(), 7))
    assert [i for batch in batches for i in batch["ids"]] == ids
    expected = np.maximum(volumes.slices(ids), AIR)
    np.testing.assert_array_equal(np.concatenate([b["hu"][:, 0].numpy() for b in batches]), expected)


def test_training_without_augmentation_sees_what_prediction_sees(prepared):
    settings = config(augmentation=STILL, image_size=48, crop=0.75)
    volumes = prepared.volumes
    batch = next(iter(SliceBatches(prepared, labelled_slices(prepared), settings).epoch(0)))
    plain = next(iter(plain_batches(prepared, batch["ids"], settings, 6)))
    assert torch.equal(batch["hu"], plain["hu"])
    np.testing.assert_array_equal(
        plain["hu"].numpy(), middle(volumes.slices(batch["ids"])[:, None], 48, 0.75)
    )
    np.testing.assert_array_equal(plain["hu"][:, 0].numpy(), volumes.slices(batch["ids"])[:, 8:56, 8:56])
    assert SliceReader(prepared, settings).seen(batch["ids"][0]) == (8, 8, 48)  # top, left, side


def test_padding_is_air_before_anything_is_interpolated(tmp_path, monkeypatch):
    write_clean(tmp_path, studies=4)
    prepared = Prepared(tmp_path)
    padding = np.full((1, 64, 64), -3024, np.int16)
    monkeypatch.setattr(prepared.volumes, "slices", lambda ids: padding.copy())
    assert (SliceReader(prepared, config(image_size=32)).hu(["a"]) == AIR).all()


def test_an_error_in_the_thread_reaches_the_loop():
    def build():
        yield {"ids": []}
        raise UserError("the disk is gone")

    batches = prefetch(build)
    next(batches)
    with pytest.raises(UserError, match="the disk is gone"):
        next(batches)
