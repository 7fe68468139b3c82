"""A reader for the headers of plain CT files, several times as fast as a general one, and one for all others.

RSNA's files hold about 20 short elements before PixelData, in Explicit or Implicit VR Little Endian. For
exactly those a walk over the first 4 KB is enough; whatever is unusual (compressed, big-endian, deflated,
undefined lengths, an unexpected VR, a meta group that is absent or wrong) is left to pydicom's parser. Both
give the same `RawHeader` on every input, which a test compares on thousands of damaged ones. What follows
PixelData is not looked at. Layout: DICOM PS3.5, section 7 and annex A; PS3.10, section 7.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

# Element -> (column, keyword, VR) in the order of a file.
ELEMENTS = {
    (0x0008, 0x0008): ("image_type", "ImageType", "CS"),
    (0x0008, 0x0018): ("sop_instance_uid", "SOPInstanceUID", "UI"),
    (0x0008, 0x0060): ("modality", "Modality", "CS"),
    (0x0010, 0x0020): ("patient_id", "PatientID", "LO"),
    (0x0020, 0x000D): ("study_id", "StudyInstanceUID", "UI"),
    (0x0020, 0x000E): ("series_id", "SeriesInstanceUID", "UI"),
    (0x0020, 0x0032): ("position", "ImagePositionPatient", "DS"),
    (0x0020, 0x0037): ("orientation", "ImageOrientationPatient", "DS"),
    (0x0028, 0x0002): ("samples_per_pixel", "SamplesPerPixel", "US"),
    (0x0028, 0x0004): ("photometric", "PhotometricInterpretation", "CS"),
    (0x0028, 0x0008): ("frames", "NumberOfFrames", "IS"),
    (0x0028, 0x0010): ("rows", "Rows", "US"),
    (0x0028, 0x0011): ("columns", "Columns", "US"),
    (0x0028, 0x0030): ("pixel_spacing", "PixelSpacing", "DS"),
    (0x0028, 0x0100): ("bits_allocated", "BitsAllocated", "US"),
    (0x0028, 0x0101): ("bits_stored", "BitsStored", "US"),
    (0x0028, 0x0103): ("pixel_representation", "PixelRepresentation", "US"),
    (0x0028, 0x1050): ("window_center", "WindowCenter", "DS"),
    (0x0028, 0x1051): ("window_width", "WindowWidth", "DS"),
    (0x0028, 0x1052): ("rescale_intercept", "RescaleIntercept", "DS"),
    (0x0028, 0x1053): ("rescale_slope", "RescaleSlope", "DS"),
    (0x0028, 0x1054): ("rescale_type", "RescaleType", "LO"),
}
FIELDS = tuple(name for name, _, _ in ELEMENTS.values())
KEYWORDS = {name: keyword for name, keyword, _ in ELEMENTS.values()}
NUMBERS = frozenset(name for name, _, vr in ELEMENTS.values() if vr == "US")
# Terms of the standard that say why a file cannot be used; whatever else stands there may name a patient.
TERMS = {
    "modality": (
        "CR", "CT", "DX", "ES", "IO", "IVUS", "KO", "MG", "MR", "NM", "OCT", "OP", "OT", "PR", "PT", "PX",
        "REG", "RF", "RG", "RTDOSE", "RTIMAGE", "RTPLAN", "RTSTRUCT", "RWV", "SC", "SEG", "SM", "SR",
        "US", "XA",
    ),
    "photometric": (
        "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "HSV", "ARGB", "CMYK", "YBR_FULL",
        "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT",
    ),
    "rescale_type": ("OD", "HU", "US", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT"),
}  # fmt: skip

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
HEAD_BYTES = 4096  # RSNA's headers end by byte 738
LONG_HEAD_BYTES = 65536
GDCM = "1.2.826.0.1.3680043.2.1143"  # writes RescaleType US, unspecified, into CT files that state none
LARGEST_SIDE = 4096  # CT matrices are 256 to 2048; a larger one is a damaged header
INFLATED_BYTES = 1 << 28  # a deflated file may not become larger

_SLOTS = {
    group | element << 16: (slot, vr.encode())
    for slot, ((group, element), (_, _, vr)) in enumerate(ELEMENTS.items())
}
_RESCALE_TYPE = FIELDS.index("rescale_type")
_CHARACTER_SET = 0x0008 | 0x0005 << 16
_META_SYNTAX = 0x0002 | 0x0010 << 16
_PIXEL_DATA = 0x7FE0 | 0x0010 << 16
# What makes a file no image in HU of one slice: a table of values, and an Enhanced CT's shared and per-frame
# functional groups.
_MODALITY_LUT, _GROUPS = 0x00283000, (0x52009229, 0x52009230)
_TO_PYDICOM = frozenset(tag >> 16 | (tag & 0xFFFF) << 16 for tag in (_MODALITY_LUT, *_GROUPS))
_UNDEFINED = 0xFFFFFFFF
ITEM = b"\xfe\xff\x00\xe0"
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_explicit = struct.Struct("<I2sH").unpack_from
_implicit = struct.Struct("<II").unpack_from
_u32 = struct.Struct("<I").unpack_from
NO_DICOM = "not a DICOM file: no DICM at byte 128"
_CUT = "truncated: the file ends within its header"


class RawHeader(NamedTuple):
    """One file's elements as they are encoded (texts beyond ASCII in UTF-8), in the order of FIELDS; None
    where an element is absent.
    """

    values: list[bytes | None]
    transfer_syntax: str  # that of the bytes, whatever the meta group says of plain ones
    pixel_offset: int  # of PixelData's first byte, in the inflated file where it was deflated; -1: absent
    pixel_length: int  # as stated; of compressed pixels the bytes that are there


def term(column: str, text: str) -> str:
    """What stands in an element, where it is a term of the standard."""
    return text if text.upper() in TERMS[column] else "no term of the standard"


class EndOfData(Exception):
    """The data end before PixelData."""


def looks_like_dicom(head: bytes) -> bool:
    """Whether a file that starts so may be DICOM: by its mark, or by a first element of group 2 or 8 of a
    file without preamble, in either byte order.
    """
    return head[128:132] == b"DICM" or head[:2] in (b"\x02\0", b"\x08\0", b"\0\x02", b"\0\x08")


def walk(data: bytes) -> RawHeader | None:
    """Read the header at the start of a plain little-endian file.

    Gives None for a file that needs pydicom. Raises EndOfData when `data` ends before PixelData.
    """
    if data[128:132] != b"DICM":
        return None
    try:
        found = _file_meta(data)
        if found is None:
            return None
        syntax, at = found
        if syntax not in (EXPLICIT, IMPLICIT) or _encoding(data, at) != (syntax == EXPLICIT, True):
            return None
        return _walk_explicit(data, at) if syntax == EXPLICIT else _walk_implicit(data, at)
    except (struct.error, IndexError):
        raise EndOfData from None


def _file_meta(data: bytes) -> tuple[str, int] | None:
    """Transfer syntax and end of group 2; None where an element is odd. The group's length is not trusted:
    RSNA's implicit files do not have it.
    """
    syntax, at = b"", 132
    while True:
        tag, vr, length = _explicit(data, at)
        if tag & 0xFFFF != 2:
            return syntax.rstrip(b"\0").decode("ascii", "replace"), at
        at += 8
        if vr in _LONG_VRS:
            (length,) = _u32(data, at)
            at += 4
            if length == _UNDEFINED:
                return None
        elif vr not in _SHORT_VRS:
            return None
        if tag == _META_SYNTAX:
            syntax = data[at : at + length]
        at += length


def _encoding(data: bytes, at: int) -> tuple[bool, bool]:
    """Whether the data set that starts at `at` is explicit, and little-endian, told from its first element:
    an explicit one has two capitals after its tag, and the first groups have numbers below 256.
    """
    capitals = 0x41 <= data[at + 4] <= 0x5A and 0x41 <= data[at + 5] <= 0x5A
    return capitals, data[at] != 0 or data[at + 1] == 0


def _walk_explicit(data: bytes, at: int) -> RawHeader | None:
    values: list[bytes | None] = [None] * len(FIELDS)
    slot_of, unpack = _SLOTS.get, _explicit
    while True:
        tag, vr, length = unpack(data, at)
        slot = slot_of(tag)
        at += 8
        if slot is not None:
            if vr != slot[1]:
                return None
            values[slot[0]] = data[at : at + length]
        elif vr in _LONG_VRS:
            (length,) = _u32(data, at)
            at += 4
            if length == _UNDEFINED or _unusual(tag, data, at, length):
                return None
            if tag == _PIXEL_DATA:
                return RawHeader(values, EXPLICIT, at, length) if _is_hu(values) else None
        elif vr not in _SHORT_VRS or tag == _PIXEL_DATA or _unusual(tag, data, at, length):
            return None
        at += length


def _walk_implicit(data: bytes, at: int) -> RawHeader | None:
    values: list[bytes | None] = [None] * len(FIELDS)
    slot_of, unpack = _SLOTS.get, _implicit
    while True:
        tag, length = unpack(data, at)
        slot = slot_of(tag)
        at += 8
        if length == _UNDEFINED:
            return None
        if slot is not None:
            values[slot[0]] = data[at : at + length]
        elif tag == _PIXEL_DATA:
            return RawHeader(values, IMPLICIT, at, length) if _is_hu(values) else None
        elif _unusual(tag, data, at, length):
            return None
        at += length


def _unusual(tag: int, data: bytes, at: int, length: int) -> bool:
    """Whether an element that is not wanted needs pydicom all the same: it changes what the file is, is a
    delimiter outside any sequence, or a character set with a zero within, which pydicom refuses.
    """
    if tag == _CHARACTER_SET:
        return b"\0" in data[at : at + length].rstrip(b"\0 ")
    return tag in _TO_PYDICOM or tag & 0xFFFF == 0xFFFE


def _is_hu(values: list[bytes | None]) -> bool:
    """Whether no other RescaleType is stated."""
    return values[_RESCALE_TYPE] in (None, b"HU")


def read_with_pydicom(data: bytes) -> RawHeader:
    """The same by pydicom's parser, for any DICOM file. Raises ValueError.

    A file without preamble or transfer syntax is read, and one whose meta group states the wrong encoding.
    """
    meta, data, at = _opened(data)
    if len(data) < at + 8:
        raise ValueError(_CUT)
    explicit, little = _encoding(data, at)
    elements, end, failed = _parse(data, at, explicit, little, lambda tag: tag == 0x7FE00010)
    if data[128:132] != b"DICM" and not {0x00080016, 0x00080018, 0x00280010} & elements.keys():
        raise ValueError(NO_DICOM)
    _check_kind(elements)
    values = _values(elements)
    if values[_RESCALE_TYPE] == b"US" and _meta_text(meta, 0x00020012).startswith(GDCM):
        values[_RESCALE_TYPE] = b""
    stated = _meta_text(meta, 0x00020010)
    if data[end : end + 4] == (b"\xe0\x7f\x10\0" if little else b"\x7f\xe0\0\x10"):
        return RawHeader(values, *_pixels(data, end, explicit, little, stated))
    if end < len(data):
        raise ValueError("unreadable DICOM: a delimiter outside any sequence ends its header")
    if failed or not _whole(elements, len(data)):
        raise ValueError(_CUT)
    return RawHeader(values, stated, -1, 0)


def _check_kind(elements: dict[int, Any]) -> None:
    """Raises ValueError for what is no image in HU of one slice, whatever its other elements say."""
    if _MODALITY_LUT in elements:
        raise ValueError("not HU: the values are those of a ModalityLUTSequence")
    if elements.keys() & set(_GROUPS):
        raise ValueError("multi-frame: an Enhanced CT file, made for many images")


def _pixels(data: bytes, at: int, explicit: bool, little: bool, stated: str) -> tuple[str, int, int]:
    """Transfer syntax, offset and length of PixelData, whose element starts at `at`. Raises ValueError."""
    try:
        offset, length = _pixel_place(data, at, explicit, little)
    except struct.error:
        raise ValueError(_CUT) from None
    plain = stated in ("", IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED)
    if length == _UNDEFINED or (not plain and data[offset : offset + 4] == ITEM):
        return "" if plain else stated, offset, len(data) - offset
    found = (EXPLICIT if explicit else IMPLICIT) if little else BIG_ENDIAN
    return DEFLATED if stated == DEFLATED else found, offset, length


def inflated(data: bytes) -> bytes:
    """The file with its data set inflated where it was deflated. Raises ValueError."""
    return _opened(data)[1]


def _opened(data: bytes) -> tuple[dict[int, Any], bytes, int]:
    """The meta group's elements, the file inflated, and where its data set starts."""
    start = 132 if data[128:132] == b"DICM" else 0
    meta, at, _ = _parse(data, start, True, True, lambda tag: tag >> 16 != 2)
    # the second: it says that it is deflated, and is not
    if _meta_text(meta, 0x00020010) != DEFLATED or looks_like_dicom(data[at : at + 2]):
        return meta, data, at
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflater.decompress(data[at:], INFLATED_BYTES)
    except zlib.error as error:
        raise ValueError(f"unreadable DICOM: its deflated part does not inflate ({error})") from None
    if not inflater.eof:
        raise ValueError("truncated: its deflated part ends early")
    return meta, data[:at] + content, at


