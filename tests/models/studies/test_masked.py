"""Masked parts against torch's own on the real slices alone."""

import torch
from torch import nn

from src.models.studies.masked import ClassAttention, MaskedBatchNorm, SliceConv, lag, lead


def test_deltas_are_zero_at_the_ends_and_beside_what_is_not_real():
    x = torch.tensor([1.0, 4.0, 9.0, 16.0, 25.0])[None, :, None]
    real = torch.tensor([[True, True, True, False, True]])
    assert lag(x, real)[0, :, 0].tolist() == [0, 3, 5, 0, 0]
    assert lead(x, real)[0, :, 0].tolist() == [-3, -5, 0, 0, 0]


def test_batch_norm_takes_its_statistics_from_real_slices():
    torch.manual_seed(0)
    x, mask = torch.randn(2, 5, 3), torch.tensor([[True] * 5, [True, True, False, False, False]])
    masked, plain = MaskedBatchNorm(3), nn.BatchNorm1d(3)
    out = masked(x, mask)
    torch.testing.assert_close(out[mask], plain(x[mask]))
    torch.testing.assert_close(masked.norm.running_var, plain.running_var)
    assert out[~mask].abs().max() == 0


def test_batch_norm_of_one_slice_uses_what_it_has_learned():
    norm, x = MaskedBatchNorm(3), torch.randn(1, 2, 3)
    out = norm(x, torch.tensor([[True, False]]))
    torch.testing.assert_close(out[0, 0], x[0, 0] / (1 + 1e-5) ** 0.5)
    assert norm.norm.running_mean.abs().max() == 0


def test_a_convolution_sees_zeros_beyond_a_study():
    torch.manual_seed(0)
    conv = SliceConv(3, 2, 5, dilation=2)
    x = torch.randn(1, 6, 3)
    padded = torch.cat([x, torch.full((1, 4, 3), 5.0)], 1)
    mask = torch.arange(10)[None] < 6
    torch.testing.assert_close(conv(padded, mask)[:, :6], conv(x, mask[:, :6]))


def test_class_attention_of_equal_slices_is_a_linear_map_and_weighs_classes_apart():
    torch.manual_seed(0)
    pool, x = ClassAttention(4, 6), torch.randn(2, 1, 4)
    mask = torch.ones(2, 3, dtype=torch.bool)
    torch.testing.assert_close(pool(x.expand(2, 3, 4), mask), x[:, 0] @ pool.head.T + pool.bias)
    weights = pool.score(torch.randn(1, 3, 4)).softmax(1)[0]
    assert not torch.allclose(weights[:, 0], weights[:, 1])
