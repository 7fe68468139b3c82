"""RSNA 2019 Intracranial Hemorrhage Detection, as the contest ships it: unpacked, or inside its zip archive.

    stage_2_train/ID_*.dcm (older copies: stage_2_train_images/)    stage_2_train.csv               ID,Label
    stage_2_test/ID_*.dcm  (stage_2_test_images/)                   stage_2_sample_submission.csv   ID,Label

Everything may lie one or more folders deeper. Both tables may stand beside the archive instead of inside it.
Flanders et al., Radiology: Artificial Intelligence 2020;2:3, 10.1148/ryai.2020190211.
"""

from pathlib import Path

import pandas as pd

from ...errors import UserError
from ..contest_csv import FOLDERS, TABLES, find_contest_files, read_image_ids, read_labels
from ..preparation.inventory import Inventory, empty_labels
from ..preparation.options import Options
from ..source import Source, printable
from .dicom import is_picture, other_format


def read(raw_dir: Path, options: Options, jobs: int) -> Inventory:
    """List every file of both parts and every image the tables name. Raises UserError."""
    files, tables = find_contest_files(raw_dir)
    if "train" not in tables and "test" not in tables:
        names = f"{TABLES['train']} or {TABLES['test']}"
        raise UserError(
            f"{raw_dir}: no {names} there; set RAW_DATA_DIR to the folder with the contest's files"
        )
    for split in ("train", "test"):
        if files[split] and split not in tables:
            raise UserError(
                f"{raw_dir}: {len(files[split])} {split} images but no {TABLES[split]}; download it too"
            )
    labels, repeated = None, 0
    if "train" in tables:
        table = read_labels(tables["train"])
        labels, repeated = table.labels.astype("Int8"), table.repeated_rows
    wanted = {
        "train": pd.Index([], dtype="str") if labels is None else labels.index,
        "test": read_image_ids(tables["test"]) if "test" in tables else pd.Index([], dtype="str"),
    }
    both = wanted["train"].intersection(wanted["test"])
    if len(both):
        raise UserError(
            f"{raw_dir}: {both[0]} is in {TABLES['train']} and in {TABLES['test']}: remove it from one"
        )
    parts, copies, dropped = zip(
        *(_match(split, files[split], wanted[split]) for split in FOLDERS), strict=True
    )
    images = pd.concat(parts, ignore_index=True)
    repeated_id = images.duplicated("image_id")
    if repeated_id.any():
        name = images.loc[repeated_id, "image_id"].iloc[0]
        raise UserError(f"{raw_dir}: {name} is in the train and in the test folder; remove the wrong one")
    found = (
        empty_labels(images.index)
        if labels is None
        else labels.reindex(images["image_id"]).set_index(images.index)
    )
    images = images.join(found)
    return Inventory(
        images.drop(columns="source"),
        images["source"].tolist(),
        inputs=list(tables.values()),
        copies=[copy for part in copies for copy in part],
        dropped=[row for part in dropped for row in part],
        notes={"repeated label rows": repeated},
        image_id_is_uid=True,
    )


def _match(
    split: str, files: dict[str, list[Source]], wanted: pd.Index
) -> tuple[pd.DataFrame, list[tuple[str, str, Source]], list[tuple[str, str, str]]]:
    """One row per image that has a file or is named in the table, with the cause where it lacks the other;
    further files of an image, and pictures beside its DICOM file.
    """
    found = {name: sorted(sources, key=_is_picture) for name, sources in files.items()}
    first = [sources[0] for sources in found.values()]
    pictures = [_is_picture(source) for source in first]
    used = [None if picture else source for source, picture in zip(first, pictures, strict=True)]
    paths = [printable(source) for source in first]
    # as objects: a path may hold bytes that pandas' text cannot
    rows = pd.DataFrame({"image_id": list(found), "path": paths, "source": pd.Series(used, dtype=object)})
    rows["cause"] = None
    rows.loc[~rows["image_id"].isin(wanted), "cause"] = f"not in the table: {TABLES[split]} does not name it"
    rows.loc[pictures, "cause"] = rows.loc[pictures, "path"].map(other_format)
    absent = wanted.difference(rows["image_id"], sort=False)
    reason = "no file: named in " + TABLES[split]
    missing = pd.DataFrame({"image_id": absent, "path": None, "source": None, "cause": reason})
    more = [(name, printable(copy), copy) for name, sources in found.items() for copy in sources[1:]]
    copies = [copy for copy in more if not _is_picture(copy[2])]
    dropped = [(name, path, other_format(path)) for name, path, copy in more if _is_picture(copy)]
    frames = [frame for frame in (rows, missing) if len(frame)] or [rows]
    return pd.concat(frames, ignore_index=True).assign(split=split), copies, dropped


def _is_picture(source: Source) -> bool:
    return is_picture(str(source))
