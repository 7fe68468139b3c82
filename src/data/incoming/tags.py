"""What headers say beyond what the preparation needs: of what a series is, and the number of an image."""

import io
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


def read_tags(paths: list[str]) -> pd.DataFrame:
    """A row a file, columns of `Tags`. A file that cannot be read has no tags: why is told elsewhere."""
    rows = [_tags_of(path) for path in paths]
    return pd.DataFrame(rows, columns=[field.name for field in fields(Tags)])


def _tags_of(path: str) -> Tags:
    import pydicom

    try:
        head, _ = read_head(path, LONG_HEAD_BYTES)
        data = pydicom.dcmread(
            io.BytesIO(head), stop_before_pixels=True, force=True, specific_tags=list(KEYWORDS.values())
        )
        return Tags(**{name: _text(data.get(keyword)) for name, keyword in KEYWORDS.items()})
    except Exception:  # pydicom has no common base for what damaged headers make it raise
        return Tags()


def _text(value: object) -> str:
    """Several values, as Siemens gives for a kernel, count as one text."""
    if value is None:
        return ""
    return (
        " ".join(map(str, value)) if not isinstance(value, str) and hasattr(value, "__iter__") else str(value)
    )
