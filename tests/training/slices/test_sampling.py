"""Sampling: which slices an epoch shows."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from src.errors import UserError
from src.labels import LABELS
from src.training.slices.sampling import (
    SamplingOptions,
    balanced_weights,
    brain_areas,
    build_sampler,
    mid_slice_weights,
    trainable,
)


def sampler_of(slices, **options):
    return build_sampler(slices, SamplingOptions(**options), seed=0)


@pytest.fixture
def slices():
    """Three studies of 20, 8 and 1 slices; two epidural slices, five subdural ones, one of them both."""
    table = pd.DataFrame({"study_id": ["a"] * 20 + ["b"] * 8 + ["c"]})
    table[list(LABELS)] = 0
    table.loc[[8, 9], ["epidural", "any"]] = 1
    table.loc[[9, 10, 11, 21, 22], ["subdural", "any"]] = 1
    return table


def test_all_shows_every_slice_once_in_another_order_each_epoch(slices):
    sampler = sampler_of(slices)
    first, second = sampler.order(0), sampler.order(1)
    assert sorted(first) == sorted(second) == list(range(29))
    assert list(first) != list(second) and list(first) == list(sampler_of(slices).order(0))


@pytest.mark.parametrize("sampling", ["per_study", "mid_slices"])
def test_every_study_gives_the_same_number_of_slices(slices, sampling):
    sampler = sampler_of(slices, sampling=sampling, slices_per_study=6)
    order = sampler.order(0)
    assert len(order) == len(sampler) == 18
    assert slices["study_id"].iloc[order].value_counts().to_dict() == {"a": 6, "b": 6, "c": 6}


def test_middle_slices_weigh_as_the_first_place_drew_them():
    assert mid_slice_weights(1).tolist() == [1]
    assert (
        mid_slice_weights(20).tolist() == [1] * 8 + [2] * 5 + [1] * 7
    )  # min(i, 20 - i) reaches 8 from 8 to 12
    assert mid_slice_weights(40)[20] == 5


@pytest.mark.parametrize(("sampling", "ratio"), [("per_study", 1.0), ("mid_slices", 5.0)])
def test_the_middle_of_a_study_is_drawn_as_often_as_its_weight_says(sampling, ratio):
    study = pd.DataFrame({"study_id": ["a"] * 40}).assign(**dict.fromkeys(LABELS, 0))
    drawn = sampler_of(study, sampling=sampling, slices_per_study=20_000).order(0)
    counts = np.bincount(drawn, minlength=40)
    assert counts[20] / counts[[0, 1, 38, 39]].mean() == pytest.approx(ratio, rel=0.15)


def test_balanced_draws_are_equally_for_no_bleeding_and_for_each_subtype_that_occurs(slices):
    weights = balanced_weights(slices)
    assert weights.sum() == pytest.approx(1)
    none = (slices["any"] == 0).to_numpy()
    assert weights[none].sum() == pytest.approx(1 / 3)
    assert weights[8] == pytest.approx(1 / 3 / 2) and weights[10] == pytest.approx(1 / 3 / 5)
    assert weights[9] == pytest.approx(1 / 3 / 2 + 1 / 3 / 5)
    sampler = sampler_of(slices, sampling="balanced")
    drawn = np.concatenate([sampler.order(epoch) for epoch in range(300)])
    assert len(drawn) == 300 * 29
    assert none[drawn].mean() == pytest.approx(1 / 3, abs=0.02)


def test_blank_slices_can_be_left_out():
    """What is not known of a slice does not speak for it."""
    table = pd.DataFrame({"hu_min": [-1024, -1024, 70, None], "hu_max": [60, 61, 3000, None]}, dtype="Int32")
    assert trainable(table, SamplingOptions(min_brain_range=60.5), None).index.tolist() == [1]
    assert len(trainable(table, SamplingOptions(), None)) == 4
    with pytest.raises(UserError, match="no training slice spans"):
        trainable(table, SamplingOptions(min_brain_range=80.0), None)


def test_slices_that_show_little_of_the_brain_of_their_study_can_be_left_out():
    inside = {"a0": (20, 0), "a1": (4, 16), "a2": (9, 11), "b0": (3, 0), "g0": (0, 6), "g1": (0, 12)}
    images = {}
    for name, (brain, bright) in inside.items():  # pixels of 40 and of 200, the others are black
        images[name] = np.repeat([40, 200, 0], [brain, bright, 36 - brain - bright]).reshape(6, 6)
    images["a0"][5, 5] = 80  # white already
    volumes = SimpleNamespace(slices=lambda ids: np.stack([images[name] for name in ids]))
    units = ["gray" if name[0] == "g" else "hu" for name in inside]
    table = pd.DataFrame({"image_id": list(inside), "study_id": [n[0] for n in inside], "units": units})
    prepared = SimpleNamespace(volumes=volumes)
    assert (36 * brain_areas(prepared, table)).tolist() == pytest.approx([20, 4, 9, 3, 6, 12])
    kept = trainable(table, SamplingOptions(min_brain_share=0.45), prepared)
    assert kept["image_id"].tolist() == ["a0", "a2", "b0", "g0", "g1"]
    assert len(trainable(table, SamplingOptions(min_brain_share=0.5), prepared)) == 4


def test_training_can_be_limited_to_the_first_slices_of_every_study():
    stored = {"a": ["a0", "a1", "a2", "a3"], "b": ["b0"], "c": ["c0", "c1"]}
    prepared = SimpleNamespace(volumes=SimpleNamespace(study_images=stored.__getitem__))
    names = ["a0", "a2", "a3", "b0", "c1"]  # a1 and c0 are not to be trained on, and stay where they are
    table = pd.DataFrame({"image_id": names, "study_id": [name[0] for name in names]})
    kept = trainable(table, SamplingOptions(first_slices=3), prepared)
    assert kept["image_id"].tolist() == ["a0", "a2", "b0", "c1"]
    kept = trainable(table, SamplingOptions(first_slices=1), prepared)
    assert kept["image_id"].tolist() == ["a0", "b0"]
    assert trainable(table, SamplingOptions(), prepared) is table


def test_orders_are_a_function_of_the_epoch_alone(slices):
    sampler = sampler_of(slices, sampling="mid_slices")
    later = sampler.order(3)
    sampler.order(1)
    np.testing.assert_array_equal(sampler.order(3), later)


def test_slices_per_study_is_refused_where_studies_give_all_they_have():
    with pytest.raises(
        ValueError, match="slices_per_study: has no effect on sampling balanced; leave it out"
    ):
        SamplingOptions(sampling="balanced", slices_per_study=5)
