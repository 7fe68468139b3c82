"""Stackers: neither padding nor other studies matter; an untrained stacker says what its members say."""

import pytest
import torch
from torch import nn

from src.models.slice_inputs import INPUTS, InputSizes
from src.models.studies.sequence_model import SliceSequence
from src.models.studies.stackers import NETWORKS, StackerOptions, build_stacker
from src.models.studies.two_branch import FeatureBranch

SIZES = InputSizes((5, 7), 2, 2)
MARKED = InputSizes((5, 7), 2, 2, marks=True)
VARIANTS = {
    "lstm": {},
    "lstm, 3 layers": {"layers": 3},
    "gru, 1 layer": {"layers": 1},
    "gru, summed": {"residual_sums": True},
    "lstm, 3 layers summed": {"residual_sums": True, "layers": 3},
    "lstm, no projection": {"width": None},
    "lstm, scores after": {"scores_after": True, "normalise": False, "context_dropout": 0.0},
    "gru": {},
    "transformer": {},
    "transformer, absolute": {"encoding": "absolute"},
    "conv": {},
    "mlp": {},
    "two_branch": {"width": 64, "inputs": INPUTS},
    "lstm, every input": {
        "inputs": INPUTS, "mean_channel": True, "differences": True, "deltas": "lag_lead",
    },
}  # fmt: skip
CONTEXT = [name for name in VARIANTS if name != "mlp"]


def stacker(variant, **options):
    name = variant.split(",")[0]
    defaults = {"width": 16, "hidden": 8, "layers": 2, "heads": 4, "dropout": 0.1, "noise": 0.1}
    if name != "two_branch":
        defaults |= {"study_weight": 1.0, "instance_weight": 1.0}
    sizes = MARKED if variant.endswith("every input") else SIZES
    torch.manual_seed(0)
    values = StackerOptions(stacker=name, **{**defaults, **VARIANTS[variant], **options})
    return build_stacker(values, sizes).double().eval()


def studies(lengths, padding=0.0):
    """Random studies; beyond a study's end stands `padding`.  Every third slice of the first is missing."""
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
    missing = torch.zeros_like(mask)
    missing[0, 1 : lengths[0] : 3] = True
    return SliceSequence(*batch, mask, missing)


def part(batch, row, length):
    return SliceSequence(*(values[row : row + 1, :length] for values in batch))


def test_every_network_is_tested():
    assert {name.split(",")[0] for name in VARIANTS} == set(NETWORKS)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("padding", [0.0, 1e3])
