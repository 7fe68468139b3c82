"""One training step: accumulation is a larger batch, clipping bounds the gradient; images in memory."""

import pytest
import torch
from torch import nn

from src.errors import UserError
from src.models.slice_classifier import build_slice_classifier
from src.training.engine import distributed
from src.training.engine.state import TrainingState
from src.training.engine.training_config import TrainingConfig
from src.training.engine.training_progress import Progress
from src.training.slices.slice_config import SliceConfig

CPU = torch.device("cpu")
X = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))


def trained(batches, **options):
    """Weights after one pass over the batches."""
    torch.manual_seed(0)
    options = {"lr": 0.1, "schedule": "constant", "warmup": 0.0, "weight_decay": 0.0, **options}
    state = TrainingState(
        nn.Linear(3, 1, bias=False), lambda model, batch: (model(batch["x"]) - 100).square().mean(),
        TrainingConfig(**options), CPU, len(batches),
    )  # fmt: skip
    before = state.model.weight.detach().clone()
    for step, x in enumerate(batches):
        state.step({"ids": ["x"] * len(x), "x": x}, step)
    return state.model.weight.detach() - before


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("norm", [1.0, None])  # without clipping SGD sees the size of the gradient
def test_accumulated_batches_are_one_batch(optimizer, norm):
    options = {"optimizer": optimizer, "clip_norm": norm, "lr": 1e-3}
    torch.testing.assert_close(
        trained([X[:4], X[4:]], accumulation=2, **options), trained([X], **options), rtol=1e-4, atol=1e-6
    )


def test_the_tail_of_an_accumulation_is_not_lost():
    whole, with_tail = trained([X[:4], X[4:]], accumulation=2), trained([X[:4], X[4:], X[:4]], accumulation=2)
    assert with_tail.abs().sum() > whole.abs().sum()


def test_clipping_scales_the_gradient_to_its_norm():
    torch.manual_seed(0)
    layer = nn.Linear(3, 1, bias=False)
    (layer(X) - 100).square().mean().backward()
    free, clipped = (trained([X], optimizer="sgd", clip_norm=norm) for norm in (None, 0.5))
    assert layer.weight.grad.norm() > 10
    torch.testing.assert_close(clipped, free * 0.5 / layer.weight.grad.norm())


def test_the_weights_to_predict_with_are_the_moving_average_buffers_and_all():
    """The first step is copied; the k-th after it moves the average by 1 - min(decay, (1 + k) / (10 + k))."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    config = TrainingConfig(lr=0.1, schedule="constant", warmup=0.0, ema_decay=0.25)
    state = TrainingState(network, lambda model, batch: model(batch["x"]).square().mean(), config, CPU, 6)
    expected = {}
    for step in range(6):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step)) + step
        state.step({"ids": ["x"] * 8, "x": x}, step)
        rate = 1 - min(0.25, (1 + step) / (10 + step)) if step else 1.0
        for name, value in network.state_dict().items():
            old = expected.get(name, value)
            expected[name] = old + rate * (value - old) if value.is_floating_point() else value.clone()
    found = state.weights().state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    for name in ("0.weight", "1.running_mean", "1.running_var"):
        assert not torch.allclose(found[name], network.state_dict()[name]), name
    plain = TrainingState(network, state.loss, TrainingConfig(), CPU, 6)
    assert plain.weights() is network


@pytest.mark.parametrize(("last", "kind"), [(True, torch.channels_last), (False, torch.contiguous_format)])
def test_images_have_the_asked_memory_format_and_the_same_logits(last, kind):
    hu, windows = torch.randint(-50, 150, (2, 3, 32, 32), dtype=torch.int16), torch.tensor([[[40.0, 80.0]]])
    logits = []
    for channels_last in (last, not last):
        torch.manual_seed(0)
        config = SliceConfig(
            backbone="test_resnet", pretrained=False, channels_last=channels_last, neighbours=(-1, 0, 1),
            windows=((40.0, 80.0),),
        )  # fmt: skip
        model = build_slice_classifier(config).eval()
        if channels_last is last:
            assert model.images(hu, windows).is_contiguous(memory_format=kind)
        with torch.inference_mode():
            logits.append(model(hu, windows)[0])
    torch.testing.assert_close(*logits)


def test_a_checkpoint_of_another_training_says_what_differs(tmp_path):
    state = TrainingState(nn.Linear(3, 1), lambda model, batch: model(batch["x"]), TrainingConfig(), CPU, 1)
    path = tmp_path / "checkpoint.pt"
    state.save(path, {"fold": 1, "weights": {"a": [1], "b": 2}}, Progress())
    assert state.load(path, {"weights": {"b": 2, "a": [1]}, "fold": 1}) == Progress()
    with pytest.raises(UserError, match=r"data set \(weights a \[1\], now \[3\]; seed null, now 7\); delete"):
        state.load(path, {"fold": 1, "weights": {"a": [3], "b": 2}, "seed": 7})


def test_a_single_process_answers_for_itself():
    assert distributed.gather("mine") == ["mine"]
    assert (distributed.mean(2.5), distributed.largest(3)) == (2.5, 3)
    assert (distributed.rank(), distributed.world_size(), distributed.is_first()) == (0, 1, True)
