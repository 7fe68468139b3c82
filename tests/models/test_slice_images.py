"""From HU to the channels of a network."""

import pytest
import torch

from src.models.slice_images import ImageOptions, LearnedWindows, MinMaxScale, build_images

HU = torch.tensor([-1000.0, 0.0, 40.0, 80.0, 300.0]).view(1, 1, 1, 5)


def test_a_learned_window_starts_at_a_hundredth_and_99_hundredths_at_its_edges():
    values = LearnedWindows(((40.0, 80.0),))(HU, None).flatten().tolist()
    assert values == pytest.approx([0, 0.01, 0.5, 0.99, 1], abs=1e-4)


def test_a_learned_window_is_a_1x1_convolution_and_a_sigmoid():
    windows = LearnedWindows(((40.0, 80.0), (80.0, 200.0)))
    hu = torch.randint(-1000, 1000, (2, 1, 4, 4)).float()
    expected = torch.conv2d(hu, windows.slope.view(2, 1, 1, 1), windows.shift).sigmoid()
    torch.testing.assert_close(windows(hu, None), expected)
    windows(hu, None).sum().backward()
    assert windows.slope.grad is not None and windows.shift.grad is not None


def test_learned_windows_of_a_stack_come_slice_by_slice():
    windows = LearnedWindows(((40.0, 80.0), (80.0, 200.0)))
    stack = torch.tensor([0.0, 100.0, 200.0]).view(1, 3, 1, 1)
    found = windows(stack, None).detach().flatten()
    expected = [[windows(stack[:, s : s + 1], None)[0, w, 0, 0] for w in range(2)] for s in range(3)]
    table = torch.tensor([[value.item() for value in row] for row in expected])
    torch.testing.assert_close(found, table.flatten())


def test_minmax_stretches_each_image_and_a_flat_one_is_zero():
    images = torch.stack([torch.linspace(0.2, 0.6, 6).view(1, 2, 3), torch.full((1, 2, 3), 0.5)])
    out = MinMaxScale(torch.tensor([0.0]), torch.tensor([1.0]))(images)
    assert out[0].min() == 0 and out[0].max() == pytest.approx(1)
    assert not out[1].any()


def test_a_mean_for_each_window_goes_to_its_channels():
    seen = {"neighbours": (0, 1), "windows": ("brain", "bone"), "learn_windows": True}
    _, scale = build_images(ImageOptions(**seen, mean=(1.0, 2.0), std=(1.0, 1.0)))
    assert (-scale(torch.zeros(1, 4, 1, 1))).flatten().tolist() == [1, 2, 1, 2]


def test_instance_normalisation_gives_every_channel_mean_0_and_deviation_1_to_start_from():
    scale = build_images(ImageOptions(normalisation="instance"))[1]
    out = scale(5 * torch.randn(2, 3, 20, 20) + 7)
    assert out.mean((2, 3)).abs().max() < 1e-4 and (out.std((2, 3)) - 1).abs().max() < 0.01
    assert [p.shape for p in scale.parameters()] == [(3,), (3,)]  # learned
