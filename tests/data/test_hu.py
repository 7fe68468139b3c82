"""Stored values become HU exactly, faults of the files included."""

import numpy as np
import pytest

from src.data.hu import from_window, gray, to_hu


def hu_of(stored: list[int], dtype: type, **header: object) -> list[int]:
    image = to_hu(np.array([stored], dtype=dtype), **header)
    assert image.range == (image.values.min(), image.values.max())
    return image.values[0].tolist()


def test_slope_and_intercept_are_applied():
    assert hu_of([0, 1024, 4095], np.uint16, slope=1, intercept=-1024, bits_stored=12, signed=False) == [
        -1024,
        0,
        3071,
    ]
    assert hu_of([-2000, 0, 40], np.int16, slope=1, intercept=-1024, bits_stored=16, signed=True) == [
        -3024,
        -1024,
        -984,
    ]


@pytest.mark.parametrize("intercept", [0, 1])
def test_the_12_bit_wrap_is_undone_and_the_wrong_intercept_discarded(intercept):
    stored = np.array([[0, 40, 3095, 3096, 4095]], dtype=np.uint16)
    image = to_hu(stored, slope=1, intercept=intercept, bits_stored=12, signed=False)
    assert image.values[0].tolist() == [0, 40, 3095, -1000, -1]
    assert image.wrap_fixed
    assert image.range == (-1000, 3095)


def test_the_wrap_fix_applies_the_slope():
    # x = 40 + 1000, x = 4095 + 1000 - 4096 = 999 and x = 0
    values = hu_of([40, 4095, 3096], np.uint16, slope=0.5, intercept=0, bits_stored=12, signed=False)
    assert values == [-480, -500, -1000]


def test_the_wrap_fix_leaves_other_files_alone():
    image = to_hu(np.array([[0, 4095]], np.uint16), slope=1, intercept=-1024, bits_stored=12, signed=False)
    assert image.values[0].tolist() == [-1024, 3071] and not image.wrap_fixed
    image = to_hu(np.array([[40, 4000]], np.int16), slope=1, intercept=0, bits_stored=16, signed=True)
    assert image.values[0].tolist() == [40, 4000] and not image.wrap_fixed


@pytest.mark.parametrize("intercept", [0, 1])
def test_metal_in_a_12_bit_image_is_no_wrap(intercept):
    """Values up to 4095 HU are possible; a twentieth of a head as dense as 3096 HU is not."""
    stored = np.full((20, 20), 40, dtype=np.uint16)
    stored[0, :19] = 3100  # 19 of 400, less than a twentieth
    header = {"slope": 1, "intercept": intercept, "bits_stored": 12, "signed": False}
    image = to_hu(stored, **header)
    assert image.range == (40 + intercept, 3100 + intercept) and not image.wrap_fixed
    stored[0, 19] = 3100
    assert to_hu(stored, **header).range == (-996, 40)
    metal = to_hu(np.full((4, 4), 4000, np.uint16), **header)
    assert metal.range == (4000 + intercept,) * 2 and not metal.wrap_fixed


def test_padding_written_as_a_negative_number_into_unsigned_values():
    header = {"slope": 1, "intercept": -1024, "bits_stored": 16, "signed": False}
    assert hu_of([63536, 1064, 40], np.uint16, **header) == [-3024, 40, -984]  # 63536 is -2000
    assert hu_of([63536, 1064], np.uint16, **(header | {"slope": 0.5})) == [-2024, -492]
    # of two values beyond int16, or one that is nearer to zero than air, nobody knows
    assert hu_of([63536, 40000], np.uint16, **header) == [32767, 32767]
    assert hu_of([65535, 1064], np.uint16, **header) == [32767, 40]


def test_values_of_32_bits_saturate_too():
    header = {"slope": 1, "bits_stored": 32, "intercept": -1024}
    assert hu_of([4294967295, 0, 1064], np.uint32, signed=False, **header) == [32767, -1024, 40]
    assert hu_of([-2147483648, 7], np.int32, signed=True, **header) == [-32768, -1017]


def test_a_12_bit_sign_is_extended():
    # 4095 in 12 signed bits is -1, 2048 is -2048
    assert hu_of([4095, 2048, 2047], np.int16, slope=1, intercept=0, bits_stored=12, signed=True) == [
        -1,
        -2048,
        2047,
    ]


def test_unused_high_bits_are_discarded():
    noisy = 0x3000 | 1064  # something above bit 11 that is no part of the value
    assert hu_of([noisy], np.uint16, slope=1, intercept=-1024, bits_stored=12, signed=False) == [40]


def test_values_beyond_int16_saturate_instead_of_wrapping():
    header = {"slope": 1, "bits_stored": 16}
    assert hu_of([-32768, 32767], np.int16, intercept=-1024, signed=True, **header) == [-32768, 31743]
    assert hu_of([0, 65535], np.uint16, intercept=-1024, signed=False, **header) == [-1024, 32767]
    assert hu_of([20000], np.int16, intercept=-40000, signed=True, **header) == [-20000]


@pytest.mark.parametrize("intercept", [-65536, -40000, -32769, -32768, -1024, 0, 1, 32767, 32768, 65536])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32])
def test_whole_numbers_are_added_exactly_whatever_their_type(dtype, intercept):
    ends = np.iinfo(dtype)
    stored = sorted({ends.min, *range(max(ends.min, -70000), min(ends.max, 70000), 331), ends.max})
    header = {"slope": 1, "bits_stored": ends.bits, "signed": ends.min < 0, "intercept": intercept}
    for part in (stored, stored[:3], stored[len(stored) // 2 :][:3], stored[-3:]):
        assert hu_of(part, dtype, **header) == [min(max(v + intercept, -32768), 32767) for v in part]


def test_fractions_are_computed_in_floats_and_rounded():
    assert hu_of([0, 3, 100], np.int16, slope=0.5, intercept=-10.25, bits_stored=16, signed=True) == [
        -10,
        -9,
        40,
    ]


def test_statistics_are_those_of_the_values():
    values = np.array([[-3000, 0], [40, 100]], dtype=np.int16)
    image = to_hu(values, slope=1, intercept=0, bits_stored=16, signed=True)
    assert image.range == (-3000, 100) and image.mean == pytest.approx(-715)


def test_gray_images_are_not_called_hu():
    image = gray(np.array([[0, 255]], dtype=np.uint8))
    assert image.values.tolist() == [[0, 255]] and not image.is_hu


def test_the_input_is_never_changed():
    stored = np.array([[0, 4095]], dtype=np.uint16)
    stored.setflags(write=False)
    to_hu(stored, slope=1, intercept=0, bits_stored=12, signed=False)
    assert stored.tolist() == [[0, 4095]]


def test_the_gray_levels_of_a_window_are_hu_between_its_ends():
    image = from_window(np.array([[0, 51, 255]], np.uint8), center=40, width=80)
    assert image.values.tolist() == [[0, 16, 80]] and image.is_hu
    wide = from_window(np.array([[0, 65535]], np.uint16), center=600, width=2800)
    assert wide.values.tolist() == [[-800, 2000]]


def test_a_window_of_a_level_for_each_hu_and_more_gives_them_back():
    """Levels cut down to whole numbers, as most copies of the contest are."""
    hu = np.arange(0, 81)
    levels = np.floor(hu / 80 * 255).astype(np.uint8)[None]
    assert from_window(levels, center=40, width=80).values.tolist() == [hu.tolist()]
