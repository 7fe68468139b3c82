"""Text that names a patient, planted wherever a file has room for it, and looked for in what is written."""

import gzip
import re
import warnings
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from zipfile import ZipFile, is_zipfile

import pyarrow.parquet as pq
import pydicom
from pydicom.datadict import DicomDictionary, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag

from src.data.formats.header import ELEMENTS
from src.data.pack import Pack

MARK = "PLANTED"  # begins every planted word, which goes on with the tag it stands in
TEXT_VRS = (
    "AE",
    "AS",
    "CS",
    "DA",
    "DS",
    "DT",
    "IS",
    "LO",
    "LT",
    "PN",
    "SH",
    "ST",
    "TM",
    "UC",
    "UI",
    "UR",
    "UT",
    "UN",
)
IDS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")  # pseudonyms, which are needed
READ = {Tag(*tag) for tag in ELEMENTS}
PARTS = 12
NAMING = [
    tag_for_keyword(keyword)
    for keyword in (
        "PatientName", "PatientBirthDate", "OtherPatientIDs", "StudyDate", "AccessionNumber", "StudyID",
        "StudyDescription", "SeriesDescription", "ProtocolName", "InstitutionName", "ReferringPhysicianName",
        "ImageComments", "ContrastBolusAgent", "BodyPartExamined", "ConvolutionKernel", "InstanceNumber",
        "SliceThickness",
    )
]  # fmt: skip
LAST = 0x00290000  # what stands behind the elements that are read would make every file long


def word(tag: int) -> bytes:
    return f"{MARK}{tag:08X}".encode()


def planted(data: Dataset, number: int) -> Dataset:
    """The same image with a word in text elements that decide nothing: in all of NAMING, private ones, those
    of sequences, and a part of all others of the standard, which part tells the number."""
    for tag in (*NAMING, *islice(_text_tags(), number % PARTS, None, PARTS)):
        data[tag] = _raw(Tag(tag))
    for group in (0x0009, 0x0019, 0x0029):
        data[Tag(group, 0x0010)] = _raw(Tag(group, 0x0010))
        data[Tag(group, 0x1001)] = _raw(Tag(group, 0x1001))
    item, inner = Dataset(), Dataset()
    for tag in (0x00100010, 0x00100020, 0x0020000D, 0x00080018, 0x0008103E):
        inner[Tag(tag)] = item[Tag(tag)] = _raw(Tag(tag))
    inner[Tag(0x00091001)] = _raw(Tag(0x00091001))
    item.add_new(0x00081140, "SQ", Sequence([inner]))
    data.add_new(0x00081115, "SQ", Sequence([item]))
    data.preamble = (word(0) * 13)[:128].ljust(128, b"\0")
    return data


def _text_tags() -> Iterator[BaseTag]:
    for number, (vr, *_) in DicomDictionary.items():
        tag = Tag(number)
        if vr[:2] in TEXT_VRS and 0x00080000 <= tag < LAST and tag not in READ and tag != 0x00080005:
            yield tag


def _raw(tag: BaseTag) -> RawDataElement:
    entry = DicomDictionary.get(int(tag))
    value = word(tag)
    return RawDataElement(tag, entry[0][:2] if entry else "LO", len(value), value, 0, False, True)


def plant_files(paths: Iterable[Path]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, path in enumerate(paths):
            data = planted(pydicom.dcmread(path), number)
            data.save_as(path, enforce_file_format=True)
            path.write_bytes(path.read_bytes() + b"\xfc\xff\xfc\xffOB\0\0\x0a\0\0\0" + word(0xFFFCFFFC))


def leaks(folder: Path) -> set[tuple[str, str]]:
    """(name of a file, planted word) wherever one stands below a folder, names of files included."""
    found = {(str(path.relative_to(folder)), text) for path in folder.rglob("*") for text in _words(path)}
    return found


def _words(path: Path) -> set[str]:
    return {text for data in _contents(path) for text in words(data)}


def words(data: bytes | str) -> set[str]:
    text = data if isinstance(data, str) else data.decode("latin-1")
    return set(re.findall(rf"{MARK}\w+", text, re.IGNORECASE))


def _contents(path: Path) -> Iterator[bytes | str]:
    """What a file says, packed or not."""
    yield path.name
    if not path.is_file():
        return
    yield (data := path.read_bytes())
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        yield str(table.schema.metadata) + table.to_pandas().to_csv()
    if path.suffix == ".pack":
        yield Pack(path).index.to_pandas().to_csv()
    if data[:2] == b"\x1f\x8b":
        yield gzip.decompress(data)
    if is_zipfile(path):
        with ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())
