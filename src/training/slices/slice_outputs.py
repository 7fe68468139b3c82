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
from ...data.volumes import Volumes, open_volumes
from ..runs import Run, probability_frame
from ..split import labelled_slices, split_fold
from .slice_config import SliceConfig
from .slice_fold import build_from_config, predict_slices


def slice_outputs(
    run: Run, volumes: Volumes, image_ids: Sequence[str], device: torch.device, view: str | None = None
) -> tuple[pd.DataFrame, np.ndarray]:
    """Probabilities (index image_id, columns LABELS) and embeddings (n, d) by a complete fold's network.

    view: the only one to look through, in place of those of the run's `tta`.
    """
    config = run.read_config(SliceConfig)
    if view is not None:
        values = json.loads(config.model_dump_json()) | {"tta": [view]}
        config = parse_config(SliceConfig, values, f"{run} through the view {view}")
    model = run.load_weights(build_from_config(config, pretrained=False)).to(device)
    logits, embeddings = predict_slices(model, volumes, list(image_ids), config, device)
    return probability_frame(logits, image_ids), embeddings


def predict_views(
    run: Run, part: str, views: Sequence[str], device: torch.device, log: logging.Logger
) -> None:
    """Write <part>_<view>.parquet and its embeddings: what single looks at the slices of <part>.parquet say.

    The network is the one that wrote <part>.parquet, so copies of out-of-fold outputs are out of fold.
    Nothing to do where they exist.
    """
    with run.lock(wait=True):
        missing = [view for view in views if not (run.folder / f"{part}_{view}.parquet").exists()]
        if missing:
            ids, volumes = list(run.predictions(part).index), open_volumes(run.settings.clean)
        for view in missing:
            run.save_predictions(f"{part}_{view}", *slice_outputs(run, volumes, ids, device, view))
            log.info("%s: predicted %d %s slices through the view %s", run, len(ids), part, view)


def predict_training_slices(run: Run, device: torch.device, log: logging.Logger) -> None:
    """Write train.parquet and train_embeddings.npy: what a fold says of the slices it trained on.

    In-sample, so never fit to train a stacker on that is to be believed; nothing to do where they exist.
    """
    with run.lock(wait=True):
        if (run.folder / "train.parquet").exists():
            return
        clean = run.settings.clean
        training, _ = split_fold(labelled_slices(clean), run.fold, clean)
        outputs = slice_outputs(run, open_volumes(clean), list(training["image_id"]), device)
        run.save_predictions("train", *outputs)
    log.info("%s: predicted its %d training slices", run, len(training))
