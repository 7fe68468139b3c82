"""The labels of a run's targets, from the tables of a prepared data set."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import UserError
from ..targets import PRESENCE, Targets, Unit
from .prepared import SLICES, STUDIES, Prepared
from .synthetic_truth import LOCATION_FILES, read_locations

LOCATIONS = ("prepared", "truth")  # where the location of a bleeding may be known from


def with_locations(prepared: Prepared, source: str, raw: Path) -> Prepared:
    """The same data with the location of every bleeding from one of LOCATIONS; raw: RAW_DATA_DIR."""
    return prepared if source == "prepared" else prepared.joined(read_locations(raw.parent / "truth"))


def location_files(source: str, raw: Path) -> list[Path]:
    """What `with_locations` reads beside the prepared data."""
    return [] if source == "prepared" else [raw.parent / "truth" / name for name in LOCATION_FILES]


def target_labels(prepared: Prepared, targets: Targets, unit: Unit) -> pd.DataFrame:
    """Labels of the usable training images, or of the studies that have one; index image_id or study_id.

    float64, NaN where a label is not known or not asked; rows that lack a label that is always asked are left
    out. A study's label is its own where the data set has it, else the maximum over its images. UserError
    where the data have no such label.
    """
    slices = prepared.slices
    usable = slices[(slices["split"] == "train") & (slices["status"] == "ok")]
    images = _columns(usable.set_index("image_id"), targets)
    if unit == "image":
        return _asked(images, targets, f"{prepared.folder / SLICES}", "images")
    studies = usable.set_index("image_id")["study_id"]
    labels = images.groupby(studies).max().where(images.notna().groupby(studies).all())
    own = _columns(prepared.studies.set_index("study_id"), targets).reindex(labels.index)
    return _asked(own.combine_first(labels), targets, f"{prepared.folder / STUDIES}", "studies")


def _columns(table: pd.DataFrame, targets: Targets) -> pd.DataFrame:
    """What a table says of every target: a column of its name, `any` for presence, a folder for a site."""
    found = {column: _column(table, column) for column in targets.columns}
    return pd.DataFrame(found, table.index, dtype=np.float64)


def _column(table: pd.DataFrame, column: str) -> pd.Series | float:
    if column in table:
        return table[column].astype("Float64").astype("float64")
    if column == PRESENCE and "any" in table:
        return table["any"].astype("Float64").astype("float64")
    if "class_name" in table and (table["class_name"] == column).any():
        return (table["class_name"] == column).astype("float64")
    return np.nan


def _asked(labels: pd.DataFrame, targets: Targets, source: str, what: str) -> pd.DataFrame:
    absent = [column for column in targets.columns if labels[column].isna().all()]
    if absent:
        raise UserError(
            f"{source}: no label {', '.join(absent)} for these {what}, which the targets {targets.name!r} "
            f"need; {_remedy(labels.columns.difference(absent))}"
        )
    labels = labels.copy()
    for head in targets.heads:
        if head.given is not None:
            labels.loc[labels[head.given] != 1, list(head.columns)] = np.nan
        if head.exclusive:
            single = labels[list(head.columns)].sum(axis=1) == 1
            labels.loc[~single, list(head.columns)] = np.nan
    always = [column for head in targets.heads if head.given is None for column in head.columns]
    return labels[labels[always].notna().all(axis=1)]


def _remedy(known: Sequence[str]) -> str:
    if len(known):
        return f"they have {', '.join(known)}: choose other targets, such as --set 'targets=\"presence\"'"
    return "check RAW_DATA_DIR and run prepare_data.py; where only studies have labels, train a `video`"
