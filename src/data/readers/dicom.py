"""Any folder of DICOM series without labels, such as a hospital's export.

Every axial series of a study becomes a stack of its own: where a study has one, the stack is the study; where
it has several, each is called STUDY/SERIES. Images get the split `test`: there is something to predict and
nothing to learn.
"""

import os
from pathlib import Path

import pandas as pd

from ...errors import UserError
from ..preparation.inventory import Inventory, empty_labels
from ..preparation.options import Options
from ..source import DICOM_SUFFIXES, list_files, without_suffix


def read(raw_dir: Path, options: Options, jobs: int) -> Inventory:
    """Every file below the folder that may be DICOM: with a suffix of DICOM or none. Raises UserError if none
    is.
    """
    paths = [entry.path for entry in list_files(raw_dir)]
    candidates = [path for path in paths if may_be_dicom(path)]
    if not candidates:
        raise UserError(
            f"{raw_dir}: no DICOM file there; set RAW_DATA_DIR to the folder that holds the series"
        )
    images = image_table(candidates, raw_dir)
    return Inventory(
        images.join(empty_labels(images.index)),
        list(candidates),
        choose_series=one_stack_a_series,
        notes={"other files in the folder": len(paths) - len(candidates)},
    )


def may_be_dicom(path: str) -> bool:
    name = os.path.basename(path)
    suffix = os.path.splitext(name)[1].lower()
    return name.upper() != "DICOMDIR" and (suffix in DICOM_SUFFIXES or suffix[1:].isdigit() or not suffix)


def image_table(paths: list[str], raw_dir: Path, split: str = "test") -> pd.DataFrame:
    """image_id (the path below the folder without suffix), path, split, cause."""
    names = [os.path.relpath(path, raw_dir).replace(os.sep, "/") for path in paths]
    short = pd.Series([without_suffix(name) for name in names], dtype="str")
    image_id = short.where(~short.duplicated(keep=False), pd.Series(names, dtype="str"))
    return pd.DataFrame({"image_id": image_id, "path": paths, "split": split, "cause": None})


def one_stack_a_series(slices: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split studies with several usable series; gives the slices and a table of all series."""
    usable = slices[slices["cause"].isna()]
    several = usable.groupby("study_id")["series_id"].nunique()
    split = slices["study_id"].isin(several.index[several > 1])
    table = usable.groupby(["study_id", "series_id"], as_index=False).agg(slices=("image_id", "size"))
    name = slices["study_id"] + "/" + slices["series_id"]
    slices = slices.assign(study_id=slices["study_id"].where(~split, name))
    table["chosen"], table["reason"] = True, "every axial series is a stack"
    return slices, table
