"""Batches of runs of adjacent slices: their real slices in a row, and a mask that says where studies end."""

from abc import ABC, abstractmethod
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from ..engine import distributed
from ..engine.precision import Batch
from ..slices.draws import Draw
from ..slices.slice_batches import SliceBatches


class StudyRowBatches(SliceBatches, ABC):
    """Training batches of slices that belong together by study; `mask` (b, s) is True for real slices.

    Of several processes each has whole studies; the mean of their losses times `weight` is the loss of the
    whole batch.
    """

    def prepare_epochs(self, slices: pd.DataFrame) -> None:
        studies = slices["study_id"].to_numpy()
        starts = np.flatnonzero(np.r_[True, studies[1:] != studies[:-1]])
        self.bounds = np.append(starts, len(studies))  # study i is rows bounds[i]:bounds[i + 1]
        self.study = np.repeat(np.arange(len(starts)), np.diff(self.bounds))
        self.samples = len(starts)
        self.steps = max(1, self.samples // self.config.batch_size)

    @abstractmethod
    def pick(self, study: int, rng: np.random.Generator) -> np.ndarray:
        """The rows that a study gives to an epoch."""

    def rows(self, epoch: int) -> list[np.ndarray]:
        rng, size = np.random.default_rng((self.config.seed, epoch)), self.config.batch_size
        picks = [self.pick(study, rng) for study in rng.permutation(self.samples)]
        return [np.concatenate(picks[index * size : (index + 1) * size]) for index in range(self.steps)]

    def own(self, rows: np.ndarray) -> np.ndarray:
        """Whole studies."""
        number = self._numbers(rows)
        return np.flatnonzero(number % distributed.world_size() == distributed.rank())

    def drawn(self, rows: np.ndarray, seed: tuple[int, int, int]) -> Draw:
        numbers = super().drawn(rows, seed)
        if self.config.draws == "slice":
            return numbers
        number = self._numbers(rows)
        shared = numbers.part(np.searchsorted(number, number))  # of the study's first slice
        kept = ("noise_seeds", "partners", "kept", "pastes")
        return replace(shared, **{name: getattr(numbers, name) for name in kept})

    def batch(self, rows: np.ndarray, seed: tuple[int, int, int]) -> Batch:
        batch = super().batch(rows, seed)
        own = self.own(rows)
        lengths = np.unique(self._numbers(rows[own]), return_counts=True)[1]
        mask = torch.from_numpy(np.arange(lengths.max()) < lengths[:, None])
        weight = distributed.world_size() * len(own) / len(rows)
        return batch | {"mask": mask.pin_memory() if self.pinned else mask, "weight": weight}

    def _numbers(self, rows: np.ndarray) -> np.ndarray:
        """(n,) 0, 0, ..., 1, 1, ...: which of the batch's studies a row is of."""
        study = self.study[rows]
        return np.cumsum(np.r_[0, study[1:] != study[:-1]])


class SequenceBatches(StudyRowBatches):
    """Runs of `length` adjacent slices around a uniformly drawn one, moved to stay inside the study."""

    def pick(self, study: int, rng: np.random.Generator) -> np.ndarray:
        first, end = self.bounds[study], self.bounds[study + 1]
        length = min(self.config.length, end - first)
        start = rng.integers(first, end) - length // 2
        return np.clip(start, first, end - length) + np.arange(length)
