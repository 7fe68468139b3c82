"""Stage 1: train a slice classifier on one fold, predict its held-out slices, predict the test slices."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

from ...data.prepared import read_manifest
from ...data.volumes import Volumes, open_volumes
from ...labels import LABELS
from ...models.pretrained import weights_record
from ...models.segmentation import masked_segmentation_loss
from ...models.slice_classifier import SliceClassifier, build_slice_classifier
from ..engine import distributed
from ..engine.curves import curve_writer
from ..engine.loop import Task, train
from ..engine.precision import Batch, autocast, autocast_type, to_device
from ..losses import build_loss, weighted_bce
from ..runs import Run, probability_frame, training_fingerprint
from ..split import labelled_slices, split_fold, unlabelled_slices
from .masks import open_mask_source
from .sample_changes import on_device
from .sampling import trainable
from .slice_batches import SliceBatches, plain_batches
from .slice_config import SliceConfig
from .views import VIEWS

Score = Callable[[pd.DataFrame, pd.DataFrame], dict[str, Any]]


def train_slice_fold(
    run: Run,
    config: SliceConfig,
    device: torch.device,
    score: Score,
    log: logging.Logger,
    show_progress: bool,
) -> None:
    """Train one fold from the prepared data and write its run folder; continues where a killed run stopped.

    `score(labels, probabilities)` gives the entries of metrics.json that measure the held-out predictions.
    """
    clean = run.settings.clean
    slices, data_fingerprint = labelled_slices(clean), read_manifest(clean)["fingerprint"]
    training, held_out = split_fold(slices, run.fold, clean)
    training = trainable(training, config)
    volumes = open_volumes(clean)
    _say(log, config, training, held_out, run.fold, device)
    torch.manual_seed(config.seed)  # the same start in every fold keeps the folds' embeddings comparable
    model = build_from_config(config)
    weights = weights_record(config.backbone, config.pretrained) if distributed.is_first() else {}
    model.start_at(torch.from_numpy(training[list(LABELS)].to_numpy(np.float32).mean(0)))
    masks = None
    if config.segmentation is not None:
        masks = open_mask_source(config.segmentation.masks, run.settings.raw, clean, volumes.size)

    held_out_ids = list(held_out["image_id"])
    held_out_labels = torch.from_numpy(held_out[list(LABELS)].to_numpy(np.float32))
    outputs: tuple[np.ndarray, np.ndarray] | None = None

    def validate(model: SliceClassifier) -> float:
        nonlocal outputs
        outputs = predict_together(model, volumes, held_out_ids, config, device)
        return float(weighted_bce(torch.from_numpy(outputs[0]), held_out_labels))

    batches = SliceBatches(volumes, training, config, device, masks)
    fingerprint = training_fingerprint(config, run.fold, data_fingerprint)
    with curve_writer(config.tensorboard and distributed.is_first(), run.log_file.with_suffix("")) as curve:
        task = Task(model, batches, training_loss(config), validate, curve)
        model, progress = train(task, config, device, run.checkpoint, fingerprint, log, show_progress)

    if outputs is None:  # continued after the last epoch
        validate(model)
    if not distributed.is_first():
        return
    logits, embeddings = outputs
    probabilities = probability_frame(logits, held_out["image_id"])
    run.save_config(config)
    run.save_weights(model)
    run.save_predictions("oof", probabilities, embeddings)
    scores = score(held_out.set_index("image_id")[list(LABELS)], probabilities)
    run.finish({**scores, "pretrained": weights}, config.seed, device, data_fingerprint, progress, log)


def _say(
    log: logging.Logger,
    config: SliceConfig,
    training: pd.DataFrame,
    held_out: pd.DataFrame,
    fold: int,
    device: torch.device,
) -> None:
    log.info(
        "%d training and %d held-out slices, backbone %s, %s",
        len(training), len(held_out), config.backbone, device,
    )  # fmt: skip
    if distributed.world_size() > 1:
        log.info("%d processes, each with its part of every batch", distributed.world_size())
    if config.sampling == "balanced":
        log.warning("balanced sampling: the probabilities are too high; calibrate them or use a second stage")
    for label in LABELS:
        if not training[label].any():
            log.warning(
                "no training slice of fold %d is positive for %s: it can only be learned as absent",
                fold,
                label,
            )


def training_loss(config: SliceConfig) -> Callable[[torch.nn.Module, Batch], torch.Tensor]:
    """(model, batch) -> scalar; the batch is augmented where it is, if it has not been yet."""
    classification = build_loss(config)

    def loss(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        batch = on_device(batch, config)
        outputs = model(batch["hu"], batch["windows"])
        value = classification(outputs[0], batch["labels"])
        if config.segmentation is None:
            return value
        blood = masked_segmentation_loss(outputs[2], batch["masks"], batch["known"])
        return value + config.segmentation.weight * blood

    return loss


def predict_test_slices(run: Run, device: torch.device, log: logging.Logger) -> None:
    """Write test.parquet and test_embeddings.npy of a complete fold; nothing to do where they exist."""
    with run.lock(wait=True):  # stage-2 folds side by side may all want them
        if (run.folder / "test.parquet").exists():
            return
        config = run.read_config(SliceConfig)
        ids = list(unlabelled_slices(run.settings.clean)["image_id"])
        model = run.load_weights(build_from_config(config, pretrained=False)).to(device)
        logits, embeddings = predict_slices(model, open_volumes(run.settings.clean), ids, config, device)
        run.save_predictions("test", probability_frame(logits, ids), embeddings)
    log.info("%s: predicted %d test slices", run, len(ids))


def predict_together(
    model: SliceClassifier, volumes: Volumes, image_ids: list[str], config: SliceConfig, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """`predict_slices`, the images shared among the processes that torchrun started."""
    parts = np.array_split(np.array(image_ids, dtype=object), distributed.world_size())
    own = predict_slices(model, volumes, list(parts[distributed.rank()]), config, device)
    logits, embeddings = zip(*distributed.gather(own), strict=True)
    return np.concatenate(logits), np.concatenate(embeddings)


def predict_slices(
    model: SliceClassifier, volumes: Volumes, image_ids: list[str], config: SliceConfig, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, 6) of the mean probability over the TTA views, and mean embeddings (n, d), both float32."""
    model.eval()
    kind = autocast_type(config.precision, device)
    all_logits, all_embeddings = [], []
    with torch.inference_mode():
        for batch in plain_batches(volumes, image_ids, config, config.batch_size):
            batch = to_device(batch, device)
            views = [VIEWS[name](batch["hu"]) for name in config.tta]  # in full precision
            with autocast(kind, device):
                outputs = [model(hu, batch["windows"]) for hu in views]
            probability = torch.stack([logits.double().sigmoid() for logits, _ in outputs]).mean(0)
            all_logits.append(probability.logit(eps=1e-12).float().cpu())
            all_embeddings.append(torch.stack([e.float() for _, e in outputs]).mean(0).cpu())
    if not all_logits:
        return np.empty((0, len(LABELS)), np.float32), np.empty((0, model.embedding_size), np.float32)
    return torch.cat(all_logits).numpy(), torch.cat(all_embeddings).numpy()


def build_from_config(config: SliceConfig, pretrained: bool | str | None = None) -> SliceClassifier:
    """The network of a configuration; `pretrained=False` where trained weights are loaded right after."""
    return build_slice_classifier(
        config.backbone,
        config.windows if config.learn_windows else len(config.windows),
        pretrained=config.pretrained if pretrained is None else pretrained,
        mean=config.mean,
        std=config.std,
        slices=len(config.neighbours),
        order=config.channel_order,
        learn_windows=config.learn_windows,
        normalisation=config.normalisation,
        pooling=config.pooling,
        dropout=config.dropout,
        dropout_samples=config.dropout_samples,
        drop_path=config.drop_path,
        image_size=config.image_size,
        channels_last=config.channels_last,
        decoder_channels=None if config.segmentation is None else config.segmentation.channels,
    )
