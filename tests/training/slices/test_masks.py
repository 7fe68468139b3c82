"""Masks lie on the pixels of the slices they belong to."""

import numpy as np
import pytest

from src.data.phantom import generate
from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.volumes import open_volumes
from src.errors import UserError
from src.training.slices.masks import open_mask_source
from src.training.slices.slice_batches import SliceBatches
from src.training.slices.slice_config import SliceConfig
from src.training.split import labelled_slices
from tests.training.prepared import image_name, write_clean


def test_the_masks_of_a_data_set_come_with_its_slices(tmp_path):
    write_clean(tmp_path, masks=True)
    masks = open_mask_source("prepared", tmp_path, tmp_path, 64)
    assert image_name(2, 1) in masks and image_name(3, 1) not in masks
    mask, hu = masks.read(image_name(2, 1)), open_volumes(tmp_path).slice(image_name(2, 1))
    np.testing.assert_array_equal(mask, 255 * (hu > 60))


def test_a_data_set_without_masks_says_so(tmp_path):
    write_clean(tmp_path)
    with pytest.raises(UserError, match="has no masks"):
        open_mask_source("prepared", tmp_path, tmp_path, 64)
    with pytest.raises(UserError, match=r"segmentation\.masks `truth` needs synthetic data"):
        open_mask_source("truth", tmp_path / "raw", tmp_path, 64)


def test_masks_take_part_in_the_geometry_of_their_slices(tmp_path):
    write_clean(tmp_path, masks=True)
    config = SliceConfig(backbone="test_resnet", image_size=48, batch_size=30)
    masks = open_mask_source("prepared", tmp_path, tmp_path, 64)
    batch = next(
        iter(SliceBatches(open_volumes(tmp_path), labelled_slices(tmp_path), config, masks=masks).epoch(0))
    )
    known = batch["known"].numpy()
    assert known.tolist() == [image_id in masks for image_id in batch["ids"]] and 0 < known.sum() < len(known)
    for hu, mask in zip(batch["hu"].numpy()[known, 0], batch["masks"].numpy()[known, 0], strict=True):
        assert (hu[mask] > 45).mean() > 0.85 if mask.any() else hu.max() < 60
    assert not batch["masks"].numpy()[~known].any()


@pytest.mark.parametrize("crop", [False, True])
def test_the_truth_of_synthetic_data_marks_bright_blood(tmp_path, crop):
    generate(tmp_path / "raw", studies=4, seed=5, size=128, slices=8)
    prepare(tmp_path / "raw", tmp_path / "clean", Options(size=256, crop=crop, folds=2))
    masks, volumes = (
        open_mask_source("truth", tmp_path / "raw", tmp_path / "clean", 256),
        open_volumes(tmp_path / "clean"),
    )
    marked = [(masks.read(i) > 127, volumes.slice(i)) for i in volumes.image_ids if i in masks]
    blood = np.concatenate([hu[mask] for mask, hu in marked])
    brain = np.concatenate([hu[(hu > 15) & (hu < 50) & ~mask] for mask, hu in marked])
    assert len(marked) == len(volumes.image_ids)
    assert len(blood) > 500 and np.median(blood) > np.median(brain) + 15
