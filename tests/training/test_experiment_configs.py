"""Every stage-1 configuration under experiments/ builds untrained and, made small, trains a batch.

The large backbones are built without memory, to prove that they exist; a small network of their kind takes
the batch through every other option of the configuration.
"""

import json

import pytest
import torch

from src.config import load_config, parse_config
from src.data.prepared import Prepared
from src.models.slice_classifier import build_slice_classifier
from src.training.slices.kind import predict_slices, training_loss
from src.training.slices.slice_batches import SliceBatches
from src.training.slices.slice_config import SliceConfig
from src.training.split import labelled_slices
from tests.conftest import ROOT
from tests.training.prepared import write_clean

CONFIGS = sorted((ROOT / "experiments").glob("*/stage1/*.json"))
KINDS = {"conv": "test_convnext", "maxvit": "test_vit", "efficient": "test_efficientnet"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    write_clean(folder, masks=True)
    return Prepared(folder)


def small(config):
    """The same recipe with a small network, small images and a small batch."""
    kind = next((v for k, v in KINDS.items() if k in config.backbone), "test_resnet")
    values = json.loads(config.model_dump_json()) | {
        "backbone": kind, "pretrained": False, "image_size": 64, "batch_size": 4, "precision": "fp32",
        "min_brain_range": 0.0, "drop_path": 0.0,
    }  # fmt: skip
    return parse_config(SliceConfig, values, "small")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parts[-3]}/{path.stem}")
def test_a_configuration_builds_trains_a_batch_and_predicts(path, prepared):
    config = load_config(SliceConfig, path)
    with torch.device("meta"):
        assert build_slice_classifier(config, pretrained=False).embedding_size >= 64
    config = small(config)
    model = build_slice_classifier(config).train()
    batch = next(iter(SliceBatches(prepared, labelled_slices(prepared), config).epoch(0)))
    loss = training_loss(config)(model, batch)
    loss.backward()
    assert torch.isfinite(loss)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    logits, embeddings = predict_slices(model, prepared, batch["ids"], config, torch.device("cpu"))
    assert logits.shape == (4, 6) and embeddings.shape == (4, model.embedding_size)


BASELINE = [path for path in CONFIGS if path.parts[-3] == "baseline"]


@pytest.mark.parametrize("path", BASELINE, ids=lambda path: path.stem)
def test_a_baseline_backbone_itself_learns_from_a_batch(path, prepared):
    config = load_config(SliceConfig, path, ["pretrained=false", "image_size=64", "batch_size=2"])
    model = build_slice_classifier(config).train()
    batch = next(iter(SliceBatches(prepared, labelled_slices(prepared), config).epoch(0)))
    loss = training_loss(config)(model, batch)
    loss.backward()
    first = next(model.backbone.parameters())
    assert torch.isfinite(loss) and first.grad.abs().sum() > 0


def test_the_recipes_of_the_winners_are_there():
    names = {path.parts[-3] for path in CONFIGS}
    assert {
        "kaggle_1st",
        "kaggle_2nd",
        "kaggle_11th",
        "kaggle_12th",
        "ipan_2026",
        "baseline",
        "demo",
    } <= names
    assert all((ROOT / "experiments" / name / "README.md").exists() for name in names - {"baseline", "demo"})
