"""What the stage-1 folds that a stacker reads say of further slices and through single views."""

import logging
from collections.abc import Sequence

import torch

from ...data.prepared import Prepared
from ..kinds import kind_of
from ..runs import Loaded, Run
from ..split import Part, split_fold


def predict_test_part(
    run: Run, part: Part, views: Sequence[str], device: torch.device, log: logging.Logger,
    loaded: Loaded | None = None,
) -> None:  # fmt: skip
    """Write test.parquet of a stage-1 fold, whatever its kind, and what it says through single views; what is
    up to date is left.
    """
    kind_of(run).predict(run, part, device, log, loaded)
    _predict_views(run, part.prepared, "test", part.fingerprint, views, device, log, loaded)


def predict_views(
    run: Run, prepared: Prepared, part: str, views: Sequence[str], device: torch.device, log: logging.Logger
) -> None:
    """Write <part>_<view>.parquet and its embeddings: what single looks at the slices of <part>.parquet say.

    The network is the one that wrote <part>.parquet, so copies of out-of-fold outputs are out of fold. What
    is there and up to date is left.
    """
    _predict_views(run, prepared, part, prepared.fingerprint, views, device, log)


def _predict_views(
    run: Run, prepared: Prepared, part: str, data: str, views: Sequence[str], device: torch.device,
    log: logging.Logger, loaded: Loaded | None = None,
) -> None:  # fmt: skip
    made_from = {"run": run.fingerprint, "data": data}
    with run.lock(wait=True):
        missing = [view for view in views if not run.has(f"{part}_{view}", data)]
        if missing:
            ids = list(run.predictions(part).index)
        for view in missing:
            outputs = kind_of(run).outputs(run, prepared, ids, device, view, loaded)
            run.save_predictions(f"{part}_{view}", *outputs, made_from)
            log.info("%s: predicted %d %s slices through the view %s", run, len(ids), part, view)


def predict_training_slices(run: Run, prepared: Prepared, device: torch.device, log: logging.Logger) -> None:
    """Write train.parquet and train_embeddings.npy: what a fold says of the slices it trained on.

    They are in-sample: for `embedding_space: in_fold`, whose stackers train on them. What is there and up to
    date is left.
    """
    with run.lock(wait=True):
        if run.has("train", prepared.fingerprint):
            return
        training, _ = split_fold(prepared, run.fold, split=run.split)
        outputs = kind_of(run).outputs(run, prepared, list(training["image_id"]), device)
        run.save_predictions("train", *outputs, {"run": run.fingerprint, "data": prepared.fingerprint})
    log.info("%s: predicted its %d training slices", run, len(training))
