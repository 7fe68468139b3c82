"""Stage 2 by boosted trees: from study inputs to the trees' table, training, model.txt."""

import time
from functools import partial

import numpy as np
import torch

from ...files import reading, write_text
from ...models.slice_inputs import Scores
from ...models.studies.boosting import BoostedLabels, SliceTable, fit_boosting
from ..engine.training_progress import Progress
from ..runs import Run
from .embedding_spaces import EmbeddingMap
from .stacker_config import StackerConfig
from .stacker_networks import FoldData
from .study_batches import collate
from .study_inputs import StudyInputs

MODEL = "model.txt"


def train_boosted(config: StackerConfig, data: FoldData) -> tuple[BoostedLabels, Progress]:
    """A model a label on the training studies; there is no learning curve."""
    started = time.monotonic()
    table = slice_table(data.training, data.space, config)
    features = partial(table.features, neighbours=config.boosting.neighbours)
    model = fit_boosting(features, data.training.labels, config.boosting, config.seed)
    return model, Progress(seconds=time.monotonic() - started)


def predict_boosted(
    model: BoostedLabels, inputs: StudyInputs, space: EmbeddingMap, config: StackerConfig
) -> np.ndarray:
    """(n, 6) float32 logits of all slices in the order of the table."""
    table = slice_table(inputs, space, config)
    features = partial(table.features, neighbours=config.boosting.neighbours)
    return model.predict(features).astype(np.float32)


def write_boosted(run: Run, model: BoostedLabels) -> None:
    write_text(run.folder / MODEL, model.to_text())


def read_boosted(run: Run) -> BoostedLabels:
    path = run.intact(MODEL)
    with reading(path):
        return BoostedLabels.from_text(path.read_text(encoding="utf-8"))


def slice_table(inputs: StudyInputs, space: EmbeddingMap, config: StackerConfig) -> SliceTable:
    """Trees see only the order of values, so logits serve for probabilities too."""
    channels = Scores(len(config.sources), ("logits",), config.mean_channel, config.differences)
    scores = 4 * channels(torch.from_numpy(inputs.logits[0])[None])[0, :, 0].numpy()
    others = [inputs.positions]
    if inputs.reads_embeddings:
        mapped = space.on(torch.device("cpu"))
        batches = (collate(inputs, np.array([study])) for study in range(len(inputs)))
        others.append(np.concatenate([mapped(b["embeddings"], b["folds"])[0].numpy() for b in batches]))
    return SliceTable(scores, inputs.bounds, np.hstack(others))
