"""One training step: accumulation is a larger batch, clipping bounds the gradient; images in memory."""

import pytest
import torch
from torch import nn

from src.models.slice_classifier import build_slice_classifier
from src.training.engine.state import TrainingState
from src.training.engine.training_config import TrainingConfig
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
def test_accumulated_batches_are_one_batch(optimizer):
    options = {"optimizer": optimizer, "clip_norm": 1.0}
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
