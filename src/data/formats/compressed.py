"""Compressed pixels: told whole from damaged, and decoded by the same library on every machine.

Decoders guess what is missing and say so on standard error at best. So the structure of a codestream is
checked before (fragments, end marker, stated size), what libjpeg says while it decodes is read, and which
library decodes is fixed to one of requirements.txt, whatever else is installed.
Layout: DICOM PS3.5, A.4; JPEG: ITU-T T.81, annex B; JPEG 2000: ITU-T T.800, annex A.
"""

import contextlib
import os
import re
import struct
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .header import ITEM

RLE, JPEG, JPEG_LS, JPEG_2000, HTJ2K = (
    f"1.2.840.10008.1.2.{kind}" for kind in ("5", "4.57", "4.80", "4.91", "4.203")
)
LIBRARY = {RLE: "pydicom", JPEG: "gdcm", JPEG_LS: "gdcm", JPEG_2000: "pylibjpeg", HTJ2K: "pylibjpeg"}
# Entropy-coded bytes are as good as random, and a JPEG 2000 packet without content is one zero byte.
ZERO_RUN = bytes(64)
_DELIMITER = b"\xfe\xff\xdd\xe0"
_CUT = "truncated: the file ends within its compressed pixels"
_NO_END = "truncated: its compressed pixels have no end marker"
_DAMAGED = "damaged pixels: "
# what libjpeg says where it goes on with pixels of its own
INVENTED = re.compile(r"Corrupt JPEG data: [^\n]*|Premature end of JPEG[^\n]*")
_RLE_SURPLUS = re.compile(r"(\d+) vs\. (\d+) bytes expected")  # what pydicom remarks and leaves at that
_lock = threading.Lock()


