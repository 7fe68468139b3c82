"""Embedding spaces of folds: a rotation is undone, on the device as in numpy, and kept in a file."""

import logging
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import ortho_group

from src.data.prepared import Prepared
from src.errors import UserError
from src.labels import LABELS
from src.training.runs import Run
from src.training.slices.slice_config import SliceConfig
from src.training.split import unlabelled_slices
from src.training.studies import probes
from src.training.studies.embedding_spaces import EmbeddingMap, fit_alignment
from src.training.studies.selectors import SelectorOptions, fit_selector
from tests.training.finished import finish, predict
from tests.training.prepared import rewrite, write_clean
from tests.training.stage2_tables import MEMBER, settings_below

CPU, LOG = torch.device("cpu"), logging.getLogger("test")


def test_alignment_undoes_a_rotation_and_a_shift():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(50, 8))
    turned = reference @ ortho_group.rvs(8, random_state=1) + rng.normal(size=8)
    align = fit_alignment(turned, reference)
    np.testing.assert_allclose(align(turned), reference, atol=1e-5)


@pytest.fixture
def folds(tmp_path):
    """Two complete folds of a run on data with two test studies."""
    settings = settings_below(tmp_path)
    write_clean(settings.clean)
    prepared, runs = Prepared(settings.clean), [Run(MEMBER, fold, settings) for fold in (0, 1)]
    for run in runs:
        finish(run, SliceConfig(backbone="test_resnet"), prepared)
    return runs, prepared


def test_alignments_are_fitted_between_the_folds_test_embeddings(folds):
    """The test embeddings are one set of points, the second fold's rotated."""
    (runs, prepared), rng = folds, np.random.default_rng(0)
    ids = unlabelled_slices(prepared)["image_id"]
    reference, rotation = rng.normal(size=(len(ids), 4)), ortho_group.rvs(4, random_state=2)
    for run, embeddings in zip(runs, (reference, reference @ rotation), strict=True):
        predict(run, prepared, "test", pd.DataFrame(0.5, ids, list(LABELS)), embeddings)
    align = probes.fit_alignments({MEMBER: runs}, prepared, CPU, LOG)
    np.testing.assert_allclose(align[MEMBER, 1].rotation, rotation.T, atol=5e-3)  # float16 storage
    np.testing.assert_allclose(align[MEMBER, 0].rotation, np.eye(4), atol=1e-6)


def test_without_a_test_part_synthetic_heads_are_predicted_once_a_training(folds, tmp_path, monkeypatch):
    asked, ((run, _), prepared) = [], folds
    rewrite(prepared.folder, "slices.parquet", lambda slices: slices.query("split == 'train'"))
    write_clean(tmp_path / "heads", studies=4, slices=2)
    heads = Prepared(tmp_path / "heads")

    def outputs(run, prepared, image_ids, device):
        asked.append(list(image_ids))
        return pd.DataFrame(0.5, image_ids, list(LABELS)), np.arange(16.0).reshape(8, 2)

    monkeypatch.setattr(probes, "synthetic_probes", lambda run, size: heads)
    monkeypatch.setattr(probes, "kind_of", lambda run: SimpleNamespace(outputs=outputs))
    for _ in range(2):
        found = probes.probe_embeddings(run, Prepared(prepared.folder), CPU, LOG)
        assert found.tolist() == np.arange(16).reshape(8, 2).tolist()
    assert asked == [heads.volumes.image_ids]
    finish(run, SliceConfig(backbone="test_resnet", seed=1), prepared)  # trained again
    probes.probe_embeddings(run, Prepared(prepared.folder), CPU, LOG)
    assert asked == [heads.volumes.image_ids] * 2


def test_the_map_on_the_device_is_the_map_in_numpy_and_survives_its_file(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 7)).astype(np.float16)
    alignments = {
        (name, fold): fit_alignment(rng.normal(size=(50, d)), rng.normal(size=(50, d)))
        for name, d in (("a", 4), ("b", 3))
        for fold in (0, 2)
    }
    options, x = SelectorOptions(selector="pca", components=2), rng.normal(size=(60, 7)).astype(np.float32)
    selector = fit_selector(options, x, np.zeros((60, 6)), seed=0)
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
