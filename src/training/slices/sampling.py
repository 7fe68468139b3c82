"""Which training slices an epoch shows, and in which order: a function of (seed, epoch) alone."""

import numpy as np
import pandas as pd

from ...errors import UserError
from ...labels import LABELS, SUBTYPES
from .slice_config import SliceConfig


class Sampler:
    """all         every slice once
    per_study      `slices_per_study` draws from every study, each slice as likely as another
    mid_slices     the same, a slice i of n weighing max(1, int(min(i, n - i) / 4)) (1st place)
    balanced       as many draws as there are slices; none and each subtype are equally likely to be drawn for

    The draws of the last three are with replacement. `balanced` changes the prevalence, hence the
    probabilities: use it with a calibration step or a second stage.
    """

    def __init__(self, slices: pd.DataFrame, config: SliceConfig):
        """slices: study_id and LABELS, rows of a study together and in order."""
        self.kind, self.seed, self.count = config.sampling, config.seed, len(slices)
        if self.kind in ("per_study", "mid_slices"):
            studies = slices["study_id"].to_numpy()
            starts = np.flatnonzero(np.r_[True, studies[1:] != studies[:-1]])
            self.bounds = np.append(starts, len(studies))
            self.per_study = config.slices_per_study
            self.count = len(starts) * self.per_study
        elif self.kind == "balanced":
            self.weights = balanced_weights(slices)

    def __len__(self) -> int:
        """Slices an epoch."""
        return self.count

    def order(self, epoch: int) -> np.ndarray:
        """Row numbers, as many as `len(self)`."""
        rng = np.random.default_rng((self.seed, epoch))
        if self.kind == "all":
            return rng.permutation(self.count)
        if self.kind == "balanced":
            return rng.choice(self.count, self.count, p=self.weights)
        drawn = [
            self.bounds[study] + rng.choice(size, self.per_study, p=self._study_weights(size))
            for study, size in enumerate(np.diff(self.bounds))
        ]
        return rng.permutation(np.concatenate(drawn))

    def _study_weights(self, size: int) -> np.ndarray:
        if self.kind == "per_study":
            return np.full(size, 1 / size)
        weights = mid_slice_weights(size)
        return weights / weights.sum()


def mid_slice_weights(size: int) -> np.ndarray:
    """(size,) max(1, int(min(i, size - i) / 4)): 1 at the ends, the most in the middle."""
    index = np.arange(size)
    return np.maximum(1, np.minimum(index, size - index) // 4).astype(np.float64)


def balanced_weights(slices: pd.DataFrame) -> np.ndarray:
    """(n,) probabilities: no bleeding and every subtype that occurs have the same total, shared equally."""
    groups = slices[list(SUBTYPES)].to_numpy(np.float64)
    groups = np.column_stack([groups, slices[LABELS[-1]].to_numpy(np.float64) == 0])
    sizes = groups.sum(0)
    return (groups[:, sizes > 0] / sizes[sizes > 0]).sum(1) / np.count_nonzero(sizes)


def trainable(slices: pd.DataFrame, config: SliceConfig) -> pd.DataFrame:
    """Training slices that span at least `min_brain_range` HU within 0 to 80 (11th place's `brain_diff`)."""
    if not config.min_brain_range:
        return slices
    span = slices["hu_max"].clip(0, 80) - slices["hu_min"].clip(0, 80)
    kept = slices[(span >= config.min_brain_range).fillna(False).astype(bool)]
    if kept.empty:
        raise UserError(
            f"min_brain_range {config.min_brain_range}: no training slice spans that many HU within 0 to 80"
        )
    return kept