def _meta_text(meta: dict[int, Any], tag: int) -> str:
    value = getattr(meta.get(tag), "value", None)
    return value.rstrip(b"\0 ").decode("ascii", "replace") if isinstance(value, bytes) else ""


def _parse(
    data: bytes, at: int, explicit: bool, little: bool, until: Callable[[int], bool]
) -> tuple[dict[int, Any], int, bool]:
    """pydicom's raw elements by tag from `at` to the first for which `until` holds; where that one starts
    (else the end of the data), and whether pydicom failed before.
    """
    from pydicom.filereader import data_element_generator

    found: dict[int, Any] = {}
    file = io.BytesIO(data)
    file.seek(at)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for element in data_element_generator(
                file, not explicit, little, stop_when=lambda tag, vr, length: until(tag)
            ):
                found[int(element.tag)] = element
    except ValueError:
        raise ValueError("bad tag: SpecificCharacterSet is no term of the standard") from None
    except Exception:  # pydicom has no common base for what damaged data make it raise
        return found, len(data), True
    return found, file.tell(), False


def _whole(elements: dict[int, Any], size: int) -> bool:
    """Whether the last element ends where the file does."""
    raw = [element for element in elements.values() if hasattr(element, "value_tell")]
    if not raw:
        return False
    last = max(raw, key=lambda element: element.value_tell)
    return last.length == _UNDEFINED or last.value_tell + last.length == size


