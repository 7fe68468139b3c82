"""Selectors find the columns that matter; principal components are scikit-learn's."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from src.errors import UserError
from src.training.studies.selectors import SELECTORS, SelectorOptions, fit_selector


@pytest.fixture(scope="module")
def data():
    """Columns 3 and 7 of 20 tell the labels, the second label has one class."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 20)).astype(np.float32)
    y = np.zeros((400, 6))
    y[:, 0], y[:, 5] = x[:, 3] + 0.3 * rng.normal(size=400) > 0.5, x[:, 7] + 0.3 * rng.normal(size=400) > 0
    return x, y


@pytest.mark.parametrize("kind", [name for name in SELECTORS if name != "pca"])
def test_the_columns_that_tell_the_labels_are_chosen(kind, data):
    x, y = data
    selector = fit_selector(SelectorOptions(selector=kind, components=2), x, y, seed=0)
    np.testing.assert_allclose(selector(x), x[:, [3, 7]] - x[:, [3, 7]].mean(0), atol=1e-6)


def test_principal_components_are_those_of_the_library(data):
    x, y = data
    options = SelectorOptions(selector="pca", components=3)
    found, exact = fit_selector(options, x, y, seed=0), PCA(3, svd_solver="full").fit(x)
    np.testing.assert_allclose(np.abs(found.columns.T @ exact.components_.T), np.eye(3), atol=1e-3)


def test_more_components_than_columns_are_refused(data):
    with pytest.raises(UserError, match="components 21: there are 20 columns and 400 slices"):
        fit_selector(SelectorOptions(selector="pca", components=21), *data, seed=0)
