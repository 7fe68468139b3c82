"""Any folder of NIfTI volumes in HU without labels, such as a template or converted series.

Every volume is a study and, for the format names none, a patient of its own, called by its path below the
folder. Images get the split `test`: there is something to predict and nothing to learn.
"""

from pathlib import Path

import pandas as pd

from ...errors import UserError
from ..nifti import SUFFIXES, header_rows
from ..preparation.headerless import headerless
from ..preparation.inventory import Inventory, empty_labels
from ..preparation.options import Options
from ..source import Source, VolumeSlice, list_files


def read(raw_dir: Path, options: Options, jobs: int) -> Inventory:
    """Every slice of every volume, NAME/1 the first one stored. Raises UserError where there is none."""
    paths = [Path(entry.path) for entry in list_files(raw_dir, SUFFIXES)]
    if not paths:
        raise UserError(
            f"{raw_dir}: no {' or '.join(SUFFIXES)} file there; set RAW_DATA_DIR to the folder of the volumes"
        )
    names = [path.relative_to(raw_dir).as_posix().removesuffix(".gz").removesuffix(".nii") for path in paths]
    if len(set(names)) < len(names):
        name = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{raw_dir}: {name} is there as .nii and as .nii.gz; take one of them away")
    rows, sources, headers = [], [], []
    for path, name in zip(paths, names, strict=True):
        slices, table, cause = volume_slices(path)
        known = {"study_id": name, "path": str(path), "cause": cause}
        rows += [{"image_id": f"{name}/{number}", **known} for number in range(1, len(slices) + 1)]
        sources += slices
        headers.append(table)
    images = pd.DataFrame(rows).assign(split="test", units="hu")
    images["series_id"] = images["patient_id"] = images["study_id"]
    return Inventory(
        images.join(empty_labels(images.index)), sources, headers=pd.concat(headers, ignore_index=True)
    )


def volume_slices(path: Path) -> tuple[list[Source], pd.DataFrame, str | None]:
    """The slices of a volume and their headers; or the file, an empty header and the cause."""
    try:
        headers = header_rows(str(path))
    except (ValueError, OSError) as error:
        return [str(path)], headerless([0], [(0, 0)]), getattr(error, "strerror", None) or str(error)
    return [VolumeSlice(str(path), index) for index in range(len(headers))], headers, None
