"""The contest's metric against the published vectors, real predictions and properties."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss

from src.errors import UserError
from src.evaluation.metrics import (
    constant_predictions,
    label_log_losses,
    prevalence,
    prevalence_baseline,
    scores_by_group,
    study_maximum,
    weighted_log_loss,
)
from src.evaluation.roc import auc, average_precision
from src.labels import LABELS

IMAGES = ["ID_a", "ID_b", "ID_c"]
Y = pd.DataFrame([[0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 1], [0, 1, 1, 0, 0, 1]], IMAGES, list(LABELS))
P = pd.DataFrame(
    [[0.1, 0.2, 0.1, 0.1, 0.3, 0.4], [0.8, 0.1, 0.1, 0.2, 0.1, 0.9], [0.05, 0.7, 0.6, 0.1, 0.2, 0.95]],
    IMAGES,
    list(LABELS),
)


def table(rows: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    index = pd.Index([f"ID_{row:05d}" for row in range(rows)], name="image_id")
    p = pd.DataFrame(rng.beta(0.4, 2, (rows, 6)), index, list(LABELS))
    return pd.DataFrame((rng.random((rows, 6)) < p).astype("int8"), index, list(LABELS)), p


def test_the_published_vector_to_its_last_digit():
    assert round(weighted_log_loss(Y, P), 7) == 0.2019298
    expected = [0.126599, 0.228393, 0.240516, 0.144622, 0.228393, 0.222493]
    np.testing.assert_array_equal(label_log_losses(Y, P).round(6), expected)


def test_the_usual_training_loss_is_seven_sixths_of_the_score():
    losses = -np.log(np.where(Y == 1, P, 1 - P))
    assert round(float(np.mean(losses * [1, 1, 1, 1, 1, 2])), 7) == 0.2355847
    assert np.mean(losses * [1, 1, 1, 1, 1, 2]) * 6 / 7 == pytest.approx(weighted_log_loss(Y, P), rel=1e-14)


def test_any_counts_twice():
    assert weighted_log_loss(Y, Y.astype(float).assign(any=0.5)) == pytest.approx(
        2 / 7 * np.log(2), rel=1e-12
    )


def test_the_order_of_rows_and_columns_does_not_matter():
    shuffled = P.loc[["ID_c", "ID_a", "ID_b"], list(reversed(LABELS))]
    assert weighted_log_loss(Y, shuffled) == weighted_log_loss(Y, P)
    assert weighted_log_loss(Y[list(reversed(LABELS))], P) == weighted_log_loss(Y, P)


@pytest.mark.parametrize("eps, cost", [(1e-15, 34.5388), (1e-6, 13.8155), (1e-5, 11.5129)])
def test_clipping_sets_the_cost_of_a_certain_miss(eps, cost):
    wrong = Y.astype(float).assign(epidural=[1.0, 1.0, 0.0])
    assert label_log_losses(Y, wrong, eps)["epidural"] * 3 == pytest.approx(cost, abs=2e-3)


def test_float32_probabilities_are_clipped_in_float64():
    certain = Y.astype("float32")
    assert weighted_log_loss(1 - Y, certain) == pytest.approx(34.5388, abs=2e-3)
    assert weighted_log_loss(Y, certain) < 1e-14


def test_equal_to_scikit_learn():
    labels, p = table(500, 0)
    expected = [log_loss(labels[label], p[label], labels=[0, 1]) for label in LABELS]
    np.testing.assert_allclose(label_log_losses(labels, p), expected, rtol=1e-13)


@pytest.mark.parametrize(
    "labels, p, named",
    [
        (Y, P.drop("ID_b"), "1 missing (ID_b)"),
        (Y, P.rename({"ID_b": "ID_z"}), "1 missing (ID_b) and 1 unknown (ID_z)"),
        (Y, P.loc[["ID_a", "ID_b", "ID_b"]], "ids appear twice (ID_b)"),
        (Y, P.rename(columns={"any": "Any"}), "Any"),
        (Y, P.assign(any=[0.1, np.nan, 0.2]), "ID_b has any = nan"),
        (Y, P.assign(subdural=[0.1, 0.2, 1.2]), "ID_c has subdural = 1.2"),
        (Y.assign(any=[0, 2, 1]), P, "ID_b has any = 2"),
        (Y.astype("Int8").assign(any=pd.array([0, None, 1], "Int8")), P, "ID_b has any = nan"),
    ],
)
def test_a_mismatch_names_what_differs(labels, p, named):
    with pytest.raises(UserError) as error:
        weighted_log_loss(labels, p)
    assert named in str(error.value)


def test_prevalence_baseline_of_the_published_counts():
    for rows, counts, expected in (
        (674_258, (2761, 32564, 23766, 32122, 42496, 97103), 0.2320),
        (752_803, (3145, 36118, 26205, 35675, 47166, 107933), 0.2311),
    ):
        labels = pd.DataFrame(
            {label: np.arange(rows) < count for label, count in zip(LABELS, counts, strict=True)}
        ).astype("int8")
        assert prevalence_baseline(labels) == pytest.approx(expected, abs=5e-5)
    half = constant_predictions(pd.Series(0.5, list(LABELS)), Y.index)
    assert weighted_log_loss(Y, half) == pytest.approx(np.log(2), rel=1e-14)


def test_the_baseline_uses_the_training_prevalence():
    train, _ = table(300, 1)
    constant = constant_predictions(prevalence(train), Y.index)
    assert prevalence_baseline(train, Y) == weighted_log_loss(Y, constant)
    assert prevalence_baseline(train) < weighted_log_loss(
        train, constant_predictions(prevalence(Y), train.index), 1e-6
    )


def test_groups_add_up_to_the_whole():
    labels, p = table(400, 2)
    groups = pd.Series(np.where(np.arange(400) % 3 == 0, "padded", "plain"), labels.index, name="padding")
    found = scores_by_group(labels, p, groups.sample(frac=1, random_state=0))
    assert found.index.tolist() == ["padded", "plain"]
    assert found["images"].tolist() == [134, 266]
    assert found["positives"].sum() == labels["any"].sum()
    np.testing.assert_allclose(
        np.average(found["weighted_log_loss"], weights=found["images"]),
        weighted_log_loss(labels, p),
        rtol=1e-13,
    )
    padded = labels[groups == "padded"]
    assert found.loc["padded", "baseline"] == pytest.approx(prevalence_baseline(padded), rel=1e-13)


def test_a_study_has_what_any_of_its_slices_has():
    studies = pd.Series(["s2", "s1", "s1"], ["ID_c", "ID_b", "ID_a"])
    assert study_maximum(Y, studies).loc["s1"].tolist() == [1, 0, 0, 0, 0, 1]
    assert study_maximum(P, studies).loc["s1"].tolist() == [0.8, 0.2, 0.1, 0.2, 0.3, 0.9]
    with pytest.raises(UserError, match="ID_c"):
        study_maximum(P, studies.drop("ID_c"))


def test_published_scores_of_a_resnet50_on_75281_slices(realdata):
    folder = realdata / "rsna2019_preds_resnet50_75k"
    reference = json.loads((folder / "reference_metrics.json").read_text())
    with np.load(folder / "preds_labels.npz") as file:
        names = [str(name) for name in file["classes"]]
        index = pd.Index(file["image"].astype(str))
        labels = pd.DataFrame(file["labels"], index, names)
        p = pd.DataFrame(file["preds"], index, names)
    for eps, expected in reference["weighted_logloss"].items():
        assert weighted_log_loss(labels, p, float(eps)) == pytest.approx(expected, rel=1e-14)
    found = label_log_losses(labels, p)
    np.testing.assert_allclose(found[names], reference["per_class_logloss_eps1e_15"], rtol=1e-14)
    areas = [auc(labels[name].to_numpy() == 1, p[name].to_numpy()) for name in names]
    np.testing.assert_allclose(areas, reference["auc"], rtol=1e-14)
    assert np.mean(areas) == pytest.approx(reference["macro_auc"], rel=1e-14)
    precisions = [average_precision(labels[name].to_numpy() == 1, p[name].to_numpy()) for name in names]
    np.testing.assert_allclose(precisions, reference["average_precision"], rtol=1e-12)
