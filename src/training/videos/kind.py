"""`video`: frames of a study -> the targets of the study."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import nn

from ...data.prepared import Prepared
from ...models.video_classifier import VideoClassifier, build_video_classifier
from ..engine.precision import Batch
from ..losses import build_loss
from ..pixel_fold import Outputs, PixelKind
from ..runs import Run
from ..sequences.sequence_batches import StudyRowBatches
from ..slices.prediction import predict_batches
from ..slices.sample_changes import on_device
from ..slices.slice_batches import group_batches
from .frames import FRAMES
from .video_config import VideoConfig


class VideoBatches(StudyRowBatches):
    """The frames of studies, those of a study together; `labels` (b, columns) are the studies'."""

    def pick(self, study: int, rng: np.random.Generator) -> np.ndarray:
        first, end = self.bounds[study], self.bounds[study + 1]
        return first + FRAMES[self.config.frame_choice](end - first, self.config.frames)

    def batch(self, rows: np.ndarray, seed: tuple[int, int, int]) -> Batch:
        batch = super().batch(rows, seed)
        return batch | {"labels": batch["labels"][:: self.config.frames]}


def training_batches(
    run: Run, prepared: Prepared, training: pd.DataFrame, config: VideoConfig, device: torch.device
) -> VideoBatches:
    """training: a row a study, with its labels."""
    columns = ["study_id", *config.predicted.columns]
    slices = prepared.slices[prepared.slices["status"] == "ok"]
    slices = slices[["image_id", "study_id", "order"]].merge(training[columns], on="study_id")
    slices = slices.sort_values(["study_id", "order"])
    return VideoBatches(prepared, slices, config, device)


def training_loss(config: VideoConfig) -> Callable[[nn.Module, Batch], torch.Tensor]:
    """(model, batch) -> scalar, the mean over studies."""
    classification = build_loss(config, config.predicted)

    def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
        batch = on_device(batch, config)
        logits, _ = model(batch["hu"], batch["windows"], config.frames)
        return batch["weight"] * classification(logits, batch["labels"])

    return loss


def predict_studies(
    model: VideoClassifier, prepared: Prepared, study_ids: list[str], config: VideoConfig,
    device: torch.device,
) -> Outputs:  # fmt: skip
    """Logits (n, columns) and embeddings (n, d) of studies, see `predict_batches`."""
    choose, groups = FRAMES[config.frame_choice], []
    for study in study_ids:
        ids = prepared.volumes.study_images(study)
        groups.append([ids[k] for k in choose(len(ids), config.frames)])

    def answer(hu: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return model(hu, batch["windows"], config.frames)

    batches = group_batches(prepared, groups, config)
    return predict_batches(model, batches, answer, model.embedding_size, config, device)


VIDEOS = PixelKind(
    VideoConfig, "study", build_video_classifier, training_batches, training_loss, predict_studies
)
KIND = VIDEOS.as_kind()