def test_a_study_gets_the_same_answers_alone_and_padded_in_a_batch(variant, padding):
    model = stacker(variant)
    lengths = [3, 9, 1, 60, 210]
    batch = studies(lengths, padding)
    together = model(batch)
    for row, length in enumerate(lengths):
        alone = model(part(batch, row, length))
        torch.testing.assert_close(together.slices[row, :length], alone.slices[0], rtol=0, atol=1e-12)
        for name in ("study", "instances"):
            if getattr(alone, name) is not None:
                expected = getattr(alone, name)[0]
                torch.testing.assert_close(getattr(together, name)[row], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_nothing_in_training_either(variant):
    """Batch statistics too come from real slices alone."""
    model = stacker(variant, dropout=0.0, noise=0.0).train()
    short, long = studies([4, 6]), studies([4, 6], padding=50.0)
    longer = SliceSequence(
        *(
            nn.functional.pad(v, (0, 0, 0, 5), value=7.0) if v.ndim == 3 else nn.functional.pad(v, (0, 5))
            for v in long
        )
    )
    torch.manual_seed(1)
    expected = model(short).slices
    model = stacker(variant, dropout=0.0, noise=0.0).train()
    torch.testing.assert_close(
        model(longer).slices[:, :6][short.mask], expected[short.mask], rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_inference_mode_gives_the_logits_of_evaluation_with_gradients(variant):
    model = stacker(variant).float()
    batch = studies([3, 9])
    batch = SliceSequence(*(values.float() if values.is_floating_point() else values for values in batch))
    expected = model(batch).slices
    with torch.inference_mode():
        torch.testing.assert_close(model(batch).slices[batch.mask], expected[batch.mask])


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_loss_of_a_padded_batch_has_no_gradient_from_padding_or_missing_slices(variant):
    model = stacker(variant)
    batch = studies([2, 6])
    batch.embeddings.requires_grad_()
    model(batch).slices[batch.mask].sum().backward()
    seen = batch.mask & ~batch.missing
    assert batch.embeddings.grad[~seen].abs().max() == 0
    assert (batch.embeddings.grad[seen] != 0).any(-1).all()


@pytest.mark.parametrize("variant", CONTEXT)
def test_every_slice_sees_its_neighbours_and_no_other_study(variant):
    model = stacker(variant)
    batch = studies([6, 6])
    before = model(batch).slices
    batch.embeddings[0, 2] += torch.linspace(-2, 2, 12)
    after = model(batch).slices
    assert ((after[0] - before[0]).abs().amax(1) > 0).all()
    torch.testing.assert_close(after[1], before[1], rtol=0, atol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_with_a_zero_head_the_output_is_the_mean_logit_of_the_members(variant):
    model = stacker(variant)
    if variant == "two_branch":
        pytest.skip("reads probabilities and answers by itself, as published")
    nn.init.zeros_(model.head[1].weight)
    nn.init.zeros_(model.head[1].bias)
    batch = studies([4])
    expected = (batch.logits[..., :6] + batch.logits[..., 6:]) / 2
    torch.testing.assert_close(model(batch).slices, expected)


@pytest.mark.parametrize("variant", ["two_branch", "lstm, probabilities alone"])
def test_without_logits_an_untrained_network_starts_at_the_prevalence(variant):
    inputs = ("embeddings", "probabilities", "position")
    options = StackerOptions(stacker=variant.split(",")[0], inputs=inputs, width=64, hidden=8)
    torch.manual_seed(0)
    model = build_stacker(options, SIZES).double().eval()
    prevalence = torch.tensor([0.004, 0.05, 0.03, 0.05, 0.0, 0.14], dtype=torch.float64)
    model.start_at(prevalence, 3 * prevalence)
    mean = model(studies([200])).slices.mean((0, 1))
    expected = torch.tensor([-5.5175, -2.9444, -3.4761, -2.9444, -6.0, -1.8153], dtype=torch.float64)
    torch.testing.assert_close(mean, expected, rtol=0, atol=0.5)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="width 16 is not a multiple of heads 5"):
        stacker("transformer", heads=5)


def test_noise_is_added_in_training_only():
    model = stacker("lstm", dropout=0.0, noise=0.5)
    batch = studies([4])
    assert torch.equal(model(batch).slices, model(batch).slices)
    model.train()
    assert not torch.equal(model(batch).slices, model(batch).slices)


def test_the_two_branch_network_needs_embeddings_and_probabilities_and_no_more():
    needed = ("embeddings", "probabilities")
    assert StackerOptions(stacker="two_branch", inputs=needed, width=64).width == 64
    for inputs in (needed[:1], needed[1:], ("embeddings", "logits")):
        with pytest.raises(ValueError, match="two_branch stacker needs embeddings and probabilities among"):
            StackerOptions(stacker="two_branch", inputs=inputs, width=64)


def test_the_two_branch_network_leaves_out_whole_features_of_a_study():
    torch.manual_seed(0)
    branch, x = FeatureBranch(SIZES, 8, 4, 1, dropout=0.5, noise=0.0), torch.ones(2, 5, 3, 40)
    dropped = branch.train()._drop(x)
    assert set(dropped.unique().tolist()) == {0, 2}
    assert (dropped == dropped[:, :1, :1]).all() and not torch.equal(dropped[0], dropped[1])
    assert torch.equal(branch.eval()._drop(x), x)


def test_the_two_branch_network_has_the_published_sizes():
    """Three members: 8 probability channels and branch 1's answer; 128 features a member."""
    options = StackerOptions(stacker="two_branch", inputs=INPUTS, width=512, hidden=96, dropout=0.5)
    model = build_stacker(options, InputSizes((2048, 2048, 1664), 3, 1))
    assert model.features.shared[0].weight.shape == (512, 2048)
    assert model.features.recurrent.recurrent.weight_ih_l0.shape == (3 * 96, 3 * 128)
    assert model.images.blocks[0].conv.conv.weight.shape == (512, 2 * 3 + 3, 5)
    assert model.images.recurrent.recurrent.weight_ih_l0.shape == (3 * 96, 6 * 256)


def published(**options):
    """Burduja, Ionescu and Verga, arXiv 2008.00302: 120 principal components and six probabilities."""
    torch.manual_seed(0)
    options = {"dropout": 0.5, "context_dropout": 0.3, "normalise": False, "scores_after": True} | options
    read = ("embeddings", "probabilities")
    values = StackerOptions(stacker="lstm", inputs=read, width=None, layers=3, **options)
    return build_stacker(values, InputSizes((120,), 1, 0))


def test_the_lstm_on_principal_components_has_its_published_sizes():
    model = published()
    assert sum(p.numel() for p in model.context.parameters()) == 3_940_352
    assert sum(p.numel() for p in model.parameters()) == 3_940_352 + 518 * 6 + 6
    assert (model.context.recurrent.dropout, model.head[0].p) == (0.3, 0.5)
    assert published(context_dropout=None).context.recurrent.dropout == 0.5


def test_it_reads_components_and_probabilities_as_they_are_and_the_latter_again_before_the_head():
    model = published().eval()
    components, logits = 50 * torch.randn(1, 4, 120), torch.randn(1, 4, 6)
    mask, none = torch.ones(1, 4, dtype=torch.bool), torch.empty(1, 4, 0)
    context = model.context.recurrent(torch.cat([components, logits.sigmoid()], -1))[0]
    expected = torch.cat([context, logits.sigmoid()], -1) @ model.head[1].weight.T + model.head[1].bias
    slices = SliceSequence(components, logits, none, mask, torch.zeros_like(mask))
    torch.testing.assert_close(model(slices).slices, expected)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("gru", "context.recurrent.dropout", lambda drop: drop),
        ("transformer", "context.blocks.1.dropout", lambda drop: drop),
        ("mlp", "context.layers.1.2", lambda drop: drop.p),
    ],
)
def test_every_context_that_drops_values_has_its_own_share(kind, path, value):
    model = stacker(kind, context_dropout=0.4)
    found = model
    for name in path.split("."):
        found = getattr(found, name)
    assert value(found) == 0.4
    assert (model.inputs.finish[2].p, model.head[0].p) == (0.1, 0.1)


def test_scores_after_the_context_must_be_an_input():
    with pytest.raises(ValueError, match="scores_after: needs logits or probabilities"):
        stacker("lstm", inputs=("embeddings",), scores_after=True)
