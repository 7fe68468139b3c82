"""Padding, cropping, moving and resizing, and the way back."""

import cv2
import numpy as np
import pytest

from src.data.square import AIR, Square, extract, lay_back, whole


def ramp(rows: int, columns: int) -> np.ndarray:
    return (np.arange(rows)[:, None] * 10 + np.arange(columns)).astype(np.int16)


def test_nothing_is_changed_without_need():
    values = ramp(32, 32) - 3024  # below what resampling would clip
    assert (extract(values, whole(32, 32), 32) == values).all()


def test_a_rectangle_is_padded_with_air():
    square = whole(4, 6)
    assert square == (-1, 0, 6)
    stored = extract(ramp(4, 6), square, 6)
    assert (stored[1:5] == ramp(4, 6)).all() and (stored[[0, 5]] == AIR).all()


def test_a_crop_is_exact_and_may_reach_beyond_the_image():
    stored = extract(ramp(8, 8), Square(-1, 2, 4), 4)
    assert (stored[1:] == ramp(8, 8)[:3, 2:6]).all() and (stored[0] == AIR).all()
    assert (extract(ramp(8, 8), Square(20, 20, 4), 4) == AIR).all()


def test_halving_averages_areas_and_384_interpolates():
    values = np.random.default_rng(0).integers(-1000, 1000, (512, 512)).astype(np.int16)
    assert (
        extract(values, whole(512, 512), 256) == cv2.resize(values, (256, 256), interpolation=cv2.INTER_AREA)
    ).all()
    expected = cv2.resize(values, (384, 384), interpolation=cv2.INTER_LINEAR)
    assert (extract(values, whole(512, 512), 384) == expected).all()


def test_padding_of_the_scanner_does_not_bleed_into_the_image():
    values = np.full((512, 512), 40, dtype=np.int16)
    values[:, :255] = -3024
    stored = extract(values, whole(512, 512), 256)
    assert stored.min() == AIR and stored[0, 127] == (AIR + 40) // 2


def test_a_move_by_whole_pixels_is_exact_and_by_half_a_pixel_interpolates():
    values = ramp(16, 16)
    square = Square(4, 4, 8)
    assert (extract(values, square.moved(2, -1), 8) == values[6:14, 3:11]).all()
    assert (extract(values, square.moved(0.5, 0), 8) == values[4:12, 4:12] + 5).all()  # rows differ by 10


@pytest.mark.parametrize(("square", "size"), [(Square(-3, 7, 100), 64), (Square(2.25, 0.5, 512), 256)])
def test_the_geometry_can_be_inverted(square, size):
    for point in [(0.0, 0.0), (10.0, 20.0), (63.0, 5.5)]:
        assert square.to_stored(*square.to_original(*point, size), size) == pytest.approx(point)


def test_stored_coordinates_point_at_the_same_place():
    """A bright spot of the original is found where the geometry says."""
    values = np.zeros((512, 512), dtype=np.int16)
    values[300:304, 200:204] = 1000
    square = Square(100, 50, 400)
    stored = extract(values, square, 256)
    row, column = square.to_stored(301.5, 201.5, 256)
    peak = np.argwhere(stored > 400).mean(axis=0)
    assert peak == pytest.approx([row, column], abs=0.5)
    assert np.argwhere(extract(values, whole(512, 512), 256) == 1000).mean(axis=0) == pytest.approx(
        [150.5, 100.5]
    )


def test_what_covers_the_whole_image_comes_back_as_it_was():
    values = np.random.default_rng(0).random((2, 8, 8), np.float32)
    np.testing.assert_array_equal(lay_back(values, whole(8, 8), (8, 8)), values)


def test_what_covers_a_square_comes_back_by_hand():
    back = lay_back(np.array([[1.0, 3.0], [5.0, 7.0]]), Square(1, 2, 4), (6, 5))
    assert (back[0] == 0).all() and (back[5] == 0).all() and (back[:, :2] == 0).all()
    # centres at 0.25 and 0.75 of the square's side; beyond them the nearest
    assert back[1].tolist() == [0, 0, 1, 1.5, 2.5] and back[1:5, 2].tolist() == [1, 2, 4, 5]


@pytest.mark.parametrize("square", [Square(-30, -10, 120), Square(12, 20, 50), Square(9.25, 14.5, 60)])
@pytest.mark.parametrize("size", [32, 96])
def test_a_spot_is_laid_back_where_it_was(square, size):
    rows, columns = np.mgrid[:80, :100]
    spot = np.exp(-((rows - 37) ** 2 + (columns - 41) ** 2) / 40)
    stored = extract((1000 * spot).astype(np.int16), square, size, fill=0)
    back = lay_back(stored.astype(np.float32), square, spot.shape)
    assert [np.average(axis, weights=back) for axis in (rows, columns)] == pytest.approx([37, 41], abs=0.1)
