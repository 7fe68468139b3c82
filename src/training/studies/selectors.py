"""Fewer embedding columns: principal components or a choice of columns, fitted on training slices only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ...config import Count, OneOf, StrictModel
from ...errors import UserError
from ...labels import LABEL_WEIGHTS, LABELS


@dataclass(frozen=True)
class Selector:
    """x -> (x - mean) @ columns; of a choice, `columns` has a single 1 in every column."""

    mean: np.ndarray  # (d,) float32
    columns: np.ndarray  # (d, components) float32

    @property
    def out(self) -> int:
        return self.columns.shape[1]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(n, d) -> (n, components)"""
        return (x - self.mean) @ self.columns


def principal_components(x: np.ndarray, y: np.ndarray, components: int, seed: int) -> Selector:
    """Of the columns without scaling."""
    from sklearn.decomposition import PCA

    fitted = PCA(components, svd_solver="covariance_eigh").fit(x)
    return Selector(fitted.mean_.astype(np.float32), fitted.components_.T.astype(np.float32))


def variance_ratio(x: np.ndarray, y: np.ndarray, weights: np.ndarray, seed: int) -> np.ndarray:
    """(d,) F statistic between classes, as a share of each label's sum, averaged over labels."""
    from sklearn.feature_selection import f_classif

    ratios = np.stack([np.nan_to_num(f_classif(x, column)[0]) for column in y.T])
    return weights @ (ratios / np.maximum(ratios.sum(1, keepdims=True), 1e-12))


def tree_importance(x: np.ndarray, y: np.ndarray, weights: np.ndarray, seed: int) -> np.ndarray:
    """(d,) importance in a forest of randomised trees that predict all labels at once."""
    from sklearn.ensemble import ExtraTreesClassifier

    forest = ExtraTreesClassifier(100, min_samples_leaf=10, max_features="sqrt", random_state=seed)
    return forest.fit(x, y).feature_importances_


def svm_weight(x: np.ndarray, y: np.ndarray, weights: np.ndarray, seed: int) -> np.ndarray:
    """(d,) absolute weight in sparse linear support vector machines on standardised columns."""
    from sklearn.svm import LinearSVC

    scaled = (x - x.mean(0)) / np.maximum(x.std(0), 1e-6)
    total = np.zeros(x.shape[1])
    for column, weight in zip(y.T, weights, strict=True):
        svm = LinearSVC(C=0.01, penalty="l1", dual=False, random_state=seed, max_iter=2000)
        total += weight * np.abs(svm.fit(scaled, column).coef_[0])
    return total


Worth = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]


def choice(worth: Worth) -> "Fit":
    """A selector of the columns that are worth the most."""

    def fit(x: np.ndarray, y: np.ndarray, components: int, seed: int) -> Selector:
        mean = x.mean(0)
        both = [k for k in range(len(LABELS)) if 0 < y[:, k].sum() < len(y)]  # one class tells nothing
        weights = np.array([LABEL_WEIGHTS[LABELS[k]] for k in both])
        order = np.argsort(-worth(x, y[:, both], weights, seed), kind="stable")
        columns = np.zeros((x.shape[1], components), np.float32)
        columns[np.sort(order[:components]), np.arange(components)] = 1
        return Selector(mean.astype(np.float32), columns)

    return fit


Fit = Callable[[np.ndarray, np.ndarray, int, int], Selector]
SELECTORS: dict[str, Fit] = {
    "pca": principal_components, "kbest": choice(variance_ratio), "tree": choice(tree_importance),
    "linear_svm": choice(svm_weight),
}  # fmt: skip


class SelectorOptions(StrictModel):
    """Which columns of embeddings are read."""

    selector: Annotated[str, OneOf(("none", *SELECTORS))] = "none"
    """none: all; pca: principal components; kbest, tree, linear_svm: the best by F statistic, in randomised
    trees, in linear support vector machines"""
    components: Count = 120
    """columns a selector leaves"""


def fit_selector(options: SelectorOptions, x: np.ndarray, y: np.ndarray, seed: int) -> Selector:
    """x (n, d) float32, y (n, 6) 0 or 1.  Too small an x is a UserError."""
    if options.components > min(x.shape):
        raise UserError(
            f"components {options.components}: there are {x.shape[1]} columns and {x.shape[0]} slices"
        )
    return SELECTORS[options.selector](x, y, options.components, seed)
