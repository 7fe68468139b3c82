"""The end-to-end network: padding, chunks and recomputation change nothing; the published sizes."""

import pytest
import torch
from torch import nn

from src.config import parse_config
from src.errors import UserError
from src.models.sequence_classifier import SequenceOptions, build_sequence_classifier
from src.models.slice_classifier import ClassifierOptions, build_slice_classifier

WINDOWS = torch.tensor([[[40.0, 80.0], [75.0, 215.0], [600.0, 2800.0]]])
PLAIN = {"backbone": "test_resnet", "pretrained": False, "image_size": 32}
LSTM = {"context": {"hidden": 8, "layers": 2, "dropout": 0.3}}
TRANSFORMER = {"context": {"heads": 4, "feed_forward": 16, "dropout": 0.3}}
ALONE = {"context": None}
TRUNK = {"backbone": "test_resnet", "pretrained": False}
SCOPEFORMER = {
    "trunks": [TRUNK], "embed_dim": 16, "depth": 2, "heads": 2, "dropout": 0.2, "drop_path": 0.2
}  # fmt: skip


def configured(**values):
    return parse_config(SequenceOptions, {**PLAIN, **LSTM, **values}, "test")


def build(**values):
    torch.manual_seed(0)
    return build_sequence_classifier(configured(**values))


class ToDouble(nn.Module):
    """Behind the windows, whose images are float32."""

    def forward(self, images):
        return images.double()


def double(model):
    model.scale = ToDouble()
    return model.double()


def studies(lengths, longest=None, size=32):
    """HU of all slices in a row, and the mask that says which study each is of."""
    generator = torch.Generator().manual_seed(2)
    hu = torch.randint(-200, 200, (sum(lengths), 1, size, size), dtype=torch.int16, generator=generator)
    return hu, torch.arange(longest or max(lengths))[None] < torch.tensor(lengths)[:, None]


def statistics(model):
    return {
        name: value.clone() for name, value in model.named_buffers() if "running" in name or "num" in name
    }


@pytest.mark.parametrize(
    ("backbone", "parameters"), [("resnet50", 23_508_032), ("seresnext50_32x4d", 25_510_896)]
)
def test_the_networks_have_their_published_sizes(backbone, parameters):
    with torch.device("meta"):
        options = parse_config(SequenceOptions, {**PLAIN, "backbone": backbone}, "published")
        lstm, alone = build_sequence_classifier(options), build(backbone=backbone, context=None)
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in lstm.named_children()}
    assert counts["backbone"] == parameters
    assert counts["context"] == 16_793_600
    assert counts["head"] == 1024 * 6 + 6
    assert sum(p.numel() for p in lstm.parameters()) == parameters + 16_793_600 + 6_150
    assert sum(p.numel() for p in alone.parameters()) == parameters + 2048 * 6 + 6


def test_outputs_are_of_every_slice_and_zero_beyond_a_study():
    hu, mask = studies([2, 5])
    logits, embeddings, context = build().eval()(hu, WINDOWS, mask)
    assert logits.shape == (2, 5, 6) and embeddings.shape == (2, 5, 96) and context.shape == (2, 5, 16)
    assert not any(values[0, 2:].any() for values in (logits, embeddings, context))


@pytest.mark.parametrize(
    ("context", "training"),
    [(LSTM, False), (LSTM, True), (ALONE, False), (ALONE, True), (TRANSFORMER, False)],
)
def test_padding_changes_neither_logits_nor_statistics(context, training):
    """Nor what dropout draws; in evaluation a study alone also gets the same."""
    lengths, results = [3, 5], []
    for longest in (5, 12):
        model = double(build(dropout=0.3, **context)).train(training)
        hu, mask = studies(lengths, longest)
        torch.manual_seed(4)
        logits = model(hu, WINDOWS, mask).logits
        results.append((logits[mask], statistics(model)))
    (expected, before), (found, after) = results
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    if not training:
        alone = model(hu[:3], WINDOWS, mask[:1, :3]).logits
        torch.testing.assert_close(alone[0], expected[:3], rtol=0, atol=1e-12)


@pytest.mark.parametrize("context", [LSTM, TRANSFORMER])
def test_every_slice_sees_its_study_and_no_other(context):
    model = build(**context).eval()
    hu, mask = studies([4, 4])
    before = model(hu, WINDOWS, mask).logits
    hu[0] += 100
    after = model(hu, WINDOWS, mask).logits
    assert ((after[0] - before[0]).abs().amax(1) > 0).all()
    torch.testing.assert_close(after[1], before[1])


