"""What only a GPU runs, as far as a processor can tell: choices, hand-over, scaling, synchronised norms."""

import pytest
import torch
from timm.layers import convert_sync_batchnorm
from torch import nn

from src.data.prepared import Prepared
from src.errors import UserError
from src.models.slice_classifier import build_slice_classifier
from src.training.engine.precision import autocast, autocast_type
from src.training.engine.state import TrainingState
from src.training.engine.training_config import TrainingConfig
from src.training.engine.training_progress import Progress
from src.training.slices.draws import Augmentation
from src.training.slices.kind import training_loss
from src.training.slices.sample_changes import on_device
from src.training.slices.slice_batches import SliceBatches
from src.training.slices.slice_config import SliceConfig
from src.training.split import labelled_slices
from tests.training.prepared import write_clean

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("native", "kind"), [(True, torch.bfloat16), (False, torch.float16)])
def test_auto_is_bf16_only_where_a_gpu_computes_it(monkeypatch, native, kind):
    # torch counts emulation as support unless told otherwise
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation
    )
    assert autocast_type("auto", CUDA) is kind
    assert autocast_type("bf16", CUDA) is torch.bfloat16 and autocast_type("fp32", CUDA) is None
    assert autocast_type("auto", CPU) is None
    with pytest.raises(UserError, match="precision fp16 needs a GPU"):
        autocast_type("fp16", CPU)


def test_arithmetic_is_mixed_where_a_type_is_given_and_plain_elsewhere():
    for kind, used in ((None, torch.float32), (torch.bfloat16, torch.bfloat16)):
        with autocast(kind, CPU):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is used


def test_the_thread_of_batches_uses_this_process_s_gpu_and_hands_over_stored_slices(tmp_path, monkeypatch):
    write_clean(tmp_path)
    chosen, pinned = [], []
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self) or self)
    config = SliceConfig(
        backbone="test_resnet", image_size=48, batch_size=6, neighbours=(-1, 0, 1),
        augmentation=Augmentation(elastic=0.5, erase=0.5, noise=0.5, blur=0.3, cutmix=0.5),
    )  # fmt: skip
    prepared = Prepared(tmp_path)
    slices = labelled_slices(prepared)
    stored = next(iter(SliceBatches(prepared, slices, config, CUDA).epoch(0)))
    assert chosen == [3]
    tensors = [value for value in stored.values() if isinstance(value, torch.Tensor)]
    assert {id(value) for value in tensors} <= {id(value) for value in pinned}
    assert stored["hu"].dtype == torch.int16 and stored["hu"].shape == (6, 3, 64, 64)
    changed = on_device(stored, config)
    plain = next(iter(SliceBatches(prepared, slices, config).epoch(0)))
    assert set(changed) == set(plain)
    for key in ("labels", "windows"):
        assert torch.equal(changed[key], plain[key])
    assert (changed["hu"] - plain["hu"]).abs().median() < 1  # one image is at the same place in both


def test_synchronised_norms_keep_the_parameters_the_optimiser_holds():
    config = SliceConfig(backbone="test_efficientnet", pretrained=False, image_size=32, ema_decay=0.9)
    model = build_slice_classifier(config)
    state = TrainingState(model, training_loss(config), config, CPU, 10)
    names, held = list(model.state_dict()), {id(p) for g in state.optimizer.param_groups for p in g["params"]}
    assert convert_sync_batchnorm(model) is model
    kinds = [type(module).__name__ for module in model.modules()]
    assert "SyncBatchNormAct" in kinds and not {"BatchNorm2d", "BatchNormAct2d"} & set(kinds)
    assert list(model.state_dict()) == names and {id(p) for p in model.parameters()} == held
    state.average.update_parameters(model)


def training(scaler):
    torch.manual_seed(0)
    state = TrainingState(
        nn.Linear(4, 1),
        lambda model, batch: model(batch["x"]).mean(),
        TrainingConfig(lr=0.1, ema_decay=0.5),
        CPU,
        8,
    )
    state.scaler = scaler
    return state


def test_an_overflow_in_fp16_skips_the_step_and_lowers_the_scale(tmp_path):
    batch = {"ids": ["a"], "x": torch.ones(1, 4)}
    state = training(torch.amp.GradScaler("cpu", init_scale=2.0**127))
    before = state.model.weight.detach().clone()
    state.step({**batch, "x": torch.full((1, 4), 1e3)}, 0)
    assert torch.equal(state.model.weight, before) and state.scaler.get_scale() == 2.0**126
    state.save(tmp_path / "c", "f", Progress(step=1))
    later = training(torch.amp.GradScaler("cpu"))
    assert later.load(tmp_path / "c", "f").step == 1 and later.scaler.get_scale() == 2.0**126


def test_scaling_the_loss_changes_no_step():
    batch = {"ids": ["a"], "x": torch.tensor([[1.0, 2.0, 3.0, 4.0]])}
    weights = []
    for scaler in (
        torch.amp.GradScaler("cpu", enabled=False),
        torch.amp.GradScaler("cpu", init_scale=1024.0),
    ):
        state = training(scaler)
        for step in range(8):
            state.step(batch, step)
        weights.append(state.model.weight.detach())
    torch.testing.assert_close(*weights)


def test_a_compiled_network_trains_to_the_same_weights(monkeypatch):
    plain_compile = nn.Module.compile
    # the compiler's own steps without the code generator, which takes a minute
    monkeypatch.setattr(nn.Module, "compile", lambda self: plain_compile(self, backend="aot_eager"))
    batch = {"ids": list("abcd"), "x": torch.randn(4, 8, generator=torch.Generator().manual_seed(0))}
    weights = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))
        config = TrainingConfig(lr=0.1, ema_decay=0.5, compile=compiled)
        state = TrainingState(model, lambda m, b: m(b["x"]).square().mean(), config, CPU, 4)
        for step in range(4):
            state.step(batch, step)
        weights.append(dict(state.weights().state_dict()))
    torch.testing.assert_close(*weights)
