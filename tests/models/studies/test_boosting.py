"""Boosted trees: neighbours end with the study, means are of every label, the text gives the model back."""

from functools import partial

import numpy as np
import pytest
from scipy.special import expit

from src.errors import UserError
from src.labels import LABELS
from src.models.studies import boosting
from src.models.studies.boosting import BoostedLabels, Boosting, SliceTable, fit_boosting

OPTIONS = Boosting(rounds=20, learning_rate=0.1, leaves=4, slices_in_leaf=5, feature_share=1.0, row_share=1.0)


def table(lengths, seed=0):
    rng = np.random.default_rng(seed)
    count = sum(lengths)
    return SliceTable(
        rng.normal(size=(count, 2, 6)), np.r_[0, np.cumsum(lengths)], rng.normal(size=(count, 1))
    )


def test_neighbours_end_with_the_study_and_means_are_of_every_label():
    scores = np.arange(2 * 5 * 6, dtype=float).reshape(5, 2, 6) / 10
    found = SliceTable(scores, np.array([0, 3, 5]), np.full((5, 1), 7.0)).features("subdural", 2)
    column = LABELS.index("subdural")
    assert found.shape == (5, 12 + 2 * 4 + 6 + 6 + 1 + 1)
    np.testing.assert_allclose(found[:, :12], scores.reshape(5, 12), rtol=1e-6)
    before, after = found[:, 12 + 2 : 12 + 4], found[:, 12 + 4 : 12 + 6]  # distances -2, -1, 1, 2
    assert np.isnan(before[[0, 3]]).all()  # not the end of the study, nor the end of the table
    np.testing.assert_allclose(before[[1, 2, 4]], scores[[0, 1, 3], :, column], rtol=1e-6)
    assert np.isnan(after[[2, 4]]).all()
    np.testing.assert_allclose(after[[0, 1, 3]], scores[[1, 2, 4], :, column], rtol=1e-6)
    probability = expit(scores.mean(1))
    np.testing.assert_allclose(found[3, 20:26], probability[3:].mean(0), rtol=1e-6)
    np.testing.assert_allclose(found[0, 26:32], probability[:3].max(0), rtol=1e-6)
    assert found[:, 32].tolist() == [3, 3, 3, 2, 2]
    assert found[:, 33].tolist() == [7] * 5


def test_what_a_neighbour_shows_is_learned_and_comes_back_from_text():
    data = table([20] * 30)
    labels = np.zeros((600, 6), np.float32)
    labels[:, 5] = np.r_[0, data.scores[:-1, 0, 5]] > 0.5  # `any` as the slice before says; the others never
    features = partial(data.features, neighbours=1)
    model = fit_boosting(features, labels, OPTIONS, seed=0)
    predicted = model.predict(features)
    assert np.mean((predicted[:, 5] > 0) == labels[:, 5]) > 0.95
    assert predicted[:, 0] == pytest.approx(np.log(0.5 / 600.5))  # one class: half a case of the other
    again = BoostedLabels.from_text(model.to_text())
    np.testing.assert_array_equal(again.predict(features), predicted)
    assert again.to_text().splitlines()[:2] == model.to_text().splitlines()[:2]


def test_a_missing_openmp_library_has_a_remedy(monkeypatch):
    import builtins

    real = builtins.__import__

    def fail(name, *arguments):
        if name == "lightgbm":
            raise OSError("libgomp.so.1: cannot open shared object file")
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(UserError, match=r"libgomp.so.1.*apt-get install libgomp1"):
        boosting.lightgbm()
