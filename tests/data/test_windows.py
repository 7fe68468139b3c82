"""Windows: numbers by hand."""

import pytest
import torch

from src.data.windows import BRAIN, stack_windows, window


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
