"""Packed slices hold what they say they hold, and stay small."""

import base64
import zlib

import numpy as np
import pytest

from src.report.study.hu_packing import SLICE_BYTES, STEPS, PackedSlices, pack_slices, said_of
from tests.report.study.study_example import volume


def unpacked(packed: PackedSlices, height: int, width: int) -> np.ndarray:
    """As a browser does it, pixel by pixel."""
    out = np.zeros((len(packed.texts), height, width), np.int64)
    for slice_, text in zip(out, packed.texts, strict=True):
        planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).astype(int)
        signed = (planes[: height * width] + 256 * planes[height * width :]).tolist()
        number = np.zeros((height + 1, width + 1), int)
        for at, value in enumerate(signed):
            row, column = divmod(at, width)
            left, above, corner = number[row + 1, column], number[row, column + 1], number[row, column]
            guess = sorted((left, above, left + above - corner))[1]  # the median
            number[row + 1, column + 1] = guess + (-(value + 1) // 2 if value % 2 else value // 2)
        slice_[:] = packed.levels[number[1:, 1:]]
    return out


def test_usual_slices_are_exact_to_the_last_hu():
    hu = volume()
    packed = pack_slices(hu)
    assert packed.steps == (1, 1) and said_of(packed) == "every HU from -1024 to 3071 is exact"
    np.testing.assert_array_equal(unpacked(packed, *hu.shape[1:]), hu)


def test_values_that_no_scanner_measures_are_clipped():
    hu = np.array([[[-32768, -3024, -1025, -1024], [3071, 3072, 32767, 0]]], np.int16)
    expected = [[[-1024, -1024, -1024, -1024], [3071, 3071, 3071, 0]]]
    np.testing.assert_array_equal(unpacked(pack_slices(hu), 2, 4), expected)


@pytest.mark.parametrize(("steps", "most"), [(STEPS[1], 93_000), (STEPS[2], 85_000)])
def test_noise_that_takes_too_much_room_is_rounded_where_no_soft_window_looks(monkeypatch, steps, most):
    monkeypatch.setattr("src.report.study.hu_packing.SLICE_BYTES", most // 60)
    hu = np.random.default_rng(0).integers(-1024, 3072, (2, 160, 160)).astype(np.int16)
    hu[:, 40:] //= 10  # most of it soft tissue
    packed = pack_slices(hu)
    fine, coarse = packed.steps
    assert packed.steps == steps and sum(map(len, packed.texts)) <= most
    error = np.abs(unpacked(packed, 160, 160) - hu)
    soft = (hu >= -160) & (hu <= 240)
    assert error[soft].max() == fine // 2 and error[~soft].max() == coarse // 2
    assert str(coarse) in said_of(packed) and ("exact" in said_of(packed)) == (fine == 1)


def test_slices_of_512_pixels_stay_small_even_with_the_noise_of_a_sharp_kernel(monkeypatch):
    monkeypatch.setattr("src.report.study.hu_packing.FEWEST", 2)
    packed = pack_slices(volume(count=2, height=512, width=512, noise=30))
    assert packed.steps != (1, 1) and sum(map(len, packed.texts)) <= 2 * SLICE_BYTES
    assert 60 * SLICE_BYTES < 11.5e6  # a page of 60 such slices weighs less than 12 MB


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 7), (2, 5, 1)])
def test_the_smallest_pictures(shape):
    hu = np.arange(np.prod(shape), dtype=np.int16).reshape(shape) * 100 - 300
    np.testing.assert_array_equal(unpacked(pack_slices(hu), *shape[1:]), hu)
