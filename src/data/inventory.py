"""What a reader of a data set hands over: which images there are, where their bytes lie, what is known of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ..labels import LABELS
from .source import Source


@dataclass(frozen=True)
class Inventory:
    """The images of a data set before any of them is opened.

    `images`: image_id (unique), path (as shown to people), split (`train`, `test`), cause (why it cannot be used,
    else missing), the six labels (nullable Int8) and any further columns of the data set.  `sources`: where the bytes
    of the same rows lie, None where there is no file.  `studies`: labels by study_id, if the data set has them.
    `inputs`: tables that were read.  `copies`: further files of an image already listed (image_id, path, source).
    `choose_series`: picks series once headers are known; gives the table of its choices and the rows to keep.
    """

    images: pd.DataFrame
    sources: list[Source | None]
    inputs: list[Path] = field(default_factory=list)
    studies: pd.DataFrame | None = None
    copies: list[tuple[str, str, Source]] = field(default_factory=list)
    choose_series: Callable[[pd.DataFrame], tuple[pd.DataFrame, pd.Series]] | None = None
    notes: dict[str, int] = field(default_factory=dict)
    image_id_is_uid: bool = False


def empty_labels(index: pd.Index) -> pd.DataFrame:
    """The six label columns, all null."""
    return pd.DataFrame({label: pd.array([pd.NA] * len(index), dtype="Int8") for label in LABELS}, index=index)
