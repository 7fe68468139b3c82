"""Cropping to the head at reading gives what prepare_data.py --crop stores."""

import numpy as np
import pytest

from src.data.phantom import generate
from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.prepared import Prepared
from src.training.slices.draws import Augmentation
from src.training.slices.masks import open_mask_source
from src.training.slices.slice_batches import SliceBatches, SliceReader, plain_batches
from src.training.slices.slice_config import SliceConfig
from src.training.split import labelled_slices


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    home = tmp_path_factory.mktemp("heads")
    generate(home / "raw", studies=4, seed=5, size=256, slices=8)
    for name, size, crop in (("whole", 256, False), ("cut", 256, True), ("large", 512, False)):
        prepare(home / "raw", home / name, Options(size=size, crop=crop, folds=2))
    return home


def config(**options):
    return SliceConfig(**{"backbone": "test_resnet", "image_size": 256, "batch_size": 8, **options})


def hu(folder, ids, **options):
    return SliceReader(Prepared(folder), config(**options)).hu(ids)


@pytest.mark.parametrize("neighbours", [(0,), (-1, 0, 1)])
def test_a_whole_slice_cut_at_reading_is_the_slice_cut_at_preparation(folders, neighbours):
    ids = Prepared(folders / "cut").volumes.image_ids
    at_reading = hu(folders / "whole", ids, neighbours=neighbours, crop="head")
    prepared = hu(folders / "cut", ids, neighbours=neighbours)
    np.testing.assert_array_equal(at_reading, prepared)
    assert (prepared != hu(folders / "whole", ids, neighbours=neighbours)).mean() > 0.2


def test_another_stored_size_gives_the_same_square_to_a_pixel_and_the_same_picture_to_resampling(folders):
    ids = Prepared(folders / "cut").volumes.image_ids
    large = SliceReader(Prepared(folders / "large"), config(image_size=512, crop="head"))
    small = SliceReader(Prepared(folders / "whole"), config(crop="head"))
    for image_id in ids:
        ours, theirs = large.heads.of(image_id), small.heads.of(image_id)
        assert np.abs(np.array(ours) - 2 * np.array(theirs)).max() <= 8  # the mask has steps of 4 pixels
    difference = np.abs(hu(folders / "large", ids, crop="head", image_size=256).astype(int) - small.hu(ids))
    inside = small.hu(ids) > -200
    assert np.median(difference[inside]) < 15


def test_data_that_were_cut_already_are_left_as_they_are(folders):
    ids = Prepared(folders / "cut").volumes.image_ids[:5]
    np.testing.assert_array_equal(hu(folders / "cut", ids, crop="head"), hu(folders / "cut", ids))


def test_training_prediction_and_masks_see_the_same_square(folders):
    still = Augmentation(hflip=0.0, affine=0.0)
    settings = config(image_size=96, crop="head", augmentation=still)
    prepared = Prepared(folders / "whole")
    masks = open_mask_source("truth", folders / "raw", prepared)
    batches = SliceBatches(prepared, labelled_slices(prepared), settings, masks=masks)
    batch = next(iter(batches.epoch(0)))
    plain = next(iter(plain_batches(prepared, batch["ids"], settings, 8)))
    difference = (batch["hu"].float() - plain["hu"]).abs()  # OpenCV's warp rounds places to 1/32 pixel
    assert difference.mean() < 3 and difference.median() <= 1
    assert batch["masks"].any()


def test_a_mask_cut_at_reading_is_the_mask_of_the_slice_cut_at_preparation(folders):
    at_reading = SliceReader(Prepared(folders / "whole"), config(crop="head"))
    masks = {
        name: open_mask_source("truth", folders / "raw", Prepared(folders / name))
        for name in ("whole", "cut")
    }
    ours, theirs, uncut = [], [], []
    for image_id in Prepared(folders / "cut").volumes.image_ids:
        ours.append(at_reading.mask(image_id, masks["whole"]) > 127)
        theirs.append(masks["cut"].read(image_id) > 127)
        uncut.append(masks["whole"].read(image_id) > 127)
    assert overlap(ours, theirs) > 0.9 > 0.7 > overlap(uncut, theirs)


def overlap(a, b):
    return np.sum(np.logical_and(a, b)) / np.sum(np.logical_or(a, b))
