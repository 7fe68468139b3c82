"""Pictures: what they hold, and that damaged ones are told from whole ones."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from src.data.formats.images import PNG, decode_source, gray_levels, gray_pixels, picture_shape
from src.data.hu import Slice

GRAY = np.random.default_rng(0).integers(0, 256, (64, 80), dtype=np.uint8)


def encoded(suffix: str, image: np.ndarray = GRAY) -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def test_a_png_is_exact_and_three_equal_channels_count_as_one():
    np.testing.assert_array_equal(gray_pixels(encoded(".png")), GRAY)
    np.testing.assert_array_equal(gray_pixels(encoded(".png", np.dstack([GRAY] * 3))), GRAY)


def test_sixteen_bits_are_kept_as_levels_and_rounded_to_eight_as_gray():
    wide = np.minimum(GRAY.astype(int) * 257 + 100, 65535).astype(np.uint16)
    np.testing.assert_array_equal(gray_levels(encoded(".png", wide)), wide)
    np.testing.assert_array_equal(gray_pixels(encoded(".png", wide)), GRAY)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_the_header_of_a_picture_tells_its_shape(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(suffix))
    assert picture_shape(str(path)) == (64, 80)
    for content, message in ((b"", "empty file"), (PNG, "truncated"), (b"GIF89a", "neither JPEG nor PNG")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            picture_shape(str(path))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_picture_that_is_cut_or_ends_in_zeros_is_damaged(suffix):
    data = encoded(suffix)
    for kept in (len(data) // 2, len(data) - 1, len(data) - 2):
        for damaged in (data[:kept], data[:kept] + bytes(len(data) - kept)):
            with pytest.raises(ValueError, match=r"^(truncated|damaged pixels): "):
                gray_pixels(damaged)


def test_a_gap_in_a_picture_is_damage(capfd):
    jpeg, png = encoded(".jpg"), encoded(".png")
    middle = len(jpeg) // 2
    for damaged in (
        jpeg[:middle] + jpeg[-2:],
        jpeg[:middle] + jpeg[middle + 37 :],
        png[: len(png) // 2] + bytes(4) + png[len(png) // 2 + 4 :],
    ):
        with pytest.raises(ValueError, match=r"^damaged pixels: "):
            gray_pixels(damaged)
    assert capfd.readouterr().err == ""  # nothing of what libjpeg says


def test_a_chunk_of_absurd_length_and_a_picture_without_pixels():
    data = PNG + struct.pack(">I4s", 0xFFFFFF00, b"IDAT") + bytes(40)
    with pytest.raises(ValueError, match="truncated: the file ends within its picture"):
        gray_pixels(data)
    empty = PNG + struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))
    with pytest.raises(ValueError, match="damaged pixels: OpenCV does not decode them"):
        gray_pixels(empty)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty file"),
        (b"no picture" * 9, "unreadable image: neither JPEG nor PNG"),
        (encoded(".png", GRAY.astype(np.uint16)), "unknown units: 16-bit levels up to 255"),
        (encoded(".png", np.dstack([GRAY, GRAY, GRAY // 2])), "colour image: its channels differ"),
    ],
)
def test_what_is_no_gray_picture_is_named(data, message):
    with pytest.raises(ValueError, match=message):
        gray_pixels(data)


def test_one_image_that_cannot_be_decoded_is_a_cause_and_no_exception(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(".png"))
    assert isinstance(decode_source(str(path)), Slice)

    def overflow(*_: object) -> None:
        raise OverflowError("out of bounds")

    monkeypatch.setattr("src.data.formats.images.gray", overflow)
    assert decode_source(str(path)) == "unreadable image: OverflowError"
