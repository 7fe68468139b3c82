"""Cross-fitting by patient group: what is fitted on some groups is scored on others."""

import numpy as np
import pandas as pd

from ...errors import UserError

Held = frozenset[int]  # folds that have no part in a fit
NOTHING: Held = frozenset()


class PatientFolds:
    """Folds of patient groups, dealt so that each gets its share of the rare labels.

    y: (n, labels) bool; patients: (n,) the patient, or the group of linked patients, of each row.  The folds
    depend on the groups and the seed, not on the order of rows.  Fewer groups than `folds` give as many folds
    as groups; fewer than 2 are an error.

    fold: (n,) int, the fold of each row.  order: (n,) rows sorted by fold; rows order[start:stop] of
    parts[k] = (start, stop) are fold k.
    """

    def __init__(self, y: np.ndarray, patients: np.ndarray, folds: int, seed: int):
        code, names = pd.factorize(patients, sort=True)
        if len(names) < 2:
            raise UserError(f"cross-fitting needs at least 2 patients, got {len(names)}; add data")
        self.count = min(folds, len(names))
        positive = np.stack([np.bincount(code, column, len(names)) > 0 for column in y.T], axis=1)
        rarity = positive @ (1 / np.maximum(positive.mean(axis=0), 1 / len(names)))
        shuffled = np.random.default_rng(seed).permutation(len(names))
        dealt = np.lexsort((shuffled, -rarity))
        fold_of_patient = np.empty(len(names), np.int64)
        fold_of_patient[dealt] = np.arange(len(names)) % self.count
        self.patients = len(names)
        self.fold = fold_of_patient[code]
        self.order = np.argsort(self.fold, kind="stable")
        ends = np.cumsum(np.bincount(self.fold, minlength=self.count))
        self.parts = list(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))

    def outside(self, held: Held) -> list[int]:
        """The folds to fit on when those in `held` are left out."""
        return [fold for fold in range(self.count) if fold not in held]

    def parts_outside(self, held: Held) -> list[tuple[int, int]]:
        """The parts of `order` to fit on."""
        return [self.parts[fold] for fold in self.outside(held)]

    def rows_outside(self, held: Held) -> np.ndarray:
        """(n,) bool"""
        return np.isin(self.fold, self.outside(held))
