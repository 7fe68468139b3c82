"""The contest's long CSV: a header `ID,Label`, one row per image and label, `ID_28fbab7eb_epidural,0.5`.

One reader serves the label file, the sample submission and submissions (our own or another team's).  Rows may
come in any order; a byte-order mark and CRLF line ends are accepted; anything else is a UserError.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ..errors import UserError
from ..labels import LABELS, SUBTYPES

COLUMNS = ("ID", "Label")


@dataclass(frozen=True)
class LongRows:
    """The rows of a long CSV in the file's order: row r says that `image_ids[image[r]]` has `value[r]` for
    `LABELS[label[r]]`.  `image_ids` are unique, in order of first appearance."""

    path: Path
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
        return self.image.astype(np.int64) * len(LABELS) + self.label


def read_long(path: Path | str, labels: bool) -> pd.DataFrame:
    """Read a long CSV into one row per image: index image_id in order of first appearance, columns LABELS.

    With `labels` the values are 0 or 1 (int8), `any` must equal the largest subtype, and repeated rows that
    agree are dropped (four images of the published training file appear twice).  Otherwise they are
    probabilities (float64) and a repeated row is an error.  Raises UserError naming the first offending ID.
    """
    rows = read_rows(path)
    _check_values(rows, labels)
    cell = rows.cell
    count = np.bincount(cell, minlength=len(rows.image_ids) * len(LABELS))
    table = np.full(len(count), np.nan)
    table[cell] = rows.value
    if count.max() > 1:
        repeated = np.flatnonzero(count[cell] > 1)
        conflict = repeated[table[cell[repeated]] != rows.value[repeated]] if labels else repeated
        if len(conflict):
            cause = "conflicting values" if labels else "more than one value"
            raise UserError(f"{rows.path}: {rows.name(conflict[0])} has {cause}; keep one row for each ID")
    if count.min() == 0:
        missing = np.flatnonzero(count == 0)
        image, label = divmod(int(missing[0]), len(LABELS))
        raise UserError(
            f"{rows.path}: {rows.image_ids[image]} has no row for {LABELS[label]} ({len(missing)} rows are "
            f"missing in all); every image needs the six rows {', '.join(LABELS)}"
        )
    wide = pd.DataFrame(table.reshape(-1, len(LABELS)), rows.image_ids, list(LABELS))
    if not labels:
        return wide
    wide = wide.astype("int8")
    _check_any(rows.path, wide)
    return wide


def read_rows(path: Path | str) -> LongRows:
    """Parse a long CSV without judging its values; see `read_long` for the checks."""
    path = Path(path)
    table = _read_table(path)
    ids = table["ID"].combine_chunks()
    parts = pc.split_pattern(ids, "_", max_splits=1, reverse=True)  # ID_28fbab7eb_any -> ID_28fbab7eb, any
    unsplit = np.flatnonzero(pc.list_value_length(parts).to_numpy(zero_copy_only=False) != 2)
    if len(unsplit):
        raise _unknown_label(path, ids[int(unsplit[0])].as_py())
    flat = pc.list_flatten(parts)
    image = _take_every_second(flat, 0).dictionary_encode()
    label = _take_every_second(flat, 1).dictionary_encode()
    names = label.dictionary.to_pylist()
    unknown = [code for code, name in enumerate(names) if name not in LABELS]
    label_code = label.indices.to_numpy()
    if unknown:
        raise _unknown_label(path, ids[int(np.flatnonzero(np.isin(label_code, unknown))[0])].as_py())
    position = np.array([LABELS.index(name) for name in names], np.int8)
    return LongRows(
        path=path,
        image_ids=pd.Index(image.dictionary.to_pandas(), name="image_id"),
        image=image.indices.to_numpy(),
        label=position[label_code],
        value=table["Label"].to_numpy(),
    )


def _read_table(path: Path) -> pa.Table:
    types = {"ID": pa.string(), "Label": pa.float64()}
    try:
        table = pyarrow.csv.read_csv(path, convert_options=pyarrow.csv.ConvertOptions(column_types=types))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give a CSV with the header ID,Label") from None
    except (pa.ArrowInvalid, OSError) as error:
        cause = str(error).splitlines()[0]
        raise UserError(f"{path}: not the contest's CSV ({cause}); expected ID,Label in every row") from None
    if tuple(table.column_names) != COLUMNS:
        raise UserError(f"{path}: the header is {','.join(table.column_names)}; expected ID,Label")
    if table.num_rows == 0:
        raise UserError(f"{path}: has a header and no rows; expected rows like ID_28fbab7eb_any,0.5")
    return table


def _take_every_second(values: pa.Array, start: int) -> pa.Array:
    return values.take(pa.array(np.arange(start, len(values), 2)))


def _unknown_label(path: Path, name: str) -> UserError:
    known = ", ".join(LABELS)
    return UserError(f"{path}: the ID {name!r} does not end in _ and one of {known}; correct that row")


def _check_values(rows: LongRows, labels: bool) -> None:
    value = rows.value
    good = (value == 0) | (value == 1) if labels else (value >= 0) & (value <= 1)
    bad = np.flatnonzero(~good)
    if len(bad):
        expected = "0 or 1" if labels else "a number in [0, 1]"
        found = "empty or NaN" if np.isnan(value[bad[0]]) else f"{value[bad[0]]:g}"
        raise UserError(
            f"{rows.path}: {rows.name(bad[0])} is {found} ({len(bad)} such rows); expected {expected}"
        )


def _check_any(path: Path, wide: pd.DataFrame) -> None:
    largest = wide[list(SUBTYPES)].max(axis=1)
    wrong = wide["any"] != largest
    if wrong.any():
        image = wrong.idxmax()
        raise UserError(
            f"{path}: {image} has any = {wide.loc[image, 'any']}, its largest subtype is {largest[image]} "
            f"({wrong.sum()} such images); `any` must be 1 exactly where a subtype is"
        )
