"""OpenCV on a CPU and torch on a device resample alike."""

import numpy as np
import pytest
import torch

from src.training.slices.draws import Augmentation, draw
from src.training.slices.warps import AIR, shrink, warp, warp_on_device


def smooth_image(side):
    """A field without sharp edges, so that two ways to interpolate differ little."""
    y, x = np.mgrid[:side, :side] / side
    return (400 * np.sin(5 * x) * np.cos(4 * y) + 100).astype(np.int16)


@pytest.mark.parametrize("stored", [48, 64, 80])
@pytest.mark.parametrize("elastic", [0.0, 1.0])
def test_torch_warps_like_opencv(stored, elastic):
    size, config = (
        64,
        Augmentation(vflip=0.5, transpose=0.5, shear_deg=5, aspect=0.1, elastic=elastic, crop=(0.7, 1)),
    )
    numbers = draw(np.random.default_rng(0), config, 6, size, np.array([(40.0, 80.0)]), stored)
    hu = np.stack([smooth_image(stored)] * 6)
    expected = np.empty((6, size, size), np.int16)
    for image, matrix, moves, out in zip(hu, numbers.matrices, numbers.moves, expected, strict=True):
        warp(image, matrix, out, moves if moves.size else None)
    ours = warp_on_device(
        torch.from_numpy(hu[:, None]),
        torch.from_numpy(numbers.matrices),
        size,
        torch.from_numpy(numbers.moves),
    )[:, 0].numpy()
    # Not at the border, where 1000 HU of air meet the image within one pixel.
    inside = (expected > -400) & (ours > -400)
    assert inside.mean() > 0.6
    assert np.abs(ours - expected)[inside].mean() < 0.6
    assert np.percentile(np.abs(ours - expected)[inside], 98) < 4
    outside = np.mean((expected == AIR) != (ours < AIR + 1))
    assert outside < 0.02


def test_a_grid_of_equal_moves_is_a_shift():
    image, out = smooth_image(32), np.empty((32, 32), np.int16)
    warp(image, np.array([[1.0, 0, 0], [0, 1, 0]]), out, np.full((2, 4, 4), 3.0, np.float32))
    np.testing.assert_array_equal(out[:29, :29], image[3:, 3:])
    assert (out[29:] == AIR).all()


def test_halving_averages_pixels():
    assert shrink(np.array([[0, 10], [20, 30]], np.int16), 1)[0, 0] == 15


@pytest.mark.parametrize(
    ("stored", "size", "crop", "side"),
    [(512, 256, 1, 256), (512, 384, 1, 512), (512, 224, 1, 256), (512, 224, 0.8, 512)],
)
def test_only_whole_pixels_are_averaged_and_only_where_resolution_is_left(stored, size, crop, side):
    assert shrink(np.zeros((stored, stored), np.int16), size, crop).shape == (side, side)
