"""Every stage-1 configuration under experiments/ builds untrained and, made small, trains a batch.

The large backbones are built without memory, to prove that they exist; a small network of their kind takes
the batch through every other option of the configuration.
"""

import json

import numpy as np
import pytest
import torch

from src.config import load_config, parse_config
from src.data.prepared import Prepared
from src.models.slice_classifier import build_slice_classifier
from src.models.vivit import VivitConfig
from src.targets import SITES
from src.training.kinds import load_run_config
from src.training.runs import Run
from src.training.sequences.kind import SEQUENCES
from src.training.slices.kind import SLICES, training_loss
from src.training.slices.slice_batches import SliceBatches
from src.training.slices.slice_config import SliceConfig
from src.training.split import labelled_slices, split_fold
from src.training.videos.kind import VIDEOS
from tests.conftest import ROOT
from tests.training.prepared import rewrite, write_clean
from tests.training.stage2_tables import settings_below

CONFIGS = sorted((ROOT / "experiments").glob("*/stage1/*.json"))
KINDS = {"conv": "test_convnext", "vit": "test_vit", "efficient": "test_efficientnet"}


def located(slices):
    """Bleeds take turns of the sites."""
    bleeds = slices["any"].fillna(0).eq(1).to_numpy()
    turn = np.cumsum(bleeds) % len(SITES)
    return slices.assign(**{site: (bleeds & (turn == k)).astype(int) for k, site in enumerate(SITES)})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    write_clean(folder, masks=True)
    rewrite(folder, "slices.parquet", located)
    return Prepared(folder)


PIXEL_KINDS = {"slice": SLICES, "sequence": SEQUENCES, "video": VIDEOS}
CPU = torch.device("cpu")


def small(config):
    """The same recipe with a small network, small images and a small batch."""
    values = json.loads(config.model_dump_json()) | {
        "image_size": 64, "batch_size": 4 if config.kind == "slice" else 2, "precision": "fp32",
    }  # fmt: skip
    if config.kind == "video":
        values["frames"] = 4
    if config.kind == "slice":
        values["min_brain_range"] = 0.0
    if isinstance(config.backbone, str):
        network = next((v for k, v in KINDS.items() if k in config.backbone), "test_resnet")
        values |= {"backbone": network, "pretrained": False, "drop_path": 0.0}
    elif isinstance(config.backbone, VivitConfig):
        values["backbone"] |= {"pretrained": False, "hidden_size": 16, "layers": 1, "attention_heads": 4}
    else:
        trunks = [
            {"backbone": "test_resnet", "pretrained": False, "project": trunk["project"] and 8}
            for trunk in values["backbone"]["trunks"]
        ]
        values["backbone"] |= {"trunks": trunks, "depth": 1, "heads": 4}
        if values["backbone"]["embed_dim"] != "concat":
            values["backbone"]["embed_dim"] = 16
    return parse_config(type(config), values, "small")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parts[-3]}/{path.stem}")
def test_a_configuration_builds_trains_a_batch_and_predicts(path, prepared):
    _, config = load_run_config(path, "stage1")
    if isinstance(config.backbone, VivitConfig):
        pytest.importorskip("transformers", reason="transformers is not installed")
    kind = PIXEL_KINDS[config.kind]
    with torch.device("meta"):
        assert kind.build(config, pretrained=False).embedding_size >= 64
    config = small(config)
    model = kind.build(config).train()
    run = Run("x/stage1/y", 0, settings_below(prepared.folder))
    training, _ = split_fold(prepared, 0, config.predicted, kind.unit)
    batch = next(iter(kind.batches(run, prepared, training, config, CPU).epoch(0)))
    loss = kind.loss(config)(model, batch)
    loss.backward()
    assert torch.isfinite(loss)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    ids = list(training[kind.key][:3])
    logits, embeddings = kind.predict(model, prepared, ids, config, CPU)
    assert logits.shape == (3, len(config.predicted.columns)) and len(embeddings) == 3


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
        "dtvit",
        "kaggle_1st",
        "kaggle_2nd",
        "kaggle_11th",
        "kaggle_12th",
        "ipan_2026",
        "shang_2022",
        "baseline",
        "demo",
    } <= names
    assert all((ROOT / "experiments" / name / "README.md").exists() for name in names - {"baseline", "demo"})
