"""Slices no fold trained on, to align embedding spaces by: the test part, else synthetic heads."""

import logging

import numpy as np
import torch

from ...data.preparation.options import Options
from ...data.preparation.prepare import prepare
from ...data.prepared import Prepared
from ...data.synthetic_truth import RECIPE
from ...files import fingerprint
from ..kinds import kind_of
from ..runs import Run
from ..split import unlabelled_part
from .embedding_spaces import Alignment, fit_alignment
from .member_outputs import predict_test_part

PROBES = 20_000  # slices an alignment is fitted on, at most
STUDIES, SEED = 40, 2019  # of the synthetic probe set


def fit_alignments(
    members: dict[str, list[Run]], prepared: Prepared, device: torch.device, log: logging.Logger
) -> dict[tuple[str, int], Alignment]:
    """One alignment a member and fold, onto the member's first fold.

    Fitted on the embeddings of the test slices, which are predicted where they are missing.  Where a data set
    has no test part, a fixed set of synthetic heads takes its place; it is made once, below CHECKPOINT_DIR.
    """
    alignments = {}
    for name, runs in members.items():
        found = [probe_embeddings(run, prepared, device, log) for run in runs]
        rows = np.linspace(0, len(found[0]) - 1, min(len(found[0]), PROBES)).astype(int)
        reference = np.asarray(found[0][rows], np.float64)
        for run, embeddings in zip(runs, found, strict=True):
            alignments[name, run.fold] = fit_alignment(np.asarray(embeddings[rows], np.float64), reference)
    return alignments


def probe_embeddings(run: Run, prepared: Prepared, device: torch.device, log: logging.Logger) -> np.ndarray:
    """(n, d) embeddings of the same n slices for every fold of a run."""
    test = unlabelled_part(prepared)
    if len(test.slices) > 1:
        predict_test_part(run, test, (), device, log)
        return run.embeddings("test")
    data = fingerprint([STUDIES, SEED, RECIPE, prepared.size])
    with run.lock(wait=True):
        if not run.has("probe", data):
            probes = synthetic_probes(run, prepared.size)
            outputs = kind_of(run).outputs(run, probes, probes.volumes.image_ids, device)
            run.save_predictions("probe", *outputs, {"run": run.fingerprint, "data": data})
            log.info("%s: no test part; predicted %d synthetic slices to align by", run, len(outputs[0]))
    return run.embeddings("probe")


def synthetic_probes(run: Run, size: int) -> Prepared:
    """The prepared synthetic probe set, at the data set's size; made where missing."""
    from ...data.phantom import generate

    home = run.settings.checkpoints / "probes" / str(size)
    generate(home / "raw", STUDIES, SEED, preset="realistic", size=size)
    prepare(home / "raw", home / "clean", Options(size=size, folds=2))
    return Prepared(home / "clean")
