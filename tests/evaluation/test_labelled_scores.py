"""Scores of labelled data: each number by hand or by another function; what is unknown is left out."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from src.evaluation.bootstrap import (
    bootstrap_auc,
    bootstrap_weighted_log_loss,
    bootstrap_weighted_log_loss_difference,
)
from src.evaluation.labelled_scores import Labelled
from src.evaluation.metrics import prevalence_baseline
from src.evaluation.reliability import expected_calibration_error
from src.evaluation.roc import delong, delong_paired
from src.labels import LABELS


@pytest.fixture
def simulated():
    """Labels, two predictions and patients of 240 rows of 60 patients."""
    rng = np.random.default_rng(0)
    index = pd.Index([f"im{row:03d}" for row in range(240)], name="image_id")
    signal = rng.normal(size=(240, 6))
    labels = pd.DataFrame((signal + rng.normal(size=signal.shape) > 1).astype(float), index, list(LABELS))
    first, second = (
        pd.DataFrame(1 / (1 + np.exp(1 - signal - rng.normal(0, noise, signal.shape))), index, list(LABELS))
        for noise in (0.5, 2.0)
    )
    return labels, first, second, pd.Series(np.arange(240) // 4, index)


def test_images_have_the_patient_bootstrap_of_every_other_score(simulated):
    labels, p, _, patients = simulated
    found = Labelled(labels, patients, by_study=False, replicates=200).scores(
        p.sample(frac=1, random_state=1)
    )
    assert found["patients"] == 60
    whole = labels.astype("int8")
    loss = bootstrap_weighted_log_loss(whole, p, patients, replicates=200)
    assert found["weighted_log_loss"]["value"] == pytest.approx(loss.estimate)
    assert found["weighted_log_loss"]["interval"] == pytest.approx([loss.low, loss.high])
    assert Labelled(labels, patients, by_study=False).baseline == pytest.approx(prevalence_baseline(whole))
    areas = bootstrap_auc(whole, p, patients, replicates=200)
    for label in LABELS:
        one, y = found["labels"][label], labels[label] == 1
        assert (one["positives"], one["auc"]) == (y.sum(), pytest.approx(roc_auc_score(y, p[label])))
        assert one["interval"] == pytest.approx(areas.loc[label, ["low", "high"]].tolist())
        assert one["brier"] == pytest.approx(brier_score_loss(y, p[label]))
        assert one["ece"] == expected_calibration_error(y.to_numpy(), p[label].to_numpy())


def test_studies_have_delongs_interval(simulated):
    labels, p, _, patients = simulated
    found = Labelled(labels, patients, by_study=True, replicates=100).scores(p)
    area = delong(labels["any"].to_numpy() == 1, p["any"].to_numpy())
    assert found["labels"]["any"]["auc"] == pytest.approx(area.auc)
    assert found["labels"]["any"]["interval"] == pytest.approx([area.low, area.high])


def test_rows_of_unknown_label_count_for_no_score_of_it(simulated):
    labels, p, _, patients = simulated
    labels.loc[labels.index[:100], "epidural"] = np.nan
    labels["subdural"] = np.nan
    found = Labelled(labels, patients, by_study=False, replicates=100).scores(p)
    assert found["weighted_log_loss"] is None  # no row has all six
    rest = labels.index[100:]
    expected = roc_auc_score(labels.loc[rest, "epidural"], p.loc[rest, "epidural"])
    assert found["labels"]["epidural"]["auc"] == pytest.approx(expected)
    nothing = {"positives": 0, "auc": None, "interval": None, "brier": None, "ece": None}
    assert found["labels"]["subdural"] == nothing


def test_one_patient_and_one_class_have_values_without_intervals():
    index = pd.Index(["a", "b", "c", "d"])
    labels, p = pd.DataFrame(0.0, index, list(LABELS)), pd.DataFrame(0.5, index, list(LABELS))
    labels.loc["a", "any"] = 1.0
    found = Labelled(labels, pd.Series("p", index), by_study=False).scores(p)
    assert found["weighted_log_loss"] == {"value": pytest.approx(np.log(2)), "interval": None}
    assert (found["labels"]["any"]["auc"], found["labels"]["any"]["interval"]) == (0.5, None)
    assert found["labels"]["epidural"]["auc"] is None


def test_a_difference_is_paired_by_patient_and_by_delong(simulated):
    labels, first, second, patients = simulated
    found = Labelled(labels, patients, by_study=True, replicates=200).difference(first, second)
    loss = bootstrap_weighted_log_loss_difference(
        labels.astype("int8"), first, second, patients, replicates=200
    )
    assert found["rows"] == 240
    assert found["weighted_log_loss"]["value"] == pytest.approx(loss.estimate)
    assert found["weighted_log_loss"]["interval"] == pytest.approx([loss.low, loss.high])
    paired = delong_paired(labels["any"].to_numpy() == 1, first["any"].to_numpy(), second["any"].to_numpy())
    one = found["auc"]["any"]
    assert (one["difference"], one["z"], one["p"]) == pytest.approx((paired.difference, paired.z, paired.p))
    assert one["first"] - one["second"] == pytest.approx(one["difference"])
    assert "auc" not in Labelled(labels, patients, by_study=False).difference(first, second)


def test_cq500_studies_score_as_published(realdata):  # majority of readers against Qure's own predictions
    folder = realdata / "cq500_reads_and_preds"
    columns = {
        "EDH": "epidural", "IPH": "intraparenchymal", "IVH": "intraventricular", "SAH": "subarachnoid",
        "SDH": "subdural", "ICH": "any",
    }  # fmt: skip
    reads = pd.read_csv(folder / "reads.csv", index_col="name")
    votes = {ours: reads[[f"R{k}:{name}" for k in (1, 2, 3)]].sum(axis=1) for name, ours in columns.items()}
    labels = (pd.DataFrame(votes)[list(LABELS)] >= 2).astype(float)
    p = pd.read_csv(folder / "prediction_probabilities.csv", index_col="name").rename(columns=columns)
    found = Labelled(labels, pd.Series(labels.index, labels.index), by_study=True).scores(p)["labels"]
    assert (found["any"]["positives"], round(found["any"]["auc"], 4)) == (205, 0.9419)
    assert np.round(found["any"]["interval"], 4).tolist() == [0.9223, 0.9616]
    assert (round(found["any"]["brier"], 4), round(found["any"]["ece"], 4)) == (0.1431, 0.1741)
    assert np.round(found["epidural"]["interval"], 4).tolist() == [0.9459, 1.0]
