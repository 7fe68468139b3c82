"""Embedding spaces of folds: a rotation is undone, on the device as in numpy, and kept in a file."""

import logging

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import ortho_group

from src.errors import UserError
from src.labels import LABELS
from src.training.runs import Run
from src.training.studies import probes
from src.training.studies.embedding_spaces import EmbeddingMap, fit_alignment
from src.training.studies.selectors import fit_selector
from tests.training.stage2_tables import MEMBER, settings_below

CPU, LOG = torch.device("cpu"), logging.getLogger("test")


def test_alignment_undoes_a_rotation_and_a_shift():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(50, 8))
    turned = reference @ ortho_group.rvs(8, random_state=1) + rng.normal(size=8)
    align = fit_alignment(turned, reference)
    np.testing.assert_allclose(align(turned), reference, atol=1e-5)


@pytest.fixture
def turned_folds(tmp_path):
    """Two folds of a run whose test embeddings are one set of points, the second's rotated."""
    rng = np.random.default_rng(0)
    reference, rotation = rng.normal(size=(40, 4)), ortho_group.rvs(4, random_state=2)
    runs = [Run(MEMBER, fold, settings_below(tmp_path)) for fold in (0, 1)]
    ids = [f"0-{i}" for i in range(40)]
    for run, embeddings in zip(runs, (reference, reference @ rotation), strict=True):
        run.save_predictions("test", pd.DataFrame(0.5, ids, list(LABELS)), embeddings)
    return runs, reference, rotation


def test_alignments_are_fitted_between_the_folds_test_embeddings(turned_folds, monkeypatch):
    runs, _, rotation = turned_folds
    monkeypatch.setattr(probes, "unlabelled_slices", lambda clean: range(40))
    align = probes.fit_alignments({MEMBER: runs}, CPU, LOG)
    np.testing.assert_allclose(align[MEMBER, 1].rotation, rotation.T, atol=5e-3)  # float16 storage
    np.testing.assert_allclose(align[MEMBER, 0].rotation, np.eye(4), atol=1e-6)


def test_without_a_test_part_synthetic_heads_are_predicted_once(tmp_path, monkeypatch):
    asked, run = [], Run(MEMBER, 0, settings_below(tmp_path))

    def outputs(run, volumes, image_ids, device):
        asked.append(image_ids)
        return pd.DataFrame(0.5, image_ids, list(LABELS)), np.arange(4.0).reshape(2, 2)

    class Heads:
        image_ids = ("a", "b")

    monkeypatch.setattr(probes, "unlabelled_slices", lambda clean: [])
    monkeypatch.setattr(probes, "synthetic_probes", lambda run: tmp_path)
    monkeypatch.setattr(probes, "open_volumes", lambda clean: Heads())
    monkeypatch.setattr(probes, "slice_outputs", outputs)
    for _ in range(2):
        assert probes.probe_embeddings(run, CPU, LOG).tolist() == [[0, 1], [2, 3]]
    assert asked == [("a", "b")]


def test_the_map_on_the_device_is_the_map_in_numpy_and_survives_its_file(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 7)).astype(np.float16)
    alignments = {
        (name, fold): fit_alignment(rng.normal(size=(50, d)), rng.normal(size=(50, d)))
        for name, d in (("a", 4), ("b", 3))
        for fold in (0, 2)
    }
    selector = fit_selector("pca", rng.normal(size=(60, 7)).astype(np.float32), np.zeros((60, 6)), 2, seed=0)
    fitted = EmbeddingMap(("a", "b"), (4, 3), alignments, selector)
    folds = torch.tensor([[0, 2], [2, 0], [2, 2]])
    found = fitted.on(CPU)(torch.from_numpy(x).view(3, 20, 7), folds)
    for study in range(3):
        rows = x[20 * study : 20 * (study + 1)]
        a, b = alignments["a", int(folds[study, 0])], alignments["b", int(folds[study, 1])]
        expected = selector(np.hstack([a(rows[:, :4]), b(rows[:, 4:])]))
        np.testing.assert_allclose(found[study], expected, atol=1e-5)
    fitted.save(tmp_path)
    again = EmbeddingMap.load(tmp_path, ("a", "b"), (4, 3), fitted=True)
    assert again.out == (2,)
    torch.testing.assert_close(
        again.on(CPU)(torch.from_numpy(x).view(3, 20, 7), folds), found, rtol=0, atol=0
    )


def test_where_nothing_is_fitted_nothing_is_written_and_nothing_changes(tmp_path):
    pooled = EmbeddingMap(("a",), (3,))
    pooled.save(tmp_path)
    assert not list(tmp_path.iterdir())
    x = torch.randn(2, 5, 3).half()
    assert torch.equal(pooled.on(CPU)(x, torch.zeros(2, 1, dtype=torch.long)), x.float())
    with pytest.raises(UserError, match="delete this folder and train this fold again"):
        EmbeddingMap.load(tmp_path, ("a",), (3,), fitted=True)
