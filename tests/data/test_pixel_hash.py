"""Equal pixels, equal hashes; any difference shows."""

import numpy as np

from src.data.pixel_hash import pixel_hash


def test_copies_agree_and_any_changed_pixel_shows():
    values = np.random.default_rng(0).integers(-1024, 3000, (64, 64)).astype(np.int16)
    assert pixel_hash(values) == pixel_hash(values.copy()) == pixel_hash(np.asfortranarray(values))
    seen = {pixel_hash(values)}
    for row, column, change in [(0, 0, 1), (63, 63, 1), (31, 5, 256), (15, 0, -1), (16, 0, -1)]:
        other = values.copy()
        other[row, column] += change
        seen.add(pixel_hash(other))
    assert len(seen) == 6


def test_a_change_shows_in_its_quarter_only():
    values = np.zeros((8, 8), dtype=np.int16)
    other = values.copy()
    other[3, 0] = 1  # rows 2 and 3 are the second quarter
    same = [a == b for a, b in zip(_quarters(values), _quarters(other), strict=True)]
    assert same == [True, False, True, True]


def _quarters(values: np.ndarray) -> list[str]:
    text = pixel_hash(values)
    assert len(text) == 32
    return [text[start : start + 8] for start in range(0, 32, 8)]
