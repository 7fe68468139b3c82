"""Slice classifiers: windows on the device, 2.5D, dropout samples, an auxiliary decoder."""

import pytest
import torch

from src.errors import UserError
from src.models.heads import probabilities
from src.models.segmentation import DecoderOptions, masked_segmentation_loss
from src.models.slice_classifier import ClassifierOptions, build_slice_classifier

WINDOWS = torch.tensor([[[40.0, 80.0], [80.0, 200.0], [40.0, 380.0]]])


def build(backbone, **options):
    defaults = {"pretrained": False, "image_size": 64}
    return build_slice_classifier(ClassifierOptions(backbone=backbone, **{**defaults, **options}))


def test_logits_are_the_head_of_the_embedding():
    model = build("test_resnet").eval()
    logits, embeddings = model(torch.zeros(1, 1, 64, 64, dtype=torch.int16), WINDOWS)
    torch.testing.assert_close(logits, embeddings @ model.head.weight.T + model.head.bias)


def test_heads_with_a_hidden_layer_start_at_the_rates_and_drop_out_behind_it():
    model = build("test_resnet", targets="presence_and_location", head_hidden=512, dropout=0.1).eval()
    for head in model.head.heads:
        torch.nn.init.zeros_(head[3].weight)
        assert [type(layer).__name__ for layer in head] == ["Linear", "GELU", "Dropout", "Linear"]
        assert head[2].p == 0.1
    model.start_at(torch.tensor([0.25, 0.5, 0.3, 0.2]))
    p = probabilities(model(torch.zeros(3, 1, 64, 64, dtype=torch.int16), WINDOWS)[0], model.targets)
    torch.testing.assert_close(p.float(), torch.tensor([[0.25, 0.5, 0.3, 0.2]]).expand(3, 4))
    assert model.dropout.p == 0


@pytest.mark.parametrize(
    ("backbone", "encoder", "width"),
    [
        ("vit_base_patch16_224", 85_798_656, 768),
        ("resnet18", 11_176_512, 512),
        ("vgg16", 134_260_544, 4096),
    ],
)
def test_the_dual_task_networks_have_the_published_size(backbone, encoder, width):
    options = {"targets": "presence_and_location", "head_hidden": 512, "image_size": 224}
    with torch.device("meta"):
        model = build(backbone, windows=((40, 80),) * 3, **options)
    assert sum(p.numel() for p in model.backbone.parameters()) == encoder
    heads = 2 * (width * 512 + 512) + (512 + 1) + (3 * 512 + 3)
    assert sum(p.numel() for p in model.head.parameters()) == heads


def test_windows_may_differ_from_sample_to_sample():
    model = build("test_resnet").eval()
    hu = torch.full((2, 1, 64, 64), 50, dtype=torch.int16)
    hu[:, :, 16:48, 16:48] = 70
    logits, _ = model(hu, torch.cat([WINDOWS, WINDOWS + 10]))
    alone, _ = model(hu[1:], WINDOWS + 10)
    torch.testing.assert_close(logits[1:], alone, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(logits[0], logits[1], atol=1e-4)


def test_a_stack_reaches_the_network_slice_by_slice_window_by_window():
    hu = torch.tensor([0, 20, 40], dtype=torch.int16).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    seen = ((40.0, 80.0), (0.0, 80.0))
    windows = torch.tensor([seen])
    table = torch.tensor([[0.0, 0.5], [0.25, 0.75], [0.5, 1.0]])
    model = build("test_resnet", neighbours=(-1, 0, 1), windows=seen, mean=(0.0,), std=(1.0,))
    torch.testing.assert_close(model.images(hu, windows)[0, :, 5, 5], table.flatten())
    assert model(hu, windows)[0].shape == (1, 6)


def test_dropout_samples_average_the_logits_of_several_masks():
    torch.manual_seed(0)
    embeddings = torch.ones(2000, 96)
    spread = {}
    for samples in (1, 5):
        model = build("test_resnet", dropout=0.5, dropout_samples=samples).train()
        with torch.no_grad():
            model.head.weight.fill_(1.0)
            spread[samples] = model.classify(embeddings).var(0).mean().item()
    assert spread[1] / spread[5] == pytest.approx(5, rel=0.2)
    model.eval()
    torch.testing.assert_close(model.classify(embeddings), model.head(embeddings))


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext", "densenet121", "seresnext26d_32x4d"])
def test_the_decoder_draws_blood_and_leaves_the_classification_as_it_is(backbone):
    model = build(backbone, segmentation=DecoderOptions(channels=16))
    hu = torch.randint(-1000, 1000, (2, 1, 64, 64), dtype=torch.int16)
    for module in model.modules():  # the same arithmetic in training and prediction
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0
            module.track_running_stats = False
            module.running_mean = module.running_var = None
    logits, embeddings, blood = model.train()(hu, WINDOWS)
    expected, pooled = model.eval()(hu, WINDOWS)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(embeddings, pooled, rtol=1e-4, atol=1e-5)
    assert blood.shape[:2] == (2, 1) and blood.shape[-1] in (16, 32)


def test_a_backbone_without_feature_maps_cannot_have_a_decoder():
    with pytest.raises(UserError, match="segmentation: test_vit has no feature maps"):
        build("test_vit", segmentation=DecoderOptions(channels=16))


def test_unknown_masks_do_not_count_in_the_segmentation_loss():
    logits, masks = torch.zeros(2, 1, 2, 2, requires_grad=True), torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    masks[:, :, :2] = True
    loss = masked_segmentation_loss(logits, masks, torch.tensor([True, False]))
    # entropy log 2; Dice 1 - (2 * 2 * 0.5 + 1) / (4 * 0.5 + 2 + 1); half of the batch counts
    assert loss.item() == pytest.approx((0.693147 + 1 - 3 / 5) / 2, abs=1e-5)
    loss.backward()
    assert logits.grad[0].abs().sum() > 0 and not logits.grad[1].any()
