"""Alignment by key: the same image ids and labels in any order; a difference raises and names the keys."""

import numpy as np
import pandas as pd

from ..errors import UserError
from ..labels import LABELS


def positions(expected: pd.Index, found: pd.Index, what: str) -> np.ndarray | None:
    """Where each key of `expected` stands in `found`; None when both already have the same order.

    Raises UserError naming up to three keys when either has duplicates or the sets differ.
    """
    if expected.equals(found):
        _no_duplicates(expected, what)
        return None
    _no_duplicates(expected, "the expected ids")
    _no_duplicates(found, what)
    position = found.get_indexer(expected)
    missing = expected[position < 0]
    if len(missing) or len(found) != len(expected):
        extra = found.difference(expected, sort=False)
        named = {"missing": missing, "unknown": extra}
        parts = [f"{len(keys)} {word} ({_some(keys)})" for word, keys in named.items() if len(keys)]
        raise UserError(
            f"{what}: {len(found)} ids where {len(expected)} are expected, {' and '.join(parts)}; "
            "give tables of the same images"
        )
    return position


def label_values(labels: pd.DataFrame, what: str = "labels") -> np.ndarray:
    """(n, 6) bool in LABELS order, rows in the order of the table; anything but 0 and 1 raises UserError."""
    values = _columns(labels, what)
    positive = values == 1
    good = positive | (values == 0)
    if not good.all():
        row, column = np.argwhere(~good)[0]
        raise UserError(
            f"{what}: {labels.index[row]} has {LABELS[column]} = {values[row, column]}; labels are 0 or 1, "
            "leave out images that have none"
        )
    return positive


def probability_values(
    probabilities: pd.DataFrame, index: pd.Index, what: str = "predictions", dtype: type = np.float64
) -> np.ndarray:
    """(n, 6) in LABELS order, rows in the order of `index`; NaN or values outside [0, 1] raise UserError."""
    order = positions(index, probabilities.index, what)
    values = _columns(probabilities, what, dtype)
    good = (values >= 0) & (values <= 1)
    if not good.all():
        row, column = np.argwhere(~good)[0]
        raise UserError(
            f"{what}: {probabilities.index[row]} has {LABELS[column]} = {values[row, column]} "
            f"({(~good).sum()} such values); probabilities lie in [0, 1]"
        )
    return values if order is None else values[order]


def series_values(series: pd.Series, index: pd.Index, what: str) -> np.ndarray:
    """What a keyed series (patients, studies, groups) says of each key of `index`; it may hold more keys."""
    if not series.index.equals(index):
        _no_duplicates(series.index, what)
        series = series.reindex(index)
    if series.isna().any():
        raise UserError(f"{what}: {series.index[series.isna()][0]} has none; every image needs one")
    return series.to_numpy()


def require_label_columns(frame: pd.DataFrame, what: str) -> None:
    """Raise UserError unless the columns are the six labels, in any order."""
    if set(frame.columns) != set(LABELS) or len(frame.columns) != len(LABELS):
        raise UserError(f"{what}: the columns are {list(frame.columns)}; expected {list(LABELS)}")


def _columns(frame: pd.DataFrame, what: str, dtype: type = np.float64) -> np.ndarray:
    require_label_columns(frame, what)
    try:
        return frame[list(LABELS)].to_numpy(dtype, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise UserError(f"{what}: not numbers ({error})") from None


def _no_duplicates(index: pd.Index, what: str) -> None:
    if not index.is_unique:
        raise UserError(
            f"{what}: ids appear twice ({_some(index[index.duplicated()].unique())}); keep one row each"
        )


def _some(keys: pd.Index, count: int = 3) -> str:
    shown = ", ".join(str(key) for key in keys[:count])
    return shown + (", ..." if len(keys) > count else "")
