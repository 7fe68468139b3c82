"""Stage-2 inputs: aligned by key, from the fold that held a study out, missing slices marked."""

import numpy as np
import pandas as pd
import pytest
import torch

from src.errors import UserError
from src.labels import LABELS
from src.training.missing import interpolate
from src.training.runs import Run
from src.training.studies.slice_positions import slice_positions
from src.training.studies.study_inputs import StudyInputs
from tests.training.stage2_tables import MEMBER, config, settings_below, table, write

ANY = LABELS.index("any")


@pytest.fixture
def settings(tmp_path):
    return settings_below(tmp_path)


def test_inputs_follow_the_slice_whatever_the_order_of_the_files(settings):
    slices = table([3, 2, 4])
    runs = [Run(MEMBER, fold, settings) for fold in (0, 1)]
    write(runs[0], [i for i in slices["image_id"] if i[0] in "02"])
    write(runs[1], [i for i in slices["image_id"] if i[0] == "1"], shuffle=False)
    inputs = StudyInputs(slices, {MEMBER: runs}, "oof", config())
    for study, (fold, length) in enumerate([(0, 3), (1, 2), (0, 4)]):
        values = inputs.study(study)
        (embeddings,) = values["embeddings"]
        np.testing.assert_array_equal(embeddings[:, 0], study)
        np.testing.assert_array_equal(embeddings[:, 1], range(length))
        np.testing.assert_array_equal(embeddings[:, 2], fold)  # the network that held the study out
        np.testing.assert_allclose(values["logits"][:, ANY], range(length), atol=1e-5)
    assert inputs.folds(np.array([2, 1, 0])).tolist() == [[0], [1], [0]]


def test_what_stage_1_wrote_in_order_is_read_without_a_copy(settings):
    slices = table([3, 4])
    run = Run(MEMBER, 0, settings)
    write(run, slices["image_id"], shuffle=False)
    inputs = StudyInputs(slices, {MEMBER: [run]}, "oof", config())
    for study, length in ((0, 3), (1, 4)):
        (embeddings,) = inputs.study(study)["embeddings"]
        assert np.shares_memory(embeddings, inputs.copies[0][0].arrays[0][0])
        assert embeddings[:, :2].tolist() == [[study, index] for index in range(length)]


def test_positions_are_those_of_the_definition():
    slices = table([3, 1])
    slices.loc[1, "position_mm"] = 4.0
    bounds = np.array([0, 3, 4])
    found = slice_positions(slices, bounds, ("relative", "mm", "step", "length"))
    np.testing.assert_allclose(found[:3, 0], [0, 0.5, 1])
    np.testing.assert_allclose(found[:3, 1], [-0.05, -0.01, 0.05], atol=1e-7)
    np.testing.assert_allclose(found[:3, 2], [0.4, 0.6, 0.6])
    np.testing.assert_allclose(found[:, 3], [3 / 40] * 3 + [1 / 40])
    np.testing.assert_allclose(found[3, :3], 0)  # one slice alone


def test_positions_in_mm_need_positions():
    slices = table([3]).assign(position_mm=np.nan)
    with pytest.raises(UserError, match=r'train with positions \["relative"\]'):
        slice_positions(slices, np.array([0, 3]), ("relative", "mm"))
    assert slice_positions(slices, np.array([0, 3]), ("relative",)).tolist() == [[0], [0.5], [1]]


def test_a_slice_without_prediction_is_named(settings):
    run = Run(MEMBER, 0, settings)
    write(run, ["0-0", "0-2"])
    with pytest.raises(UserError, match=r"no oof prediction for 1 slices \(0-1"):
        StudyInputs(table([3]), {MEMBER: [run]}, "oof", config())


def test_a_slice_predicted_by_two_folds_is_refused(settings):
    runs = [Run(MEMBER, fold, settings) for fold in (0, 1)]
    write(runs[0], ["0-0", "0-1"])
    write(runs[1], ["0-1"])
    with pytest.raises(UserError, match="0-1 stand in two folds"):
        StudyInputs(table([2]), {MEMBER: runs}, "oof", config())


def test_a_missing_slice_is_marked_and_has_its_neighbours_logits(settings):
    slices = table([2, 5]).assign(missing=False)
    slices.loc[[3, 4, 6], "missing"] = True  # slices 1, 2 and 4 of the second study
    run = Run(MEMBER, 0, settings)
    write(run, slices.loc[~slices["missing"], "image_id"], part="test")
    inputs = StudyInputs(slices, {MEMBER: [run]}, "test", config())
    values = inputs.study(1)
    assert values["missing"].tolist() == [False, True, True, False, True]
    np.testing.assert_allclose(values["logits"][:, ANY], [0, 1, 2, 3, 3], atol=1e-5)
    assert values["embeddings"][0][[1, 2, 4]].max() == 0
    assert values["embeddings"][0][3].tolist() == [1, 3, 0, 1]
    assert "labels" not in values


def test_a_missing_slice_has_the_logits_of_the_only_one_that_was_read(settings):
    slices = table([2]).assign(missing=[False, True])
    run = Run(MEMBER, 0, settings)
    write(run, ["0-0"], part="test")
    values = StudyInputs(slices, {MEMBER: [run]}, "test", config()).study(0)
    np.testing.assert_array_equal(values["logits"][1], values["logits"][0])
    assert (values["embeddings"][0][1] == 0).all()


def test_interpolation_is_linear_inside_and_constant_outside():
    values = np.array([[9.0], [1.0], [9.0], [9.0], [4.0], [9.0]])
    missing = np.array([True, False, True, True, False, True])
    np.testing.assert_allclose(interpolate(values, missing)[:, 0], [1, 1, 2, 3, 4, 4])
    assert interpolate(values, np.ones(6, bool)).tolist() == [[0]] * 6


def test_several_members_stand_side_by_side(settings):
    slices = table([3])
    names = ("x/stage1/a", "x/stage1/b")
    runs = {name: [Run(name, 0, settings)] for name in names}
    for seed, (run,) in enumerate(runs.values()):
        write(run, slices["image_id"], seed=seed)
    inputs = StudyInputs(slices, runs, "oof", config(members=names))
    assert inputs.embedding_sizes == (4, 4)
    assert inputs.study(0)["logits"].shape == (3, 12)
    assert torch.from_numpy(inputs.labels).sum() == slices[list(LABELS)].to_numpy().sum()


def test_the_only_slice_of_a_study_lies_in_its_middle_wherever_that_is():
    slices = pd.DataFrame({"position_mm": [np.nan, 10.0, 20.0]})
    found = slice_positions(slices, np.array([0, 1, 3]), ("relative", "mm", "step"))
    np.testing.assert_allclose(found, [[0, 0, 0], [0, -0.05, 1], [1, 0.05, 1]])
