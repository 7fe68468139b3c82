"""Stage 2 by gradient-boosted trees: LightGBM on a slice, its neighbours and its study, one model a label.

After the 11th place of RSNA 2019, whose study mean was that of one label and whose first slices had the last
ones as left neighbours; here a study's means are of every label, and beyond its ends stands NaN, which
LightGBM treats as missing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from scipy.special import expit, logit

from ...config import Count, NotNegative, Positive, StrictModel
from ...errors import UserError
from ...labels import LABELS

HEADER = "# label "


@dataclass(frozen=True)
class SliceTable:
    """What the trees read of n slices that lie study by study in slice order."""

    scores: np.ndarray  # (n, channels, 6): logits of the members, maybe their mean and differences
    bounds: np.ndarray  # (studies + 1,): study i is rows bounds[i]:bounds[i + 1]
    others: np.ndarray  # (n, k): positions, selected embeddings

    def features(self, label: str, neighbours: int) -> np.ndarray:
        """(n, columns) float32: the slice's scores of all labels, the label's at up to `neighbours` slices to
        either side (NaN beyond the study), the study's mean and highest probability of all labels, its
        length, and `others`.
        """
        lengths = np.diff(self.bounds)
        study = np.repeat(np.arange(len(lengths)), lengths)
        own = self.scores[:, :, LABELS.index(label)]
        around = [own[neighbour_rows(self.bounds, study, d)] for d in range(-neighbours, neighbours + 1) if d]
        valid = [within(self.bounds, study, d) for d in range(-neighbours, neighbours + 1) if d]
        around = [np.where(v[:, None], a, np.nan) for a, v in zip(around, valid, strict=True)]
        probability = expit(self.scores.mean(1))
        mean = np.add.reduceat(probability, self.bounds[:-1]) / lengths[:, None]
        highest = np.maximum.reduceat(probability, self.bounds[:-1])
        columns = [
            self.scores.reshape(len(study), -1),
            *around,
            mean[study],
            highest[study],
            lengths[study][:, None],
        ]
        return np.hstack([*columns, self.others]).astype(np.float32)


def within(bounds: np.ndarray, study: np.ndarray, distance: int) -> np.ndarray:
    """(n,) bool: whether the slice `distance` further belongs to the same study."""
    row = np.arange(len(study)) + distance
    return (row >= bounds[study]) & (row < bounds[study + 1])


def neighbour_rows(bounds: np.ndarray, study: np.ndarray, distance: int) -> np.ndarray:
    """(n,) the row `distance` further, kept inside the study."""
    return np.clip(np.arange(len(study)) + distance, bounds[study], bounds[study + 1] - 1)


Features = Callable[[str], np.ndarray]  # label -> (n, columns)


@dataclass(frozen=True)
class BoostedLabels:
    """A LightGBM model a label; a label with one class only has a constant logit in its place."""

    models: Mapping[str, Any]  # label -> lightgbm.Booster or float

    def predict(self, features: Features) -> np.ndarray:
        """(n, 6) float64 logits"""
        columns = []
        for label in LABELS:
            x, model = features(label), self.models[label]
            constant = isinstance(model, float)
            columns.append(np.full(len(x), model) if constant else model.predict(x, raw_score=True))
        return np.stack(columns, 1)

    def gains(self) -> dict[str, np.ndarray | None]:
        """label -> (columns,) how much the trees' splits on each column gained; None for a constant."""
        return {
            label: None if isinstance(model, float) else model.feature_importance("gain")
            for label, model in self.models.items()
        }

    def to_text(self) -> str:
        """model.txt: LightGBM's own text for every label, below a line that names it."""
        parts = []
        for label, model in self.models.items():
            if isinstance(model, float):
                parts.append(f"{HEADER}{label} constant {model!r}\n")
            else:
                parts.append(f"{HEADER}{label}\n{model.model_to_string()}\n")
        return "".join(parts)

    @classmethod
    def from_text(cls, text: str) -> "BoostedLabels":
        """The inverse of `to_text`."""
        models: dict[str, Any] = {}
        for part in text.split(HEADER)[1:]:
            head, _, body = part.partition("\n")
            label, *constant = head.split()
            models[label] = float(constant[1]) if constant else lightgbm().Booster(model_str=body)
        return cls(models)


class Boosting(StrictModel):
    """Gradient-boosted trees on a slice and its neighbours, one model a label."""

    neighbours: Annotated[int, Field(ge=0)] = 9
    """slices to either side"""
    rounds: Count = 300
    """trees of a label"""
    learning_rate: Positive = 0.03
    """share of its answer that a tree adds"""
    leaves: Annotated[int, Field(ge=2)] = 15
    """leaves of a tree at most"""
    slices_in_leaf: Count = 20
    """training slices that a leaf has at least"""
    feature_share: Positive = 0.5
    """share of the columns, drawn for every tree"""
    row_share: Positive = 0.8
    """share of the slices, drawn for every tree"""
    l2: NotNegative = 1.0
    """penalty on the squares of the leaves' answers"""


def fit_boosting(features: Features, labels: np.ndarray, options: Boosting, seed: int) -> BoostedLabels:
    """labels (n, 6), 0 or 1 -> a model a label; the same bits for the same data and seed."""
    parameters = {
        "objective": "binary", "learning_rate": options.learning_rate, "num_leaves": options.leaves,
        "lambda_l2": options.l2, "min_data_in_leaf": options.slices_in_leaf,
        "feature_fraction": options.feature_share, "bagging_fraction": options.row_share, "bagging_freq": 1,
        "max_bin": 63, "seed": seed, "num_threads": 1, "deterministic": True, "force_row_wise": True,
        "verbosity": -1,
    }  # fmt: skip
    models: dict[str, Any] = {}
    for column, label in enumerate(LABELS):
        y = np.ascontiguousarray(labels[:, column])
        if (
            y.min() == y.max()
        ):  # half a case of the other class, or the first one seen would cost without bound
            models[label] = float(logit((y.sum() + 0.5) / (len(y) + 1)))
            continue
        data = lightgbm().Dataset(features(label), y, params={"verbosity": -1, "max_bin": 63})
        models[label] = lightgbm().train(parameters, data, options.rounds)
    return BoostedLabels(models)


def lightgbm() -> Any:
    """The library; where the system lacks the OpenMP library it needs, a UserError that says so."""
    try:
        import lightgbm
    except ImportError:
        raise UserError("LightGBM is not installed; run: pip install -r requirements.txt") from None
    except OSError as error:
        raise UserError(
            f"LightGBM cannot start ({error}); install the OpenMP library, on Debian or Ubuntu: "
            "apt-get install libgomp1"
        ) from None
    return lightgbm
