"""Any images, named and labelled by a table: DICOM, slices of NIfTI volumes, PNG and JPEG.

The columns stand in `table_rows`. Pictures whose window is known are stored in HU, others as gray levels 0 to
255, never both in one data set. What is not known of patient, study and place is said, and never guessed from
names. Beside the contest's stage_2_train.csv its sample submission names the test images.
"""

import itertools
import logging
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ...errors import UserError
from ...labels import LABELS
from ...progress import parallel
from ..contest_csv import TABLES, read_image_ids
from ..dicom import scan_headers
from ..formats.images import picture_shape
from ..formats.nifti import SUFFIXES as VOLUME_SUFFIXES
from ..formats.nifti import header_rows
from ..preparation import checks
from ..preparation.headerless import headerless
from ..preparation.inventory import Inventory
from ..preparation.options import Options
from ..source import (
    IMAGE_SUFFIXES,
    OTHER_SUFFIXES,
    Picture,
    Source,
    VolumeSlice,
    cause_of_failure,
    list_files,
    printable,
    without_suffix,
)
from .dicom import other_format, unique_ids
from .folder import natural
from .table_rows import GROUPS, WINDOW, TableRows, check_unique, data_row, read_rows

log = logging.getLogger("ich")

FILES_PER_TASK = 2000
OWN_PATIENT = "no patient or study known, each image stands for a patient"
NO_POSITION = "no position in a study of several images, ordered by name"
NO_WINDOW = "window known but not used, other pictures have none"


def read(raw_dir: Path, options: Options, jobs: int) -> Inventory:
    """Every row of the table, with the cause where its image is missing or unfit. Raises UserError."""
    path = raw_dir / str(options.table)
    table = read_rows(path)
    rows, inputs = _with_files(table, path, raw_dir)
    rows["image_id"] = _image_ids(rows, path)
    notes = _choose_units(rows, path)
    found = rows[rows["file"].notna()]
    headers, causes = _headers(found, jobs)
    rows["cause"] = rows["cause"].where(rows["cause"].notna(), causes)
    notes |= _group(rows, headers) | {"repeated label rows": table.repeated}
    _say_size(headers[found["kind"] == "picture"], options)
    columns = ["image_id", *GROUPS, "position_mm", "split", "units", "cause", *LABELS, *table.others]
    columns += ["class_name"] if rows["class_name"].notna().any() else []
    shown = [None if file is None else printable(file) for file in rows["file"]]
    return Inventory(
        rows[columns].assign(path=shown),
        [_source(row) for row in rows[["file", "kind", "units", "slice", *WINDOW]].itertuples()],
        inputs=inputs,
        headers=headers.reset_index(drop=True),
        notes=notes,
    )


def _with_files(table: TableRows, path: Path, raw_dir: Path) -> tuple[pd.DataFrame, list[Source]]:
    """The rows, with the contest's test images where their files are there too: file, kind, cause added; and
    the tables they come from.
    """
    rows = _find_files(table.rows, path, raw_dir)
    sample = path.with_name(TABLES["test"])
    if not table.long or not sample.is_file():
        return rows, [path]
    ids = read_image_ids(sample)
    if len(both := ids.intersection(rows["image_id"])):
        raise UserError(f"{sample}: {both[0]} is in {path.name} too: remove it from one")
    test = pd.DataFrame({"image_id": ids.astype(object)}).reindex(columns=table.rows.columns)
    test = test.astype(table.rows.dtypes.to_dict()).assign(path=None, split="test")
    test = _find_files(test, sample, raw_dir)
    if test["file"].isna().all():
        log.info("%s: none of its images is there, so there is no test part", sample)
        return rows, [path]
    return pd.concat([rows, test], ignore_index=True), [path, sample]


def _find_files(rows: pd.DataFrame, path: Path, raw_dir: Path) -> pd.DataFrame:
    """Adds file (absolute, None where there is none), kind and cause."""
    wanted = set(rows.loc[rows["path"].isna(), "image_id"])
    named = _files_by_name(raw_dir, wanted) if wanted else {}
    missing = f"no file: named in {path.name}"
    files, causes = [], []
    for row, (name, image_id) in enumerate(zip(rows["path"], rows["image_id"], strict=True)):
        if name is not None:
            file = _below(raw_dir, name, path, row)
            candidates = [file] if os.path.isfile(file) else []
        else:
            candidates = named.get(image_id, [])
        files.append(candidates[0] if len(candidates) == 1 else None)
        several = "several files: " + " and ".join(map(printable, candidates[:2]))
        causes.append(None if files[-1] else several if candidates else missing)
    rows = rows.assign(file=pd.Series(files, rows.index, dtype=object), cause=pd.Series(causes, dtype=object))
    rows["kind"] = [None if file is None else _kind(file) for file in files]
    _check_slices(rows, path)
    pairs = zip(rows["file"], rows["slice"], strict=True)
    places = [None if file is None else f"{file}{_slash(number)}" for file, number in pairs]
    check_unique(path, pd.Series(places, dtype=object), "the image")
    unread = rows["kind"] == "other"
    rows.loc[unread, "cause"] = rows.loc[unread, "file"].map(other_format)
    rows.loc[unread, "file"] = None
    return rows


