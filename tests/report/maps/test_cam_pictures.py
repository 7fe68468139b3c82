"""Pictures of maps: gray through a window, colour by the height of the map, a line around a mask."""

import base64
import io
import re

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from src.report.maps.cam_pictures import (
    DIMMED,
    HEAT,
    OPACITY,
    OUTLINE,
    PIXELS,
    gray_picture,
    heat_gradient,
    picture_uri,
    with_map,
    with_outline,
)


@pytest.mark.parametrize("side", [64, 512])
def test_a_slice_is_gray_through_its_window(side):
    hu = np.full((side, side), -1000, np.int16)
    hu[:, side // 2 :] = 60
    picture = gray_picture(hu, (40, 80))
    assert picture.shape == (PIXELS, PIXELS, 3)
    assert (picture[:, 10] == 0).all() and picture[:, -10] == pytest.approx(0.75)


def test_a_large_slice_is_averaged():
    hu = np.zeros((4 * PIXELS,) * 2, np.int16)
    hu[:, ::4] = 80
    assert gray_picture(hu, (40, 80)) == pytest.approx(0.25)


def test_colour_covers_by_the_height_of_the_map():
    gray = np.full((PIXELS, PIXELS, 3), 0.5, np.float32)
    cam = np.zeros((PIXELS, PIXELS), np.float32)
    cam[:, 100:200], cam[:, 200:] = 0.5, 1
    picture = with_map(gray, cam)
    assert picture[0, 0] == pytest.approx(0.5 * DIMMED)
    for column, value in ((150, 0.5), (250, 1.0)):
        share = OPACITY * value
        colour = (1 - share) * 0.5 * DIMMED + share * np.array(HEAT(value)[:3])
        assert picture[0, column] == pytest.approx(colour, abs=0.01)


def test_the_legend_has_the_colours_of_a_map_over_gray():
    colours = [to_rgb(text) for text in re.findall(r"#\w{6}", heat_gradient(3))]
    cams = np.repeat([[0.0], [0.5], [1.0]], PIXELS, 1)[:, :, None] * np.ones(PIXELS)
    gray = np.full((PIXELS, PIXELS, 3), 0.5, np.float32)
    assert np.array(colours) == pytest.approx(np.array([with_map(gray, cam)[5, 5] for cam in cams]), abs=0.01)


def test_the_line_surrounds_the_mask():
    mask = np.zeros((64, 64), bool)
    mask[16:32, 16:32] = True
    picture = with_outline(np.full((PIXELS, PIXELS, 3), 0.5, np.float32), mask)
    drawn = np.argwhere((picture == np.float32(OUTLINE)).all(2))
    assert drawn.min(0).tolist() == [80, 80] and drawn.max(0).tolist() == [159, 159]  # 5 pixels each
    assert (picture[100:140, 100:140] == 0.5).all() and (picture[:80] == 0.5).all()


def test_a_picture_is_in_its_address():
    picture = np.zeros((PIXELS, PIXELS, 3), np.float32)
    picture[:, : PIXELS // 2] = (1, 0, 0)
    kind, text = picture_uri(picture).split(",")
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))
    assert kind == "data:image/webp;base64" and image.shape == (PIXELS, PIXELS, 3)
    assert image[10, 10].tolist() == pytest.approx([255, 0, 0], abs=8) and image[10, -10].max() < 8
