"""Equal pixels, equal hashes; any difference shows."""

import numpy as np
import pytest

from src.data.dicom import read_hu
from src.data.preparation.pixel_hash import pixel_hash


def test_copies_agree_and_any_changed_pixel_shows():
    values = np.random.default_rng(0).integers(-1024, 3000, (64, 64)).astype(np.int16)
    assert pixel_hash(values) == pixel_hash(values.copy()) == pixel_hash(np.asfortranarray(values))
    seen = {pixel_hash(values)}
    for row, column, change in [(0, 0, 1), (63, 63, 1), (31, 5, 256), (15, 0, -1), (16, 0, -1)]:
        other = values.copy()
        other[row, column] += change
        seen.add(pixel_hash(other))
    assert len(seen) == 6


def test_the_shape_counts():
    values = np.arange(1, 25, dtype=np.int16)
    shapes = [(4, 6), (6, 4), (3, 8), (2, 12)]
    assert len({pixel_hash(values.reshape(shape)) for shape in shapes}) == 4
    longer = np.concatenate([values, np.zeros(6, np.int16)])  # zeros change no product
    assert pixel_hash(longer.reshape(5, 6)) != pixel_hash(values.reshape(4, 6))


@pytest.mark.parametrize("shape", [(4, 4), (3, 5)])
def test_it_is_the_sum_of_words_times_their_factors(shape):
    values = np.random.default_rng(1).integers(-32768, 32768, shape).astype(np.int16)
    data = values.tobytes() + bytes(-values.nbytes % 8)
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]
    words.append(shape[0] << 32 | shape[1])
    factors = [int(number) | 1 for number in np.random.PCG64(0).random_raw(len(words))]
    total = sum(word * factor for word, factor in zip(words, factors, strict=True))
    assert pixel_hash(values) == f"{total % 2**64:016x}"
    # the generator's numbers must never change, or the copies of an older preparation are not found
    assert factors[0] == 0xA30FEBCFD9C2825F


def test_no_two_real_slices_agree(real_train):
    hashes = [pixel_hash(read_hu(path)) for path in real_train]
    assert len(set(hashes)) == len(hashes) == 375