def _below(raw_dir: Path, name: str, path: Path, row: int) -> str:
    """The file that a row's `path` names. Raises UserError for one outside RAW_DATA_DIR."""
    file = os.path.normpath(raw_dir / name)
    if not Path(file).is_relative_to(raw_dir):
        raise UserError(
            f"{data_row(path, row)}: {name} lies outside RAW_DATA_DIR ({raw_dir}); set that to a folder that "
            "holds every image"
        )
    return file


def _files_by_name(raw_dir: Path, wanted: set[str]) -> dict[str, list[str]]:
    """The files below the root that a wanted name may mean: with or without folders and suffix."""
    named: defaultdict[str, list[str]] = defaultdict(list)
    for entry in list_files(raw_dir):
        relative = os.path.relpath(entry.path, raw_dir).replace(os.sep, "/")
        for name in {relative, entry.name, _short(relative), _short(entry.name)} & wanted:
            named[name].append(entry.path)
    return named


def _short(name: str) -> str:
    """A file's name without an image's or a volume's suffix; the number of a slice stays."""
    return re.sub(r"\.nii(\.gz)?(/\d+)?$", r"\2", without_suffix(name), flags=re.IGNORECASE)


def _kind(file: str) -> str:
    name = file.lower()
    if name.endswith(IMAGE_SUFFIXES):
        return "picture"
    if name.endswith(VOLUME_SUFFIXES):
        return "volume"
    return "other" if name.endswith(OTHER_SUFFIXES) else "dicom"


def _check_slices(rows: pd.DataFrame, path: Path) -> None:
    """UserError where a volume lacks the number of its slice, or another file has one."""
    numbered, volume = rows["slice"].notna(), rows["kind"] == "volume"
    wrong = rows["file"].notna() & (numbered != volume)
    if wrong.any():
        row = int(wrong.argmax())
        name = printable(rows["file"][row])
        if volume[row]:
            raise UserError(f"{data_row(path, row)}: {name} is a volume; number its slice from 1 in `slice`")
        raise UserError(f"{data_row(path, row)}: {name} is one image; leave `slice` empty there")


def _image_ids(rows: pd.DataFrame, path: Path) -> pd.Series:
    """As the table has them, else the path without suffix. Raises UserError for one that stands twice."""
    own = rows.index[rows["image_id"].isna()]
    numbers = rows.loc[own, "slice"].map(_slash)
    names = (rows.loc[own, "path"].map(os.path.normpath) + numbers).tolist()
    ids = rows["image_id"].copy()
    ids.loc[own] = unique_ids(names, _short).to_numpy(object)
    check_unique(path, ids, "image_id")
    return ids


def _slash(number: float) -> str:
    """3.0 -> "/3"; NaN -> ""."""
    return "" if np.isnan(number) else f"/{number:.0f}"


def _choose_units(rows: pd.DataFrame, path: Path) -> dict[str, int]:
    """Adds units: pictures are in HU where the window of each is known, else all are gray. Raises UserError
    where gray pictures stand beside images in HU.
    """
    there = rows["file"].notna()
    picture = there & (rows["kind"] == "picture")
    windowed = picture & rows[WINDOW[0]].notna()
    gray = picture.any() and not windowed[picture].all()
    rows["units"] = np.where(picture & gray, "gray", "hu")
    in_hu = int((there & ~picture).sum())
    if gray and in_hu:
        example = printable(rows.loc[picture & ~windowed, "file"].iloc[0])
        raise UserError(
            f"{path}: {in_hu} DICOM or NIfTI images are in HU, {(picture & ~windowed).sum()} pictures have "
            f"no window, such as {example}; fill in {' and '.join(WINDOW)}, or prepare the two apart"
        )
    if gray:
        rows["units"] = "gray"
        log.warning('%s: pictures are gray levels, not HU: train with "windows": ["gray"]', path)
    unused = int(windowed.sum()) if gray else 0
    if unused:
        text = "%s: only %d of %d pictures have a window, so all stay gray"
        log.warning(text, path, unused, picture.sum())
    return {NO_WINDOW: unused}


def _source(row: tuple) -> Source | None:
    if row.kind == "volume" and row.file is not None:
        return VolumeSlice(row.file, int(row.slice) - 1)
    if row.kind == "picture" and row.units == "hu":
        return Picture(row.file, row.window_center, row.window_width)
    return row.file


def _headers(found: pd.DataFrame, jobs: int) -> tuple[pd.DataFrame, pd.Series]:
    """Header rows and causes of the files, along `found`."""
    tables = [scan_headers([])]
    causes = pd.Series(None, found.index, dtype=object)
    for kind, rows in found.groupby("kind"):
        table, cause = HEADERS[kind](rows, jobs)
        tables.append(table.set_axis(rows.index))
        causes.loc[rows.index] = np.asarray(cause, dtype=object)
    return pd.concat(tables).loc[found.index], causes


