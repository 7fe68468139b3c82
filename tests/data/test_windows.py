"""Windows: numbers by hand."""

import pytest
import torch

from src.data.windows import BRAIN, GRAY, HU_WINDOWS, check_units, stack_windows, vectorised
from src.errors import UserError


@pytest.mark.parametrize(
    ("hu", "value"), [(-1024, 0.0), (0, 0.0), (20, 0.25), (40, 0.5), (80, 1.0), (3000, 1.0)]
)
def test_the_brain_window_maps_0_to_80_hu_to_0_to_1(hu, value):
    image = torch.tensor([[[[hu]]]], dtype=torch.int16)
    assert stack_windows(image, torch.tensor([BRAIN])).item() == pytest.approx(value, abs=1e-6)


def test_channels_are_slice_major_and_windows_may_differ_by_sample():
    hu = torch.tensor([[[[0]], [[40]]], [[[0]], [[40]]]], dtype=torch.int16)  # 2 samples of 2 slices
    windows = torch.tensor([[[40.0, 80.0], [0.0, 100.0]], [[0.0, 80.0], [40.0, 100.0]]])
    channels = stack_windows(hu, windows)
    assert channels.shape == (2, 4, 1, 1)
    torch.testing.assert_close(channels[0].flatten(), torch.tensor([0.0, 0.5, 0.5, 0.9]))
    torch.testing.assert_close(channels[1].flatten(), torch.tensor([0.5, 0.1, 1.0, 0.5]))


def test_normalisation_is_that_of_the_windowed_values():
    hu = torch.randint(-100, 200, (2, 3, 4, 5), dtype=torch.int16)
    windows = torch.tensor([[40.0, 80.0], [80.0, 200.0]])
    mean, std = torch.tensor([0.2, 0.4]), torch.tensor([0.3, 0.5])
    of_channel = [0, 1] * 3
    plain = stack_windows(hu, windows)
    expected = (plain - mean[of_channel].view(-1, 1, 1)) / std[of_channel].view(-1, 1, 1)
    torch.testing.assert_close(stack_windows(hu, windows, mean, std), expected)
    torch.testing.assert_close(stack_windows(hu, windows, 0.2, 0.3), (plain - 0.2) / 0.3)


def test_a_device_computes_what_the_processor_computes():
    hu = torch.randint(-100, 200, (2, 3, 4, 5), dtype=torch.int16)
    windows = torch.tensor([[[40.0, 80.0], [80.0, 200.0]], [[30.0, 90.0], [0.0, 10.0]]])
    mean, std = torch.tensor([0.2, 0.4]), torch.tensor([0.3, 0.5])
    expected = stack_windows(hu, windows, mean, std)
    torch.testing.assert_close(vectorised(hu, windows, mean, std).reshape(expected.shape), expected)


def test_black_and_white_of_a_picture_are_0_and_1():
    levels = torch.tensor([[[[0, 51, 255]]]], dtype=torch.int16)
    torch.testing.assert_close(
        stack_windows(levels, torch.tensor([GRAY])).flatten(), torch.tensor([0, 0.2, 1])
    )


@pytest.mark.parametrize("window", [*HU_WINDOWS.values(), (600.0, 100.0), (100.0, 201.0), (200.0, 200.0)])
def test_a_window_in_hu_is_refused_for_gray_pictures(window):
    with pytest.raises(UserError, match=r"clean: its images are pictures .* set \"windows\": \[\"gray\"\]"):
        check_units([GRAY, window], "gray", "clean")


def test_windows_that_fit_are_accepted_and_mixed_units_never():
    check_units([BRAIN, (600.0, 2800.0), "file"], "hu", "clean")
    check_units([GRAY, (100.0, 50.0), "file"], "gray", "clean")
    with pytest.raises(UserError, match="holds images in HU and gray pictures"):
        check_units([GRAY], "gray+hu", "clean")
