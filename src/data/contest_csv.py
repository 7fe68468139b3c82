"""The contest's files, wherever they lie, and its long CSV.

A header `ID,Label`, then one row per image and label, `ID_28fbab7eb_epidural,0.5`.  One reader serves the
label file, the sample submission and submissions (our own or another team's), each a file or a member of a
zip archive.  Rows may come in any order; a byte-order mark, CRLF line ends, spaces around a field and further
columns are accepted; anything else is a UserError.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ..errors import UserError
from ..labels import LABELS, SUBTYPES
from .source import Source, list_files, list_members, printable, read_bytes, read_head

COLUMNS = ("ID", "Label")
FOLDERS = {
    "train": ("stage_2_train", "stage_2_train_images"),
    "test": ("stage_2_test", "stage_2_test_images"),
}
TABLES = {"train": "stage_2_train.csv", "test": "stage_2_sample_submission.csv"}


@dataclass(frozen=True)
class LongRows:
    """The rows of a long CSV in the file's order: row r says that `image_ids[image[r]]` has `value[r]` for
    `LABELS[label[r]]`.  `image_ids` are unique, in order of first appearance."""

    source: Source
    columns: tuple[str, ...]  # of the header
    image_ids: pd.Index
    image: np.ndarray  # (rows,) int32
    label: np.ndarray  # (rows,) int8
    value: np.ndarray  # (rows,) float64, NaN where the field is empty

    def name(self, row: int) -> str:
        """The ID field of one row."""
        return f"{self.image_ids[self.image[row]]}_{LABELS[self.label[row]]}"

    @property
    def cell(self) -> np.ndarray:
        """(rows,) int64: the position of each row in the flattened (images, labels) table."""
        return _cell(self.image, self.label)


@dataclass(frozen=True)
class LabelTable:
    """`labels`: one row an image, index image_id in order of first appearance, columns LABELS (int8)."""

    labels: pd.DataFrame
    repeated_rows: int


def is_long(source: Source) -> bool:
    """Whether a file has the header ID,Label."""
    try:
        first = read_head(source, 256)[0].decode("utf-8-sig").split("\n")[0]
    except (OSError, ValueError):
        return False
    return tuple(name.strip() for name in first.split(",")[:2]) == COLUMNS


def read_labels(source: Source) -> LabelTable:
    """Read a label file such as `stage_2_train.csv`.

    Values are 0 or 1, `any` must equal the largest subtype, every image needs its six rows; repeated rows
    that agree count once (four images of the published training file appear twice).  Raises UserError naming
    the first offending ID.
    """
    rows = read_rows(source)
    _check_values(rows, (rows.value == 0) | (rows.value == 1), "0 or 1")
    wide = _pivot(rows, repeats=True).astype("int8")
    _check_any(source, wide)
    return LabelTable(wide, len(rows.value) - wide.size)


def read_long(source: Source, labels: bool) -> pd.DataFrame:
    """Read a long CSV into one row per image: index image_id in order of first appearance, columns LABELS.

    With `labels` the table of `read_labels`; otherwise the values are probabilities (float64) and a repeated
    row is an error.  A file without rows is one in either case.  Raises UserError naming the first offending
    ID.
    """
    if labels:
        wide = read_labels(source).labels
    else:
        rows = read_rows(source)
        _check_values(rows, (rows.value >= 0) & (rows.value <= 1), "a number in [0, 1]")
        wide = _pivot(rows, repeats=False)
    if wide.empty:
        raise UserError(f"{source}: has a header and no rows; expected rows like ID_28fbab7eb_any,0.5")
    return wide


def read_image_ids(source: Source) -> pd.Index:
    """The images of a sample submission in order of first appearance, perhaps none; its values do not matter.

    Raises UserError where one of an image's six rows is missing.
    """
    image_ids, image, label = _split_ids(source, _read_table(source)["ID"])
    _require_six_rows(source, image_ids, _cell(image, label))
    return image_ids


def read_rows(source: Source) -> LongRows:
    """Parse a long CSV, perhaps one without rows; only that values are numbers or empty is checked here."""
    table = _read_table(source)
    image_ids, image, label = _split_ids(source, table["ID"])
    value, wrong = _numbers(table["Label"])
    rows = LongRows(source, tuple(table.column_names), image_ids, image, label, value)
    if wrong is not None:
        raise UserError(f"{source}: {rows.name(wrong)} has no number; correct that row")
    return rows


def _read_table(source: Source) -> pa.Table:
    as_text = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(COLUMNS, pa.string()), strings_can_be_null=False
    )
    # One thread is as fast here, and was never seen to fail on a busy machine.
    one_thread = pa.csv.ReadOptions(use_threads=False)
    try:
        table = pa.csv.read_csv(pa.BufferReader(read_bytes(source)), one_thread, convert_options=as_text)
        names = tuple(table.column_names)
    except FileNotFoundError:
        raise UserError(f"{source}: no such file; give a CSV with the header ID,Label") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        cause = re.sub(r"(, got \d+):.*", r"\1", str(error).splitlines()[0])  # it goes on with the row
        raise UserError(
            f"{source}: not a readable CSV ({cause}); expected ID,Label in every row, as the contest has it"
        ) from None
    if names[:2] != COLUMNS:
        raise UserError(f"{source}: its first line is not the header ID,Label; put that there")
    return table.combine_chunks()


def _split_ids(source: Source, ids: pa.ChunkedArray) -> tuple[pd.Index, np.ndarray, np.ndarray]:
    """Unique image ids, and of each row the number of its image (int32) and of its label (int8).

    ID_28fbab7eb_any -> ID_28fbab7eb, any; ids may hold further underscores.
    """
    ids = pc.utf8_trim_whitespace(ids).combine_chunks()
    parts = pc.split_pattern(ids, "_", max_splits=1, reverse=True)
    first = parts.offsets.to_numpy()[:-1]
    two = pc.equal(pc.list_value_length(parts), 2).to_numpy(zero_copy_only=False)
    last = pc.take(parts.flatten(), pa.array(first + two))
    label = pc.fill_null(pc.index_in(last, pa.array(LABELS)), -1).to_numpy(zero_copy_only=False)
    odd = np.flatnonzero((label < 0) | ~two)
    if len(odd):
        row, known = int(odd[0]), ", ".join(LABELS)
        raise UserError(
            f"{source}: data row {row + 1}: the ID {ids[row].as_py()!r} does not end in _ and one of "
            f"{known}; correct that row"
        )
    image = pc.take(parts.flatten(), pa.array(first)).dictionary_encode()
    image_ids = pd.Index(image.dictionary.to_pandas(), name="image_id")
    return image_ids, image.indices.to_numpy(), label.astype(np.int8)


def _numbers(texts: pa.ChunkedArray) -> tuple[np.ndarray, int | None]:
    """(rows,) float64, NaN where there is no text, and the first row that is no number, if any.

    Each different text is read once: there are two in a label file, and few images in a submission.
    """
    encoded = texts.combine_chunks().dictionary_encode()
    numbers = [_number(text.strip()) for text in encoded.dictionary.to_pylist()]
    code = encoded.indices.to_numpy()
    wrong = None if None not in numbers else int(np.argmax(code == numbers.index(None)))
    return np.array(numbers, np.float64)[code], wrong


def _number(text: str) -> float | None:
    try:
        return float(text or "nan")
    except ValueError:
        return None


def _cell(image: np.ndarray, label: np.ndarray) -> np.ndarray:
    return image.astype(np.int64) * len(LABELS) + label


def _require_six_rows(source: Source, image_ids: pd.Index, cell: np.ndarray) -> np.ndarray:
    """(images * labels,) rows of each cell, one at least or UserError."""
    count = np.bincount(cell, minlength=len(image_ids) * len(LABELS))
    missing = np.flatnonzero(count == 0)
    if len(missing):
        image, label = divmod(int(missing[0]), len(LABELS))
        raise UserError(
            f"{source}: {image_ids[image]} has no row for {LABELS[label]} ({len(missing)} rows are "
            f"missing in all); every image needs the six rows {', '.join(LABELS)}"
        )
    return count


def _pivot(rows: LongRows, repeats: bool) -> pd.DataFrame:
    """(images, 6) float64; with `repeats` a row may stand again with the same value."""
    cell = rows.cell
    count = _require_six_rows(rows.source, rows.image_ids, cell)
    table = np.empty(len(count))
    table[cell] = rows.value
    conflict = np.flatnonzero(table[cell] != rows.value if repeats else count[cell] > 1)
    if len(conflict):
        cause = "conflicting values" if repeats else "more than one value"
        raise UserError(f"{rows.source}: {rows.name(conflict[0])} has {cause}; keep one row for each ID")
    return pd.DataFrame(table.reshape(-1, len(LABELS)), rows.image_ids, list(LABELS))


def _check_values(rows: LongRows, good: np.ndarray, expected: str) -> None:
    bad = np.flatnonzero(~good)
    if len(bad):
        found = "empty or NaN" if np.isnan(rows.value[bad[0]]) else f"{rows.value[bad[0]]:g}"
        raise UserError(
            f"{rows.source}: {rows.name(bad[0])} is {found} ({len(bad)} such rows); expected {expected}"
        )


def _check_any(source: Source, wide: pd.DataFrame) -> None:
    largest = wide[list(SUBTYPES)].max(axis=1)
    wrong = wide["any"] != largest
    if wrong.any():
        image = wrong.idxmax()
        raise UserError(
            f"{source}: {image} has any = {wide.loc[image, 'any']}, its largest subtype is {largest[image]} "
            f"({wrong.sum()} such images); `any` must be 1 exactly where a subtype is"
        )


def find_contest_files(raw_dir: Path) -> tuple[dict[str, dict[str, list[Source]]], dict[str, Source]]:
    """Files by split and image id, and the tables by split, below `raw_dir` or in a zip archive in it.

    Raises UserError where there is no such folder.
    """
    if not raw_dir.exists():
        raise UserError(
            f"{raw_dir}: no such folder; set RAW_DATA_DIR in SETTINGS.json to where the data lies"
        )
    archives = [raw_dir] if raw_dir.is_file() else []
    if not archives:
        files, tables = _sort_out((Path(entry.path).parts, entry.path) for entry in list_files(raw_dir))
        archives = [] if any(files.values()) else sorted(raw_dir.glob("*.zip"))
    else:
        files, tables = {split: {} for split in FOLDERS}, {}
    for archive in archives:
        members = ((Path(member.name).parts, member) for member in list_members(archive))
        more_files, more_tables = _sort_out(members)
        for split in FOLDERS:
            for name, found in more_files[split].items():
                files[split].setdefault(name, []).extend(found)
        for split, table in more_tables.items():
            tables.setdefault(split, table)
    return files, tables


def _sort_out(
    entries: Iterable[tuple[tuple[str, ...], Source]],
) -> tuple[dict[str, dict[str, list[Source]]], dict[str, Source]]:
    folders = {name: split for split, names in FOLDERS.items() for name in names}
    table_names = {name: split for split, name in TABLES.items()}
    files: dict[str, dict[str, list[Source]]] = {split: {} for split in FOLDERS}
    tables: dict[str, Source] = {}
    for parts, source in entries:
        split = folders.get(parts[-2]) if len(parts) > 1 else None
        if split is not None and not parts[-1].endswith(".csv"):
            files[split].setdefault(printable(os.path.splitext(parts[-1])[0]), []).append(source)
        elif parts[-1] in table_names:
            tables.setdefault(table_names[parts[-1]], source)
    return files, tables