def test_without_context_it_is_the_slice_classifier():
    plain = {**PLAIN, "dropout": 0.3}
    slices = build_slice_classifier(parse_config(ClassifierOptions, plain, "slices")).eval()
    alone = build(dropout=0.3, context=None).eval()
    alone.load_state_dict(slices.state_dict())
    hu, mask = studies([2, 3])
    logits, embeddings = slices(hu, WINDOWS)
    found = alone(hu, WINDOWS, mask)
    torch.testing.assert_close(found.logits[mask], logits)
    torch.testing.assert_close(found.embeddings[mask], embeddings)
    assert found.context is found.embeddings
    assert alone.dropout.p == 0.3 and alone.memory_format == slices.memory_format


def test_logits_are_the_head_of_the_lstm_of_the_embeddings():
    model = build().eval()
    hu, mask = studies([4, 4])
    logits, embeddings, context = model(hu, WINDOWS, mask)
    expected = model.backbone(model.images(hu, WINDOWS)).unflatten(0, (2, 4))
    torch.testing.assert_close(embeddings, expected)
    torch.testing.assert_close(context, model.context.recurrent(embeddings)[0])
    torch.testing.assert_close(logits, context @ model.head.weight.T + model.head.bias)


@pytest.mark.parametrize("slices_at_once", [1, 2, 3, 100])
def test_prediction_is_the_same_however_many_slices_go_at_once(slices_at_once):
    """Windows that differ from slice to slice go with their slices."""
    seen = []
    model = double(build(slices_at_once=slices_at_once)).eval()
    model.backbone.register_forward_hook(lambda module, args, out: seen.append(len(out)))
    hu, mask = studies([3, 4])
    windows = WINDOWS + 5 * torch.arange(7).view(7, 1, 1)
    found = model(hu, windows, mask)
    assert sum(seen) == 7 and max(seen) == min(slices_at_once, 7)
    whole = double(build()).eval()(hu, windows, mask)
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-12)
    seen.clear()
    model.train()(hu, windows, mask)
    assert seen == [7]


@pytest.mark.parametrize("name", ["test_resnet", "densenet121", "test_efficientnet", "scopeformer"])
def test_computing_the_encoder_again_changes_neither_gradients_nor_statistics(name):
    hu, mask = studies([2, 3])
    results = {}
    for checkpointing in (False, True):
        options = {**PLAIN, **LSTM, "backbone": name, "checkpointing": checkpointing}
        if name == "scopeformer":
            options = {k: v for k, v in options.items() if k != "pretrained"} | {"backbone": SCOPEFORMER}
        torch.manual_seed(0)
        model = build_sequence_classifier(parse_config(SequenceOptions, options, "test")).train()
        passes = []
        for norm in [m for m in model.backbone.modules() if isinstance(m, nn.BatchNorm2d)]:
            norm.register_forward_pre_hook(lambda *_, passes=passes: passes.append(1))
        torch.manual_seed(3)
        for _ in range(2):
            logits = model(hu, WINDOWS, mask).logits
            logits.square().sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters()}
        prediction = model.eval()(hu, WINDOWS, mask).logits
        results[checkpointing] = (logits, gradients, statistics(model), prediction), len(passes)
    (plain, once), (again, twice) = results[False], results[True]
    assert twice > 1.3 * once  # of two steps and a prediction, the blocks of both steps again
    torch.testing.assert_close(again, plain)
    assert all(value == 2 for name, value in again[2].items() if name.endswith("num_batches_tracked"))


def test_a_backbone_that_cannot_be_computed_again_is_refused():
    with pytest.raises(UserError, match=r"timm offers none for this backbone .*set checkpointing to false"):
        build(backbone="legacy_xception", checkpointing=True)


def test_training_starts_at_the_prevalence_and_every_layer_has_its_rate():
    model = build()
    model.start_at(torch.tensor([0.004, 0.05, 0.03, 0.05, 0.05, 0.14]))
    assert model.head.bias[5].sigmoid().item() == pytest.approx(0.14)
    rates = {id(p): g["lr_scale"] for g in model.layer_groups(0.1, 0.5) for p in g["params"]}
    assert len(rates) == len(list(model.parameters()))
    assert {rates[id(p)] for p in (*model.context.parameters(), *model.head.parameters())} == {1.0}
    alone = build(context=None)
    assert sum(len(g["params"]) for g in alone.layer_groups(0.1, 0.5)) == len(list(alone.parameters()))


def test_mixed_precision_reaches_the_logits():
    model = build().train()
    hu, mask = studies([2, 3])
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(hu, WINDOWS, mask).logits
    logits.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_a_context_with_heads_is_a_transformer_as_wide_as_the_embeddings():
    model = build(**TRANSFORMER)
    assert len(model.context.blocks) == 2 and model.context.out == model.head.in_features == 96
    with pytest.raises(UserError, match=r"context.heads 5: does not divide the embedding's 96 values"):
        build(context={"heads": 5})


def test_dropout_between_layers_needs_two():
    assert build(context={"hidden": 8, "dropout": 0.3}).context.recurrent.dropout == 0.3
    with pytest.raises(UserError, match="acts between layers, and there is one"):
        configured(context={"hidden": 8, "layers": 1, "dropout": 0.3})
