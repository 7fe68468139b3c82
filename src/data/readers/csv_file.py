"""A data set's own tables: CSV files, read whole."""

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


def whole_numbers(column: pd.Series) -> pd.Series:
    """49, "49" and "49.0" -> 49; null where there is no whole number."""
    numbers = pd.to_numeric(column, errors="coerce")
    return numbers.where(numbers % 1 == 0).astype("Int64")
