"""A table with a row an image: its columns read strictly, before any image is looked at.

    path           below RAW_DATA_DIR, with suffix; or
    image_id       the name of a file anywhere below it, with or without folders and suffix
    slice          of a NIfTI volume, from 1
    patient_id, study_id, series_id, position_mm, split (train or test)
    window_center, window_width      the HU window that a JPEG or PNG shows from black to white
    epidural, intraparenchymal, intraventricular, subarachnoid, subdural, any       0, 1 or empty
    class_name, and any other column of 0 and 1: labels of other targets

The contest's long CSV (ID,Label) is such a table too.
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ...errors import UserError
from ...files import read_parquet
from ...labels import LABELS, SUBTYPES
from ..contest_csv import is_long, read_labels
from ..dicom import scan_headers
from ..preparation.tables import COLUMNS as PREPARED
from .csv_file import read_texts
from .near_names import near_misses

log = logging.getLogger("ich")

NAMES = ("path", "image_id")
GROUPS = ("patient_id", "study_id", "series_id")
TEXTS = (*NAMES, *GROUPS, "split", "class_name")
WINDOW = ("window_center", "window_width")
NUMBERS = ("slice", "position_mm", *WINDOW)
REMEDY = "give a CSV or Parquet table with a row an image, see docs/guide.md"


@dataclass(frozen=True)
class TableRows:
    """`rows`: numbered from 0, every column of TEXTS (None where empty) and NUMBERS (float64, NaN), the six
    labels (Int8); `others`: labels of other targets, Int8; `long`: from the contest's label file; `repeated`:
    rows of it that stood twice.
    """

    rows: pd.DataFrame
    others: list[str]
    long: bool = False
    repeated: int = 0


def read_rows(path: Path) -> TableRows:
    """Raises UserError naming the row and what is wrong with it."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; give --table the table of the images")
    if is_long(path):
        table = read_labels(path)
        labels = table.labels.astype("Int8").reset_index()
        rows = labels.reindex(columns=[*TEXTS, *NUMBERS, *LABELS]).astype(dict.fromkeys(NUMBERS, "float64"))
        rows[list(TEXTS)] = rows[list(TEXTS)].astype(object).where(rows[list(TEXTS)].notna(), None)
        return TableRows(rows.assign(split="train"), [], True, table.repeated_rows)
    texts = _known_names(
        _parquet_texts(path) if path.suffix == ".parquet" else read_texts(path, REMEDY), path
    )
    rows = pd.DataFrame({name: _text(texts, name) for name in TEXTS}, index=texts.index)
    for name in NUMBERS:
        rows[name] = _numbers(path, texts, name)
    for label in LABELS:
        rows[label] = _zero_or_one(path, texts, label)
    others = _other_labels(path, texts)
    for name in others:
        rows[name] = _zero_or_one(path, texts, name)
    _check(path, rows)
    rows["any"] = _any(path, rows, "any" in texts)
    rows["split"] = _split(path, rows, others)
    return TableRows(rows, others)


def data_row(path: Path, row: int) -> str:
    """How an error names a row."""
    return f"{path}: data row {row + 1}"


def _parquet_texts(path: Path) -> pd.DataFrame:
    table = read_parquet(path)
    return pd.DataFrame({str(name): _as_text(table[name]) for name in table}).astype("str")


def _as_text(column: pd.Series) -> pd.Series:
    """49 and 49.0 -> "49", True -> "1"; null -> ""."""
    known = column.dropna()
    if pd.api.types.is_bool_dtype(known) or (
        pd.api.types.is_float_dtype(known) and np.equal(np.mod(known, 1), 0).all()
    ):
        column = column.astype("Int64")
    return column.astype("string").fillna("").str.strip()


