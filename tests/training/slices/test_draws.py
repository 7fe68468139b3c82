"""Augmentation: geometry in pixels, air outside, nothing changed when nothing is asked for."""

import numpy as np
import pytest

from src.training.slices.draws import Augmentation, draw, middle_matrix
from src.training.slices.warps import AIR, warp

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


def test_a_jitter_can_differ_by_window():
    config = Augmentation(**NONE, window_center_jitter=(4.0, 0.0), window_width_jitter=(0.0, 0.1))
    change = draw(np.random.default_rng(0), config, 200, 32, WINDOWS).windows - WINDOWS
    assert change[:, 0, 0].any() and not change[:, 1, 0].any()
    assert change[:, 1, 1].any() and not change[:, 0, 1].any()


def test_scale_and_shift_of_hu_are_another_window():
    config = Augmentation(**NONE, hu_scale=0.1, hu_shift=15.0)
    numbers = draw(np.random.default_rng(0), config, 20, 32, WINDOWS)
    hu = np.array([-1000.0, 0.0, 33.0, 90.0, 400.0])
    for k in range(20):
        changed = numbers.hu_scale[k] * hu + numbers.hu_shift[k]
        for (center, width), (other, wide) in zip(WINDOWS, numbers.shifted_windows[k], strict=True):
            expected = np.clip((changed - center) / width + 0.5, 0, 1)
            np.testing.assert_allclose(np.clip((hu - other) / wide + 0.5, 0, 1), expected, atol=1e-5)


def test_one_of_changes_a_sample_in_one_way_or_none():
    config = Augmentation(
        one_of=True, hflip=0.0, affine=1.0, intensity=1.0, hu_shift=10.0, noise=1.0, blur=1.0, erase=1.0
    )
    numbers = draw(np.random.default_rng(0), config, 600, 32, WINDOWS)
    turned = np.abs(numbers.matrices[:, 0, 1]) > 0
    changes = [turned, numbers.hu_shift != 0, numbers.noise > 0, numbers.blur > 0, numbers.holes.any((1, 2))]
    count = np.sum(changes, axis=0)
    assert count.max() == 1
    assert 0.12 < (count == 0).mean() < 0.22  # five ways and none


def test_a_random_crop_shows_a_square_of_that_side_inside_the_image():
    config = Augmentation(**NONE, crop=(0.6, 0.9))
    numbers = draw(np.random.default_rng(0), config, 300, 100, WINDOWS, stored=200)
    scale = numbers.matrices[:, 0, 0]
    assert scale.min() >= 0.6 * 2 and scale.max() <= 0.9 * 2  # stored pixels a pixel of the network
    first = numbers.matrices[:, :, 2]
    last = numbers.matrices @ np.array([99.0, 99.0, 1.0])
    assert first.min() >= -0.5 and last.max() <= 199.5
    assert np.ptp(first[:, 0]) > 50


def test_the_middle_square_keeps_the_pixel_scale_of_a_resize():
    np.testing.assert_allclose(middle_matrix(50, 100, 1.0), [[2, 0, 0.5], [0, 2, 0.5]])
    np.testing.assert_allclose(middle_matrix(100, 100, 0.8) @ [49.5, 49.5, 1], [49.5, 49.5])


def test_the_asked_share_of_samples_is_sharpened_and_nothing_else_changes():
    plain, some = (
        draw(np.random.default_rng(0), Augmentation(sharpen=share), 2000, 8, np.array([[40.0, 80.0]]))
        for share in (0.0, 0.25)
    )
    assert (plain.sharpness == 1).all() and set(some.sharpness) == {1.0, 2.0}
    assert (some.sharpness == 2).mean() == pytest.approx(0.25, abs=0.03)
    np.testing.assert_array_equal(plain.matrices, some.matrices)


def test_holes_lie_in_the_image_and_have_the_asked_size():
    config = Augmentation(**NONE, erase=1.0, erase_holes=(1, 3), erase_side=(0.1, 0.2))
    holes = draw(np.random.default_rng(0), config, 200, 100, WINDOWS).holes
    assert holes.min() >= 0 and holes.max() <= 100
    heights = holes[..., 2] - holes[..., 0]
    number = (heights > 0).sum(1)
    assert number.min() >= 1 and number.max() == 3 and heights.max() <= 21
