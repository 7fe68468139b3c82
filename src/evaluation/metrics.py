"""The contest's metric and its relatives.  Tables have index image_id and columns LABELS, aligned by key.

The score is (2 * LL_any + sum of the five subtype LL) / 7, LL_j the mean log loss of label j over the images:
six independent binary problems.  Every score depends on the clipping constant `eps`: state it beside.
"""

from typing import Any

import numpy as np
import pandas as pd

from ..errors import UserError
from ..labels import LABEL_WEIGHTS, LABELS, WEIGHT_SUM
from .alignment import label_values, probability_values, series_values

SCORING_EPS = 1e-15
BLOCK = 4_096  # rows whose temporaries stay in the second-level cache
WEIGHTS = np.array([LABEL_WEIGHTS[label] for label in LABELS]) / WEIGHT_SUM  # (6,), sums to 1


def weighted_log_loss(labels: pd.DataFrame, probabilities: pd.DataFrame, eps: float = SCORING_EPS) -> float:
    """The contest's score; probabilities are clipped to [eps, 1 - eps] in float64."""
    return float(label_log_losses(labels, probabilities, eps).to_numpy() @ WEIGHTS)


def label_log_losses(
    labels: pd.DataFrame, probabilities: pd.DataFrame, eps: float = SCORING_EPS
) -> pd.Series:
    """Mean log loss of each label, indexed by LABELS."""
    y, p = label_values(labels), probability_values(probabilities, labels.index)
    if not len(y):
        raise UserError("labels: no image is there to be scored; give labels of the predicted images")
    sums = np.zeros(len(LABELS))
    for start in range(0, len(y), BLOCK):
        block = slice(start, start + BLOCK)
        sums += log_losses(y[block], p[block], eps).sum(axis=0)
    return pd.Series(sums / len(y), list(LABELS), name="log_loss")


def row_losses(labels: pd.DataFrame, probabilities: pd.DataFrame, eps: float = SCORING_EPS) -> np.ndarray:
    """(n, 6) float64 log losses, rows in the order of `labels`; their sums are all a bootstrap needs."""
    return log_losses(label_values(labels), probability_values(probabilities, labels.index), eps)


def log_losses(y: np.ndarray, p: np.ndarray, eps: float = SCORING_EPS) -> np.ndarray:
    """Elementwise binary log loss, p clipped to [eps, 1 - eps] in float64."""
    return -np.log(likelihood(y, p, eps))


def likelihood(y: np.ndarray, p: np.ndarray, eps: float = SCORING_EPS) -> np.ndarray:
    """The probability given to what came true: clipped p where y, 1 - clipped p elsewhere, in float64."""
    p = np.clip(np.asarray(p, np.float64), eps, 1 - eps)
    return np.where(y, p, 1 - p)


def prevalence(labels: pd.DataFrame) -> pd.Series:
    """Share of positive images for each label."""
    return pd.Series(label_values(labels).mean(axis=0), list(LABELS), name="prevalence")


def constant_predictions(probability: pd.Series, index: pd.Index) -> pd.DataFrame:
    """The same probability of each label for every image; `probability` is indexed by LABELS."""
    row = probability[list(LABELS)].to_numpy(np.float64)
    return pd.DataFrame(np.tile(row, (len(index), 1)), index, list(LABELS))


def prevalence_baseline(
    train_labels: pd.DataFrame, labels: pd.DataFrame | None = None, eps: float = SCORING_EPS
) -> float:
    """Score of the constant training prevalence on `labels` (default: on the training labels themselves)."""
    labels = train_labels if labels is None else labels
    return weighted_log_loss(labels, constant_predictions(prevalence(train_labels), labels.index), eps)


def scores_by_group(
    labels: pd.DataFrame, probabilities: pd.DataFrame, groups: pd.Series, eps: float = SCORING_EPS
) -> pd.DataFrame:
    """One row a group (padding, thickness, scanner): images, positives (of `any`), weighted_log_loss, LABELS.

    `groups` is image_id -> group.  A group's loss can be below another's merely because it has fewer
    positives, so `baseline`, the loss of the group's own prevalence, stands beside it.
    """
    losses = row_losses(labels, probabilities, eps)
    y = label_values(labels)
    group = series_values(groups, labels.index, "groups")
    rows = {}
    for name in pd.unique(np.sort(group)):
        inside = group == name
        mean = losses[inside].mean(axis=0)
        rate = np.broadcast_to(y[inside].mean(axis=0), (int(inside.sum()), len(LABELS)))
        rows[name] = {
            "images": int(inside.sum()),
            "positives": int(y[inside, LABELS.index("any")].sum()),
            "weighted_log_loss": float(mean @ WEIGHTS),
            "baseline": float(log_losses(y[inside], rate, eps).mean(axis=0) @ WEIGHTS),
            **dict(zip(LABELS, mean.tolist(), strict=True)),
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.rename_axis(groups.name or "group")


def study_maximum(table: pd.DataFrame, studies: pd.Series) -> pd.DataFrame:
    """Reduce slices to studies by each column's maximum: of labels the study's label, of probabilities the
    usual study score.  `studies` is image_id -> study_id."""
    study = series_values(studies, table.index, "studies")
    return table.groupby(study, sort=True).max().rename_axis("study_id")


def held_out_scores(labels: pd.DataFrame, probabilities: pd.DataFrame) -> dict[str, Any]:
    """What metrics.json says of a fold's held-out predictions."""
    return {
        "score": weighted_log_loss(labels, probabilities),
        "baseline": prevalence_baseline(labels),
        "eps": SCORING_EPS,
        "label_log_losses": label_log_losses(labels, probabilities).to_dict(),
        "positives": labels[list(LABELS)].sum().astype(int).to_dict(),
        "slices": len(labels),
    }
