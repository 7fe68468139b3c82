"""The training loss is the contest's metric."""

import pandas as pd
import pytest
import torch
from scipy.special import logit

from src.evaluation.metrics import weighted_log_loss
from src.labels import LABELS
from src.training.losses import weighted_bce

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