def _pixel_place(data: bytes, at: int, explicit: bool, little: bool) -> tuple[int, int]:
    """Offset and stated length of the value of the element PixelData at `at`."""
    order, vr = "<" if little else ">", data[at + 4 : at + 6]
    if explicit and vr in _LONG_VRS:
        return at + 12, struct.unpack_from(f"{order}I", data, at + 8)[0]
    if explicit and vr.isalpha() and vr.isupper():
        return at + 8, struct.unpack_from(f"{order}H", data, at + 6)[0]
    return at + 8, struct.unpack_from(f"{order}I", data, at + 4)[0]


def _values(elements: dict[int, Any]) -> list[bytes | None]:
    """The elements that are wanted, as `RawHeader` has them."""
    encodings = _text_encodings(elements.get(0x00080005))
    return [
        _encoded(elements.get(group << 16 | element), vr, encodings)
        for (group, element), (_, _, vr) in ELEMENTS.items()
    ]


def _text_encodings(element: Any) -> list[str]:
    """Python's names of the character sets in SpecificCharacterSet."""
    from pydicom.charset import convert_encodings

    value = getattr(element, "value", None) or b""
    names = [part.strip(" \0") for part in bytes(value).decode("latin-1").split("\\")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return convert_encodings(names)


def _encoded(element: Any, vr: str, encodings: list[str]) -> bytes | None:
    """An element's value as it stands in a plain file."""
    if element is None:
        return None
    value = element.value
    if getattr(element, "is_raw", False) and element.VR in (None, "UN", vr):
        value = value or b""
        if vr == "US" and not element.is_little_endian:
            return value[::-1]
        return _utf8(value, vr, encodings) if vr in ("LO", "CS", "UI") else value
    return _converted(element, vr)


def _utf8(value: bytes, vr: str, encodings: list[str]) -> bytes:
    from pydicom.charset import decode_bytes

    if value.isascii() and b"\x1b" not in value:
        return value
    if vr != "LO":
        return value.decode("latin-1").encode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            text = decode_bytes(value, encodings, {0x5C})
        except Exception:  # whatever a codec makes of damaged text
            text = value.decode("latin-1")
    return text.encode("utf-8", "replace")


def _converted(element: Any, vr: str) -> bytes:
    """The value of an element with an unexpected VR; what is no value of the expected one stays readable
    text, which the columns then refuse.
    """
    from pydicom.dataelem import convert_raw_data_element

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = convert_raw_data_element(element).value if element.is_raw else element.value
            parts = value if hasattr(value, "__iter__") and not isinstance(value, (str, bytes)) else [value]
            text = "\\".join(map(str, parts))
    except Exception:  # as in _parse
        return b"?"
    if vr == "US" and isinstance(value, int) and 0 <= value < 1 << 16:
        return struct.pack("<H", value)
    return text.encode("utf-8", "replace")
