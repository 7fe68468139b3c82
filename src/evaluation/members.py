"""The predictions to be combined, read column by column in one order without copying the tables."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ..errors import UserError
from ..labels import LABELS
from .alignment import positions, require_label_columns
from .spaces import Space


class Members:
    """members: name -> table (index image_id, columns LABELS) of the images in `index`, in any order."""

    def __init__(self, members: Mapping[str, pd.DataFrame], index: pd.Index):
        if not members:
            raise UserError("a blend needs at least one member; train a model first")
        for name, table in members.items():
            require_label_columns(table, name)
        self.names, self.index, self._tables = list(members), index, dict(members)
        self._order = {name: positions(index, table.index, name) for name, table in members.items()}

    def __len__(self) -> int:
        return len(self.names)

    def column(self, name: str, label: str) -> np.ndarray:
        """(n,) probabilities in the table's own precision, checked to lie in [0, 1]."""
        p = self._tables[name][label].to_numpy()
        good = (p >= 0) & (p <= 1)
        if not good.all():
            image = self._tables[name].index[int(good.argmin())]
            raise UserError(f"{name}: {image} has no probability in [0, 1] for {label}; predict again")
        order = self._order[name]
        return p if order is None else p[order]

    def mix(self, weights: np.ndarray, fold: np.ndarray | None, space: Space, eps: float) -> np.ndarray:
        """(n, 6) float64: row r is averaged with weights[fold[r]].

        weights: (folds, members, 6); fold: (n,) int, or None where there is one set of weights.
        """
        result = np.zeros((len(self.index), len(LABELS)))
        for column, label in enumerate(LABELS):
            for m, name in enumerate(self.names):
                by_fold = weights[:, m, column]
                if by_fold.any():
                    value = space.into(self.column(name, label).astype(np.float64), eps)
                    result[:, column] += value * (by_fold[0] if fold is None else by_fold[fold])
        # weights sum to 1 up to rounding, so a mean of ones may end a hair above 1
        return np.clip(space.back(result), 0, 1)
