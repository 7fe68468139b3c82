"""`sequence`: a run of adjacent slices -> the targets of every slice, the context trained end to end."""

from collections.abc import Callable

import pandas as pd
import torch
from torch import nn

from ...data.prepared import Prepared
from ...models.sequence_classifier import SequenceClassifier, SequenceOutput, build_sequence_classifier
from ..engine.precision import Batch
from ..losses import build_loss
from ..pixel_fold import Outputs, PixelKind
from ..runs import Run
from ..slices.prediction import predict_batches
from ..slices.sample_changes import on_device
from ..slices.slice_batches import group_batches
from ..soft_labels import weights_of
from .sequence_batches import SequenceBatches
from .sequence_config import SequenceConfig


def training_batches(
    run: Run, prepared: Prepared, training: pd.DataFrame, config: SequenceConfig, device: torch.device
) -> SequenceBatches:
    return SequenceBatches(prepared, training, config, device)


def training_loss(config: SequenceConfig) -> Callable[[nn.Module, Batch], torch.Tensor]:
    """(model, batch) -> scalar, the mean over real slices."""
    classification = build_loss(config, config.predicted)

    def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
        batch = on_device(batch, config)
        output = model(batch["hu"], batch["windows"], batch["mask"])
        logits = output.logits[batch["mask"]]
        return batch["weight"] * classification(logits, batch["labels"], **weights_of(batch))

    return loss


def predict_sequences(
    model: SequenceClassifier, prepared: Prepared, image_ids: list[str], config: SequenceConfig,
    device: torch.device,
) -> Outputs:  # fmt: skip
    """Logits (n, columns) and embeddings (n, d), see `predict_batches`.

    Every study is read as a whole, whichever of its slices are asked for.
    """
    wanted, volumes = set(image_ids), prepared.volumes
    studies = [volumes.study_images(study) for study in volumes.study_ids]
    groups = [ids for ids in studies if not wanted.isdisjoint(ids)]

    def answer(hu: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        mask = torch.ones(1, len(hu), dtype=torch.bool, device=hu.device)
        output = model(hu, batch["windows"], mask)
        return output.logits[0], _stored(output, config)[0]

    sizes = {"encoder": model.embedding_size, "context": model.context_size}
    width = sizes.get(config.embeddings, sum(sizes.values()))
    batches = group_batches(prepared, groups, config)
    logits, embeddings = predict_batches(model, batches, answer, width, config, device)
    rows = pd.Index([image_id for ids in groups for image_id in ids]).get_indexer(image_ids)
    return logits[rows], embeddings[rows]


def _stored(output: SequenceOutput, config: SequenceConfig) -> torch.Tensor:
    """(b, s, d) of `embeddings`."""
    if config.embeddings == "both":
        return torch.cat([output.embeddings, output.context], -1)
    return output.embeddings if config.embeddings == "encoder" else output.context


SEQUENCES = PixelKind(
    SequenceConfig, "image", build_sequence_classifier, training_batches, training_loss, predict_sequences
)
KIND = SEQUENCES.as_kind()
