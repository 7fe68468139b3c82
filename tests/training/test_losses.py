"""The training loss is the contest's metric."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import logit

from src.evaluation.metrics import weighted_log_loss
from src.labels import LABELS
from src.training.losses import LOSSES, LossOptions, bce, bce_any_twice, build_loss, focal, weighted_bce

# The test vector of three slices: columns in the order of LABELS.
Y = [[0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 1], [0, 1, 1, 0, 0, 1]]
P = [[0.1, 0.2, 0.1, 0.1, 0.3, 0.4], [0.8, 0.1, 0.1, 0.2, 0.1, 0.9], [0.05, 0.7, 0.6, 0.1, 0.2, 0.95]]


def test_the_loss_of_the_three_slice_vector():
    loss = weighted_bce(torch.tensor(logit(P)), torch.tensor(Y))
    assert loss.item() == pytest.approx(0.2019298, abs=1e-7)


def test_the_loss_equals_the_metric_on_random_predictions():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 6, generator=generator)
    labels = (torch.rand(200, 6, generator=generator) < 0.2).long()
    frames = [pd.DataFrame(t.numpy(), columns=list(LABELS)) for t in (labels, logits.double().sigmoid())]
    assert weighted_bce(logits, labels).item() == pytest.approx(weighted_log_loss(*frames), rel=1e-5)


def test_masked_slices_do_not_count():
    logits, labels = torch.zeros(1, 3, 6), torch.zeros(1, 3, 6)
    logits[0, 2] = 50.0
    mask = torch.tensor([[True, True, False]])
    assert weighted_bce(logits, labels, mask).item() == pytest.approx(0.693147, abs=1e-6)


def test_any_twice_is_seven_sixths_of_the_metric():
    weight = torch.tensor([1.0, 1, 1, 1, 1, 2])
    theirs = torch.nn.BCEWithLogitsLoss(weight=weight)(torch.tensor(logit(P)), torch.tensor(Y).double())
    ours = bce_any_twice(torch.tensor(logit(P)), torch.tensor(Y))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    assert ours.item() == pytest.approx(7 / 6 * 0.2019298, rel=1e-6)


def test_plain_bce_is_torch_s_mean():
    theirs = torch.nn.BCEWithLogitsLoss()(torch.tensor(logit(P)), torch.tensor(Y).double())
    assert bce(torch.tensor(logit(P)), torch.tensor(Y)).item() == pytest.approx(theirs.item(), rel=1e-6)


def test_focal_loss_weighs_by_how_wrong_a_prediction_is():
    logits, labels = torch.zeros(1, 6), torch.zeros(1, 6)
    assert focal(logits, labels, gamma=2.0).item() == pytest.approx(0.25 * 0.693147, abs=1e-6)
    generator = torch.Generator().manual_seed(0)
    logits, labels = (
        torch.randn(50, 6, generator=generator),
        (torch.rand(50, 6, generator=generator) < 0.3).float(),
    )
    torch.testing.assert_close(focal(logits, labels, gamma=0.0), weighted_bce(logits, labels))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_is_its_definition(gamma):
    """-(1 - q)^gamma log q of the probability q of what is true, `any` twice, over seven."""
    y, p = np.array(Y), np.array(P)
    q = np.where(y == 1, p, 1 - p)
    expected = (-((1 - q) ** gamma) * np.log(q) * [1, 1, 1, 1, 1, 2]).sum(1).mean() / 7
    assert focal(torch.tensor(logit(P)), torch.tensor(Y), gamma).item() == pytest.approx(expected, rel=1e-5)
    own = LossOptions(loss="focal", focal_gamma=gamma)
    assert build_loss(own)(torch.tensor(logit(P)), torch.tensor(Y)).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_an_option_without_effect_on_the_loss_is_refused():
    with pytest.raises(ValueError, match="focal_gamma: has no effect on the loss bce; leave it out"):
        LossOptions(loss="bce", focal_gamma=1.0)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_of_a_configuration_falls_as_predictions_improve(name):
    loss = build_loss(LossOptions(loss=name))
    labels = torch.tensor(Y).float()
    assert loss(4 * labels - 2, labels) < loss(2 * labels - 1, labels) < loss(1 - 2 * labels, labels)
