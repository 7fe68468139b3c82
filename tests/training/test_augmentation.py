"""Augmentation: geometry in pixels, air outside, nothing changed when nothing is asked for."""

import numpy as np
import pytest

from src.training.augmentation import AIR, draw, resize, warp
from src.training.slice_config import Augmentation

NONE = {"hflip": 0.0, "vflip": 0.0, "rotate_deg": 0.0, "scale": 0.0, "shift": 0.0}
WINDOWS = np.array([(40.0, 80.0), (80.0, 200.0)])


def warped(image, **options):
    numbers = draw(np.random.default_rng(0), Augmentation(**{**NONE, **options}), 1, image.shape[0], WINDOWS)
    out = np.empty_like(image)
    warp(image, numbers.matrices[0], out)
    return out


@pytest.fixture
def image():
    return np.random.default_rng(1).integers(-1000, 3000, (32, 32), dtype=np.int16)


def test_no_augmentation_is_the_identity(image):
    np.testing.assert_array_equal(warped(image), image)
    numbers = draw(np.random.default_rng(0), Augmentation(**NONE), 3, 32, WINDOWS)
    np.testing.assert_array_equal(numbers.windows, np.broadcast_to(WINDOWS, (3, 2, 2)))
    assert not numbers.hu_shift.any()


def test_flips_are_exact(image):
    np.testing.assert_array_equal(warped(image, hflip=1.0), image[:, ::-1])
    np.testing.assert_array_equal(warped(image, vflip=1.0), image[::-1])


def test_a_shift_brings_in_air():
    image = np.full((32, 32), 40, np.int16)
    out = warped(image, shift=0.3)
    assert set(np.unique(out)) >= {AIR, 40}


def test_a_rotation_turns_about_the_middle():
    image = np.full((33, 33), AIR, np.int16)
    image[16, 16] = 1000
    image[16, 26] = 1000
    for seed in range(5):
        numbers = draw(
            np.random.default_rng(seed), Augmentation(**{**NONE, "rotate_deg": 90.0}), 1, 33, WINDOWS
        )
        out = np.empty_like(image)
        warp(image, numbers.matrices[0], out)
        assert out[16, 16] == 1000
        radius = np.hypot(*(np.argwhere(out > -200) - 16).T)
        assert np.all((radius < 1) | (np.abs(radius - 10) < 1.5))


def test_jitter_stays_within_its_limits():
    config = Augmentation(**NONE, window_center_jitter=5.0, window_width_jitter=0.1, hu_shift=8.0)
    numbers = draw(np.random.default_rng(0), config, 500, 32, WINDOWS)
    change = numbers.windows - WINDOWS
    assert 4.5 < np.abs(change[:, :, 0]).max() <= 5
    assert np.abs(change[:, 1, 1]).max() <= 20 + 1e-4 and np.abs(change[:, 0, 1]).max() <= 8 + 1e-4
    assert 7 < np.abs(numbers.hu_shift).max() <= 8


def test_padding_is_clipped_to_air_before_resizing():
    image = np.full((64, 64), -3024, np.int16)
    image[:, 32:] = 40
    small = resize(image, 32)
    assert small.min() == AIR and small[0, 31] == 40


def test_halving_averages_pixels():
    image = np.array([[0, 10], [20, 30]], np.int16)
    assert resize(image, 1)[0, 0] == 15
