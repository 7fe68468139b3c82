"""Every stage-2 configuration under experiments/ is read, builds at small size and learns from a batch."""

import numpy as np
import pytest
import torch

from src.config import load_config
from src.ensemble.ensemble_config import load_ensemble
from src.models.studies.sequence_model import SliceSequence
from src.training.runs import Run, run_name
from src.training.studies.stacker_config import StackerConfig
from src.training.studies.stacker_networks import build_from_config, prevalences, stacker_loss
from src.training.studies.study_batches import StudyBatches
from src.training.studies.study_inputs import StudyInputs
from tests.conftest import ROOT
from tests.training.stage2_tables import settings_below, table, write

EXPERIMENTS = ROOT / "experiments"
CONFIGS = sorted(EXPERIMENTS.glob("*/stage2/*.json"))
# Trees have no batch: tests/models/test_boosting.py trains them.
NETWORKS = [path for path in CONFIGS if load_config(StackerConfig, path).stacker != "boosting"]


@pytest.mark.parametrize("path", CONFIGS, ids=[run_name(path) for path in CONFIGS])
def test_a_configuration_names_members_that_exist(path):
    for member in load_config(StackerConfig, path).members:
        assert (EXPERIMENTS / f"{member}.json").exists(), member


@pytest.mark.parametrize("path", NETWORKS, ids=[run_name(path) for path in NETWORKS])
def test_a_configuration_trains_a_batch_at_small_size(path, tmp_path):
    config = load_config(StackerConfig, path)
    width = None if config.width is None else 16
    small = config.model_copy(update={"width": width, "hidden": 8, "heads": 4, "batch_size": 4})
    slices = table([4, 30, 1, 26])
    runs = {name: [Run(name, 0, settings_below(tmp_path))] for name in config.members}
    for (run,) in runs.values():
        for part in ["oof", *(f"oof_{view}" for view in config.views)]:
            write(run, slices["image_id"], part)
    inputs = StudyInputs(slices, runs, "oof", small)
    torch.manual_seed(0)
    model = build_from_config(small, inputs.embedding_sizes)
    model.start_at(*prevalences(inputs))
    (batch,) = StudyBatches(inputs, small).epoch(0)
    slices = SliceSequence(*(batch[key] for key in SliceSequence._fields))
    slices = slices._replace(embeddings=slices.embeddings.float())
    loss = stacker_loss(model(slices), batch, small)
    loss.backward()
    assert np.isfinite(loss.item())
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    "path", sorted(EXPERIMENTS.glob("*/ensemble.json")), ids=lambda path: path.parent.name
)
def test_an_ensemble_names_configurations_that_exist(path):
    for member in load_ensemble(path.parent).members or ():
        assert (EXPERIMENTS / f"{member}.json").exists(), member
