"""Learning rates by step."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from src.errors import UserError
from src.models.slice_classifier import ClassifierOptions, build_slice_classifier
from src.training.engine.schedules import build_optimizer, build_schedule
from src.training.engine.training_config import TrainingConfig


def rates(total, **options):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = build_schedule(optimizer, TrainingConfig(lr=1.0, **options), total)
    found = []
    for step in range(total):
        schedule.step_update(step)
        found.append(optimizer.param_groups[0]["lr"])
    return found


def test_one_cycle_is_torch_s():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        1.0,
        total_steps=100,
        pct_start=0.3,
        div_factor=25,
        final_div_factor=1e9,
        cycle_momentum=False,
    )
    expected = []
    for _ in range(100):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert rates(100, schedule="one_cycle", warmup=0.3) == pytest.approx(expected, abs=1e-6)


def test_steps_multiply_the_rate_after_each_stretch_of_epochs():
    found = rates(40, schedule="step", epochs=4, warmup=0.0, decay_epochs=1.0, decay_rate=3 / 7)
    assert [found[k] for k in (0, 9, 10, 20, 39)] == pytest.approx([1, 1, 3 / 7, (3 / 7) ** 2, (3 / 7) ** 3])


def test_restarts_come_back_to_the_full_rate():
    found = rates(40, schedule="restarts", epochs=4, warmup=0.0, restart_epochs=2.0, min_lr=0.1)
    assert found[0] == found[20] == pytest.approx(1)
    assert found[10] == pytest.approx(0.55) and found[19] == pytest.approx(
        0.1 + 0.45 * (1 + math.cos(math.pi * 0.95))
    )


def test_a_cosine_ends_at_the_lowest_rate():
    assert rates(200, warmup=0.0, min_lr=0.25)[-1] == pytest.approx(0.25, abs=1e-3)


def test_epsilon_is_the_optimiser_s_own_unless_given():
    model = nn.Linear(2, 2)
    for eps, used in ((None, 1e-8), (1e-3, 1e-3)):
        optimizer = build_optimizer(model, TrainingConfig(eps=eps))
        assert {group["eps"] for group in optimizer.param_groups} == {used}
    with pytest.raises(ValueError, match="eps: sgd has none"):
        TrainingConfig(optimizer="sgd", eps=1e-3)


def test_a_line_falls_by_the_same_amount_at_every_step_after_the_warm_up():
    found = rates(100, schedule="linear", warmup=0.2, min_lr=0.2)
    assert found[20] == pytest.approx(1) and np.allclose(np.diff(found[20:]), -0.8 / 80)
    assert found[0] == pytest.approx(0.01) and found[-1] == pytest.approx(0.2 + 0.8 / 80)


def test_layer_decay_multiplies_the_rate_from_the_head_to_the_stem():
    options = ClassifierOptions(backbone="test_resnet", pretrained=False, normalisation="instance")
    model = build_slice_classifier(options)
    config = TrainingConfig(lr=1e-3, layer_decay=0.5, weight_decay=0.1)
    optimizer = build_optimizer(model, config)
    build_schedule(optimizer, config, 100).step_update(50)
    rate = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert len(rate) == len(list(model.parameters()))
    top, bottom = rate[id(model.head.weight)], rate[id(model.backbone.conv1[0].weight)]
    assert top[1] == bottom[1] == 0.1 and rate[id(model.head.bias)][1] == 0
    middle = rate[id(model.backbone.layer4[-1].conv1.weight)][0]
    assert top[0] > middle > bottom[0]
    assert math.log2(top[0] / middle) == pytest.approx(round(math.log2(top[0] / middle)), abs=1e-6)
    assert rate[id(model.scale.weight)][0] == bottom[0]


def test_layer_decay_needs_layers():
    with pytest.raises(UserError, match="Linear has no parts to tell apart"):
        build_optimizer(nn.Linear(2, 2), TrainingConfig(layer_decay=0.5))
