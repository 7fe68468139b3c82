"""Training and prediction of stage-2 networks: the shared engine on studies, several networks averaged."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import expit, logit
from torch import nn

from ...files import atomic_path
from ...labels import LABELS
from ...models.slice_inputs import InputSizes
from ...models.studies.sequence_model import SequenceModel, SliceSequence, StackerOutput
from ...models.studies.stackers import build_stacker
from ..engine import distributed
from ..engine.curves import curve_writer
from ..engine.loop import Task, train
from ..engine.precision import Batch, autocast, autocast_type, to_device
from ..engine.training_progress import Progress
from ..losses import MASKED_LOSSES, weighted_bce
from ..runs import Run, checkpoint_origin
from .embedding_spaces import DeviceMap, EmbeddingMap
from .stacker_config import StackerConfig
from .study_batches import StudyBatches, collate
from .study_inputs import StudyInputs


@dataclass(frozen=True)
class FoldData:
    """One fold of stage 2: what it trains on, what it is scored on, and the embeddings' common space."""

    training: StudyInputs
    held_out: StudyInputs
    space: EmbeddingMap
    made_from: dict[str, Any]  # see provenance.py


class FoldLogits(NamedTuple):
    """What a complete fold says, float32."""

    slices: np.ndarray  # (slices, 6)
    studies: np.ndarray | None = None  # (studies, 6), of a network with a head for them


def build_from_config(config: StackerConfig, embedding_sizes: tuple[int, ...]) -> SequenceModel:
    """embedding_sizes: what comes out of the embedding map; empty where embeddings are no input."""
    positions = len(config.positions) if "position" in config.inputs else 0
    sizes = InputSizes(embedding_sizes, len(config.sources), positions, marks=config.slice_dropout > 0)
    return build_stacker(config, sizes)


def train_networks(
    run: Run,
    config: StackerConfig,
    data: FoldData,
    device: torch.device,
    log: logging.Logger,
    show_progress: bool,
) -> tuple[nn.ModuleList, Progress]:
    """The networks whose predictions are averaged: every seed's, at the end of its last `bag_epochs` epochs.

    Killed at any moment and called again it continues.
    """
    networks, histories, seconds = nn.ModuleList(), [], 0.0
    for offset in range(config.seeds):
        own = config.model_copy(update={"seed": config.seed + offset})
        checkpoint = run.checkpoint if offset == 0 else run.checkpoint.with_name(f"seed{offset}.pt")
        of_checkpoint = checkpoint_origin(own, data.made_from)
        torch.manual_seed(own.seed)
        model = build_from_config(own, data.space.out)
        model.start_at(*prevalences(data.training))
        snapshots = Snapshots(checkpoint, own)
        events = run.log_file.with_suffix("") / f"seed{own.seed}"
        with curve_writer(own.tensorboard and distributed.is_first(), events) as curve:
            task = fold_task(model, own, data, device, snapshots, curve)
            model, progress = train(task, own, device, checkpoint, of_checkpoint, log, show_progress)
        networks.extend(snapshots.load(model, data.space.out))
        histories.append(progress.history)
        seconds += progress.seconds
    history = [
        {key: float(np.mean([entry[key] for entry in entries])) for key in entries[0]}
        | {key: entries[0][key] for key in ("epoch", "step")}
        for entries in zip(*histories, strict=True)
    ]
    return networks, Progress(history=history, seconds=seconds)


def prevalences(inputs: StudyInputs) -> tuple[torch.Tensor, torch.Tensor]:
    """(6,), (6,): the share of slices, and of studies, that show each label."""
    of_study = np.maximum.reduceat(inputs.labels, inputs.bounds[:-1])
    return torch.from_numpy(inputs.labels.mean(0)), torch.from_numpy(of_study.mean(0))


class Snapshots:
    """The weights at the end of the last epochs, kept beside the checkpoint until the fold is complete."""

    def __init__(self, checkpoint: Path, config: StackerConfig):
        self.checkpoint, self.config = checkpoint, config
        self.epochs = range(config.epochs - config.bag_epochs, config.epochs) if config.bag_epochs > 1 else ()

    def path(self, epoch: int) -> Path:
        return self.checkpoint.with_name(f"{self.checkpoint.stem}_epoch{epoch}.safetensors")

    def save(self, epoch: int, model: nn.Module) -> None:
        from safetensors.torch import save_model

        if epoch in self.epochs and distributed.is_first():
            with atomic_path(self.path(epoch)) as temporary:
                save_model(model, str(temporary))

    def load(self, last: nn.Module, embedding_sizes: tuple[int, ...]) -> list[nn.Module]:
        """The networks of the epochs kept, or the last one where none are."""
        from safetensors.torch import load_model

        networks = []
        for epoch in self.epochs:
            model = build_from_config(self.config, embedding_sizes)
            load_model(model, str(self.path(epoch)), strict=True)
            networks.append(model.to(next(last.parameters()).device))
        return networks or [last]


