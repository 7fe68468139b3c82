"""Sampling: which slices an epoch shows."""

import numpy as np
import pandas as pd
import pytest

from src.errors import UserError
from src.labels import LABELS
from src.training.slices.sampling import Sampler, balanced_weights, mid_slice_weights, trainable
from src.training.slices.slice_config import SliceConfig


def config(**options):
    return SliceConfig(backbone="test_resnet", **options)


@pytest.fixture
def slices():
    """Three studies of 20, 8 and 1 slices; two epidural slices, five subdural ones, one of them both."""
    table = pd.DataFrame({"study_id": ["a"] * 20 + ["b"] * 8 + ["c"]})
    table[list(LABELS)] = 0
    table.loc[[8, 9], ["epidural", "any"]] = 1
    table.loc[[9, 10, 11, 21, 22], ["subdural", "any"]] = 1
    return table


def test_all_shows_every_slice_once_in_another_order_each_epoch(slices):
    sampler = Sampler(slices, config())
    first, second = sampler.order(0), sampler.order(1)
    assert sorted(first) == sorted(second) == list(range(29))
    assert list(first) != list(second) and list(first) == list(Sampler(slices, config()).order(0))


@pytest.mark.parametrize("sampling", ["per_study", "mid_slices"])
def test_every_study_gives_the_same_number_of_slices(slices, sampling):
    sampler = Sampler(slices, config(sampling=sampling, slices_per_study=6))
    order = sampler.order(0)
    assert len(order) == len(sampler) == 18
    assert slices["study_id"].iloc[order].value_counts().to_dict() == {"a": 6, "b": 6, "c": 6}


def test_middle_slices_weigh_as_the_first_place_drew_them():
    assert mid_slice_weights(1).tolist() == [1]
    assert (
        mid_slice_weights(20).tolist() == [1] * 8 + [2] * 5 + [1] * 7
    )  # min(i, 20 - i) reaches 8 from 8 to 12
    assert mid_slice_weights(40)[20] == 5


def test_balanced_draws_are_equally_for_no_bleeding_and_for_each_subtype_that_occurs(slices):
    weights = balanced_weights(slices)
    assert weights.sum() == pytest.approx(1)
    none = (slices["any"] == 0).to_numpy()
    assert weights[none].sum() == pytest.approx(1 / 3)
    assert weights[8] == pytest.approx(1 / 3 / 2) and weights[10] == pytest.approx(1 / 3 / 5)
    assert weights[9] == pytest.approx(1 / 3 / 2 + 1 / 3 / 5)
    drawn = Sampler(slices, config(sampling="balanced")).order(0)
    assert len(drawn) == 29


def test_blank_slices_can_be_left_out():
    table = pd.DataFrame({"hu_min": [-1024, -1024, 70], "hu_max": [60, 61, 3000]})
    assert trainable(table, config(min_brain_range=60.5)).index.tolist() == [1]
    assert len(trainable(table, config())) == 3
    with pytest.raises(UserError, match="no training slice spans"):
        trainable(table, config(min_brain_range=80.0))


def test_orders_are_a_function_of_the_epoch_alone(slices):
    sampler = Sampler(slices, config(sampling="mid_slices"))
    later = sampler.order(3)
    sampler.order(1)
    np.testing.assert_array_equal(sampler.order(3), later)
