"""What the report says label by label: nested where it says held out, intervals by patient."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from src.ensemble.experiment import Experiment
from src.evaluation.bootstrap import bootstrap_auc
from src.evaluation.metrics import label_log_losses
from src.evaluation.reliability import brier, expected_calibration_error
from src.labels import LABELS
from src.report.run.label_tables import curves, label_blocks, padding_groups, padding_tables
from tests.report.conftest import build_experiment


@pytest.fixture(scope="module")
def boosted(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """Trees and calibrators in the blend: they know the rows they grew on."""
    options = {"alternatives": ("boosting",), "steps": ("platt", "isotonic")}
    return build_experiment(tmp_path_factory.mktemp("boosted"), **options)


def test_all_that_is_said_of_the_blend_on_held_out_slices_is_nested(boosted: Experiment) -> None:
    nested = boosted.fitted.nested_predictions.loc[boosted.labels.index]
    own = boosted.fitted.apply({name: scored.oof for name, scored in boosted.members.items()})
    assert boosted.blend.oof_score > 1.02 * boosted.fitted.optimistic_score
    losses = label_log_losses(boosted.labels, nested)
    for block in label_blocks(boosted, "oof"):
        (row,) = (row for row in block.rows if row.kind == "blend")
        y, p = boosted.labels[block.label].to_numpy() == 1, nested[block.label].to_numpy()
        assert row.log_loss == pytest.approx(losses[block.label], rel=1e-12)
        assert row.auc.estimate == pytest.approx(roc_auc_score(y, p), rel=1e-12)
        assert row.brier == pytest.approx(brier(y, p), rel=1e-12)
        assert row.ece == pytest.approx(expected_calibration_error(y, p), rel=1e-12)
        assert row.brier != pytest.approx(brier(y, own[block.label].to_numpy()), rel=1e-3)
        np.testing.assert_array_equal(curves(boosted)[block.label][1]["blend"], p)
    table = padding_tables(boosted, ["oof"])["oof"]
    total = (table["weighted_log_loss"] * table["images"]).sum() / table["images"].sum()
    assert total == pytest.approx(boosted.fitted.nested_score, rel=1e-12)


@pytest.mark.parametrize("part", ["oof", "test"])
def test_areas_have_the_interval_of_the_patient_bootstrap(experiment: Experiment, part: str) -> None:
    labels = experiment.labels if part == "oof" else experiment.test_labels
    options = {"replicates": experiment.config.replicates, "seed": experiment.config.seed}
    for kind, block in (
        (k, b) for b in label_blocks(experiment, part) for k in ("blend", "stage2", "stage1")
    ):
        (row,) = (row for row in block.rows if row.kind == kind)
        scored = experiment.blend if kind == "blend" else experiment.members[row.model]
        table = scored.oof if part == "oof" else scored.test
        expected = bootstrap_auc(labels, table, experiment.groups, **options).loc[block.label]
        assert row.auc == pytest.approx(tuple(expected), rel=1e-12, nan_ok=True)


def test_a_series_is_padded_where_any_of_its_slices_is() -> None:
    slices = pd.DataFrame(
        [
            ("a0", "A", "s", False), ("a1", "A", "s", True), ("b0", "B", "s", False),
            ("c0", None, "t", False), ("c1", None, "t", True),
            ("d0", "D", "u", None), ("e0", "E", "v", None), ("e1", "E", "v", False),
        ],
        columns=["image_id", "series_id", "study_id", "padded"],
    ).astype({"padded": "boolean"})  # fmt: skip
    assert padding_groups(slices).to_dict() == {
        "a0": "padded", "a1": "padded", "b0": "not padded", "c0": "padded", "c1": "padded",
        "d0": "not known", "e0": "not padded", "e1": "not padded",
    }  # fmt: skip


def test_groups_are_those_of_series_and_absent_without_hu(make_experiment: Callable[..., Experiment]) -> None:
    experiment = make_experiment(runs={"stage1/only": 1.0})
    first = experiment.slices["study_id"] != experiment.slices["study_id"].shift()
    single = Experiment(**vars(experiment) | {"slices": experiment.slices.assign(
        padded=(experiment.slices["padded"] & first).astype("boolean")
    )})  # fmt: skip
    for part in ("oof", "test"):
        pd.testing.assert_frame_equal(
            padding_tables(single, [part])[part], padding_tables(experiment, [part])[part]
        )
    gray = experiment.slices.assign(padded=pd.array([pd.NA] * len(experiment.slices), "boolean"))
    assert padding_tables(Experiment(**vars(experiment) | {"slices": gray}), ["oof"]) is None
    assert set(LABELS) <= set(padding_tables(experiment, ["oof"])["oof"].columns)
