"""Where a slice lies in its study, as numbers for a network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...errors import UserError


@dataclass(frozen=True)
class Places:
    """Slices that lie study by study in slice order."""

    slices: pd.DataFrame
    bounds: np.ndarray  # (studies + 1,): study i is rows bounds[i]:bounds[i + 1]

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.bounds)

    @property
    def study(self) -> np.ndarray:
        """(n,) number of the study."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def z(self) -> np.ndarray:
        """(n,) mm; the only slice of a study lies in its middle, wherever that is."""
        z = self.slices["position_mm"].to_numpy(np.float64, copy=True)
        z[np.isnan(z) & (self.lengths == 1)[self.study]] = 0.0
        if np.isnan(z).any():
            raise UserError(
                "slices.parquet: position_mm is missing for some usable slices; give it (a table has "
                'a column), or train with positions ["relative"] or without position among the inputs'
            )
        return z


def relative(places: Places) -> np.ndarray:
    """0 to 1 through the study."""
    study, before = places.study, places.bounds
    return (np.arange(len(study)) - before[study]) / np.maximum(1, places.lengths - 1)[study]


def millimetres(places: Places) -> np.ndarray:
    """From the study's middle, in 100 mm."""
    z, starts = places.z, places.bounds[:-1]
    lowest, highest = np.minimum.reduceat(z, starts), np.maximum.reduceat(z, starts)
    return (z - ((lowest + highest) / 2)[places.study]) / 100


def step(places: Places) -> np.ndarray:
    """To the next slice (the last one's: from the one before), in 10 mm."""
    steps, last = np.append(np.diff(places.z), 0.0), places.bounds[1:] - 1
    steps[last] = np.where(places.lengths > 1, steps[np.maximum(last - 1, 0)], 0.0)
    return steps / 10


def length(places: Places) -> np.ndarray:
    """Slices of the study, in 40."""
    return places.lengths[places.study] / 40


POSITIONS: dict[str, Callable[[Places], np.ndarray]] = {
    "relative": relative, "mm": millimetres, "step": step, "length": length,
}  # fmt: skip


def slice_positions(slices: pd.DataFrame, bounds: np.ndarray, kinds: Sequence[str]) -> np.ndarray:
    """(n, kinds) float32, see POSITIONS."""
    places = Places(slices, bounds)
    return np.stack([POSITIONS[kind](places) for kind in kinds], 1).astype(np.float32)
