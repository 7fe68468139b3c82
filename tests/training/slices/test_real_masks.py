"""The auxiliary segmentation on real slices and masks of PhysioNet ct-ich, against the values beside them."""

import logging
import tarfile

import numpy as np
import pandas as pd
import pytest
import torch

from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.prepared import Prepared
from src.models.segmentation import masked_segmentation_loss
from src.models.slice_classifier import build_slice_classifier
from src.settings import load_settings
from src.training.losses import weighted_bce
from src.training.runs import Run
from src.training.slices.kind import KIND, training_loss
from src.training.slices.masks import open_mask_source
from src.training.slices.slice_batches import SliceBatches
from src.training.slices.slice_config import Augmentation, Segmentation, SliceConfig
from src.training.split import labelled_slices
from tests.training.prepared import write_settings

STILL = Augmentation(hflip=0.0, affine=0.0)


@pytest.fixture(scope="module")
def home(realdata, tmp_path_factory):
    home, source = tmp_path_factory.mktemp("ctich"), realdata / "physionet_ctich_hu_masks"
    settings = load_settings(write_settings(home))
    with tarfile.open(source / "hu_slices_and_masks.tar.xz") as tar:
        tar.extractall(settings.raw, filter="data")
    (settings.raw / "labels.csv").write_bytes((source / "labels.csv").read_bytes())
    prepare(settings.raw, settings.clean, Options(dataset="physionet", folds=2))
    return settings


def config(**options):
    values = {
        "backbone": "test_resnet", "pretrained": False, "image_size": 512, "batch_size": 18,
        "segmentation": Segmentation(masks="prepared", channels=16), **options,
    }  # fmt: skip
    return SliceConfig(**values)


def batch_of(home, settings, masks=None):
    prepared = Prepared(home.clean)
    masks = masks or open_mask_source("prepared", home.raw, prepared)
    return next(iter(SliceBatches(prepared, labelled_slices(prepared), settings, masks=masks).epoch(0)))


def inside(batch):
    """Mean HU in the mask and its pixels, a row an image."""
    hu, masks = batch["hu"].numpy()[:, 0].astype(float), batch["masks"].numpy()[:, 0]
    rows = [(image[mask].mean(), mask.sum()) for image, mask in zip(hu, masks, strict=True)]
    return pd.DataFrame(rows, index=[i.split("/")[-1] for i in batch["ids"]], columns=["hu", "pixels"])


def test_without_augmentation_masks_hold_the_published_pixels_and_hu(home):
    stated = pd.read_csv(home.raw / "labels.csv")
    stated = stated.set_index(stated["file"].str.removesuffix(".dcm")).sort_index()
    found = inside(batch_of(home, config(augmentation=STILL))).sort_index()
    assert list(found.index) == list(stated.index)
    np.testing.assert_array_equal(found["pixels"], stated["mask_pixels"])
    np.testing.assert_allclose(found["hu"], stated["mean_HU_in_mask"], atol=0.051)  # one decimal is stated


@pytest.mark.parametrize("crop", [1.0, "head"])
def test_augmented_masks_stay_on_their_blood(home, crop):
    still = inside(batch_of(home, config(augmentation=STILL))).sort_index()
    strong = Augmentation(rotate_deg=30.0, scale=0.2, shear_deg=10.0, elastic=0.5, hflip=0.5, transpose=0.5)
    batch = batch_of(home, config(image_size=256, augmentation=strong, crop=crop))
    moved = inside(batch).sort_index()
    assert (moved["hu"] - still["hu"]).abs().max() < 12  # edges are averaged with what lies around
    shifted = [
        image[np.roll(mask, 40, 1)].mean()
        for image, mask in zip(batch["hu"][:, 0].numpy(), batch["masks"][:, 0].numpy(), strict=True)
    ]
    assert np.mean(shifted) < still["hu"].mean() - 20  # a mask beside its blood would be seen


class Some:
    """The masks of some images alone."""

    def __init__(self, masks, known):
        self.masks, self.known = masks, known

    def __contains__(self, image_id):
        return image_id in self.known

    def read(self, image_id):
        return self.masks.read(image_id)


def test_slices_without_a_mask_do_not_count_in_the_loss(home):
    settings = config(image_size=64, augmentation=STILL)
    prepared = Prepared(home.clean)
    whole = open_mask_source("prepared", home.raw, prepared)
    batch = batch_of(home, settings, Some(whole, set(prepared.volumes.image_ids[::3])))
    assert batch["known"].sum() == 6
    model = build_slice_classifier(settings).train()
    with torch.no_grad():
        logits, _, blood = model(batch["hu"], batch["windows"])
    known = batch["known"]
    alone = masked_segmentation_loss(blood[known], batch["masks"][known], known[known]) * 6 / 18
    expected = weighted_bce(logits, batch["labels"]) + 0.3 * alone
    torch.testing.assert_close(training_loss(settings)(model, batch), expected)


def test_a_fold_trains_with_real_masks_and_the_decoder_learns_them(home):
    settings = config(image_size=64, batch_size=6, epochs=25, lr=3e-3, augmentation=STILL, crop="head")
    run = Run("ctich/stage1/masks", 0, home)
    prepared, log = Prepared(home.clean), logging.getLogger("ich.test")
    KIND.train(run, prepared, settings, torch.device("cpu"), log, False)
    model = run.load_weights(build_slice_classifier(settings, pretrained=False)).train()
    batch = batch_of(home, config(image_size=64, augmentation=STILL, crop="head"))
    with torch.no_grad():
        drawn = model(batch["hu"], batch["windows"])[2].sigmoid()
    blood = torch.nn.functional.adaptive_avg_pool2d(batch["masks"].float(), drawn.shape[2:]) > 0.5
    assert drawn[blood].mean() > 1.4 * drawn[~blood].mean()
