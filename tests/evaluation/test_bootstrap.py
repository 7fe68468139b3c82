"""The patient bootstrap: equal to resampling rows, honest about clusters, blind to the order of rows."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from src.errors import UserError
from src.evaluation.bootstrap import (
    PatientBootstrap,
    bootstrap_auc,
    bootstrap_auc_difference,
    bootstrap_average_precision,
    bootstrap_label_log_losses,
    bootstrap_weighted_log_loss,
    bootstrap_weighted_log_loss_difference,
    bootstrap_weighted_log_loss_ratio,
)
from src.evaluation.metrics import label_log_losses, weighted_log_loss
from src.evaluation.reliability import calibration_sums, error_from_sums, expected_calibration_error
from src.labels import LABELS


def tables(
    patients: int, slices: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.Series]:
    """Labels, a good and a worse prediction, image_id -> patient; the slices of a patient are alike."""
    rng = np.random.default_rng(seed)
    index = pd.Index([f"ID_{row:05d}" for row in range(patients * slices)], name="image_id")
    patient = pd.Series(np.repeat([f"p{k:03d}" for k in range(patients)], slices), index)
    z = np.repeat(rng.normal(-1, 2, (patients, 6)), slices, axis=0) + rng.normal(0, 0.3, (len(index), 6))
    truth = 1 / (1 + np.exp(-z))
    y = pd.DataFrame((rng.random(z.shape) < truth).astype("int8"), index, list(LABELS))
    good, worse = (1 / (1 + np.exp(-z - rng.normal(0, s, z.shape))) for s in (0.5, 1.0))
    return y, *(pd.DataFrame(p, index, list(LABELS)) for p in (good, worse)), patient


Y, GOOD, WORSE, PATIENTS = tables(40, 10, 0)


def resampled_rows(replicates: int, seed: int) -> list[np.ndarray]:
    """The peer: concatenate the rows of the drawn patients."""
    names = sorted(PATIENTS.unique())
    rows = {name: np.flatnonzero(PATIENTS.to_numpy() == name) for name in names}
    rng = np.random.default_rng(seed)
    draws = [rng.integers(0, len(names), len(names)) for _ in range(replicates)]
    return [np.concatenate([rows[names[k]] for k in draw]) for draw in draws]


def test_log_loss_equals_scoring_the_resampled_rows():
    def score(p: pd.DataFrame, rows: np.ndarray) -> float:
        return weighted_log_loss(Y.iloc[rows].reset_index(drop=True), p.iloc[rows].reset_index(drop=True))

    samples = resampled_rows(60, seed=3)
    good, worse = (np.array([score(p, rows) for rows in samples]) for p in (GOOD, WORSE))
    options = {"replicates": 60, "seed": 3}
    for found, estimate, replicates in (
        (bootstrap_weighted_log_loss(Y, GOOD, PATIENTS, **options), weighted_log_loss(Y, GOOD), good),
        (
            bootstrap_weighted_log_loss_difference(Y, GOOD, WORSE, PATIENTS, **options),
            weighted_log_loss(Y, GOOD) - weighted_log_loss(Y, WORSE),
            good - worse,
        ),
        (
            bootstrap_weighted_log_loss_ratio(Y, GOOD, WORSE, PATIENTS, **options),
            weighted_log_loss(Y, GOOD) / weighted_log_loss(Y, WORSE),
            good / worse,
        ),
    ):
        assert found == pytest.approx((estimate, *np.quantile(replicates, [0.025, 0.975])), rel=1e-12)


def test_auc_equals_scoring_the_resampled_rows():
    samples = resampled_rows(40, seed=5)
    areas = [[roc_auc_score(Y[label].iloc[r], GOOD[label].iloc[r]) for label in LABELS] for r in samples]
    found = bootstrap_auc(Y, GOOD, PATIENTS, replicates=40, seed=5)
    expected = np.quantile(areas, [0.025, 0.975], axis=0).T
    np.testing.assert_allclose(found.loc[list(LABELS), ["low", "high"]], expected, rtol=1e-12)
    macro = np.quantile(np.mean(areas, axis=1), [0.025, 0.975])
    np.testing.assert_allclose(found.loc["macro", ["low", "high"]].astype(float), macro, rtol=1e-12)
    assert found.loc["macro", "estimate"] == pytest.approx(found.loc[list(LABELS), "estimate"].mean())


def test_the_order_of_rows_does_not_matter():
    shuffled = Y.sample(frac=1, random_state=0)
    first = bootstrap_weighted_log_loss(Y, GOOD, PATIENTS, replicates=50)
    second = bootstrap_weighted_log_loss(shuffled, GOOD, PATIENTS, replicates=50)
    assert first == pytest.approx(second, rel=1e-12)


def test_alike_slices_widen_the_interval():
    by_patient = bootstrap_weighted_log_loss(Y, WORSE, PATIENTS)
    by_slice = bootstrap_weighted_log_loss(Y, WORSE, pd.Series(Y.index, Y.index))
    assert by_patient.estimate == by_slice.estimate
    assert by_patient.high - by_patient.low > 1.2 * (by_slice.high - by_slice.low)


def test_pairing_sees_a_difference_that_two_intervals_hide():
    one, other = (bootstrap_weighted_log_loss(Y, p, PATIENTS) for p in (GOOD, WORSE))
    assert one.high > other.low  # the intervals overlap
    assert bootstrap_weighted_log_loss_difference(Y, GOOD, WORSE, PATIENTS).high < 0
    assert bootstrap_weighted_log_loss_ratio(Y, GOOD, WORSE, PATIENTS).high < 1
    assert bootstrap_auc_difference(Y, GOOD, WORSE, PATIENTS, replicates=100).loc["macro", "low"] > 0


def test_each_label_has_its_interval():
    found = bootstrap_label_log_losses(Y, GOOD, PATIENTS, replicates=50)
    np.testing.assert_allclose(found["estimate"], label_log_losses(Y, GOOD), rtol=1e-12)
    assert ((found["low"] < found["estimate"]) & (found["estimate"] < found["high"])).all()


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        patient = np.repeat(np.arange(60), 5)
        values = np.repeat(rng.normal(0, 1, 60), 5) + rng.normal(0, 1, 300)
        rows = np.stack([values, np.ones(300)], axis=1)
        interval = PatientBootstrap(patient, 200, trial).interval(rows, lambda s: s[..., 0] / s[..., 1])
        covered += interval.low <= 0 <= interval.high
    assert 0.89 <= covered / 200 <= 0.98


def test_anything_made_of_sums_can_be_resampled():
    y, p = Y["any"].to_numpy() == 1, GOOD["any"].to_numpy()
    found = PatientBootstrap(PATIENTS.to_numpy(), 100).interval(calibration_sums(y, p), error_from_sums)
    assert found.estimate == pytest.approx(expected_calibration_error(y, p), rel=1e-12)
    assert found.low < found.high


def test_a_label_without_positives_is_reported_as_undefined():
    none = Y.assign(epidural=0)
    for table in (
        bootstrap_auc(none, GOOD, PATIENTS, replicates=20),
        bootstrap_average_precision(none, GOOD, PATIENTS, replicates=20),
    ):
        assert table.loc["epidural"].isna().all()
        assert table.loc["any"].notna().all()
    assert np.isfinite(bootstrap_weighted_log_loss(none, GOOD, PATIENTS, replicates=20)).all()


def test_one_patient_or_an_unknown_patient_is_refused():
    with pytest.raises(UserError, match="at least 2 patients"):
        bootstrap_weighted_log_loss(Y, GOOD, pd.Series("p", Y.index))
    with pytest.raises(UserError, match="ID_00003"):
        bootstrap_weighted_log_loss(Y, GOOD, PATIENTS.drop("ID_00003"))
