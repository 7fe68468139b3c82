"""Stage 2: train a stacker on the out-of-fold outputs of stage-1 runs, predict held-out and test studies."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import expit

from ..data.tables import read_folds, read_manifest
from ..errors import UserError
from ..files import atomic_path
from ..labels import LABELS
from ..models.stackers import POSITIONS, Stacker, build_stacker
from .engine import Task, autocast, autocast_type, to_device, train
from .losses import weighted_bce
from .parts import labelled_slices, split_fold, unlabelled_slices
from .runs import Run, probability_frame, training_fingerprint
from .sequences import Alignment, StudyBatches, StudyInputs, collate, fit_alignments
from .stacker_config import StackerConfig
from .stage1 import predict_test_slices

Score = Callable[[pd.DataFrame, pd.DataFrame], dict[str, Any]]


def train_stacker_fold(
    run: Run,
    config: StackerConfig,
    device: torch.device,
    score: Score,
    log: logging.Logger,
    show_progress: bool,
) -> None:
    """Train one fold on the stage-1 runs its configuration names and write its run folder.

    Training studies take their inputs from the folds that held them out, and so do the held-out studies.
    """
    clean = run.settings.clean
    slices, data_fingerprint = labelled_slices(clean), read_manifest(clean)["fingerprint"]
    training, held_out = split_fold(slices, run.fold, clean)
    members = member_runs(run, config, data_fingerprint)
    alignments = None
    if config.embedding_space == "aligned" and "embeddings" in config.inputs:
        for member in config.members:
            for stage1 in members[member]:
                predict_test_slices(stage1, device, log)
        alignments = fit_alignments(config.members, members)
    inputs = StudyInputs(training, members, "oof", config, alignments)
    held_out_inputs = StudyInputs(held_out, members, "oof", config, alignments)
    log.info(
        "%d training and %d held-out studies, %s, %s",
        len(inputs),
        len(held_out_inputs),
        config.stacker,
        device,
    )
    torch.manual_seed(config.seed)
    model = build_from_config(config, inputs.embedding_sizes)

    def loss(model: Stacker, batch: dict) -> torch.Tensor:
        return weighted_bce(forward(model, batch), batch["labels"], batch["mask"])

    labels = torch.from_numpy(held_out_inputs.labels)

    def validate(model: Stacker) -> float:
        return float(
            weighted_bce(torch.from_numpy(predict_studies(model, held_out_inputs, config, device)), labels)
        )

    task = Task(model, StudyBatches(inputs, config), loss, validate)
    fingerprint = training_fingerprint(config, run.fold, data_fingerprint)
    model, progress = train(task, config, device, run.checkpoint, fingerprint, log, show_progress)

    probabilities = probability_frame(
        predict_studies(model, held_out_inputs, config, device), held_out_inputs.image_ids
    )
    run.save_config(config)
    run.save_weights(model)
    save_alignments(run, alignments)
    run.save_predictions("oof", probabilities)
    scores = score(held_out.set_index("image_id")[list(LABELS)], probabilities)
    run.finish(scores, config.seed, device, data_fingerprint, progress, log)


def predict_test_studies(run: Run, device: torch.device, log: logging.Logger) -> None:
    """Write test.parquet of a complete fold; nothing to do where it exists.

    The stacker predicts once for every stage-1 fold's test outputs; the probabilities are averaged.
    """
    if (run.folder / "test.parquet").exists():
        return
    config = run.read_config(StackerConfig)
    slices = unlabelled_slices(run.settings.clean)
    members = member_runs(run, config, run.metrics()["data_fingerprint"])
    alignments = load_alignments(run)
    folds = [
        {name: [runs[k]] for name, runs in members.items()} for k in range(len(next(iter(members.values()))))
    ]
    mean = np.zeros((len(slices), len(LABELS)))
    model = None
    for fold in folds:
        for stage1 in fold.values():
            predict_test_slices(stage1[0], device, log)
        inputs = StudyInputs(slices, fold, "test", config, alignments)
        if model is None:
            model = run.load_weights(build_from_config(config, inputs.embedding_sizes)).to(device)
        mean += expit(predict_studies(model, inputs, config, device).astype(np.float64)) / len(folds)
    frame = pd.DataFrame(mean, pd.Index(slices["image_id"], name="image_id"), list(LABELS))
    run.save_predictions("test", frame)
    log.info("%s: predicted %d test slices", run, len(frame))


def member_runs(run: Run, config: StackerConfig, data_fingerprint: str) -> dict[str, list[Run]]:
    """The complete stage-1 folds of every member; an incomplete one, or one of other data, is a UserError."""
    folds = sorted(read_folds(run.settings.clean)["fold"].unique())
    members = {name: [Run(name, int(fold), run.settings) for fold in folds] for name in config.members}
    missing = [stage1 for runs in members.values() for stage1 in runs if not stage1.complete]
    if missing:
        commands = "; ".join(stage1.command for stage1 in missing)
        raise UserError(
            f"{run.name}: needs every fold of its members; missing {len(missing)}, run: {commands}"
        )
    for stage1 in (s for runs in members.values() for s in runs):
        if stage1.metrics()["data_fingerprint"] != data_fingerprint:
            raise UserError(
                f"{stage1.folder}: was trained on other prepared data; delete it and run: {stage1.command}"
            )
    return members


def predict_studies(
    model: Stacker, inputs: StudyInputs, config: StackerConfig, device: torch.device
) -> np.ndarray:
    """Logits (n, 6) float32 of all slices, in the order of the table."""
    model.eval()
    kind = autocast_type(config.precision, device)
    logits = np.empty((len(inputs.image_ids), len(LABELS)), np.float32)
    by_length = np.argsort(inputs.lengths, kind="stable")
    with torch.inference_mode():
        for start in range(0, len(by_length), config.batch_size):
            studies = by_length[start : start + config.batch_size]
            batch = to_device(collate(inputs, studies), device)
            with autocast(kind, device):
                out = forward(model, batch).float().cpu().numpy()
            for row, study in enumerate(studies):
                first, last = inputs.bounds[study], inputs.bounds[study + 1]
                logits[first:last] = out[row, : last - first]
    return logits


def forward(model: Stacker, batch: dict) -> torch.Tensor:
    return model(batch["embeddings"], batch["logits"], batch["position"], batch["mask"])


def build_from_config(config: StackerConfig, embedding_sizes: tuple[int, ...]) -> Stacker:
    return build_stacker(
        config.stacker,
        embedding_sizes,
        len(LABELS) * len(config.members) if "logits" in config.inputs else 0,
        POSITIONS if "position" in config.inputs else 0,
        members=len(config.members),
        width=config.width,
        hidden=config.hidden,
        layers=config.layers,
        heads=config.heads,
        dropout=config.dropout,
        noise=config.noise,
    )


def save_alignments(run: Run, alignments: dict[str, Alignment] | None) -> None:
    """alignment.safetensors: what a new study's embeddings go through before the stacker sees them."""
    from safetensors.numpy import save_file

    if alignments is None:
        return
    tensors = {f"{key}/{name}": array for key, a in alignments.items() for name, array in vars(a).items()}
    with atomic_path(run.folder / "alignment.safetensors") as temporary:
        save_file(tensors, temporary)


def load_alignments(run: Run) -> dict[str, Alignment] | None:
    from safetensors.numpy import load_file

    config = run.read_config(StackerConfig)
    if config.embedding_space != "aligned" or "embeddings" not in config.inputs:
        return None
    tensors = load_file(run.require("alignment.safetensors"))
    keys = {key.rpartition("/")[0] for key in tensors}
    return {
        key: Alignment(**{name: tensors[f"{key}/{name}"] for name in ("source", "rotation", "target")})
        for key in keys
    }
