"""Windows: numbers by hand."""

import pytest
import torch

from src.data.windows import BRAIN, stack_windows, vectorised, window


@pytest.mark.parametrize(
    ("hu", "value"), [(-1024, 0.0), (0, 0.0), (20, 0.25), (40, 0.5), (80, 1.0), (3000, 1.0)]
)
def test_the_brain_window_maps_0_to_80_hu_to_0_to_1(hu, value):
    assert window(torch.tensor([[hu]], dtype=torch.int16), *BRAIN).item() == pytest.approx(value)


def test_channels_are_slice_major_and_windows_may_differ_by_sample():
    hu = torch.tensor([[[[0]], [[40]]], [[[0]], [[40]]]], dtype=torch.int16)  # 2 samples of 2 slices
    windows = torch.tensor([[[40.0, 80.0], [0.0, 100.0]], [[0.0, 80.0], [40.0, 100.0]]])
    channels = stack_windows(hu, windows)
    assert channels.shape == (2, 4, 1, 1)
    torch.testing.assert_close(channels[0].flatten(), torch.tensor([0.0, 0.5, 0.5, 0.9]))
    torch.testing.assert_close(channels[1].flatten(), torch.tensor([0.5, 0.1, 1.0, 0.5]))


def test_window_major_channels_hold_the_same_values_in_another_order():
    hu = torch.randint(-100, 200, (2, 3, 4, 5), dtype=torch.int16)
    windows = torch.tensor([[40.0, 80.0], [80.0, 200.0]])
    by_slice, by_window = stack_windows(hu, windows), stack_windows(hu, windows, "window")
    assert torch.equal(by_window.view(2, 2, 3, 4, 5), by_slice.view(2, 3, 2, 4, 5).transpose(1, 2))
    torch.testing.assert_close(by_slice[:, 4], window(hu[:, 2], 40.0, 80.0))


def test_a_device_computes_what_the_processor_computes():
    hu = torch.randint(-100, 200, (2, 3, 4, 5), dtype=torch.int16)
    windows = torch.tensor([[[40.0, 80.0], [80.0, 200.0]], [[30.0, 90.0], [0.0, 10.0]]])
    for order in ("slice", "window"):
        expected = stack_windows(hu, windows, order)
        found = vectorised(hu, windows, order).reshape(expected.shape)
        torch.testing.assert_close(found, expected)
