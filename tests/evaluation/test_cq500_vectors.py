"""CQ500: the scores of Qure's own predictions and of its readers, to the printed digits."""

import numpy as np
import pandas as pd
import pytest

from src.evaluation.agreement import against_majority, majority, pairwise_kappa
from src.evaluation.operating import at_threshold, threshold_at_sensitivity, threshold_at_specificity
from src.evaluation.reliability import brier, expected_calibration_error
from src.evaluation.roc import auc, delong

# positives, AUC, SE, CI, sensitivity at specificity .90 and .95, specificity at sensitivity .95, Brier, ECE
SCORES = {
    "ICH": (205, 0.9419, 0.01003, 0.9223, 0.9616, 0.820, 0.751, 0.706, 0.1431, 0.1741),
    "IPH": (134, 0.9544, 0.00993, 0.9349, 0.9739, 0.858, 0.746, 0.804, 0.0823, 0.0977),
    "IVH": (28, 0.9310, 0.03360, 0.8651, 0.9968, 0.893, 0.821, 0.000, 0.0274, 0.0245),
    "SAH": (60, 0.9574, 0.01328, 0.9314, 0.9835, 0.867, 0.750, 0.791, 0.0469, 0.0619),
    "SDH": (53, 0.9521, 0.01732, 0.9182, 0.9861, 0.887, 0.830, 0.598, 0.0437, 0.0679),
    "EDH": (13, 0.9731, 0.01387, 0.9459, 1.000, 0.846, 0.846, 0.831, 0.0159, 0.0273),
}
REFERENCE_AUC = {"ICH": 0.941915, "CalvarialFracture": 0.965472, "MassEffect": 0.921584}
# sensitivity, specificity, kappa of R1, R2, R3; then kappa of R1-R2, R1-R3, R2-R3
READERS = {
    "ICH": ((0.980, 0.899, 0.864), (0.927, 0.979, 0.911), (0.912, 0.979, 0.899), (0.777, 0.765, 0.808)),
    "IPH": ((0.955, 0.958, 0.894), (0.940, 0.961, 0.889), (0.896, 0.972, 0.876), (0.787, 0.772, 0.765)),
    "IVH": ((0.964, 0.974, 0.792), (0.929, 0.991, 0.890), (0.821, 0.994, 0.843), (0.704, 0.655, 0.735)),
    "SAH": ((0.917, 0.972, 0.846), (0.800, 0.988, 0.830), (0.917, 0.947, 0.765), (0.678, 0.636, 0.606)),
    "SDH": ((0.925, 0.925, 0.685), (0.755, 0.980, 0.759), (0.811, 0.995, 0.864), (0.485, 0.562, 0.600)),
    "EDH": ((0.615, 0.996, 0.688), (0.923, 0.989, 0.794), (0.923, 0.998, 0.921), (0.506, 0.600, 0.725)),
}


def test_more_than_half_of_the_readers_are_a_majority():
    reads = pd.DataFrame([[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]])
    assert majority(reads).tolist() == [False, True, False]


@pytest.fixture(scope="module")
def tables(realdata) -> tuple[pd.DataFrame, pd.DataFrame]:
    folder = realdata / "cq500_reads_and_preds"
    reads = pd.read_csv(folder / "reads.csv", index_col="name")
    scores = pd.read_csv(folder / "prediction_probabilities.csv", index_col="name")
    return reads, scores.loc[reads.index]


def reads_of(reads: pd.DataFrame, finding: str) -> pd.DataFrame:
    return pd.DataFrame({reader: reads[f"{reader}:{finding}"] for reader in ("R1", "R2", "R3")})


@pytest.mark.parametrize("finding", SCORES)
def test_scores_of_the_published_predictions(tables, finding):
    reads, scores = tables
    y, p = majority(reads_of(reads, finding)).to_numpy(), scores[finding].to_numpy()
    positives, area, se, lo, hi, at90, at95, at_sensitivity, brier_score, ece = SCORES[finding]
    found = delong(y, p)
    assert found.positives == positives
    assert found.auc == pytest.approx(area, abs=5e-5)
    assert found.se == pytest.approx(se, abs=5e-6)
    assert (found.low, found.high) == (pytest.approx(lo, abs=5e-5), pytest.approx(hi, abs=5e-5))
    for specificity, sensitivity in ((0.90, at90), (0.95, at95)):
        point = at_threshold(y, p, threshold_at_specificity(y, p, specificity))
        assert point.sensitivity.value == pytest.approx(sensitivity, abs=5e-4)
        assert point.specificity.value >= specificity
    point = at_threshold(y, p, threshold_at_sensitivity(y, p, 0.95))
    assert point.specificity.value == pytest.approx(at_sensitivity, abs=5e-4)
    assert point.sensitivity.value >= 0.95
    assert brier(y, p) == pytest.approx(brier_score, abs=5e-5)
    assert expected_calibration_error(y, p) == pytest.approx(ece, abs=5e-5)


@pytest.mark.parametrize("finding", REFERENCE_AUC)
def test_auc_to_six_digits(tables, finding):
    reads, scores = tables
    y = majority(reads_of(reads, finding)).to_numpy()
    assert auc(y, scores[finding].to_numpy()) == pytest.approx(REFERENCE_AUC[finding], abs=5e-7)


@pytest.mark.parametrize("finding", READERS)
def test_readers_against_their_majority(tables, finding):
    reads = reads_of(tables[0], finding)
    *readers, pairs = READERS[finding]
    # four of the 72 printed values were rounded twice (.97945 to .9795 to .980): half a digit and a tenth
    np.testing.assert_allclose(against_majority(reads), readers, rtol=0, atol=5.5e-4)
    np.testing.assert_allclose(pairwise_kappa(reads), pairs, rtol=0, atol=5.5e-4)
