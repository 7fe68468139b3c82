"""Stage 2: train a stacker on the out-of-fold outputs of stage-1 runs, predict held-out and test studies."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

import numpy as np
import pandas as pd
import torch
from scipy.special import expit
from torch import nn

from ...data.prepared import Prepared
from ...errors import UserError
from ...evaluation.metrics import held_out_scores
from ...files import write_parquet
from ...labels import LABELS
from ...models.heads import probability_frame
from ...targets import HEMORRHAGE
from ..engine import distributed
from ..missing import with_quarantined
from ..provenance import check_alike, check_data, check_unchanged, origin
from ..runs import STUDY_HEAD, Loaded, Run, keep
from ..split import Part, split_fold, warn_of_leak
from .boosted_stacker import predict_boosted, read_boosted, train_boosted, write_boosted
from .embedding_spaces import FILE, EmbeddingMap
from .member_outputs import predict_test_part, predict_training_slices, predict_views
from .probes import fit_alignments
from .selectors import fit_selector
from .stacker_config import StackerConfig
from .stacker_networks import FoldData, FoldLogits, build_from_config, predict_studies, train_networks
from .study_batches import collate
from .study_inputs import StudyInputs

SELECTOR_SLICES = 20_000  # a selector is fitted on, at most


def train_stacker_fold(
    run: Run,
    prepared: Prepared,
    config: StackerConfig,
    device: torch.device,
    log: logging.Logger,
    show_progress: bool,
) -> None:
    """Train one fold on the stage-1 runs its configuration names and write its run folder.

    Training studies take their inputs from the folds that held them out, and so do the held-out studies.
    """
    training, held_out = split_fold(prepared, run.fold, split=config.split)
    warn_of_leak(config.split, training, held_out, log)
    data = fold_data(run, prepared, config, training, held_out, device, log)
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
        logits, _ = predict_studies(model, data.held_out, data.space, config, device)
        run.save_weights(model)
    probabilities = probability_frame(logits, data.held_out.image_ids, HEMORRHAGE)
    run.save_config(config)
    data.space.save(run.folder)
    run.save_predictions("oof", probabilities)
    scores = held_out_scores(held_out.set_index("image_id")[list(LABELS)], probabilities)
    run.finish(scores | {"synthetic": prepared.synthetic}, data.made_from, config.seed, device, progress, log)


def fold_data(
    run: Run,
    prepared: Prepared,
    config: StackerConfig,
    training: pd.DataFrame,
    held_out: pd.DataFrame,
    device: torch.device,
    log: logging.Logger,
) -> FoldData:
    """Inputs of the training and the held-out studies, and the map of their embeddings."""
    members = member_runs(run, prepared, config)
    made_from = origin(run, config, prepared, inputs=list(chain.from_iterable(members.values())))
    part = "oof"
    if config.embedding_space == "in_fold":
        members, part = {name: [own_fold(runs, run)] for name, runs in members.items()}, "train"
        for (stage1,) in members.values():
            predict_training_slices(stage1, prepared, device, log)
    for stage1 in chain.from_iterable(members.values()):
        for kind in dict.fromkeys((part, "oof")):
            predict_views(stage1, prepared, kind, config.views, device, log)
    inputs = StudyInputs(training, members, part, config)
    space = (
        EmbeddingMap(config.sources, inputs.embedding_sizes)
        if inputs.reads_embeddings
        else EmbeddingMap((), ())
    )
    if config.embedding_space == "aligned" and inputs.reads_embeddings:
        space = EmbeddingMap(
            config.sources, inputs.embedding_sizes, fit_alignments(members, prepared, device, log)
        )
    if config.selector != "none" and inputs.reads_embeddings:
        x, y = some_embeddings(inputs, space)
        space = replace(space, selector=fit_selector(config, x, y, config.seed))
    return FoldData(inputs, StudyInputs(held_out, members, "oof", config), space, made_from)


def some_embeddings(inputs: StudyInputs, space: EmbeddingMap) -> tuple[np.ndarray, np.ndarray]:
    """(n, d) mapped embeddings and (n, 6) labels of studies evenly drawn, SELECTOR_SLICES at most."""
    step = -(-len(inputs.image_ids) // SELECTOR_SLICES)
    x, y, mapped = [], [], space.on(torch.device("cpu"))
    for study in range(0, len(inputs), step):
        batch = collate(inputs, np.array([study]), copies=np.array([study // step % len(inputs.copies)]))
        x.append(mapped(batch["embeddings"], batch["folds"])[0].numpy())
        y.append(batch["labels"][0].numpy())
    return np.concatenate(x), np.concatenate(y)


def predict_test_studies(
    run: Run, part: Part, device: torch.device, log: logging.Logger, loaded: Loaded | None = None
) -> None:
    """Write test.parquet of a complete fold for some slices.

    The stacker predicts once for every stage-1 fold's outputs for them; the probabilities are averaged.  One
    that learned to do without some slices (`slice_dropout`) also predicts quarantined slices whose place is
    known, from their neighbours: missing.parquet; one with a head for studies (`study_weight`) also whole
    studies: STUDY_HEAD.  An empty part gets an empty table.
    """
    if run.has("test", part.fingerprint):
        return
    made_from = {"run": run.fingerprint, "data": part.fingerprint}
    config = run.read_config(StackerConfig)
    slices = part.slices
    if slices.empty:
        nothing = probability_frame(np.empty((0, len(LABELS))), list(slices["image_id"]), HEMORRHAGE)
        run.save_predictions("test", nothing, made_from=made_from)
        return
    if config.slice_dropout > 0:
        slices = with_quarantined(slices, part.prepared.slices)
    folds = _speakers(input_runs(run), run, config, part.only)
    mean, of_studies = np.zeros((len(slices), len(LABELS))), []
    for fold in folds:
        for stage1 in fold.values():
            predict_test_part(stage1, part, config.views, device, log, loaded)
        inputs = StudyInputs(slices, {name: [stage1] for name, stage1 in fold.items()}, "test", config)
        predict = keep(loaded, run, partial(load_predictor, run, config, inputs, device))
        said = predict(inputs)
        mean += expit(said.slices.astype(np.float64)) / len(folds)
        of_studies += [] if said.studies is None else [expit(said.studies.astype(np.float64))]
    frame = pd.DataFrame(mean, pd.Index(slices["image_id"], name="image_id"), list(LABELS))
    if "missing" in slices:
        missing = slices["missing"].to_numpy(bool)
        write_parquet(run.path("missing.parquet"), frame[missing].reset_index())
        frame = frame[~missing]
    if of_studies:
        studies = pd.Index(slices["study_id"].unique(), name="study_id")
        whole = pd.DataFrame(np.mean(of_studies, 0), studies, list(LABELS))
        write_parquet(run.path(STUDY_HEAD), whole.reset_index())
    run.save_predictions("test", frame, made_from=made_from)
    log.info("%s: predicted %d slices", run, len(frame))


def _speakers(
    members: dict[str, list[Run]], run: Run, config: StackerConfig, only: int | None
) -> list[dict[str, Run]]:
    """The stage-1 folds whose outputs a complete fold reads, each fold of every member in turn."""
    if config.embedding_space == "in_fold":
        members = {name: [own_fold(runs, run)] for name, runs in members.items()}
    folds = [dict(zip(members, runs, strict=True)) for runs in zip(*members.values(), strict=True)]
    return [fold for fold in folds if only is None or all(stage1.fold == only for stage1 in fold.values())]


def load_predictor(
    run: Run, config: StackerConfig, inputs: StudyInputs, device: torch.device
) -> Callable[[StudyInputs], FoldLogits]:
    """StudyInputs -> logits by a complete fold."""
    fitted = inputs.reads_embeddings and (config.embedding_space == "aligned" or config.selector != "none")
    members = config.sources if inputs.reads_embeddings else ()
    if fitted:
        run.intact(FILE)
    space = EmbeddingMap.load(run.folder, members, inputs.embedding_sizes, fitted)
    if config.stacker == "boosting":
        boosted = read_boosted(run)
        return lambda table: FoldLogits(predict_boosted(boosted, table, space, config))
    count = config.seeds * config.bag_epochs
    networks = nn.ModuleList(build_from_config(config, space.out) for _ in range(count))
    networks = run.load_weights(networks).to(device)
    return lambda table: predict_studies(networks, table, space, config, device)


def member_runs(run: Run, prepared: Prepared, config: StackerConfig) -> dict[str, list[Run]]:
    """The complete stage-1 folds of every member, to train on.

    One that is missing, was trained on other data, split otherwise or trained differently from the other
    folds, or is no longer what its outputs were made by, is a UserError.
    """
    folds = sorted(prepared.folds["fold"].unique())
    members = {name: [Run(name, int(fold), run.settings) for fold in folds] for name in config.members}
    missing = {name: [r for r in runs if not r.complete] for name, runs in members.items()}
    if lacking := {name: runs for name, runs in missing.items() if runs}:
        named = "; ".join(
            f"{name} fold {', '.join(str(r.fold) for r in runs)}" for name, runs in lacking.items()
        )
        models = [next((r for r in members[name] if r.complete), members[name][0]) for name in lacking]
        commands = " && ".join(model.command_of_every_fold for model in models)
        raise UserError(f"{run.name}: needs every fold of its members; missing: {named}; run: {commands}")
    for stage1 in chain.from_iterable(members.values()):
        check_data(stage1, prepared)
        check_unchanged(stage1)
    for runs in members.values():
        check_alike(runs)
        if runs[0].targets != HEMORRHAGE.name:
            raise UserError(
                f"{run.name}: {runs[0].name} predicts {runs[0].targets}; stack the six labels only"
            )
        if runs[0].split != config.split:
            raise UserError(
                f"{run.name}: is split by {config.split}, its member {runs[0].name} by {runs[0].split}: what "
                "one held out the other has learned from; train both by the same split"
            )
    return members


def input_runs(run: Run) -> dict[str, list[Run]]:
    """The very stage-1 folds a complete fold was trained on, by member; UserError where one has changed."""
    check_unchanged(run)
    members: dict[str, list[Run]] = {}
    for key in run.made_from["inputs"]:
        name, _, fold = key.rpartition("/fold")
        members.setdefault(name, []).append(replace(run, name=name, fold=int(fold)))
    return members


def own_fold(runs: Sequence[Run], run: Run) -> Run:
    """Of a member's folds the one with this run's number."""
    return next(stage1 for stage1 in runs if stage1.fold == run.fold)
