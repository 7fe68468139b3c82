"""Stage-2 inputs: aligned by key, from the fold that held a study out; batches cover every study once."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ortho_group

from src.errors import UserError
from src.labels import LABELS
from src.settings import Settings
from src.training.runs import Run
from src.training.sequences import StudyBatches, StudyInputs, bucketed, collate, fit_alignment, fit_alignments
from src.training.stacker_config import StackerConfig

WIDTH = 4


@pytest.fixture
def settings(tmp_path):
    return Settings(
        tmp_path / "SETTINGS.json", *(tmp_path / name for name in ("raw", "clean", "m", "c", "l", "s"))
    )


def table(lengths):
    """Slices of studies of the given lengths, ids `study-index`, 5 mm apart."""
    rows = [
        {"image_id": f"{s}-{i}", "study_id": f"study{s}", "order": i, "position_mm": 5.0 * i}
        for s, length in enumerate(lengths)
        for i in range(length)
    ]
    slices = pd.DataFrame(rows)
    return slices.assign(**{label: (np.arange(len(slices)) + k) % 2 for k, label in enumerate(LABELS)})


def write(run, image_ids, part="oof", seed=0):
    """Predictions in shuffled order whose embeddings start with the study and the index of their slice."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(image_ids)
    numbers = np.array([[int(x) for x in image_id.split("-")] for image_id in ids], np.float32).reshape(-1, 2)
    embeddings = np.hstack([numbers, np.full((len(ids), 1), run.fold), np.ones((len(ids), 1))])
    probabilities = pd.DataFrame(0.5, ids, list(LABELS))
    probabilities["any"] = 1 / (1 + np.exp(-numbers[:, 1]))
    run.save_predictions(part, probabilities, embeddings)


def config(**options):
    return StackerConfig(stacker="lstm", members=("x/stage1/a",), **options)


def test_inputs_follow_the_slice_whatever_the_order_of_the_files(settings):
    slices = table([3, 2, 4])
    runs = [Run("x/stage1/a", fold, settings) for fold in (0, 1)]
    write(runs[0], [i for i in slices["image_id"] if i[0] in "02"])
    write(runs[1], [i for i in slices["image_id"] if i[0] == "1"])
    inputs = StudyInputs(slices, {"x/stage1/a": runs}, "oof", config(), None)
    for study, (fold, length) in enumerate([(0, 3), (1, 2), (0, 4)]):
        values = inputs.study(study)
        np.testing.assert_array_equal(values["embeddings"][:, 0], study)
        np.testing.assert_array_equal(values["embeddings"][:, 1], range(length))
        np.testing.assert_array_equal(values["embeddings"][:, 2], fold)  # the network that held the study out
        np.testing.assert_allclose(values["logits"][:, LABELS.index("any")], range(length), atol=1e-5)


def test_position_runs_from_0_to_1_and_in_units_of_100_mm_around_the_middle(settings):
    slices = table([3, 1])
    run = Run("x/stage1/a", 0, settings)
    write(run, slices["image_id"])
    inputs = StudyInputs(slices, {"x/stage1/a": [run]}, "oof", config(), None)
    np.testing.assert_allclose(inputs.study(0)["position"], [[0, -0.05], [0.5, 0], [1, 0.05]])
    np.testing.assert_allclose(inputs.study(1)["position"], [[0, 0]])


def test_a_slice_without_prediction_is_named(settings):
    slices = table([3])
    run = Run("x/stage1/a", 0, settings)
    write(run, ["0-0", "0-2"])
    with pytest.raises(UserError, match=r"no oof prediction for 1 slices \(0-1"):
        StudyInputs(slices, {"x/stage1/a": [run]}, "oof", config(), None)


def test_a_slice_predicted_by_two_folds_is_refused(settings):
    slices = table([2])
    runs = [Run("x/stage1/a", fold, settings) for fold in (0, 1)]
    write(runs[0], ["0-0", "0-1"])
    write(runs[1], ["0-1"])
    with pytest.raises(UserError, match="0-1 stand in two folds"):
        StudyInputs(slices, {"x/stage1/a": runs}, "oof", config(), None)


def test_alignment_undoes_a_rotation_and_a_shift():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(50, 8))
    turned = reference @ ortho_group.rvs(8, random_state=1) + rng.normal(size=8)
    align = fit_alignment(turned, reference)
    np.testing.assert_allclose(align(turned), reference, atol=1e-5)


def test_alignments_are_fitted_between_the_folds_test_embeddings(settings):
    rng = np.random.default_rng(0)
    reference, rotation = rng.normal(size=(40, WIDTH)), ortho_group.rvs(WIDTH, random_state=2)
    runs = [Run("x/stage1/a", fold, settings) for fold in (0, 1)]
    ids = [f"0-{i}" for i in range(40)]
    for run, embeddings in zip(runs, (reference, reference @ rotation), strict=True):
        run.save_predictions("test", pd.DataFrame(0.5, ids, list(LABELS)), embeddings)
    align = fit_alignments(["x/stage1/a"], {"x/stage1/a": runs})
    np.testing.assert_allclose(align["x/stage1/a/fold1"].rotation, rotation.T, atol=5e-3)  # float16 storage
    np.testing.assert_allclose(align["x/stage1/a/fold0"].rotation, np.eye(WIDTH), atol=1e-6)


def test_an_epoch_holds_every_study_once_in_batches_of_similar_length():
    lengths = np.random.default_rng(0).integers(20, 61, 500)
    batches = bucketed(lengths, 16, np.random.default_rng(1))
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(500))
    padding = sum(lengths[b].max() * len(b) for b in batches) / lengths.sum() - 1
    assert padding < 0.1
    other = bucketed(lengths, 16, np.random.default_rng(2))
    assert any(not np.array_equal(a, b) for a, b in zip(batches, other, strict=True))


def test_collate_masks_what_is_padding_and_reverses_all_inputs_of_a_study_together(settings):
    slices = table([2, 4])
    run = Run("x/stage1/a", 0, settings)
    write(run, slices["image_id"])
    inputs = StudyInputs(slices, {"x/stage1/a": [run]}, "oof", config(), None)
    batch = collate(inputs, np.array([0, 1]), reverse=np.array([True, False]))
    assert batch["mask"].tolist() == [[True, True, False, False], [True] * 4]
    assert batch["embeddings"][0, :, 1].tolist() == [1, 0, 0, 0]
    assert batch["labels"][0, :2].tolist() == inputs.study(0)["labels"][::-1].tolist()
    assert batch["embeddings"][1, :, 1].tolist() == [0, 1, 2, 3]


def test_batches_depend_on_the_epoch_and_can_start_anywhere(settings):
    slices = table([2, 3, 4, 5, 6])
    run = Run("x/stage1/a", 0, settings)
    write(run, slices["image_id"])
    inputs = StudyInputs(slices, {"x/stage1/a": [run]}, "oof", config(), None)
    batches = StudyBatches(inputs, config(batch_size=2, reverse=0.5))
    whole = [b["embeddings"] for b in batches.epoch(3)]
    late = [b["embeddings"] for b in batches.epoch(3, start=1)]
    assert len(whole) == batches.steps == 3
    assert all((a == b).all() for a, b in zip(whole[1:], late, strict=True))