def fold_task(
    model: SequenceModel,
    config: StackerConfig,
    data: FoldData,
    device: torch.device,
    snapshots: Snapshots,
    curve: Callable[[dict[str, float]], None],
) -> Task:
    """What the engine trains: the loss of a batch of studies, the held-out loss at the end of an epoch."""
    space, batches = data.space.on(device), StudyBatches(data.training, config)
    labels = torch.from_numpy(data.held_out.labels)

    def loss(model: SequenceModel, batch: Batch) -> torch.Tensor:
        return stacker_loss(call(model, batch, space), batch, config)

    def validate(model: SequenceModel) -> float:
        snapshots.save(batches.current_epoch, model)
        logits, _ = predict_studies([model], data.held_out, data.space, config, device)
        return float(weighted_bce(torch.from_numpy(logits), labels))

    return Task(model, batches, loss, validate, curve)


def stacker_loss(out: StackerOutput, batch: Batch, config: StackerConfig) -> torch.Tensor:
    """The loss of real slices, plus the weighted losses of the other heads.

    Of several processes each has a value whose mean over them is the loss of the whole batch.
    """
    labels, mask = batch["labels"], batch["mask"]
    over_slices, over_studies = batch["weight"]
    of_slices = MASKED_LOSSES[config.loss]
    loss = of_slices(out.slices, labels, mask)
    if out.first is not None and config.first_weight:
        loss = loss + config.first_weight * of_slices(out.first, labels, mask)
    loss = over_slices * loss
    of_study = (labels * mask[..., None]).amax(1)
    for logits, weight in ((out.study, config.study_weight), (out.instances, config.instance_weight)):
        if logits is not None:
            loss = loss + over_studies * weight * weighted_bce(logits, of_study)
    return loss


def predict_studies(
    networks: Sequence[SequenceModel], inputs: StudyInputs, space: EmbeddingMap, config: StackerConfig,
    device: torch.device,
) -> FoldLogits:  # fmt: skip
    """All slices in the order of the table, and all studies: logits of the mean probability over the
    networks, the copies of the inputs and, with `tta_reverse`, both reading directions.
    """
    mapped, kind = space.on(device), autocast_type(config.precision, device)
    logits = np.empty((len(inputs.image_ids), len(LABELS)), np.float32)
    of_studies = np.empty((len(inputs), len(LABELS)), np.float32) if config.study_weight else None
    by_length = np.argsort(inputs.lengths, kind="stable")
    for network in networks:
        network.eval()
    with torch.inference_mode():
        for start in range(0, len(by_length), config.batch_size):
            studies = by_length[start : start + config.batch_size]
            views, heads = [], []
            for batch, reverse in collate_views(inputs, studies, config.tta_reverse):
                batch = to_device(batch, device)
                for network in networks:
                    with autocast(kind, device):
                        out = call(network, batch, mapped)
                    views.append((out.slices.float().cpu().numpy(), reverse))
                    heads.append(out.study)
            if of_studies is not None:
                of_studies[studies] = mean_logits([head.float().cpu().numpy() for head in heads])
            for row, study in enumerate(studies):
                first, last = inputs.bounds[study], inputs.bounds[study + 1]
                own = [
                    out[row, : last - first][::-1] if back else out[row, : last - first]
                    for out, back in views
                ]
                logits[first:last] = mean_logits(own)
    return FoldLogits(logits, of_studies)


def collate_views(inputs: StudyInputs, studies: np.ndarray, reverse: bool) -> Iterator[tuple[Batch, bool]]:
    """Every copy of the studies as they lie and, with `reverse`, from the other end."""
    backwards = [np.arange(length)[::-1] for length in inputs.lengths[studies]]
    for copy in range(len(inputs.copies)):
        copies = np.full(len(studies), copy)
        yield collate(inputs, studies, copies=copies), False
        if reverse:
            yield collate(inputs, studies, backwards, copies=copies), True


def mean_logits(views: Sequence[np.ndarray]) -> np.ndarray:
    """The logit of the mean probability; of a single view, itself."""
    if len(views) == 1:
        return views[0]
    return logit(np.mean([expit(view.astype(np.float64)) for view in views], 0).clip(1e-12, 1 - 1e-12))


def call(model: SequenceModel, batch: Batch, space: DeviceMap) -> StackerOutput:
    """Run a network on a collated batch that lies on its device."""
    embeddings = space(batch["embeddings"], batch["folds"]) if space.sizes else batch["embeddings"].float()
    others = (batch[key] for key in SliceSequence._fields[1:])
    return model(SliceSequence(embeddings, *others))
