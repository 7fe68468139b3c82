"""What a trained fold of stage 1 says of any slices: for stage 2's copies of single views, for alignment
probes and for the in-sample comparison.
"""

import json
import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from ...config import parse_config
from ...data.prepared import Prepared
from ...models.slice_classifier import build_slice_classifier
from ..runs import Run, probability_frame
from ..split import split_fold
from .slice_config import SliceConfig
from .slice_fold import predict_slices


def slice_outputs(
    run: Run, prepared: Prepared, image_ids: Sequence[str], device: torch.device, view: str | None = None
) -> tuple[pd.DataFrame, np.ndarray]:
    """Probabilities (index image_id, columns LABELS) and embeddings (n, d) by a complete fold's network.

    view: the only one to look through, in place of those of the run's `tta`.
    """
    config = run.read_config(SliceConfig)
    if view is not None:
        values = json.loads(config.model_dump_json()) | {"tta": [view]}
        config = parse_config(SliceConfig, values, f"{run} through the view {view}")
    model = run.load_weights(build_slice_classifier(config, pretrained=False)).to(device)
    logits, embeddings = predict_slices(model, prepared, list(image_ids), config, device)
    return probability_frame(logits, image_ids), embeddings


def predict_views(
    run: Run, prepared: Prepared, part: str, views: Sequence[str], device: torch.device, log: logging.Logger
) -> None:
    """Write <part>_<view>.parquet and its embeddings: what single looks at the slices of <part>.parquet say.

    The network is the one that wrote <part>.parquet, so copies of out-of-fold outputs are out of fold. What
    is there and up to date is left.
    """
    data = prepared.test_fingerprint if part == "test" else prepared.fingerprint
    made_from = {"run": run.fingerprint, "data": data}
    with run.lock(wait=True):
        missing = [view for view in views if not run.has(f"{part}_{view}", data)]
        if missing:
            ids = list(run.predictions(part).index)
        for view in missing:
            outputs = slice_outputs(run, prepared, ids, device, view)
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
        training, _ = split_fold(prepared, run.fold)
        outputs = slice_outputs(run, prepared, list(training["image_id"]), device)
        run.save_predictions("train", *outputs, {"run": run.fingerprint, "data": prepared.fingerprint})
    log.info("%s: predicted its %d training slices", run, len(training))
