"""Made-up runs as training and prediction leave them."""

import logging

import torch

from src.data.prepared import study_digests
from src.training.engine.training_progress import Progress
from src.training.provenance import origin
from src.training.split import unlabelled_slices

CPU, LOG = torch.device("cpu"), logging.getLogger("test")


def finish(run, config, prepared, weights=(), inputs=(), **scores):
    """Make a fold complete: config.json, and metrics.json over the files that are there."""
    run.save_config(config)
    made_from = origin(run, config, prepared, weights, inputs)
    scores = {"score": 0.1, "baseline": 0.2, **scores}
    run.finish(scores, made_from, config.seed, CPU, Progress(seconds=1.0), LOG)


def predict(run, prepared, part, probabilities, embeddings=None):
    """Write a part that a complete fold predicts of these data."""
    made_from = {"run": run.fingerprint, "data": prepared.fingerprint}
    if part.startswith("test"):
        made_from["data"] = prepared.test_fingerprint
        made_from["studies"] = study_digests(unlabelled_slices(prepared))
    run.save_predictions(part, probabilities, embeddings, made_from)
