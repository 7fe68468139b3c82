"""Any folder of NIfTI volumes in HU without labels, such as a template or converted series.

Every volume is a study and, for the format names none, a patient of its own, called by its path below the
folder. Images get the split `test`: there is something to predict and nothing to learn.
"""

import re
from pathlib import Path

import pandas as pd

from ...errors import UserError
from ..formats.nifti import SUFFIXES, header_rows
from ..preparation.headerless import headerless
from ..preparation.inventory import Inventory, empty_labels
from ..preparation.options import Options
from ..source import Source, VolumeSlice, cause_of_failure, list_files, printable
from .dicom import image_table, is_picture, may_be_dicom, other_format, unique_ids


def read(raw_dir: Path, options: Options, jobs: int) -> Inventory:
    """Every slice of every volume, NAME/1 the first one stored. Raises UserError where there is none."""
    every = [Path(entry.path) for entry in list_files(raw_dir)]
    paths = [path for path in every if path.name.lower().endswith(SUFFIXES)]
    if not paths:
        raise UserError(
            f"{raw_dir}: no {' or '.join(SUFFIXES)} file there; set RAW_DATA_DIR to the folder of the volumes"
        )
    chosen = set(paths)
    others = [str(path) for path in every if path not in chosen]
    pictures = [path for path in others if is_picture(path) or may_be_dicom(path)]
    names = [path.relative_to(raw_dir).as_posix() for path in paths]
    rows, sources, headers = [], [], []
    for path, name in zip(paths, unique_ids(names, without_volume_suffix), strict=True):
        slices, table, cause = volume_slices(path)
        known = {"study_id": name, "path": printable(path), "cause": cause}
        rows += [{"image_id": f"{name}/{number}", **known} for number in range(1, len(slices) + 1)]
        sources += slices
        headers.append(table)
    images = pd.DataFrame(rows)
    images["series_id"] = images["patient_id"] = images["study_id"]
    unread = image_table(pictures, raw_dir).assign(cause=[other_format(path) for path in pictures])
    images = pd.concat([images, unread] if pictures else [images], ignore_index=True)
    return Inventory(
        images.assign(split="test", units="hu").join(empty_labels(images.index)),
        [*sources, *[None] * len(pictures)],
        headers=pd.concat(headers, ignore_index=True),
        notes={"other files in the folder": len(others) - len(pictures)},
    )


def volume_slices(path: Path) -> tuple[list[Source], pd.DataFrame, str | None]:
    """The slices of a volume and their headers; or the file, an empty header and the cause."""
    try:
        headers = header_rows(str(path))
    except (ValueError, OSError) as error:
        return [str(path)], headerless([0], [(0, 0)]), cause_of_failure(error)
    return [VolumeSlice(str(path), index) for index in range(len(headers))], headers, None


def without_volume_suffix(name: str) -> str:
    return re.sub(r"\.nii(\.gz)?$", "", name, flags=re.IGNORECASE)
