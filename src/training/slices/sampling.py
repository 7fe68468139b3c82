"""Which training slices an epoch shows, and in which order: a function of (seed, epoch) alone."""

from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import model_validator

from ...config import Count, Fraction, NotNegative, OneOf, StrictModel
from ...data.prepared import Prepared
from ...errors import UserError
from ...labels import LABELS, SUBTYPES

READ_AT_ONCE = 256  # slices


class Sampler:
    """Every slice once."""

    changes_prevalence = False

    def __init__(self, slices: pd.DataFrame, options: "SamplingOptions", seed: int):
        """slices: study_id and LABELS, rows of a study together and in order."""
        self.seed, self.count = seed, len(slices)

    def __len__(self) -> int:
        """Slices an epoch."""
        return self.count

    def order(self, epoch: int) -> np.ndarray:
        """Row numbers, as many as `len(self)`."""
        return self._draw(np.random.default_rng((self.seed, epoch)))

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        return rng.permutation(self.count)


class PerStudy(Sampler):
    """`slices_per_study` draws with replacement from every study, each slice as likely as another."""

    def __init__(self, slices: pd.DataFrame, options: "SamplingOptions", seed: int):
        super().__init__(slices, options, seed)
        studies = slices["study_id"].to_numpy()
        starts = np.flatnonzero(np.r_[True, studies[1:] != studies[:-1]])
        self.bounds = np.append(starts, len(studies))
        self.per_study = options.slices_per_study
        self.count = len(starts) * self.per_study

    def weights(self, size: int) -> np.ndarray:
        """(size,) how likely each slice of a study is drawn, against the others."""
        return np.ones(size)

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        drawn = []
        for start, size in zip(self.bounds[:-1], np.diff(self.bounds), strict=True):
            weights = self.weights(size)
            drawn.append(start + rng.choice(size, self.per_study, p=weights / weights.sum()))
        return rng.permutation(np.concatenate(drawn))


def mid_slice_weights(size: int) -> np.ndarray:
    """(size,) max(1, int(min(i, size - i) / 4)): 1 at the ends, the most in the middle (1st place)."""
    index = np.arange(size)
    return np.maximum(1, np.minimum(index, size - index) // 4).astype(np.float64)


class MidSlices(PerStudy):
    """As PerStudy, the middle of a study more often than its ends."""

    def weights(self, size: int) -> np.ndarray:
        return mid_slice_weights(size)


class Balanced(Sampler):
    """As many draws with replacement as there are slices; no bleeding and each subtype are equally likely to
    be drawn for.

    Changes the prevalence, hence the probabilities: use it with a calibration step or a second stage.
    """

    changes_prevalence = True

    def __init__(self, slices: pd.DataFrame, options: "SamplingOptions", seed: int):
        super().__init__(slices, options, seed)
        self.weights = balanced_weights(slices)

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        return rng.choice(self.count, self.count, p=self.weights)


def balanced_weights(slices: pd.DataFrame) -> np.ndarray:
    """(n,) probabilities: no bleeding and every subtype that occurs have the same total, shared equally; a
    soft label is that part of a slice.
    """
    groups = slices[list(SUBTYPES)].to_numpy(np.float64)
    groups = np.column_stack([groups, 1 - slices[LABELS[-1]].to_numpy(np.float64)])
    sizes = groups.sum(0)
    return (groups[:, sizes > 0] / sizes[sizes > 0]).sum(1) / np.count_nonzero(sizes)


SAMPLINGS = {"all": Sampler, "per_study": PerStudy, "mid_slices": MidSlices, "balanced": Balanced}


class SamplingOptions(StrictModel):
    """The slices of an epoch."""

    sampling: Annotated[str, OneOf(SAMPLINGS)] = "all"
    """all: every slice once; per_study: some of every study; mid_slices: likewise, more of its middle;
    balanced: no bleeding and each subtype equally often, which makes the probabilities too high"""
    slices_per_study: Count = 4
    """per_study and mid_slices: drawn from each study in an epoch"""
    min_brain_range: NotNegative = 0.0
    """HU within 0 to 80 that a training slice must span: leaves out blank ones"""
    min_brain_share: Fraction = 0.0
    """of the most brain that a slice of its study shows, what a training slice must show: stands in for a
    choice of informative slices by hand"""
    first_slices: Count | None = None
    """that each study gives to training, from its lowest up; null: all. All slices are predicted"""
    replication: Annotated[str, OneOf(("none", "minority", "paper"))] = "none"
    """copies of rare classes of presence and location; minority: in the training part; paper: before a split
    by slice, which leaks"""

    @model_validator(mode="after")
    def _count_has_effect(self) -> "SamplingOptions":
        changed = self.slices_per_study != type(self).model_fields["slices_per_study"].default
        if changed and not issubclass(SAMPLINGS[self.sampling], PerStudy):
            raise ValueError(f"slices_per_study: has no effect on sampling {self.sampling}; leave it out")
        return self


def brain_areas(prepared: Prepared, slices: pd.DataFrame) -> np.ndarray:
    """(n,) share of each slice within 0 to 80 HU, or between black and white where it is a picture."""
    white = np.where(slices["units"] == "gray", 255, 80)[:, None, None]
    ids, areas = slices["image_id"].tolist(), np.empty(len(slices))
    for start in range(0, len(ids), READ_AT_ONCE):
        part = slice(start, start + READ_AT_ONCE)
        values = prepared.volumes.slices(ids[part])
        areas[part] = ((values > 0) & (values < white[part])).mean((1, 2))
    return areas


def build_sampler(slices: pd.DataFrame, options: SamplingOptions, seed: int) -> Sampler:
    """slices: study_id and LABELS, rows of a study together and in order."""
    return SAMPLINGS[options.sampling](slices, options, seed)


def trainable(slices: pd.DataFrame, options: SamplingOptions, prepared: Prepared) -> pd.DataFrame:
    """Training slices that span at least `min_brain_range` HU within 0 to 80 (11th place's `brain_diff`),
    show `min_brain_share` of the most brain of their study and are among its `first_slices`.
    """
    if options.min_brain_share:
        areas = pd.Series(brain_areas(prepared, slices), slices.index)
        most = areas.groupby(slices["study_id"]).transform("max")
        slices = slices[areas >= options.min_brain_share * most]
    if options.first_slices is not None:
        studies = map(prepared.volumes.study_images, slices["study_id"].unique())
        slices = slices[slices["image_id"].isin([i for ids in studies for i in ids[: options.first_slices]])]
    if not options.min_brain_range:
        return slices
    span = slices["hu_max"].clip(0, 80) - slices["hu_min"].clip(0, 80)
    kept = slices[(span >= options.min_brain_range).fillna(False).astype(bool)]
    if kept.empty:
        raise UserError(
            f"min_brain_range {options.min_brain_range}: no training slice spans that many HU within 0 to 80"
        )
    return kept
