"""Which slices of a study are the frames of its video."""

from collections.abc import Callable

import numpy as np


def evenly(slices: int, frames: int) -> np.ndarray:
    """(frames,) numbers from 0 to slices - 1 in equal steps, rounded."""
    return np.linspace(0, slices - 1, frames).round().astype(np.int64)


def first(slices: int, frames: int) -> np.ndarray:
    """(frames,) 0, 1, 2 ..., the last slice again where there are fewer."""
    return np.minimum(np.arange(frames), slices - 1)


FRAMES: dict[str, Callable[[int, int], np.ndarray]] = {"evenly": evenly, "first": first}
