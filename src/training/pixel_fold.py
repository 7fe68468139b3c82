"""What reads pixels, whatever its kind: one fold from configuration to run folder, and its predictions."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from ..config import OF_RUN, parse_config
from ..data.prepared import Prepared
from ..data.target_labels import location_files, with_locations
from ..errors import UserError
from ..evaluation.target_scores import scores_of
from ..files import parquet_made_from
from ..models.heads import probability_frame
from ..models.slice_classifier import check_encoder, encoder_files, encoder_weights
from ..targets import KEYS, Unit
from .engine import distributed
from .engine.curves import curve_writer
from .engine.loop import Batches, Task, train
from .engine.precision import Batch
from .kinds import Kind
from .losses import score_loss
from .provenance import check_unchanged, origin
from .runs import Loaded, Run, checkpoint_origin, keep
from .soft_labels import soft_label_files, with_soft_labels
from .split import SLICE, Part, split_fold, split_of, warn_of_leak

Outputs = tuple[np.ndarray, np.ndarray]  # logits (n, columns), embeddings (n, d), float32


@dataclass(frozen=True)
class PixelKind:
    """What differs between the kinds that read pixels."""

    config: type[Any]
    unit: Unit
    build: Callable[..., nn.Module]  # (config, pretrained=None)
    # (run, prepared, training rows, config, device); the rows are of slices or of studies, by `unit`
    batches: Callable[[Run, Prepared, pd.DataFrame, Any, torch.device], Batches]
    loss: Callable[[Any], Callable[[nn.Module, Batch], torch.Tensor]]
    predict: Callable[[nn.Module, Prepared, list[str], Any, torch.device], Outputs]
    # (run, prepared, config): training and held-out rows, where that is not by patient alone
    split: Callable[[Run, Prepared, Any], tuple[pd.DataFrame, pd.DataFrame]] | None = None

    @property
    def key(self) -> str:
        return KEYS[self.unit]

    def as_kind(self) -> Kind:
        return Kind(
            self.config,
            partial(train_pixel_fold, self),
            partial(predict_test, self),
            partial(outputs, self),
            self.build,
            check_encoder,
            lambda run, prepared, config: with_weights_of_runs(config, run)[1],
        )


def train_pixel_fold(
    kind: PixelKind,
    run: Run,
    prepared: Prepared,
    config: Any,
    device: torch.device,
    log: logging.Logger,
    show_progress: bool,
) -> None:
    """Train one fold and write its run folder; continues where a killed run stopped."""
    targets = config.predicted
    columns = list(targets.columns)
    prepared = with_locations(prepared, config.site_labels, run.settings.raw)
    if kind.split is None:
        training, held_out = split_fold(prepared, run.fold, targets, kind.unit)
    else:
        training, held_out = kind.split(run, prepared, config)
    training = with_soft_labels(training, held_out, prepared, config, run.fold, log)
    batches = kind.batches(run, prepared, training, config, device)
    warn_of_leak(split_of(config), training, held_out, log)
    _say(log, kind, config, training, held_out, run.fold, device)
    torch.manual_seed(config.seed)  # the same start in every fold keeps the folds' embeddings comparable
    started, sources = with_weights_of_runs(config, run)
    model = kind.build(started)
    weights = encoder_weights(started) if distributed.is_first() else {}
    model.start_at(torch.from_numpy(_rates(training[columns].to_numpy(np.float32))))
    ids, labels = (
        list(held_out[kind.key]),
        torch.from_numpy(held_out[columns].to_numpy(np.float32, copy=True)),
    )
    found: Outputs | None = None

    def validate(model: nn.Module) -> float:
        nonlocal found
        found = predict_together(kind, model, prepared, ids, config, device)
        return float(score_loss(torch.from_numpy(found[0]), labels, targets))

    files = [*encoder_files(config), *location_files(config.site_labels, run.settings.raw)]
    files += soft_label_files(config, run.fold)
    made_from = origin(run, config, prepared, files, sources)
    of_checkpoint = checkpoint_origin(config, made_from)
    with curve_writer(config.tensorboard and distributed.is_first(), run.log_file.with_suffix("")) as curve:
        task = Task(model, batches, kind.loss(config), validate, curve)
        model, progress = train(task, config, device, run.checkpoint, of_checkpoint, log, show_progress)

    if found is None:  # continued after the last epoch
        validate(model)
    if not distributed.is_first():
        return
    logits, embeddings = found
    probabilities = probability_frame(logits, pd.Index(ids, name=kind.key), targets)
    run.save_config(config)
    run.save_weights(model)
    run.save_predictions("oof", probabilities, embeddings)
    scores = scores_of(targets, held_out.set_index(kind.key)[columns], probabilities)
    about = {"pretrained": weights, "synthetic": prepared.synthetic}
    run.finish(scores | about, made_from, config.seed, device, progress, log)


def with_weights_of_runs(config: Any, run: Run) -> tuple[Any, list[Run]]:
    """The configuration with paths in place of `run:NAME`, and the folds whose weights these are.

    It is always the same fold of that run, divided alike: another one has learned from what is held out here.
    """
    sources: list[Run] = []
    own = split_of(config)

    def located(pretrained: bool | str) -> bool | str:
        if not isinstance(pretrained, str) or not pretrained.startswith(OF_RUN):
            return pretrained
        source = Run(pretrained.removeprefix(OF_RUN), run.fold, run.settings)
        if not source.complete:
            raise UserError(f"{run}: starts from {source}, which is not complete; run: {source.command}")
        check_unchanged(source)
        if source.split == SLICE or source.split != own:
            raise UserError(
                f"{run}: split by {own}, starts from {source}, which was split by {source.split} and has "
                "learned from what is held out here; name a run that was split alike, by patient or series"
            )
        sources.append(source)
        return str(source.intact("model.safetensors"))

    if isinstance(config.backbone, str):
        return config.model_copy(update={"pretrained": located(config.pretrained)}), sources
    return config.model_copy(update={"backbone": config.backbone.located(located)}), sources


def _rates(labels: np.ndarray) -> np.ndarray:
    """(n, columns) -> (columns,) share of true among the rows where a column is known."""
    return labels.mean(0) if np.isfinite(labels).all() else np.nanmean(labels, 0)


def _say(
    log: logging.Logger,
    kind: PixelKind,
    config: Any,
    training: pd.DataFrame,
    held_out: pd.DataFrame,
    fold: int,
    device: torch.device,
) -> None:
    rows = "slices" if kind.unit == "image" else "studies"
    log.info(
        "%d training and %d held-out %s, backbone %s, %s",
        len(training), len(held_out), rows, config.encoder, device,
    )  # fmt: skip
    if distributed.world_size() > 1:
        log.info("%d processes, each with its part of every batch", distributed.world_size())
    for column in config.predicted.columns:
        if not (training[column] > 0.5).any():
            text = "no training row of fold %d is positive for %s: it can only be learned as absent"
            log.warning(text, fold, column)


def predict_together(
    kind: PixelKind, model: nn.Module, prepared: Prepared, ids: list[str], config: Any, device: torch.device
) -> Outputs:
    """`kind.predict`, shared among the processes that torchrun started."""
    parts = np.array_split(np.array(ids, dtype=object), distributed.world_size())
    own = kind.predict(model, prepared, list(parts[distributed.rank()]), config, device)
    logits, embeddings = zip(*distributed.gather(own), strict=True)
    return np.concatenate(logits), np.concatenate(embeddings)


def predict_test(
    kind: PixelKind, run: Run, part: Part, device: torch.device, log: logging.Logger,
    loaded: Loaded | None = None,
) -> None:  # fmt: skip
    """Write test.parquet and test_embeddings.npy of a complete fold for some slices.

    Studies that this fold has predicted already, and that are as they were, are not predicted again.
    """
    with run.lock(wait=True):  # stage-2 folds side by side may all want them
        if run.has("test", part.fingerprint):
            return
        ids = list(part.slices[kind.key].unique())
        before = _predicted_before(kind, run, part)
        todo = [key for key in ids if before is None or key not in before[0].index]
        parts = [] if before is None else [before]
        if todo or before is None:
            parts.append(outputs(kind, run, part.prepared, todo, device, loaded=loaded))
        probabilities = pd.concat([frame for frame, _ in parts])
        rows = probabilities.index.get_indexer(ids)
        embeddings = np.concatenate([values for _, values in parts])[rows]
        made_from = {"run": run.fingerprint, "data": part.fingerprint, "studies": part.studies}
        run.save_predictions("test", probabilities.iloc[rows], embeddings, made_from)
    rows = "slices" if kind.unit == "image" else "studies"
    log.info("%s: predicted %d of %d %s, the others were there", run, len(todo), len(ids), rows)


def _predicted_before(kind: PixelKind, run: Run, part: Part) -> tuple[pd.DataFrame, np.ndarray] | None:
    """Probabilities and embeddings of unchanged studies in this fold's present test.parquet."""
    path = run.path("test.parquet")
    made = parquet_made_from(path) if path.exists() else {}
    if made.get("run") != run.fingerprint or not run.embeddings_file("test").exists():
        return None
    same = [study for study, digest in part.studies.items() if made["studies"].get(study) == digest]
    frame, embeddings = run.predictions("test"), run.embeddings("test")
    kept = frame.index.isin(part.slices.loc[part.slices["study_id"].isin(same), kind.key])
    return frame[kept], embeddings[kept]


def outputs(
    kind: PixelKind,
    run: Run,
    prepared: Prepared,
    ids: Sequence[str],
    device: torch.device,
    view: str | None = None,
    loaded: Loaded | None = None,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Probabilities (index: the kind's key) and embeddings (n, d) by a complete fold's network.

    view: the only one to look through, in place of those of the run's `tta`; loaded: keeps the network.
    """
    config = run.read_config(kind.config)
    if view is not None:
        values = json.loads(config.model_dump_json()) | {"tta": [view]}
        config = parse_config(kind.config, values, f"{run} through the view {view}")
    model = keep(loaded, run, lambda: run.load_weights(kind.build(config, pretrained=False)).to(device))
    logits, embeddings = kind.predict(model, prepared, list(ids), config, device)
    return probability_frame(logits, pd.Index(ids, name=kind.key), config.predicted), embeddings
