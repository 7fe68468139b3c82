"""A data set's own tables: CSV files, read whole."""

import csv
import io
from pathlib import Path

import pandas as pd

from ...errors import UserError
from ..source import read_bytes


def read_csv(path: Path, remedy: str) -> pd.DataFrame:
    """The table with its header's names stripped of blanks. Raises UserError for what is none."""
    try:
        table = pd.read_csv(io.BytesIO(read_bytes(path)), encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable CSV ({error}); {remedy}") from None
    return table.rename(columns=lambda name: " ".join(str(name).split()))


def read_texts(path: Path, remedy: str) -> pd.DataFrame:
    """The table with every field as text, stripped; a patient called NA stays one. Raises UserError for what
    is no table, and for a row that is longer or shorter than the header.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
        lines = csv.reader(io.StringIO(text, newline=""), strict=True)
        header, *rows = [row for row in lines if row] or [[]]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: not a readable CSV ({error}); {remedy}") from None
    if not header:
        raise UserError(f"{path}: is empty; {remedy}")
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise UserError(
                f"{path}: data row {number} has {len(row)} fields, the header {len(header)}; correct that row"
            )
    columns = [" ".join(name.split()) for name in header]
    fields = zip(*rows, strict=True) if rows else [()] * len(columns)
    stripped = [[field.strip() for field in column] for column in fields]
    return pd.concat(
        [pd.Series(column, name=name, dtype="str") for name, column in zip(columns, stripped, strict=True)],
        axis=1,
    )


def whole_numbers(column: pd.Series) -> pd.Series:
    """49, "49" and "49.0" -> 49; null where there is no whole number."""
    numbers = pd.to_numeric(column, errors="coerce")
    return numbers.where(numbers % 1 == 0).astype("Int64")