def _known_names(texts: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Names of known columns in small letters, whatever the table has."""
    known = {*TEXTS, *NUMBERS, *LABELS}
    texts = texts.rename(columns=lambda name: name.lower() if name.lower() in known else name)
    twice = texts.columns[texts.columns.duplicated()]
    if len(twice):
        raise UserError(f"{path}: has two columns {twice[0]}; keep one")
    if not set(NAMES) & set(texts):
        raise UserError(
            f"{path}: has no column `path` or `image_id`, but {', '.join(texts)}; rename the one that names "
            "the image files"
        )
    if texts.empty:
        raise UserError(f"{path}: has a header and no rows; {REMEDY}")
    if near := near_misses([name for name in texts if name not in known], texts):
        pairs = ", ".join(f"{name} (did you mean {meant}?)" for name, meant in near.items())
        raise UserError(f"{path}: unknown columns {pairs}; rename or strike them")
    return texts


def _text(texts: pd.DataFrame, name: str) -> pd.Series | None:
    return None if name not in texts else texts[name].astype(object).where(texts[name] != "", None)


def _numbers(path: Path, texts: pd.DataFrame, name: str) -> pd.Series | float:
    if name not in texts:
        return np.nan
    filled = texts[name] != ""
    written = texts[name].map(_first) if name in WINDOW else texts[name]
    numbers = pd.to_numeric(written.where(filled), errors="coerce").astype("float64")
    wrong = filled & ~np.isfinite(numbers)
    if name == "slice":
        wrong |= filled & ((numbers < 1) | (numbers % 1 != 0))
    if name == "window_width":
        wrong |= filled & (numbers <= 0)
    if wrong.any():
        row = int(wrong.argmax())
        kind = {"slice": "a whole number from 1 on", "window_width": "a number above 0"}.get(name, "a number")
        raise UserError(f"{data_row(path, row)}: {name} is not {kind}; correct it")
    return numbers


def _first(text: str) -> str:
    """The first of several values, as DICOM headers are copied into tables: "['00040', '00080']" -> 00040."""
    return re.split(r"[,\\]", text.strip("[]() "))[0].strip("'\" ")


def _zero_or_one(path: Path, texts: pd.DataFrame, name: str) -> pd.Series:
    if name not in texts:
        return pd.Series(pd.NA, texts.index, dtype="Int8")
    numbers = texts[name].map(ZERO_OR_ONE)
    wrong = numbers.isna() & (texts[name] != "")
    if wrong.any():
        row = int(wrong.argmax())
        raise UserError(f"{data_row(path, row)}: {name} is neither 0 nor 1 nor empty; correct it")
    return numbers.astype("Int8")


ZERO_OR_ONE = {"0": 0, "0.0": 0, "1": 1, "1.0": 1}


def _other_labels(path: Path, texts: pd.DataFrame) -> list[str]:
    """Columns of 0 and 1 that are nothing else; what is not used is said."""
    reserved = {*PREPARED, *scan_headers([]).columns, "cause", "patient_assumed"}
    others = [name for name in texts if name not in (*TEXTS, *NUMBERS, *LABELS)]
    found = [
        name
        for name in others
        if name not in reserved and (values := set(texts[name]) - {""}) and values <= set(ZERO_OR_ONE)
    ]
    if unused := [name for name in others if name not in found]:
        log.info("%s: columns that are not used: %s", path, ", ".join(unused))
    return found


def _check(path: Path, rows: pd.DataFrame) -> None:
    """What a row must name, and that no image is named twice."""
    nameless = rows["path"].isna() & rows["image_id"].isna()
    if nameless.any():
        row = int(nameless.argmax())
        raise UserError(f"{data_row(path, row)}: names no image; fill in `path` or `image_id`, or strike it")
    half = rows[WINDOW[0]].isna() != rows[WINDOW[1]].isna()
    if half.any():
        row = int(half.argmax())
        raise UserError(f"{data_row(path, row)}: has one of {' and '.join(WINDOW)}; give both or neither")
    check_unique(path, rows["image_id"], "image_id")
    split = rows["split"]
    wrong = split.notna() & ~split.isin(("train", "test"))
    if wrong.any():
        row = int(wrong.argmax())
        raise UserError(f"{data_row(path, row)}: split is neither train nor test; correct it")


def check_unique(path: Path, names: pd.Series, what: str) -> None:
    """UserError where two rows have the same name; None is no name."""
    twice = names.notna() & names.duplicated()
    if twice.any():
        row = int(twice.argmax())
        first = int((names == names[row]).argmax())
        raise UserError(
            f"{data_row(path, row)}: {what} {names[row]} stands in data row {first + 1} too; keep one of them"
        )


def _any(path: Path, rows: pd.DataFrame, given: bool) -> pd.Series:
    """The column `any`: as it stands, checked against the subtypes; where there is none, their maximum."""
    subtypes = rows[list(SUBTYPES)]
    largest = subtypes.max(axis=1)
    complete = subtypes.notna().all(axis=1)
    if not given:
        return largest.where(complete)
    wrong = ((rows["any"] == 0) & (largest == 1)) | (complete & (rows["any"] == 1) & (largest == 0))
    wrong = wrong.fillna(False).astype(bool)
    if wrong.any():
        row = int(wrong.argmax())
        raise UserError(
            f"{data_row(path, row)}: any is {rows['any'][row]}, its largest subtype is {largest[row]} "
            f"({wrong.sum()} such rows); `any` must be 1 exactly where a subtype is"
        )
    return rows["any"]


def _split(path: Path, rows: pd.DataFrame, others: list[str]) -> pd.Series:
    """Where the table does not say: `train` with any label, `test` without."""
    labelled = rows[[*LABELS, *others, "class_name"]].notna().any(axis=1)
    split = rows["split"].where(rows["split"].notna(), labelled.map({True: "train", False: "test"}))
    unlabelled = int(((split == "train") & ~labelled).sum())
    if unlabelled:
        log.warning(
            "%s: %d rows of split train have no label; nothing is learned from them", path, unlabelled
        )
    return split
