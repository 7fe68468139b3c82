"""Stage 2: train a stacker on the out-of-fold outputs of stage-1 runs, predict held-out and test studies."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import expit
from torch import nn

from ...data.prepared import read_folds, read_manifest, read_slices
from ...errors import UserError
from ...files import write_parquet
from ...labels import LABELS
from ..engine import distributed
from ..runs import Run, probability_frame
from ..slices.slice_fold import predict_test_slices
from ..slices.slice_outputs import predict_training_slices, predict_views
from ..split import labelled_slices, split_fold, unlabelled_slices
from .boosted_stacker import predict_boosted, read_boosted, train_boosted, write_boosted
from .embedding_spaces import EmbeddingMap
from .probes import fit_alignments
from .selectors import fit_selector
from .stacker_config import StackerConfig
from .stacker_networks import FoldData, build_from_config, predict_studies, remove_leftovers, train_networks
from .study_batches import collate
from .study_inputs import StudyInputs

Score = Callable[[pd.DataFrame, pd.DataFrame], dict[str, Any]]
SELECTOR_SLICES = 20_000  # a selector is fitted on, at most


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
    training, held_out = split_fold(labelled_slices(clean), run.fold, clean)
    data = fold_data(run, config, training, held_out, device, log)
    log.info(
        "%d training and %d held-out studies, %s, %s",
        len(data.training), len(data.held_out), config.stacker, device,
    )  # fmt: skip
    if config.stacker == "boosting":
        model, progress = train_boosted(config, data)
    else:
        model, progress = train_networks(run, config, data, device, log, show_progress)
    if not distributed.is_first():
        return
    if config.stacker == "boosting":
        logits = predict_boosted(model, data.held_out, data.space, config)
        write_boosted(run, model)
    else:
        logits = predict_studies(model, data.held_out, data.space, config, device)
        run.save_weights(model)
    probabilities = probability_frame(logits, data.held_out.image_ids)
    run.save_config(config)
    data.space.save(run.folder)
    run.save_predictions("oof", probabilities)
    scores = score(held_out.set_index("image_id")[list(LABELS)], probabilities)
    run.finish(scores, config.seed, device, data.fingerprint, progress, log)
    remove_leftovers(run)


def fold_data(
    run: Run,
    config: StackerConfig,
    training: pd.DataFrame,
    held_out: pd.DataFrame,
    device: torch.device,
    log: logging.Logger,
) -> FoldData:
    """Inputs of the training and the held-out studies, and the map of their embeddings."""
    fingerprint = read_manifest(run.settings.clean)["fingerprint"]
    members = member_runs(run, config, fingerprint)
    part = "oof"
    if config.embedding_space == "per_fold":
        log.warning("embedding_space per_fold is in-sample: for comparison only, never blended")
        members, part = {name: [own_fold(runs, run)] for name, runs in members.items()}, "train"
        for (stage1,) in members.values():
            predict_training_slices(stage1, device, log)
    for stage1 in chain.from_iterable(members.values()):
        for kind in dict.fromkeys((part, "oof")):
            predict_views(stage1, kind, config.views, device, log)
    inputs = StudyInputs(training, members, part, config)
    space = (
        EmbeddingMap(config.sources, inputs.embedding_sizes)
        if inputs.reads_embeddings
        else EmbeddingMap((), ())
    )
    if config.embedding_space == "aligned" and inputs.reads_embeddings:
        space = EmbeddingMap(config.sources, inputs.embedding_sizes, fit_alignments(members, device, log))
    if config.selector != "none" and inputs.reads_embeddings:
        x, y = some_embeddings(inputs, space)
        space = replace(space, selector=fit_selector(config.selector, x, y, config.components, config.seed))
    return FoldData(inputs, StudyInputs(held_out, members, "oof", config), space, fingerprint)


def some_embeddings(inputs: StudyInputs, space: EmbeddingMap) -> tuple[np.ndarray, np.ndarray]:
    """(n, d) mapped embeddings and (n, 6) labels of studies evenly drawn, SELECTOR_SLICES at most."""
    step = -(-len(inputs.image_ids) // SELECTOR_SLICES)
    x, y, mapped = [], [], space.on(torch.device("cpu"))
    for study in range(0, len(inputs), step):
        batch = collate(inputs, np.array([study]), copies=np.array([study // step % len(inputs.copies)]))
        x.append(mapped(batch["embeddings"], batch["folds"])[0].numpy())
        y.append(batch["labels"][0].numpy())
    return np.concatenate(x), np.concatenate(y)


def predict_test_studies(run: Run, device: torch.device, log: logging.Logger) -> None:
    """Write test.parquet of a complete fold; nothing to do where it exists.

    The stacker predicts once for every stage-1 fold's test outputs; the probabilities are averaged.  One that
    learned to do without some slices (`slice_dropout`) also predicts quarantined slices whose place is known,
    from their neighbours: missing.parquet.  A data set without test part gets an empty table.
    """
    if (run.folder / "test.parquet").exists():
        return
    config = run.read_config(StackerConfig)
    slices = unlabelled_slices(run.settings.clean)
    if slices.empty:
        run.save_predictions("test", probability_frame(np.empty((0, len(LABELS))), slices["image_id"]))
        return
    if config.slice_dropout > 0:
        slices = with_quarantined(slices, read_slices(run.settings.clean))
    members = member_runs(run, config, run.metrics()["data_fingerprint"])
    if config.embedding_space == "per_fold":
        members = {name: [own_fold(runs, run)] for name, runs in members.items()}
    folds = [dict(zip(members, runs, strict=True)) for runs in zip(*members.values(), strict=True)]
    mean = np.zeros((len(slices), len(LABELS)))
    predict = None
    for fold in folds:
        for stage1 in fold.values():
            predict_test_slices(stage1, device, log)
            predict_views(stage1, "test", config.views, device, log)
        inputs = StudyInputs(slices, {name: [stage1] for name, stage1 in fold.items()}, "test", config)
        predict = predict or load_predictor(run, config, inputs, device)
        mean += expit(predict(inputs).astype(np.float64)) / len(folds)
    frame = pd.DataFrame(mean, pd.Index(slices["image_id"], name="image_id"), list(LABELS))
    if "missing" in slices:
        missing = slices["missing"].to_numpy(bool)
        write_parquet(run.folder / "missing.parquet", frame[missing].reset_index())
        frame = frame[~missing]
    run.save_predictions("test", frame)
    log.info("%s: predicted %d test slices", run, len(frame))


def load_predictor(
    run: Run, config: StackerConfig, inputs: StudyInputs, device: torch.device
) -> Callable[[StudyInputs], np.ndarray]:
    """StudyInputs -> (n, 6) logits by a complete fold."""
    fitted = inputs.reads_embeddings and (config.embedding_space == "aligned" or config.selector != "none")
    members = config.sources if inputs.reads_embeddings else ()
    space = EmbeddingMap.load(run.folder, members, inputs.embedding_sizes, fitted)
    if config.stacker == "boosting":
        boosted = read_boosted(run)
        return lambda table: predict_boosted(boosted, table, space, config)
    count = config.seeds * config.bag_epochs
    networks = nn.ModuleList(build_from_config(config, space.out) for _ in range(count))
    networks = run.load_weights(networks).to(device)
    return lambda table: predict_studies(networks, table, space, config, device)


def with_quarantined(usable: pd.DataFrame, slices: pd.DataFrame) -> pd.DataFrame:
    """Test slices, and between them the quarantined ones whose study and position are known, as `missing`."""
    bad = slices[(slices["split"] == "test") & (slices["status"] == "quarantined")]
    placed = usable.groupby("study_id")["position_mm"].apply(lambda z: z.notna().all())
    bad = bad[bad["position_mm"].notna() & bad["study_id"].isin(placed.index[placed])]
    table = pd.concat([usable.assign(missing=False), bad.assign(missing=True)])
    # equal positions keep the order of the usable slices; studies without positions have no missing slices
    return table.sort_values(["study_id", "position_mm", "order"], kind="stable", ignore_index=True)


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
    for stage1 in chain.from_iterable(members.values()):
        if stage1.metrics()["data_fingerprint"] != data_fingerprint:
            raise UserError(
                f"{stage1.folder}: was trained on other prepared data; delete it and run: {stage1.command}"
            )
    return members


def own_fold(runs: Sequence[Run], run: Run) -> Run:
    """Of a member's folds the one with this run's number."""
    return next(stage1 for stage1 in runs if stage1.fold == run.fold)
