"""NaN, Inf, denormals and single classes in what a training reads and writes."""

import numpy as np
import pandas as pd
import pytest
import torch

from src.config import parse_config
from src.data.prepared import Prepared
from src.errors import UserError
from src.labels import LABELS
from src.settings import load_settings
from src.training.kinds import load_kind
from src.training.losses import LOSSES, LossOptions
from src.training.runs import Run
from tests.ensemble.conftest import CPU, LOG
from tests.ensemble.tiny_experiment import CONFIGS
from tests.training.prepared import rewrite, write_clean, write_settings

TABLE = pd.DataFrame(0.5, ["a", "b"], list(LABELS))


@pytest.fixture
def run(tmp_path):
    return Run("tiny/stage1/a", 0, load_settings(write_settings(tmp_path)))


def train(run, name):
    kind_name, values = CONFIGS[name]
    kind, run = load_kind(kind_name), Run(name, run.fold, run.settings)
    kind.train(run, Prepared(run.settings.clean), parse_config(kind.config, values, name), CPU, LOG, False)
    return run


def test_a_probability_that_is_nan_is_never_saved(run):
    bad = TABLE.copy()
    bad.loc["b", "subdural"] = np.nan
    with pytest.raises(UserError, match=r"fold 0: predicts NaN for b \(1 of 2 rows\); lower lr"):
        run.save_predictions("oof", bad)
    assert not run.folder.exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 65520.0])
def test_an_embedding_beyond_float16_is_never_saved(run, value):
    with pytest.raises(UserError, match="beyond what float16 holds"):
        run.save_predictions("oof", TABLE, np.array([[0.5], [value]]))
    assert not list(run.folder.glob("*.parquet"))


def test_denormals_become_the_nearest_float16(run):
    values = np.array([[5e-324, 2.0**-24], [1e-9, 65504.0]])
    run.save_predictions("oof", TABLE, values)
    np.testing.assert_array_equal(run.embeddings("oof"), [[0, 2.0**-24], [0, 65504]])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("logit", [-1e4, 1e4, -80.0, 80.0, 0.0, 1e-310])
def test_a_loss_and_its_gradient_are_finite_at_any_logit(name, logit):
    logits = torch.full((2, 6), logit, requires_grad=True)
    labels = torch.tensor([[0.0] * 6, [1.0] * 6])
    loss = LOSSES[name](LossOptions())(logits, labels)
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(logits.grad).all()


def only_healthy(slices):
    """Fold 0 holds out patients without any bleeding; fold 1 has all of them."""
    labels = slices[list(LABELS)].notna().all(axis=1)
    even = slices["patient_id"].str[-1].astype(int) % 2 == 0
    slices.loc[labels & even, list(LABELS)] = 0
    return slices


def test_folds_of_one_class_are_trained_and_scored(run):
    """Pixels, stacker and trees: a label without a positive in training or held out is no error."""
    write_clean(run.settings.clean)
    rewrite(run.settings.clean, "slices.parquet", only_healthy)
    rewrite(
        run.settings.clean, "folds.csv",
        lambda folds: folds.assign(fold=folds["patient_id"].str[-1].astype(int) % 2),
    )  # fmt: skip
    for fold in (0, 1):
        train(Run(run.name, fold, run.settings), "tiny/stage1/a")
    for name in ("tiny/stage2/aligned", "tiny/stage2/trees"):
        for fold in (0, 1):
            done = train(Run(name, fold, run.settings), name)
            found = done.metrics()
            assert np.isfinite([found["score"], found["baseline"]]).all()
            assert (sum(found["positives"].values()) == 0) == (fold == 0)
            p = done.predictions("oof").to_numpy()
            assert np.isfinite(p).all() and p.min() >= 0 and p.max() <= 1


def test_every_study_may_have_one_slice(run):
    write_clean(run.settings.clean, studies=8, slices=1)
    for fold in (0, 1):
        train(Run(run.name, fold, run.settings), "tiny/stage1/a")
        train(Run(run.name, fold, run.settings), "tiny/stage1/b")
    for name in ("tiny/stage2/aligned", "tiny/stage2/in_fold", "tiny/stage2/trees"):
        found = train(Run(name, 0, run.settings), name).predictions("oof").to_numpy()
        assert np.isfinite(found).all()


def test_pixels_of_any_int16_give_finite_answers(run):
    """All air, all metal, both ends of int16: through windows, normalisation and a network."""
    from src.models.slice_classifier import build_slice_classifier
    from src.training.slices.slice_config import SliceConfig

    for normalisation in ("fixed", "minmax", "instance"):
        values = {"windows": ((40, 80),), "image_size": 32, "normalisation": normalisation}
        config, windows = SliceConfig(backbone="test_resnet", **values), torch.tensor([[[40.0, 80.0]]])
        network = build_slice_classifier(config, pretrained=False).eval()
        for value in (-32768, -2000, 0, 32767):
            slices = torch.full((1, len(config.neighbours), 32, 32), value, dtype=torch.int16)
            with torch.inference_mode():
                logits, embedding = network(slices, windows)
            assert torch.isfinite(logits).all() and torch.isfinite(embedding).all()
