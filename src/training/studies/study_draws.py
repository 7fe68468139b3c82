"""The random numbers of an epoch of stage 2: which slices of every study are read, in which order."""

import numpy as np

from ...config import Count, Fraction, StrictModel

SHORTEST_SUBSAMPLED = 10  # a study of fewer slices keeps all


class StudyDrawOptions(StrictModel):
    """Random changes of a training study."""

    crop: Count | None = None
    """longest run of neighbouring slices a study gives"""
    subsample: Fraction = 0.0
    """share of studies of which every second slice is taken"""
    reverse: Fraction = 0.0
    """share of studies read from the other end"""
    slice_dropout: Fraction = 0.0
    """share of slices hidden as if they could not be read"""


def draw_slices(lengths: np.ndarray, options: StudyDrawOptions, rng: np.random.Generator) -> list[np.ndarray]:
    """The slices each study gives in this epoch: every second one, a run of them, read from either end."""
    count = len(lengths)
    halved = (rng.random(count) < options.subsample) & (lengths > SHORTEST_SUBSAMPLED)
    phase, place = rng.integers(0, 2, count), rng.random(count)
    reverse = rng.random(count) < options.reverse
    picks = []
    for study, length in enumerate(lengths):
        pick = np.arange(length)
        if halved[study]:
            pick = pick[phase[study] :: 2]
        if options.crop is not None and len(pick) > options.crop:
            first = int(place[study] * (len(pick) - options.crop + 1))
            pick = pick[first : first + options.crop]
        picks.append(pick[::-1] if reverse[study] else pick)
    return picks


def draw_hidden(length: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """(length,) bool: slices to hide; one is always left."""
    hidden = rng.random(length) < share
    if hidden.all():
        hidden[rng.integers(length)] = False
    return hidden
