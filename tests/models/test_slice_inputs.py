"""What stands for a slice: scores, differences, deltas, the mark of a missing slice."""

import pytest
import torch

from src.models.slice_inputs import InputOptions, InputSizes, Scores, SliceInputs
from src.models.studies.sequence_model import SliceSequence


def test_scores_are_members_their_mean_and_rotated_differences():
    logits = torch.tensor([1.0, 2.0, 6.0]).repeat_interleave(6)[None, None]  # three members
    channels = Scores(3, ("logits", "probabilities"), mean=True, differences=True)(logits)
    assert channels.shape == (1, 1, 2, 7, 6)
    assert (4 * channels[0, 0, 0, :, 2]).tolist() == [1, 2, 6, 3, -1, -4, 5]
    torch.testing.assert_close(channels[0, 0, 1, 0], torch.tensor(1.0).sigmoid().expand(6))


def test_two_members_have_one_difference():
    scores = Scores(2, ("probabilities",), mean=False, differences=True)
    assert scores.width == 3 * 6
    assert scores(torch.zeros(1, 1, 12)).shape == (1, 1, 1, 3, 6)


@pytest.mark.parametrize("deltas", ["lag", "lag_lead"])
def test_a_projected_delta_is_the_delta_of_projections(deltas):
    """The memory-saving order against the definition."""
    torch.manual_seed(0)
    inputs, wide = (
        SliceInputs(InputSizes((5,), 1, 1), InputOptions(deltas=deltas, width=width, dropout=0.0))
        for width in (8, None)
    )
    batch = torch.randn(2, 6, 5), torch.randn(2, 6, 6), torch.randn(2, 6, 1)
    mask = torch.arange(6)[None] < torch.tensor([[6], [4]])
    missing = torch.zeros_like(mask)
    missing[0, 2] = True
    slices = SliceSequence(*batch, mask, missing)
    values = wide(slices)
    own, copies = inputs.project.weight, inputs.project_deltas.weight.unflatten(0, (-1, 8))
    weight = torch.cat([own[:, :11], *copies, own[:, 11:]], 1)
    expected = inputs.finish(values @ weight.T + inputs.project.bias)
    torch.testing.assert_close(inputs(slices), expected)


def test_a_missing_slice_is_known_by_its_place_and_its_mark_only():
    torch.manual_seed(0)
    inputs = SliceInputs(InputSizes((5,), 1, 1, marks=True), InputOptions(width=8, dropout=0.0))
    batch = [torch.randn(1, 3, 5), torch.randn(1, 3, 6), torch.randn(1, 3, 1)]
    mask, missing = torch.ones(1, 3, dtype=torch.bool), torch.tensor([[False, True, False]])
    before = inputs(SliceSequence(*batch, mask, missing))
    batch[0][0, 1], batch[1][0, 1] = 9.0, -9.0
    torch.testing.assert_close(inputs(SliceSequence(*batch, mask, missing)), before)
    shown = inputs(SliceSequence(*batch, mask, torch.zeros_like(missing)))
    assert not torch.allclose(shown[0, 1], before[0, 1])


def test_embeddings_are_normalised_member_by_member_or_left_as_they_are():
    batch = 50 + 10 * torch.randn(2, 6, 7), torch.randn(2, 6, 12), torch.randn(2, 6, 1)
    mask = torch.ones(2, 6, dtype=torch.bool)
    slices = SliceSequence(*batch, mask, torch.zeros_like(mask))
    for normalise in (True, False):
        read = ("embeddings", "probabilities", "position")
        inputs = SliceInputs(
            InputSizes((4, 3), 2, 1), InputOptions(inputs=read, width=None, normalise=normalise)
        )
        parts = [batch[0][..., :4], batch[0][..., 4:]]
        if normalise:
            parts = [(x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True, correction=0) for x in parts]
        expected = torch.cat([*parts, batch[1].sigmoid(), batch[2]], -1)
        torch.testing.assert_close(inputs(slices), expected, rtol=1e-4, atol=1e-4)
