"""What headers say beyond what the preparation needs: of what a series is, and the number of an image."""

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import pandas as pd

from ..formats.header import LONG_HEAD_BYTES
from ..source import read_head


@dataclass(frozen=True)
class Tags:
    """Of one file, as text; "" where an element is absent. The names are the columns of `read_tags`."""

    description: str = ""
    kernel: str = ""
    agent: str = ""
    region: str = ""
    number: str = ""
    spacing: str = ""
    thickness: str = ""


KEYWORDS = {
    "description": "SeriesDescription",
    "kernel": "ConvolutionKernel",
    "agent": "ContrastBolusAgent",
    "region": "BodyPartExamined",
    "number": "InstanceNumber",
    "spacing": "SpacingBetweenSlices",
    "thickness": "SliceThickness",
}


# What a header calls a patient and an examination by; a page keeps it to itself unless asked.
NAMING = {
    "patient": "PatientName",
    "patient id": "PatientID",
    "born": "PatientBirthDate",
    "examined": "StudyDate",
    "accession": "AccessionNumber",
}


def read_identity(path: str) -> dict[str, str]:
    """What names the patient in one file, by its meaning; nothing where the header says nothing."""
    found = {meaning: _text(value) for meaning, value in _elements(path, NAMING).items()}
    return {meaning: text for meaning, text in found.items() if text.strip()}


def read_tags(paths: list[str]) -> pd.DataFrame:
    """A row a file, columns of `Tags`. A file that cannot be read has no tags: why is told elsewhere."""
    rows = [_tags_of(path) for path in paths]
    return pd.DataFrame(rows, columns=[field.name for field in fields(Tags)])


def _tags_of(path: str) -> Tags:
    return Tags(**{name: _text(value) for name, value in _elements(path, KEYWORDS).items()})


def _elements(path: str, keywords: Mapping[str, str]) -> dict[str, object]:
    """Name -> value of the element with its keyword, None where it is absent; nothing of a damaged file."""
    import pydicom

    try:
        head, _ = read_head(path, LONG_HEAD_BYTES)
        with warnings.catch_warnings():  # of odd values, which they quote
            warnings.simplefilter("ignore")
            data = pydicom.dcmread(
                io.BytesIO(head), stop_before_pixels=True, force=True, specific_tags=list(keywords.values())
            )
            return {name: data.get(keyword) for name, keyword in keywords.items()}
    except Exception:  # pydicom has no common base for what damaged headers make it raise
        return {}


def _text(value: object) -> str:
    """Several values, as Siemens gives for a kernel, count as one text."""
    if value is None:
        return ""
    several = isinstance(value, Sequence) and not isinstance(value, str)
    return " ".join(map(str, value)) if several else str(value)