class Layout(NamedTuple):
    """How the pixels of an image are laid out."""

    rows: int
    columns: int
    allocated: int  # bits of a pixel
    stored: int  # of them with a meaning
    signed: bool

    @property
    def bytes(self) -> int:
        return self.rows * self.columns * (self.allocated // 8)


def decode(data: bytes, at: int, syntax: str, layout: Layout) -> np.ndarray:
    """(rows, columns) stored values of the fragments that start at `at`. Raises ValueError saying what is
    wrong.
    """
    stream, kind = _codestream(_fragments(data, at), syntax)
    if kind in (JPEG, JPEG_LS):
        _check_frame(layout, _jpeg_frame(stream))
    elif kind in (JPEG_2000, HTJ2K):
        _check_frame(layout, _jpeg_2000_frame(stream))
    with messages() as said:
        values = _decoded(stream, kind, layout)
    if found := INVENTED.search(said()):
        raise ValueError(f"{_DAMAGED}{found[0]}")
    if kind == JPEG_2000 and ZERO_RUN in stream[stream.find(b"\xff\x90") :] and values.min() != values.max():
        raise ValueError(f"{_DAMAGED}a run of zeros in its compressed pixels")
    return values


@contextlib.contextmanager
def messages() -> Iterator:
    """Inside the block nothing reaches standard error; gives a function that tells afterwards what was said.

    C libraries write to the descriptor, so that is what is turned away.
    """
    text = ""
    with _lock, contextlib.ExitStack() as stack:
        file = stack.enter_context(tempfile.TemporaryFile())
        sys.stderr.flush()
        try:
            kept = os.dup(2)
        except OSError:  # a process without standard error
            kept = None
        if kept is not None:
            os.dup2(file.fileno(), 2)
        try:
            yield lambda: text
        finally:
            sys.stderr.flush()
            if kept is not None:
                os.dup2(kept, 2)
                os.close(kept)
            file.seek(0)
            text = file.read().decode("utf-8", "replace")


def jpeg_shape(stream: bytes) -> tuple[int, int]:
    """(rows, columns) of a whole JPEG. Raises ValueError for one without its end marker."""
    frame = _jpeg_frame(stream)
    return frame.rows, frame.columns


def _fragments(data: bytes, at: int) -> list[bytes]:
    """The items from `at` to the delimiter without the first one, the table of offsets."""
    found = []
    while at + 8 <= len(data):
        tag, (length,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
        at += 8
        if tag == _DELIMITER:
            return found[1:]
        if tag != ITEM:
            raise ValueError(f"{_DAMAGED}no fragment where one should start")
        found.append(data[at : at + length])
        at += length
    raise ValueError(_CUT)


def _codestream(fragments: list[bytes], syntax: str) -> tuple[bytes, str]:
    """One image's codestream and its kind, told from its first bytes where it has a mark."""
    fragments = [fragment for fragment in fragments if fragment]
    kinds = [_marked_kind(fragment) for fragment in fragments]
    images = len(fragments) if syntax == RLE else sum(kind is not None for kind in kinds)
    if images > 1:
        raise ValueError(f"multi-frame: {images} images in the file")
    if not fragments:
        raise ValueError("missing tag: PixelData is empty")
    kind = kinds[0] or (RLE if syntax == RLE else None)
    if kind is None:
        raise ValueError(f"undecodable pixels: {_name(syntax)} is stated, and they do not begin so")
    return b"".join(fragments), kind


def _marked_kind(stream: bytes) -> str | None:
    if stream[:3] == b"\xff\xd8\xff":
        return JPEG_LS if _frame_marker(stream) == 0xF7 else JPEG
    if stream[:4] == b"\xff\x4f\xff\x51" or stream[4:8] == b"jP  ":
        high_throughput = b"\xff\x50" in stream[: stream.find(b"\xff\x90")]
        return HTJ2K if high_throughput else JPEG_2000
    return None


def _name(syntax: str) -> str:
    from pydicom.uid import UID

    return UID(syntax).name if syntax else "no compression"


def _segments(stream: bytes, at: int, last: int) -> Iterator[tuple[int, int]]:
    """(marker, offset of its length) of every marker segment from `at` to the one with the marker `last`."""
    while at + 4 <= len(stream):
        if stream[at] != 0xFF:
            raise ValueError(f"{_DAMAGED}no marker where one should stand")
        if stream[at + 1] == 0xFF:  # a fill byte
            at += 1
            continue
        if stream[at + 1] < 0x4F or 0xD0 <= stream[at + 1] <= 0xD9:  # these have no length
            raise ValueError(f"{_DAMAGED}a marker within its header that belongs elsewhere")
        yield stream[at + 1], at + 2
        if stream[at + 1] == last:
            return
        at += 2 + struct.unpack_from(">H", stream, at + 2)[0]
    raise ValueError(_NO_END)


_FRAMES = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}


def _frame_marker(stream: bytes) -> int | None:
    with contextlib.suppress(ValueError):
        return next((marker for marker, _ in _segments(stream, 2, 0xDA) if marker in _FRAMES), None)
    return None


class _Frame(NamedTuple):
    """What a codestream says of its image."""

    rows: int  # 0: not stated
    columns: int
    components: int
    bits: int


def _jpeg_frame(stream: bytes) -> _Frame:
    """The frame of a whole JPEG or JPEG-LS codestream. Raises ValueError."""
    frame, scan = None, 0
    for marker, scan in _segments(stream, 2, 0xDA):
        if marker in _FRAMES and scan + 8 <= len(stream):
            bits, rows, columns, components = struct.unpack_from(">BHHB", stream, scan + 2)
            frame = _Frame(rows, columns, components, bits)
    # after the start of the scan no other bytes read like the end marker
    if stream.rfind(b"\xff\xd9") < scan:
        raise ValueError(_NO_END)
    if frame is None:
        raise ValueError(f"{_DAMAGED}no frame header")
    return frame


def _jpeg_2000_frame(stream: bytes) -> _Frame:
    """The frame of a whole JPEG 2000 codestream, within a JP2 file or not. Raises ValueError."""
    start = stream.find(b"\xff\x4f\xff\x51")
    if start < 0 or start + 43 > len(stream):
        raise ValueError(_NO_END)
    *_, (_, after) = _segments(stream, start + 2, 0x90)
    at = after - 2
    while stream[at : at + 2] == b"\xff\x90" and at + 12 <= len(stream):
        (length,) = struct.unpack_from(">I", stream, at + 6)
        if length == 0:  # to the end of the codestream
            at = stream.rfind(b"\xff\xd9")
            break
        at += max(length, 12)
    if at < 0 or stream[at : at + 2] != b"\xff\xd9":
        raise ValueError(_NO_END)
    columns, rows, left, top = struct.unpack_from(">4I", stream, start + 8)
    components, depth = struct.unpack_from(">HB", stream, start + 40)
    return _Frame(rows - top, columns - left, components, (depth & 0x7F) + 1)


def _check_frame(layout: Layout, frame: _Frame) -> None:
    """Raises ValueError where the codestream is not of the image that the header describes. Decoders trust
    it, and end the process where it says what cannot be.
    """
    if frame.components != 1:
        raise ValueError(f"colour image: its compressed pixels have {frame.components} components")
    if (frame.rows or layout.rows, frame.columns) != layout[:2]:
        stated = f"{layout.rows} x {layout.columns}"
        found = f"{frame.rows} x {frame.columns}"
        raise ValueError(f"size mismatch: Rows x Columns is {stated}, its compressed pixels are {found}")
    if not 2 <= frame.bits <= layout.allocated:
        raise ValueError(f"{_DAMAGED}{frame.bits} bits, of {layout.allocated} allocated")


def _decoded(stream: bytes, kind: str, layout: Layout) -> np.ndarray:
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    try:
        with warnings.catch_warnings(record=True) as remarks:
            warnings.simplefilter("always")
            values, _ = get_decoder(UID(kind)).as_array(
                encapsulate([stream]),
                decoding_plugin=LIBRARY[kind],
                rows=layout.rows,
                columns=layout.columns,
                samples_per_pixel=1,
                photometric_interpretation="MONOCHROME2",
                bits_allocated=layout.allocated,
                bits_stored=layout.stored,
                pixel_representation=int(layout.signed),
                number_of_frames=1,
                pixel_keyword="PixelData",
                allow_excess_frames=False,
            )
    except Exception as error:  # decoders raise whatever their libraries do
        raise ValueError(f"{_DAMAGED}{LIBRARY[kind]} does not decode them") from error
    for decoded, expected in _RLE_SURPLUS.findall(" ".join(str(remark.message) for remark in remarks)):
        if int(decoded) > int(expected) + 2:  # two bytes may pad
            raise ValueError(f"{_DAMAGED}they decode to {decoded} bytes of {expected}")
    return values
