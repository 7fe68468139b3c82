"""The studies on which predictions do worst: by their loss, by missed bleeding, by false alarm."""

from itertools import chain, zip_longest
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..labels import LABELS
from .alignment import label_values, probability_values, series_values
from .metrics import WEIGHTS, log_losses

ANY = LABELS.index("any")


class WorstSlice(NamedTuple):
    """Of a study, the slice with the highest loss, and the label that costs most on it."""

    image_id: str
    label: str
    positive: bool
    probability: float


class HardStudy(NamedTuple):
    """loss: mean over its slices; positives: slices with each label; highest: probability of each label."""

    study_id: str
    slices: int
    loss: float
    positives: dict[str, int]
    highest: dict[str, float]
    worst: WorstSlice


class Hardest(NamedTuple):
    """The worst first. missed: of the studies with bleeding those with the lowest probability of it; alarms:
    of the studies without bleeding those with the highest."""

    loss: list[HardStudy]
    missed: list[HardStudy]
    alarms: list[HardStudy]

    @property
    def study_ids(self) -> list[str]:
        """Without repetition: the first of every kind, then the second of every kind, and so on."""
        turns = zip_longest(self.missed, self.alarms, self.loss)
        return list(dict.fromkeys(study.study_id for study in chain.from_iterable(turns) if study))


def hardest_studies(
    labels: pd.DataFrame, probabilities: pd.DataFrame, studies: pd.Series, each: int
) -> Hardest:
    """At most `each` of a kind. Tables: index image_id, columns LABELS; studies: image_id -> study_id. A
    study's probability of bleeding is the maximum over its slices; of equal studies the first by name.
    """
    y, p = label_values(labels), probability_values(probabilities, labels.index)
    losses = log_losses(y, p) * WEIGHTS
    names, study = np.unique(series_values(studies, labels.index, "studies").astype(str), return_inverse=True)
    loss = np.bincount(study, losses.sum(axis=1)) / np.bincount(study)
    highest = np.zeros(len(names))
    np.maximum.at(highest, study, p[:, ANY])
    bleeding = np.bincount(study, y[:, ANY]) > 0
    numbers = {
        "loss": np.argsort(-loss, kind="stable"),
        "missed": _ordered(np.flatnonzero(bleeding), highest),
        "alarms": _ordered(np.flatnonzero(~bleeding), -highest),
    }

    def described(number: int) -> HardStudy:
        rows = np.flatnonzero(study == number)
        return _described(str(names[number]), labels.index[rows], y[rows], p[rows], losses[rows])

    return Hardest(**{kind: [described(n) for n in found[:each]] for kind, found in numbers.items()})


def _ordered(numbers: np.ndarray, value: np.ndarray) -> np.ndarray:
    """By rising value."""
    return numbers[np.argsort(value[numbers], kind="stable")]


def _described(name: str, ids: pd.Index, y: np.ndarray, p: np.ndarray, losses: np.ndarray) -> HardStudy:
    row = int(losses.sum(axis=1).argmax())
    column = int(losses[row].argmax())
    worst = WorstSlice(str(ids[row]), LABELS[column], bool(y[row, column]), float(p[row, column]))
    counts, highest = (dict(zip(LABELS, v.tolist(), strict=True)) for v in (y.sum(axis=0), p.max(axis=0)))
    return HardStudy(name, len(ids), float(losses.sum(axis=1).mean()), counts, highest, worst)
