"""The picture page of the synthetic data."""

import sys

import cv2
import numpy as np
import pytest

from src.audit import gallery
from src.audit.gallery import COLUMNS, LINE, ROOT, SIDE, beside, main, page, strip
from src.data.phantom import generate
from src.errors import UserError


def test_a_page_shows_studies_every_bleed_and_mimics_with_real_ones_at_the_right(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "STUDIES", 2)
    monkeypatch.setattr(gallery, "SEARCHED", 20)
    monkeypatch.setattr(gallery, "EPIDURAL", 0.3)
    monkeypatch.setattr(gallery, "SHOWN_ML", 0.2)
    titles = []
    monkeypatch.setattr(gallery, "strip", lambda title, *rest: titles.append(title) or strip(title, *rest))
    generate(tmp_path / "raw", studies=4, seed=1, size=64, slices=10)  # stands for the real ones here
    arguments = ["--size", "64", "--real", str(tmp_path / "raw"), "--out", str(tmp_path / "page.png")]
    monkeypatch.setattr(sys, "argv", ["gallery", *arguments])
    main()
    shown = [title.split(",")[0] for title in titles if title.startswith("synthetic")]
    assert shown[2:7] == [f"synthetic {label}" for label in gallery.SUBTYPES]
    assert len(set(shown[7:])) == len(shown[7:]) >= 3 and all("mimic" in title for title in shown[7:])
    assert [title for title in titles if title.startswith("real study")] == ["real study 1", "real study 2"]

    picture = cv2.imread(str(tmp_path / "page.png"), cv2.IMREAD_GRAYSCALE)
    rows = 2 + -(-len(shown[2:]) // 3)  # studies fill a row, findings share it by three
    assert picture.shape == (rows * (LINE + SIDE), 2 * COLUMNS * SIDE)


def test_a_strip_shows_its_window():
    picture = strip("", [np.full((64, 64), hu, np.int16) for hu in (0, 40, 80, 3000)], (40.0, 80.0))
    found = [int(picture[LINE + 9, place * SIDE + 9]) for place in range(4)]
    assert found == [0, 127, 255, 255] and picture.shape[1] == 4 * SIDE


def test_strips_share_a_row_as_long_as_there_is_room():
    images = [np.full((64, 64), hu, np.int16) for hu in (40, 80)]
    one, two, wide = (strip("", (images * 3)[:count], (40.0, 80.0)) for count in (1, 2, 5))
    rows = np.split(page([one, two, wide, one]), 2)
    assert [int(rows[0][LINE + 9, place * SIDE + 9]) for place in range(COLUMNS)] == [
        127,
        0,
        0,
        127,
        255,
        0,
        0,
        0,
        0,
    ]
    assert [int(rows[1][LINE + 9, place * SIDE + 9]) for place in (0, 4, 5, 6)] == [127, 127, 127, 0]


def test_the_shorter_page_is_padded():
    assert beside(np.ones((4, 2)), np.ones((6, 3))).shape == (6, 5)


def test_real_images_stay_out_of_the_repository(tmp_path, monkeypatch):
    arguments = ["--real", str(tmp_path), "--out", str(ROOT / "docs" / "page.png")]
    monkeypatch.setattr(sys, "argv", ["gallery", *arguments])
    with pytest.raises(UserError, match="lies in the repository"):
        main()
    assert not (ROOT / "docs" / "page.png").exists()
