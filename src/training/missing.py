"""Slices that could not be read but whose place is known: in the tables, and between their neighbours."""

import numpy as np
import pandas as pd


def with_quarantined(usable: pd.DataFrame, slices: pd.DataFrame) -> pd.DataFrame:
    """Usable slices, and between them those quarantined whose study and position are known, as `missing`."""
    bad = slices[slices["status"] == "quarantined"]
    placed = usable.groupby("study_id")["position_mm"].apply(lambda z: z.notna().all())
    bad = bad[bad["position_mm"].notna() & bad["study_id"].isin(placed.index[placed])]
    table = pd.concat([usable.assign(missing=False), bad.assign(missing=True)])
    # equal positions keep the order of the usable slices; studies without positions have no missing slices
    return table.sort_values(["study_id", "position_mm", "order"], kind="stable", ignore_index=True)


def interpolate(values: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """(s, k) with rows `missing` (s,) replaced by the line between their neighbours, zero where all miss."""
    known = np.flatnonzero(~missing)
    if not len(known):
        return np.zeros_like(values)
    filled = values.copy()
    for row in np.flatnonzero(missing):
        after = np.searchsorted(known, row)
        low, high = known[max(after - 1, 0)], known[min(after, len(known) - 1)]
        share = 0.0 if high == low else (row - low) / (high - low)
        filled[row] = (1 - share) * values[low] + share * values[high]
    return filled
