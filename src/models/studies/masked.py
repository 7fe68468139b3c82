"""Parts for which padding means nothing: shifts, convolution, normalisation, pooling."""

import torch
import torch.nn.functional as F
from torch import nn


def lag(x: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """x_t - x_(t-1), zero where either is no real slice.  x (b, s, w), real (b, s) bool -> (b, s, w)"""
    difference = torch.zeros_like(x)
    difference[:, 1:] = (x[:, 1:] - x[:, :-1]) * (real[:, 1:] & real[:, :-1])[..., None]
    return difference


def lead(x: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """x_t - x_(t+1), zero where either is no real slice.  x (b, s, w), real (b, s) bool -> (b, s, w)"""
    difference = torch.zeros_like(x)
    difference[:, :-1] = (x[:, :-1] - x[:, 1:]) * (real[:, 1:] & real[:, :-1])[..., None]
    return difference


class MaskedBatchNorm(nn.Module):
    """Batch normalisation whose statistics come from real slices only; padding becomes zero."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """x (..., w), mask (...) bool -> (..., w)"""
        real, norm = x[mask], self.norm
        if self.training and len(real) < 2:  # one slice has no spread
            real = F.batch_norm(real, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        else:
            real = norm(real)
        out = torch.zeros_like(x, dtype=real.dtype)
        out[mask] = real
        return out


class SliceConv(nn.Module):
    """A convolution along the slices that sees zeros beyond the ends of a study, padded or not."""

    def __init__(self, width: int, out: int, kernel: int, dilation: int = 1):
        super().__init__()
        self.conv = nn.Conv1d(width, out, kernel, padding=dilation * (kernel // 2), dilation=dilation)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """x (b, s, w), mask (b, s) bool -> (b, s, out)"""
        return self.conv((x * mask[..., None]).transpose(1, 2)).transpose(1, 2)


class ConvBlock(nn.Module):
    """Convolution along the slices, batch normalisation, ReLU."""

    def __init__(self, width: int, out: int, kernel: int, dilation: int = 1):
        super().__init__()
        self.conv = SliceConv(width, out, kernel, dilation)
        self.norm = MaskedBatchNorm(out)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """x (b, s, w), mask (b, s) bool -> (b, s, out)"""
        return self.norm(self.conv(x, mask), mask).relu()


class ClassAttention(nn.Module):
    """One logit a class for a whole study: every class weighs the slices for itself.

    Linear, tanh, Linear, softmax over real slices (i-pan/ct-head-hemorrhage-detection; Ilse et al. 2018).
    """

    def __init__(self, width: int, classes: int, hidden: int = 128):
        super().__init__()
        self.score = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, classes))
        self.head = nn.Parameter(torch.empty(classes, width))
        self.bias = nn.Parameter(torch.zeros(classes))
        nn.init.normal_(self.head, std=width**-0.5)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """x (b, s, w), mask (b, s) bool, a real slice in every study -> (b, classes)"""
        weights = self.score(x).masked_fill(~mask[..., None], float("-inf")).softmax(1)  # (b, s, classes)
        pooled = weights.transpose(1, 2) @ (x * mask[..., None])  # (b, classes, w)
        return (pooled * self.head).sum(-1) + self.bias
