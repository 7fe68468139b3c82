"""`slice`: a slice and its neighbours -> the targets of that slice."""

import logging
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import nn

from ...data.prepared import Prepared
from ...models.segmentation import masked_segmentation_loss
from ...models.slice_classifier import SliceClassifier, build_slice_classifier
from ..engine.precision import Batch
from ..losses import build_loss
from ..pixel_fold import Outputs, PixelKind
from ..runs import Run
from ..soft_labels import weights_of
from ..split import SLICE, labelled_slices, split_fold
from .masks import open_mask_source
from .prediction import predict_batches
from .replication import copies, expected_twin_share, split_by_slice, twin_share
from .sample_changes import on_device
from .sampling import SAMPLINGS, trainable
from .slice_batches import SliceBatches, plain_batches
from .slice_config import SliceConfig

log = logging.getLogger("ich")


def training_batches(
    run: Run, prepared: Prepared, training: pd.DataFrame, config: SliceConfig, device: torch.device
) -> SliceBatches:
    if SAMPLINGS[config.sampling].changes_prevalence:
        text = "%s sampling: the probabilities are too high; calibrate them or use a second stage"
        log.warning(text, config.sampling)
    masks = None
    if config.segmentation is not None:
        masks = open_mask_source(config.segmentation.masks, run.settings.raw, prepared)
    training = trainable(training, config, prepared)
    if config.replication == "minority":
        training = training.loc[training.index.repeat(copies(training, config.predicted))]
    return SliceBatches(prepared, training, config, device, masks)


def split(run: Run, prepared: Prepared, config: SliceConfig) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and held-out slices of a fold; of the split by slice every held-out image once."""
    if config.split != SLICE:
        return split_fold(prepared, run.fold, config.predicted, split=config.split)
    slices = labelled_slices(prepared, config.predicted)
    times = np.ones(len(slices), np.int64)
    if config.replication == "paper":
        times = copies(slices, config.predicted)
    training, test = split_by_slice(times, run.fold, config.seed)
    log.warning(
        "split by slice: of %d test rows, copies included, %.3f have an exact copy among the %d training "
        "rows (expected: %.3f)",
        test.sum(), twin_share(training, test), training.sum(), expected_twin_share(times),
    )  # fmt: skip
    training *= ~slices["conflicting_copy"].to_numpy(bool)
    return slices.loc[slices.index.repeat(training)], slices[test > 0]


def training_loss(config: SliceConfig) -> Callable[[nn.Module, Batch], torch.Tensor]:
    """(model, batch) -> scalar; the batch is augmented where it is, if it has not been yet."""
    classification = build_loss(config, config.predicted)

    def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
        batch = on_device(batch, config)
        outputs = model(batch["hu"], batch["windows"])
        value = classification(outputs[0], batch["labels"], **weights_of(batch))
        if config.segmentation is None:
            return value
        blood = masked_segmentation_loss(outputs[2], batch["masks"], batch["known"])
        return value + config.segmentation.weight * blood

    return loss


def predict_slices(
    model: SliceClassifier, prepared: Prepared, image_ids: list[str], config: SliceConfig,
    device: torch.device,
) -> Outputs:  # fmt: skip
    """Logits (n, columns) and embeddings (n, d), see `predict_batches`."""
    batches = plain_batches(prepared, image_ids, config, config.batch_size)

    def answer(hu: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return model(hu, batch["windows"])[:2]

    return predict_batches(model, batches, answer, model.embedding_size, config, device)


SLICES = PixelKind(
    SliceConfig, "image", build_slice_classifier, training_batches, training_loss, predict_slices, split
)
KIND = SLICES.as_kind()
