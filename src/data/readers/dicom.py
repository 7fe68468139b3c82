"""Any folder of DICOM series without labels, such as a hospital's export.

Every axial series of a study becomes a stack of its own: where a study has one, the stack is the study; where
it has several, each is called STUDY/SERIES. Images get the split `test`: there is something to predict and
nothing to learn.
"""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from ...errors import UserError
from ..formats.header import looks_like_dicom
from ..preparation.inventory import Inventory, empty_labels
from ..preparation.options import Options
from ..source import (
    DICOM_SUFFIXES,
    IMAGE_SUFFIXES,
    OTHER_SUFFIXES,
    list_files,
    printable,
    read_head,
    without_suffix,
)


def read(raw_dir: Path, options: Options, jobs: int) -> Inventory:
    """Every file below the folder that may be DICOM, by its suffix or its first bytes, and pictures, which
    are not used. Raises UserError if there is neither.
    """
    paths = [entry.path for entry in list_files(raw_dir)]
    candidates, pictures = sort_out(paths)
    if not candidates and not pictures:
        raise UserError(
            f"{raw_dir}: no DICOM file there; set RAW_DATA_DIR to the folder that holds the series"
        )
    images = image_table([*candidates, *pictures], raw_dir)
    images.loc[len(candidates) :, "cause"] = [other_format(path) for path in pictures]
    return Inventory(
        images.join(empty_labels(images.index)),
        [*candidates, *[None] * len(pictures)],
        choose_series=one_stack_a_series,
        notes={"other files in the folder": len(paths) - len(images)},
    )


def sort_out(paths: list[str]) -> tuple[list[str], list[str]]:
    """Files that may be DICOM, and those that have the name of a picture and are not."""
    candidates = [path for path in paths if may_be_dicom(path)]
    chosen = set(candidates)
    return candidates, [path for path in paths if path not in chosen and is_picture(path)]


def may_be_dicom(path: str) -> bool:
    """By the suffix, or where it tells nothing by the first bytes."""
    name = os.path.basename(path)
    suffix = os.path.splitext(name)[1].lower()
    if name.upper() == "DICOMDIR":
        return False
    return suffix in DICOM_SUFFIXES or suffix[1:].isdigit() or not suffix or _begins_like_dicom(path)


def _begins_like_dicom(path: str) -> bool:
    try:
        return looks_like_dicom(read_head(path, 132)[0])
    except (OSError, ValueError):
        return False


def is_picture(path: str) -> bool:
    return path.lower().endswith((*IMAGE_SUFFIXES, *OTHER_SUFFIXES))


def other_format(path: str) -> str:
    """The cause for a picture among DICOM files."""
    return f"other format: {os.path.splitext(path)[1].lower()} is not read here"


def image_table(paths: list[str], raw_dir: Path, split: str = "test") -> pd.DataFrame:
    """image_id (the path below the folder without suffix), path, split, cause."""
    names = [os.path.relpath(path, raw_dir).replace(os.sep, "/") for path in paths]
    return pd.DataFrame(
        {
            "image_id": unique_ids(names, without_suffix),
            "path": [printable(path) for path in paths],
            "split": split,
            "cause": None,
        }
    )


def unique_ids(names: list[str], short: Callable[[str], str]) -> pd.Series:
    """An id for each of different names: the short one where no other file has it, else the whole name."""
    seen: Counter[str] = Counter()
    full = []
    for name in map(printable, names):
        full.append(f"{name}~{seen[name]}" if seen[name] else name)  # names that differ in unprintable bytes
        seen[name] += 1
    whole = pd.Series(full, dtype="str")
    ids = pd.Series([printable(short(name)) for name in names], dtype="str")
    while (clash := ids.duplicated(keep=False) & (ids != whole)).any():
        ids = ids.where(~clash, whole)
    return ids


def one_stack_a_series(slices: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split studies with several usable series; gives the slices and a table of all series."""
    usable = slices[slices["cause"].isna()]
    several = usable.groupby("study_id")["series_id"].nunique()
    split = slices["study_id"].isin(several.index[several > 1])
    table = usable.groupby(["study_id", "series_id"], as_index=False).agg(slices=("image_id", "size"))
    name = slices["study_id"] + "/" + slices["series_id"]
    slices = slices.assign(study_id=slices["study_id"].where(~split | name.isna(), name))
    table["chosen"], table["reason"] = True, "every axial series is a stack"
    return slices, table
