"""The head is found, the holder goes, HU inside stay."""

import numpy as np
import pytest

from src.data.crop import head_mask, head_square, remove_holder
from src.data.square import AIR


def head(center=(256, 256), radius=150, holder=True) -> np.ndarray:
    """(512, 512) int16: a disc of brain in skull, and a bar of a holder below it."""
    row, column = np.mgrid[:512, :512]
    distance = np.hypot(row - center[0], column - center[1])
    values = np.where(distance < radius, 40, AIR).astype(np.int16)
    values[(distance < radius) & (distance > radius - 12)] = 1200
    if holder:
        values[480:488, 60:450] = 300
    return values


def test_the_holder_becomes_air_and_the_head_stays():
    values = head()
    cleaned = remove_holder(values)
    assert (cleaned[480:488] == AIR).all()
    inside = values > AIR
    inside[470:] = False
    assert (cleaned[inside] == values[inside]).all()


def test_what_the_head_encloses_stays():
    values = head(holder=False)
    row, column = np.mgrid[:512, :512]
    values[np.hypot(row - 256, column - 256) < 50] = AIR + 24
    values[250:262, 255:257] = 500  # a thin bone in a cavity of air
    assert (remove_holder(values) == values).all()


@pytest.mark.parametrize("shape", [(255, 255), (399, 400), (130, 512)])
def test_the_holder_goes_to_the_pixel_where_the_size_is_no_multiple_of_the_grid(shape):
    mask, step = head_mask(head()[: shape[0], : shape[1]])
    picture = head()[: shape[0], : shape[1]] + 2000  # air of its own, so that what was taken away can be told
    kept = remove_holder(picture) != AIR
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    assert step > 1 and (kept == mask[rows // step, columns // step]).all()


def test_an_empty_slice_is_kept():
    air = np.full((512, 512), -1000, dtype=np.int16)
    assert (remove_holder(air) == air).all()


def test_the_square_holds_the_head_of_every_slice_with_a_margin():
    images = [head(radius=150), head(center=(256, 300), radius=120)]
    top, left, side = head_square(images, [(0, 0), (0, 0)])
    assert top < 256 - 150 and left < 256 - 150
    assert top + side > 256 + 150 and left + side > 300 + 120
    assert side < 400


def test_slices_that_were_moved_are_judged_where_they_belong():
    moved = head_square([head(), head(center=(276, 256))], [(0, 0), (20, 0)])
    assert moved == head_square([head()], [(0, 0)])


def test_slices_beyond_the_head_have_no_say():
    air = np.full((512, 512), -1000, dtype=np.int16)
    speck = air.copy()
    speck[470:490, 20:60] = 300
    assert head_square([head(), air, speck], [(0, 0)] * 3) == head_square([head()], [(0, 0)])
    assert head_square([air], [(0, 0)]) == (0, 0, 512)


def test_a_head_that_fills_the_image_is_not_cut():
    assert head_square([head(radius=255, holder=False)], [(0, 0)]) == (0, 0, 512)


def test_of_several_pieces_the_largest_is_the_head_wherever_it_lies():
    hu = np.full((128, 128), -1000, dtype=np.int16)
    hu[5:15, 5:15] = hu[100:110, 100:120] = 100  # one piece before the head, one after it
    hu[40:90, 40:90] = 30
    kept = remove_holder(hu)
    assert (kept[40:90, 40:90] == 30).all() and (kept[:20] == AIR).all() and (kept[95:] == AIR).all()


@pytest.mark.parametrize("black", [0, -20], ids=["gray levels", "HU of a window 40 / 120"])
def test_pictures_are_cut_to_the_head_though_they_know_no_air(black):
    row, column = np.mgrid[:256, :256]
    distance = np.hypot(row - 100, column - 140)
    picture = np.where(distance < 70, black + 60, black + 3).astype(np.int16)
    picture[(distance < 80) & (distance >= 70)] = black + 120
    picture[0] = black
    square = head_square([picture], [(0, 0)])
    assert 100 - 80 - 14 < square.top < 20 and 140 - 80 - 14 < square.left < 60 and 160 < square.side < 190
