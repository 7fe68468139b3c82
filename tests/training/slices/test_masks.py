"""Masks lie on the pixels of the slices they belong to."""

import numpy as np
import pytest

from src.data.phantom import generate
from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.prepared import Prepared
from src.data.synthetic_truth import read_masks
from src.errors import UserError
from src.training.slices import masks as masks_module
from src.training.slices.masks import open_mask_source
from src.training.slices.slice_batches import SliceBatches
from src.training.slices.slice_config import SliceConfig
from src.training.split import labelled_slices
from tests.training.prepared import image_name, write_clean


def test_the_masks_of_a_data_set_come_with_its_slices(tmp_path):
    write_clean(tmp_path, masks=True)
    masks = open_mask_source("prepared", tmp_path, Prepared(tmp_path))
    assert image_name(2, 1) in masks and image_name(3, 1) not in masks
    mask, hu = masks.read(image_name(2, 1)), Prepared(tmp_path).volumes.slice(image_name(2, 1))
    np.testing.assert_array_equal(mask, 255 * (hu > 60))


def test_a_data_set_without_masks_says_so(tmp_path):
    write_clean(tmp_path)
    with pytest.raises(UserError, match="has no masks"):
        open_mask_source("prepared", tmp_path, Prepared(tmp_path))
    with pytest.raises(UserError, match=r"segmentation\.masks `truth` needs synthetic data"):
        open_mask_source("truth", tmp_path / "raw", Prepared(tmp_path))


def test_masks_take_part_in_the_geometry_of_their_slices(tmp_path):
    write_clean(tmp_path, masks=True)
    config = SliceConfig(backbone="test_resnet", image_size=48, batch_size=30)
    prepared = Prepared(tmp_path)
    masks = open_mask_source("prepared", tmp_path, prepared)
    batch = next(iter(SliceBatches(prepared, labelled_slices(prepared), config, masks=masks).epoch(0)))
    known = batch["known"].numpy()
    assert known.tolist() == [image_id in masks for image_id in batch["ids"]] and 0 < known.sum() < len(known)
    for hu, mask in zip(batch["hu"].numpy()[known, 0], batch["masks"].numpy()[known, 0], strict=True):
        assert (hu[mask] > 45).mean() > 0.85 if mask.any() else hu.max() < 60
    assert not batch["masks"].numpy()[~known].any()


@pytest.mark.parametrize("crop", [False, True])
def test_the_truth_of_synthetic_data_marks_bright_blood(tmp_path, crop, monkeypatch):
    generate(tmp_path / "raw", studies=4, seed=5, size=128, slices=8)
    prepare(tmp_path / "raw", tmp_path / "clean", Options(size=256, crop=crop, folds=2))
    prepared = Prepared(tmp_path / "clean")
    masks, volumes = open_mask_source("truth", tmp_path / "raw", prepared), prepared.volumes
    marked = [(masks.read(i) > 127, volumes.slice(i)) for i in volumes.image_ids if i in masks]
    blood = np.concatenate([hu[mask] for mask, hu in marked])
    brain = np.concatenate([hu[(hu > 15) & (hu < 50) & ~mask] for mask, hu in marked])
    assert len(marked) == len(volumes.image_ids)
    assert len(blood) > 500 and np.median(blood) > np.median(brain) + 15
    lacking = lambda truth, study: [part[1:] for part in read_masks(truth, study)]  # noqa: E731
    monkeypatch.setattr(masks_module, "read_masks", lacking)
    with pytest.raises(ValueError, match="shorter"):
        open_mask_source("truth", tmp_path / "raw", prepared)
