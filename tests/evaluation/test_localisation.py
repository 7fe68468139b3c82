"""Maps against masks, in numbers worked out by hand."""

import numpy as np
import pytest

from src.evaluation.localisation import (
    area_share,
    central_map,
    energy_share,
    pointing_game,
    score_map,
    summarise,
)


def mask(side=512, rows=slice(100, 110), columns=slice(200, 220)):
    picture = np.zeros((side, side), np.uint8)
    picture[rows, columns] = 255
    return picture


def peak_at(row, column, side=512):
    cam = np.full((side, side), 0.1, np.float32)
    cam[row, column] = 1
    return cam


@pytest.mark.parametrize(
    ("row", "column", "hit"),
    [
        (105, 210, True),
        (109 + 15, 210, True),
        (109 + 16, 210, False),
        (100 - 9, 200 - 12, True),  # 15 px away: 9, 12, 15
        (100 - 9, 200 - 13, False),
    ],
)
def test_a_peak_within_15_px_at_512_is_a_hit(row, column, hit):
    assert pointing_game(peak_at(row, column), mask()) is hit


def test_the_tolerance_is_a_share_of_the_image():
    small = mask(256, slice(50, 55), slice(100, 110))
    assert pointing_game(peak_at(54 + 7, 105, 256), small)  # 7.5 px at 256
    assert not pointing_game(peak_at(54 + 8, 105, 256), small)
    assert not pointing_game(peak_at(55, 105, 256), small, tolerance=0)


def test_energy_is_the_share_of_the_sum_in_the_mask():
    cam = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert energy_share(cam, np.array([[0, 1], [0, 1]])) == 0.6
    assert energy_share(np.full((512, 512), 0.3, np.float32), mask()) == pytest.approx(area_share(mask()))


def test_area_is_chance():
    assert area_share(mask()) == 200 / 512**2
    one = np.zeros((101, 101))
    one[50, 50] = 1
    assert area_share(one, tolerance=2 / 101) == 13 / 101**2  # the lattice points of a circle of radius 2


def test_an_empty_map_finds_nothing():
    nothing, first = np.zeros((8, 8)), np.zeros((8, 8))
    first[0, 0] = 1  # where argmax of zeros points
    assert not pointing_game(nothing, first) and energy_share(nothing, first) == 0


def test_slices_are_averaged_with_chance_beside():
    left = np.array([[1, 0], [1, 0]])
    cams = [np.array([[8.0, 0.0], [0.0, 2.0]]), np.array([[1.0, 0.0], [0.0, 3.0]])]
    found = summarise([score_map(cam, left, tolerance=0) for cam in cams])
    assert found.hits.value == 0.5 and found.hits.cases == 2 and 0 < found.hits.low < 0.5 < found.hits.high
    assert (found.chance_of_hit, found.energy, found.area) == pytest.approx((0.5, (0.8 + 0.25) / 2, 0.5))
    assert score_map(cams[1], left, tolerance=0.5) == (True, 1.0, 0.25, 0.5)


def test_slices_without_a_mask_do_not_count():
    with pytest.raises(ValueError, match="an empty mask"):
        pointing_game(np.ones((4, 4)), np.zeros((4, 4)))
    with pytest.raises(ValueError, match="an empty mask"):
        energy_share(np.ones((4, 4)), np.zeros((4, 4)))


def test_within_the_head_chance_is_larger():
    head = np.zeros((512, 512), bool)
    head[50:150, 150:250] = True
    score = score_map(peak_at(105, 210), mask(), within=head)
    assert score.area == 200 / 100**2 and score.chance_of_hit > area_share(mask(), 15 / 512)
    assert score.hit and score.energy == score_map(peak_at(105, 210), mask()).energy


def test_the_middle_is_that_of_the_head_wherever_it_lies():
    head = np.zeros((40, 60), bool)
    head[10:31, 5:26] = True
    middle = central_map(head)
    assert np.unravel_index(middle.argmax(), middle.shape) == (20, 15) and middle.max() == 1
    assert not middle[~head].any() and middle[20, 12] == middle[20, 18] == middle[17, 15]
    deviation = np.std(np.arange(21)) / 2
    assert middle[20, 18] == pytest.approx(np.exp(-((3 / deviation) ** 2) / 2))
