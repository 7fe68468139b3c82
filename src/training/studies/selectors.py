"""Fewer embedding columns: principal components or a choice of columns, fitted on training slices only."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

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


def fit_selector(kind: str, x: np.ndarray, y: np.ndarray, components: int, seed: int) -> Selector:
    """x (n, d) float32, y (n, 6) 0 or 1; kind: `pca` or one of SELECTORS.  Too small an x is a UserError."""
    if components > min(x.shape):
        raise UserError(
            f"components {components}: there are {x.shape[1]} columns and {x.shape[0]} slices to fit on"
        )
    mean = x.mean(0)
    if kind == "pca":
        from sklearn.decomposition import PCA

        fitted = PCA(components, svd_solver="covariance_eigh").fit(x)
        return Selector(fitted.mean_.astype(np.float32), fitted.components_.T.astype(np.float32))
    both = [k for k in range(len(LABELS)) if 0 < y[:, k].sum() < len(y)]  # a label of one class tells nothing
    weights = np.array([LABEL_WEIGHTS[LABELS[k]] for k in both])
    worth = SELECTORS[kind](x, y[:, both], weights, seed)
    chosen = np.sort(np.argsort(-worth, kind="stable")[:components])
    columns = np.zeros((x.shape[1], components), np.float32)
    columns[chosen, np.arange(components)] = 1
    return Selector(mean.astype(np.float32), columns)


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
SELECTORS: dict[str, Worth] = {"kbest": variance_ratio, "tree": tree_importance, "linear_svm": svm_weight}
