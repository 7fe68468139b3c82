"""Made-up stage-1 runs whose outputs say which slice they are of."""

import json

import numpy as np
import pandas as pd

from src.labels import LABELS
from src.settings import load_settings
from src.training.studies.stacker_config import StackerConfig
from tests.training.prepared import write_settings

MEMBER = "x/stage1/a"


def settings_below(folder):
    return load_settings(write_settings(folder))


def table(lengths):
    """Slices of studies of the given lengths, ids `study-index`, 5 mm apart, a patient a study."""
    rows = [
        {
            "image_id": f"{s}-{i}", "study_id": f"study{s:03d}", "patient_id": f"patient{s:03d}", "order": i,
            "position_mm": 5.0 * i,
        }
        for s, length in enumerate(lengths)
        for i in range(length)
    ]  # fmt: skip
    slices = pd.DataFrame(rows)
    return slices.assign(**{label: (np.arange(len(slices)) + k) % 2 for k, label in enumerate(LABELS)})


def write(run, image_ids, part="oof", seed=0, shuffle=True, mark=1.0):
    """Embeddings are study, index, fold, mark; the probability of `any` is the sigmoid of the index, that of
    `epidural` of the mark less one.
    """
    ids = list(np.random.default_rng(seed).permutation(image_ids) if shuffle else image_ids)
    numbers = np.array([[int(x) for x in image_id.split("-")] for image_id in ids], np.float32).reshape(-1, 2)
    embeddings = np.hstack([numbers, np.full((len(ids), 1), run.fold), np.full((len(ids), 1), mark)])
    probabilities = pd.DataFrame(0.5, ids, list(LABELS))
    probabilities["epidural"] = 1 / (1 + np.exp(1 - mark))
    probabilities["any"] = 1 / (1 + np.exp(-numbers[:, 1]))
    run.save_predictions(part, probabilities, embeddings)


def config(**options):
    """Through JSON, as files are read."""
    return StackerConfig.model_validate_json(json.dumps({"stacker": "lstm", "members": [MEMBER], **options}))
