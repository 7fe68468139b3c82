"""What a reader of a data set hands over: which images there are, where their bytes lie, what is known of
them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import pandas as pd

from ...labels import LABELS
from ..source import Source

OTHER_SERIES = "other series"  # class of cause: a series of the study that was not chosen


@dataclass(frozen=True)
class Inventory:
    """The images of a data set before their pixels are read. The lists run along the rows of `images`.

    images    image_id (unique), path (for people), split (`train` with labels, `test` without), cause (why it
              cannot be used, else missing), the six labels (nullable Int8); where the reader knows better
              than a header also study_id, patient_id, series_id, position_mm, units (`hu` or `gray`);
              columns of its own
    sources   where the bytes lie, None for an image without a file
    inputs    tables that were read
    headers   of the rows with a source, as by `dicom.scan_headers`, if the reader made them (their causes are
              then in `images`); else they are scanned
    masks     where the mask of bleeding lies, None for an image without one
    studies   study labels, index study_id
    copies    further files of an image already listed: image_id, path, source
    dropped   files that are no image of the table and are not used: image_id, path, cause
    choose_series      given the slices with their headers, those to keep, and a table of the choices
    notes              counts of defects that are kept, by name
    image_id_is_uid    whether an image's id must be the SOPInstanceUID in its file
    """

    images: pd.DataFrame
    sources: list[Source | None]
    inputs: list[Source] = field(default_factory=list)
    headers: pd.DataFrame | None = None
    masks: list[Source | None] | None = None
    studies: pd.DataFrame | None = None
    copies: list[tuple[str, str, Source]] = field(default_factory=list)
    dropped: list[tuple[str, str, str]] = field(default_factory=list)
    choose_series: Callable[[pd.DataFrame], tuple[pd.DataFrame, pd.DataFrame]] | None = None
    notes: dict[str, int] = field(default_factory=dict)
    image_id_is_uid: bool = False


def empty_labels(index: pd.Index) -> pd.DataFrame:
    """The six label columns, all null."""
    return pd.DataFrame(
        {label: pd.array([pd.NA] * len(index), dtype="Int8") for label in LABELS}, index=index
    )
