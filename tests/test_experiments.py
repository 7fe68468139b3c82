"""Every configuration under experiments/ builds with random weights and learns from a batch."""

from pathlib import Path

import pytest
import torch

from src.config import load_config
from src.data.volumes import open_volumes
from src.evaluation.ensemble_config import EnsembleConfig
from src.training.parts import labelled_slices
from src.training.runs import run_name
from src.training.slice_config import SliceConfig
from src.training.slices import SliceBatches
from src.training.stacker_config import StackerConfig
from src.training.stacker_networks import build_from_config as build_stacker
from src.training.stacker_networks import stacker_loss
from src.training.stage1 import build_from_config as build_slice_classifier
from src.training.stage1 import training_loss
from tests.training.prepared import write_clean

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"
STAGE1, STAGE2 = (sorted(EXPERIMENTS.glob(f"*/{stage}/*.json")) for stage in ("stage1", "stage2"))
# Trees have no batch; tests/models/test_boosting.py trains them.
NETWORKS = [path for path in STAGE2 if load_config(StackerConfig, path).stacker != "boosting"]


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    write_clean(folder, masks=True)
    return folder


@pytest.mark.parametrize("path", STAGE1, ids=run_name)
def test_a_slice_classifier_learns_from_a_batch(clean, path):
    config = load_config(SliceConfig, path, ["pretrained=false", "image_size=64", "batch_size=2"])
    torch.manual_seed(0)
    model = build_slice_classifier(config)
    batch = next(iter(SliceBatches(open_volumes(clean), labelled_slices(clean), config).epoch(0)))
    loss = training_loss(config)(model, batch)
    loss.backward()
    assert loss.isfinite()
    assert model.head.weight.grad.abs().sum() > 0
    first = next(p for p in model.backbone.parameters() if p.requires_grad)
    assert first.grad.abs().sum() > 0


@pytest.mark.parametrize("path", NETWORKS, ids=run_name)
def test_a_stacker_learns_from_a_batch(path):
    config = load_config(StackerConfig, path)
    members = len(config.members)
    sizes = (24,) * members if "embeddings" in config.inputs else ()
    positions = len(config.positions) if "position" in config.inputs else 0
    torch.manual_seed(0)
    model = build_stacker(config, sizes)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    batch = {"labels": (torch.rand(2, 5, 6) < 0.5).float(), "mask": mask}
    logits = torch.randn(2, 5, 6 * members)
    out = model(torch.randn(2, 5, sum(sizes)), logits, torch.randn(2, 5, positions), mask)
    loss = stacker_loss(out, batch, config)
    loss.backward()
    assert out.slices.shape == (2, 5, 6) and loss.isfinite()
    assert sum(p.grad.abs().sum() for p in model.parameters() if p.grad is not None) > 0


@pytest.mark.parametrize("path", STAGE2, ids=run_name)
def test_the_members_of_a_stacker_exist(path):
    for member in load_config(StackerConfig, path).members:
        assert (EXPERIMENTS / f"{member}.json").exists(), member


@pytest.mark.parametrize(
    "path", sorted(EXPERIMENTS.glob("*/ensemble.json")), ids=lambda path: path.parent.name
)
def test_an_ensemble_configuration_loads(path):
    load_config(EnsembleConfig, path)
