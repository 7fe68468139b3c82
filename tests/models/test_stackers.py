"""Stackers: padding and company change nothing; an untrained stacker says what its members say."""

import pytest
import torch
from torch import nn

from src.errors import UserError
from src.models.stackers import SliceTransformer, build_stacker

SIZES = (5, 7)
KINDS = ("lstm", "transformer")


def stacker(kind, **options):
    torch.manual_seed(0)
    defaults = {"members": 2, "width": 16, "hidden": 8, "layers": 2, "heads": 4, "dropout": 0.1, "noise": 0.1}
    return build_stacker(kind, SIZES, 12, 2, **{**defaults, **options}).double().eval()


def studies(lengths, padding=0.0):
    """Random studies; what stands beyond a study's end is `padding`."""
    generator = torch.Generator().manual_seed(3)
    longest = max(lengths)
    batch = [torch.full((len(lengths), longest, k), padding, dtype=torch.float64) for k in (12, 12, 2)]
    mask = torch.zeros(len(lengths), longest, dtype=torch.bool)
    for row, length in enumerate(lengths):
        mask[row, :length] = True
        for values in batch:
            values[row, :length] = torch.randn(
                length, values.shape[2], generator=generator, dtype=torch.float64
            )
    return *batch, mask


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padding", [0.0, 1e3])
def test_a_study_gets_the_same_logits_alone_and_padded_in_a_batch(kind, padding):
    model = stacker(kind)
    embeddings, logits, position, mask = studies([3, 9, 1, 60], padding)
    together = model(embeddings, logits, position, mask)
    for row, length in enumerate([3, 9, 1, 60]):
        alone = model(
            embeddings[row : row + 1, :length],
            logits[row : row + 1, :length],
            position[row : row + 1, :length],
            mask[row : row + 1, :length],
        )
        torch.testing.assert_close(together[row, :length], alone[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_inference_mode_gives_the_logits_of_evaluation_with_gradients(kind):
    model = stacker(kind).float()
    *values, mask = studies([3, 9])
    values = [v.float() for v in values]
    expected = model(*values, mask)
    with torch.inference_mode():
        torch.testing.assert_close(model(*values, mask)[mask], expected[mask])


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_of_a_padded_batch_has_no_gradient_from_padding(kind):
    model = stacker(kind)
    embeddings, logits, position, mask = studies([2, 6])
    embeddings.requires_grad_()
    model(embeddings, logits, position, mask)[mask].sum().backward()
    assert embeddings.grad[~mask].abs().max() == 0
    assert embeddings.grad[mask].abs().min() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_slice_sees_its_whole_study_and_no_other(kind):
    model = stacker(kind)
    embeddings, logits, position, mask = studies([6, 6])
    before = model(embeddings, logits, position, mask)
    embeddings[0, 5] += 1.0
    after = model(embeddings, logits, position, mask)
    assert (after[0, 0] - before[0, 0]).abs().max() > 0
    torch.testing.assert_close(after[1], before[1], rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_with_a_zero_head_the_output_is_the_mean_logit_of_the_members(kind):
    model = stacker(kind)
    nn.init.zeros_(model.head[1].weight)
    nn.init.zeros_(model.head[1].bias)
    embeddings, logits, position, mask = studies([4])
    expected = (logits[..., :6] + logits[..., 6:]) / 2
    torch.testing.assert_close(model(embeddings, logits, position, mask), expected)


def test_heads_must_divide_the_width():
    with pytest.raises(UserError, match="width 16 is not a multiple of heads 5"):
        stacker("transformer", heads=5)


def test_a_study_longer_than_the_reach_of_the_distance_bias():
    transformer = SliceTransformer(16, 8, 1, 4, 0.0).eval()
    out = transformer(torch.randn(1, 200, 16), torch.ones(1, 200, dtype=torch.bool))
    assert out.shape == (1, 200, 16)
    assert out.isfinite().all()


def test_the_published_lstm_of_two_layers_and_512_units_has_its_published_size():
    """VinBDI's BiLSTM on 2048 features has 16,793,600 parameters (arXiv 2005.10992)."""
    from src.models.stackers import BiLstm

    assert sum(p.numel() for p in BiLstm(2048, 512, 2, 0.0).parameters()) == 16_793_600


def test_noise_is_added_in_training_only():
    model = stacker("lstm", dropout=0.0, noise=0.5)
    batch = studies([4])
    assert torch.equal(model(*batch), model(*batch))
    model.train()
    assert not torch.equal(model(*batch), model(*batch))