def _dicom_headers(rows: pd.DataFrame, jobs: int) -> tuple[pd.DataFrame, Sequence[str | None]]:
    headers = scan_headers(rows["file"].tolist(), jobs)
    return headers, checks.cause_of(headers)


def _volume_headers(rows: pd.DataFrame, jobs: int) -> tuple[pd.DataFrame, Sequence[str | None]]:
    tables, causes = [], pd.Series(None, rows.index, dtype=object)
    for file, of_file in rows.groupby("file", sort=False):
        numbers = of_file["slice"].astype(int) - 1
        try:
            slices = header_rows(file)
        except (ValueError, OSError) as error:
            slices = headerless([], [])
            causes.loc[of_file.index] = cause_of_failure(error)
        beyond = (numbers >= len(slices)) & causes[of_file.index].isna()
        causes.loc[of_file.index[beyond]] = f"no file: the volume has {len(slices)} slices"
        tables.append(slices.reindex(numbers).set_axis(of_file.index))
    return pd.concat(tables).loc[rows.index], causes


def _picture_headers(rows: pd.DataFrame, jobs: int) -> tuple[pd.DataFrame, Sequence[str | None]]:
    files = rows["file"].tolist()
    chunks = [files[start : start + FILES_PER_TASK] for start in range(0, len(files), FILES_PER_TASK)]
    tasks = [(chunk,) for chunk in chunks]
    parts = parallel(_shapes, tasks, jobs, "pictures", [len(chunk) for chunk in chunks])
    found = list(itertools.chain.from_iterable(parts))
    shapes = [(0, 0) if isinstance(shape, str) else shape for shape in found]
    by_name = {name: number for number, name in enumerate(sorted(files, key=natural))}
    headers = headerless([by_name[name] for name in files], shapes)
    in_hu = (rows["units"] == "hu").to_numpy()
    for name in WINDOW:
        headers[name] = rows[name].where(in_hu).to_numpy()
    return headers, [shape if isinstance(shape, str) else None for shape in found]


def _shapes(files: list[str]) -> list[tuple[int, int] | str]:
    """One task: (rows, columns) of every picture, or why there are none."""
    found: list[tuple[int, int] | str] = []
    for file in files:
        try:
            found.append(picture_shape(file))
        except (ValueError, OSError) as error:
            found.append(cause_of_failure(error))
    return found


HEADERS = {"dicom": _dicom_headers, "volume": _volume_headers, "picture": _picture_headers}


def _group(rows: pd.DataFrame, headers: pd.DataFrame) -> dict[str, int]:
    """Completes patient, study, series and position by the headers; an image of unknown study is a study of
    its own. Gives what is not known, by name, and says it.
    """
    for name in GROUPS:
        stated = headers[name].mask(headers[name] == "").astype(object)
        rows[name] = rows[name].astype(object).combine_first(stated).reindex(rows.index)
    volume = rows["kind"].eq("volume") & rows["study_id"].isna()
    rows.loc[volume, "study_id"] = rows.loc[volume, "image_id"].str.replace(r"/\d+$", "", regex=True)
    unknown = rows["study_id"].isna() & rows["file"].notna()
    lonely = unknown & rows["patient_id"].isna()
    rows.loc[unknown, "study_id"] = rows.loc[unknown, "image_id"]
    rows.loc[lonely, "patient_id"] = rows.loc[lonely, "image_id"]
    rows["series_id"] = rows["series_id"].where(rows["series_id"].notna(), rows["study_id"])
    # a study has positions where the table knows them of all its slices
    complete = rows["position_mm"].notna().groupby(rows["study_id"]).transform("all").eq(True)
    rows["position_mm"] = rows["position_mm"].where(complete)
    placed = rows["position_mm"].notna() | headers["position_z"].notna().reindex(rows.index, fill_value=False)
    several = rows["study_id"].duplicated(keep=False) & rows["study_id"].notna()
    unplaced = int((several & ~placed & rows["file"].notna()).sum())
    if alone := int(lonely.sum()):
        log.warning(
            "%d images without patient and study: each counts as a patient of its own, so slices of one "
            "patient may stand in training and held-out folds, and held-out scores are optimistic; add a "
            "column patient_id where you can", alone,
        )  # fmt: skip
    if unplaced:
        log.warning(
            "%d images of studies without positions: ordered by name, so neighbours and the second stage may "
            "see a wrong order; add a column position_mm where you can", unplaced,
        )  # fmt: skip
    return {OWN_PATIENT: alone, NO_POSITION: unplaced}


def _say_size(pictures: pd.DataFrame, options: Options) -> None:
    """Pictures of several sizes, and pictures that storing enlarges."""
    sides = pictures[["rows", "columns"]].max(axis=1)
    sides = sides[sides > 0].value_counts()
    if sides.empty:
        return
    if len(sides) > 1:
        listed = ", ".join(f"{side} px {count}" for side, count in sides.head(5).items())
        log.warning("pictures of %d sizes (%s): all are stored at %d px", len(sides), listed, options.size)
    if (side := int(sides.index[0])) < options.size:
        text = "pictures of %d px are enlarged to %d; a smaller --size stores less"
        log.warning(text, side, options.size)
