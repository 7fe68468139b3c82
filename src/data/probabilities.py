"""Tables of probabilities: a submission in the contest's long form, or a row an image, CSV or Parquet."""

from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import UserError
from ..files import read_parquet
from ..labels import LABELS
from .contest_csv import is_long, read_long
from .readers.csv_file import read_texts

KEY = "image_id"
REMEDY = f"give a submission (ID,Label), or a CSV or Parquet table with {KEY}, {', '.join(LABELS)}"


def read_probabilities(path: Path) -> pd.DataFrame:
    """One row an image: index image_id, columns LABELS (float64 in [0, 1]); other columns are left out.

    Raises UserError for a file that is none, an image that stands twice, and what is no probability.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; {REMEDY}")
    if path.suffix != ".parquet" and is_long(path):
        return read_long(path, labels=False)
    table = read_parquet(path) if path.suffix == ".parquet" else read_texts(path, REMEDY)
    if missing := [name for name in (KEY, *LABELS) if name not in table]:
        raise UserError(f"{path}: has no column {', '.join(missing)}, but {', '.join(table)}; {REMEDY}")
    if table.empty:
        raise UserError(f"{path}: has a header and no rows; {REMEDY}")
    nameless = (table[KEY].isna() | (table[KEY] == "")).to_numpy()
    if nameless.any():
        row = int(nameless.argmax()) + 1
        raise UserError(f"{path}: data row {row} names no image; fill in {KEY}, or strike it")
    table = table.set_index(table[KEY].astype(str))[list(LABELS)]
    if table.index.has_duplicates:
        twice = table.index[table.index.duplicated()][0]
        raise UserError(f"{path}: {twice} stands twice; keep one row of it")
    numbers = table.apply(pd.to_numeric, errors="coerce").astype("float64")
    wrong = np.argwhere(~numbers.ge(0).to_numpy() | ~numbers.le(1).to_numpy())
    if len(wrong):
        row, column = wrong[0]
        found = table.iat[row, column]
        raise UserError(
            f"{path}: {LABELS[column]} of {table.index[row]} is {found} ({len(wrong)} such values); expected "
            "a number in [0, 1]"
        )
    return numbers
