"""The predictions to be combined, read column by column in one order without copying the tables, and the
spaces they are averaged in: as probabilities, or as logits (their geometric mean, renormalised).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from ...errors import UserError
from ...labels import LABELS
from ..alignment import positions, require_label_columns
from ..metrics import likelihood
from .simplex import RowLoss, logistic, negative_log


@dataclass(frozen=True)
class Space:
    """Members go `into` the space, are averaged there and come `back`; `agreement` of a row is the member's
    value for what came true, in which the blend's `row_loss` is convex."""

    name: str
    into: Callable[[np.ndarray, float], np.ndarray]  # (p, eps) -> value
    back: Callable[[np.ndarray], np.ndarray]  # mean value -> p
    agreement: Callable[[np.ndarray, np.ndarray, float], np.ndarray]  # (y, p, eps) -> value
    row_loss: RowLoss


def _logit(p: np.ndarray, eps: float) -> np.ndarray:
    return logit(np.clip(p, eps, 1 - eps))


def _signed_logit(y: np.ndarray, p: np.ndarray, eps: float) -> np.ndarray:
    value = _logit(p, eps)
    return np.where(y, value, -value)


SPACES = {
    "probability": Space("probability", lambda p, eps: p, lambda value: value, likelihood, negative_log),
    "logit": Space("logit", _logit, expit, _signed_logit, logistic),
}


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
