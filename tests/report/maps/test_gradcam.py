"""Grad-CAM against the `grad-cam` package and numbers worked out by hand; the network stays as it was."""

import warnings

import numpy as np
import pytest
import timm
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from src.config import parse_config
from src.errors import UserError
from src.labels import LABELS
from src.models.cam_targets import CamTarget, as_it_is, find_cam_targets
from src.models.sequence_classifier import SequenceOptions, build_sequence_classifier
from src.models.slice_classifier import ClassifierOptions, build_slice_classifier
from src.models.video_classifier import VideoOptions, build_video_classifier
from src.report.maps.cam_pictures import normalise
from src.report.maps.gradcam import grad_cam, shuffled_head_correlation


def network(name, **options):
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=6, **options).eval()


def stretched(maps):
    """As the package gives them: from 0 to 1, an empty one as it is."""
    return normalise(maps - maps.min((1, 2), keepdims=True))[0]


class Hand(nn.Module):
    """Features as they are given, pooled; the weights of `LABELS[:2]` are known."""

    def __init__(self, weights):
        super().__init__()
        self.features, self.head = nn.Identity(), nn.Linear(len(weights[0]), len(weights), bias=False)
        self.head.weight = nn.Parameter(torch.tensor(weights))

    def forward(self, images):
        return self.head(self.features(images).mean((2, 3)))

    def cam_targets(self):
        return {"features": CamTarget(self.features, as_it_is)}


FEATURES = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[4.0, 0.0], [0.0, 8.0]]]])


def test_a_map_by_hand():
    """Mean over 4 positions: a gradient of weight / 4 at each, hence relu(4/4 a - 2/4 b) and relu(-a)."""
    maps, logits = grad_cam(Hand([[4.0, -2.0], [-4.0, 0.0]]), (FEATURES,), LABELS[:2])
    assert maps.tolist() == [[[[0.0, 2.0], [3.0, 0.0]]], [[[0.0, 0.0], [0.0, 0.0]]]]
    assert logits.tolist() == [[4.0], [-10.0]]


def test_maps_are_enlarged_linearly_to_the_image():
    model = Hand([[4.0]])
    model.features = nn.AvgPool2d(2)
    image = torch.tensor([0.0, 0.0, 4.0, 4.0]).expand(1, 1, 2, 4)
    (maps,) = grad_cam(model, (image,), ["epidural"]).maps
    assert maps[0].tolist() == [[0.0, 2.0, 6.0, 8.0]] * 2  # 0 and 8 at 1/4 and 3/4 of the width, weight 4/2


@pytest.mark.parametrize(
    ("name", "layer", "to_map"),
    [
        ("resnet18", lambda model: model.layer4[-1], None),
        ("convnext_atto", lambda model: model.stages[-1], None),
        (
            "vit_tiny_patch16_224",
            lambda model: model.blocks[-1].norm1,
            lambda tokens: tokens[:, 1:].transpose(1, 2).reshape(-1, 192, 8, 8),
        ),
    ],
)
def test_maps_are_those_of_the_grad_cam_package(name, layer, to_map):
    model = network(name, **({"img_size": 128} if name.startswith("vit") else {}))
    images = torch.randn(3, 3, 128, 128)
    ours = grad_cam(model, (images,), LABELS)
    for column, maps in enumerate(ours.maps):
        with GradCAM(model, [layer(model)], to_map) as package:
            theirs = package(images, [ClassifierOutputTarget(column)] * 3)
        np.testing.assert_allclose(stretched(maps), theirs, atol=1e-5)
    assert ours.maps.any((2, 3)).sum() >= 6
    torch.testing.assert_close(torch.from_numpy(ours.logits.T.copy()), model(images).detach())


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("frozen", [True, False])
def test_the_caller_s_mode_and_frozen_weights_do_not_matter(context, frozen):
    model = network("test_resnet").requires_grad_(not frozen)
    images = torch.randn(2, 3, 64, 64)
    expected = grad_cam(model, (images,), ["any"])
    with context():
        found = grad_cam(model, (images.clone(),), ["any"])  # in inference mode a tensor of its own kind
    assert np.array_equal(found.maps, expected.maps) and expected.maps.any()
    assert np.array_equal(found.logits, expected.logits)


def test_images_made_in_inference_mode_may_themselves_be_the_features():
    model = Hand([[4.0, -2.0]])
    with torch.inference_mode():
        maps = grad_cam(model, (FEATURES.clone(),), ["epidural"]).maps
    assert maps.tolist() == [[[[0.0, 2.0], [3.0, 0.0]]]]


def test_what_follows_the_target_may_change_it_in_place():
    class InPlace(Hand):
        def forward(self, images):
            return self.head(self.features(images).relu_().mean((2, 3)))

    # 3 of 4 positions of the first feature are above 0: mean gradient 4/4 * 3/4
    maps = grad_cam(InPlace([[4.0, 0.0]]), (FEATURES - 1.5,), ["epidural"]).maps
    assert maps.tolist() == [[[[0.0, 0.375], [1.125, 1.875]]]]


def test_layers_below_the_target_keep_nothing_for_a_gradient():
    model, seen = network("test_resnet"), []
    model.layer1.register_forward_hook(lambda module, inputs, output: seen.append(output.requires_grad))
    grad_cam(model, (torch.randn(1, 3, 64, 64),), ["any"])
    assert seen == [False]


def test_the_network_stays_as_it_was():
    model = network("test_resnet").train()
    model.bn1.eval()
    model.layer1.requires_grad_(False)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    images = torch.randn(2, 3, 64, 64)
    maps = grad_cam(model, (images,), ["any"]).maps
    with pytest.raises(UserError):
        grad_cam(model, (images,), ["any"], target=CamTarget(model.fc, as_it_is))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    for name, weight in model.named_parameters():
        assert weight.requires_grad != name.startswith("layer1.")
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())
    assert np.array_equal(maps, grad_cam(model.eval(), (images,), ["any"]).maps)


def test_neither_other_slices_of_a_batch_nor_other_labels_change_a_map():
    model = network("test_efficientnet")
    images = torch.randn(3, 3, 96, 96)
    together = grad_cam(model, (images,), LABELS).maps
    for column, label in enumerate(LABELS):
        alone = grad_cam(model, (images[1:2],), [label]).maps
        np.testing.assert_allclose(together[column, 1], alone[0, 0], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_checkpointing_changes_nothing(name):
    model, images = network(name), torch.randn(2, 3, 160, 160)
    expected = grad_cam(model, (images,), ["subdural", "any"]).maps
    model.set_grad_checkpointing(True)
    assert np.array_equal(grad_cam(model, (images,), ["subdural", "any"]).maps, expected)


def test_a_slice_classifier_is_explained_from_hu():
    torch.manual_seed(0)
    options = parse_config(ClassifierOptions, SMALL | {"backbone": "test_convnext"}, "test")
    model, (hu, windows, _) = build_slice_classifier(options), study(2)
    maps, logits = grad_cam(model, (hu, windows), ["subdural", "any"])
    assert maps.shape == (2, 2, 64, 64) and maps.any((2, 3)).all()
    np.testing.assert_allclose(logits.T, model.eval()(hu, windows)[0][:, [4, 5]].detach(), atol=1e-6)


@pytest.mark.parametrize("size", [64, 96])
def test_both_heads_of_a_dual_task_transformer_have_the_maps_of_the_package(size):
    torch.manual_seed(0)
    two = {"targets": "presence_and_location", "head_hidden": 16, "backbone": "test_vit", "image_size": size}
    options = parse_config(ClassifierOptions, SMALL | two, "test")
    model, columns = build_slice_classifier(options).eval(), options.predicted.columns
    hu = torch.randint(-20, 100, (3, 1, size, size), dtype=torch.int16)
    windows = torch.tensor([options.windows])
    ours = grad_cam(model, (hu, windows), columns, names=columns).maps
    images, plain = model.images(hu, windows), nn.Sequential(model.backbone, model.head)
    grid = size // 16
    for column in range(len(columns)):
        with GradCAM(
            plain,
            [model.backbone.blocks[-1].norm1],
            lambda tokens: tokens[:, 1:].transpose(1, 2).unflatten(2, (grid, grid)),
        ) as package:
            theirs = package(images, [ClassifierOutputTarget(column)] * 3)
        np.testing.assert_allclose(stretched(ours[column]), theirs, atol=1e-5)
        assert ours[column].any((1, 2)).any(), f"{columns[column]}: every map is blank"


def test_what_comes_out_of_the_last_block_is_refused_instead_of_an_empty_map():
    """Its patches have no way to the class token any more."""
    model = network("test_vit")
    (target,) = find_cam_targets(model).values()
    images = torch.randn(1, 3, 160, 160)
    assert grad_cam(model, (images,), ["any"]).maps.any()
    last = CamTarget(model.blocks[-1], target.to_map)
    seen = []
    handle = model.blocks[-1].register_full_backward_hook(lambda m, i, output: seen.append(output[0]))
    model(images)[:, 0].sum().backward()
    handle.remove()
    assert not seen[0][:, 1:].any() and seen[0][:, 0].any()
    with pytest.raises(UserError, match="map of Block: the logit does not change with it"):
        grad_cam(model, (images,), ["any"], target=last)


def test_layers_without_a_map_and_unknown_labels_are_refused():
    model, images = network("test_resnet"), torch.randn(1, 3, 64, 64)
    with pytest.raises(UserError, match=r"SelectAdaptivePool2d: its output \(1, 96\) is none"):
        grad_cam(model, (images,), ["any"], target=CamTarget(model.global_pool, as_it_is))
    with pytest.raises(UserError, match=r"BasicBlock: its output \(1, 96, 1, 1\) is none"):
        grad_cam(model, (images[..., :16, :16],), ["any"])
    with pytest.raises(UserError, match="Linear: the logits do not depend on it"):
        grad_cam(model, (images,), ["any"], target=CamTarget(nn.Linear(1, 1), as_it_is))
    with pytest.raises(UserError, match="map of 'ANY': no such label; the network knows epidural"):
        grad_cam(model, (images,), ["ANY"])


WINDOWS = torch.tensor([[[40.0, 80.0], [80.0, 200.0], [40.0, 380.0]]])
SMALL = {"backbone": "test_resnet", "pretrained": False, "image_size": 64}


def sequence_classifier():
    torch.manual_seed(0)
    context = {"hidden": 8, "layers": 2, "dropout": 0.5}
    values = {**SMALL, "context": context, "slices_at_once": 2}
    return build_sequence_classifier(parse_config(SequenceOptions, values, "test"))


def study(slices):
    hu = torch.randint(-100, 200, (slices, 1, 64, 64), generator=torch.Generator().manual_seed(0))
    return hu.to(torch.int16), WINDOWS, torch.ones(1, slices, dtype=torch.bool)


def test_a_label_of_a_slice_goes_back_through_the_lstm_to_every_slice():
    model, inputs = sequence_classifier(), study(5)
    own = grad_cam(model, inputs, ["any", "subdural"])
    assert own.maps.shape == (2, 5, 64, 64)
    for place in range(5):
        whole = grad_cam(model, inputs, ["any", "subdural"], at=place)
        others = np.delete(whole.maps, place, axis=1)
        assert whole.maps.shape == (2, 5, 64, 64) and others.any((1, 2, 3)).all()
        np.testing.assert_allclose(whole.maps[:, place], own.maps[:, place], rtol=1e-4, atol=1e-8)
        np.testing.assert_allclose(whole.logits, own.logits[:, place : place + 1].repeat(5, 1), atol=1e-6)
    assert model.training and model.context.recurrent.training


def test_several_studies_and_padding_are_refused():
    hu, windows, _ = study(4)
    for mask in ([[True, True], [True, True]], [[True, True, True, True, False]]):
        for at in (None, 0):
            with pytest.raises(ValueError, match="of 4 images: give one study without padding"):
                grad_cam(sequence_classifier(), (hu, windows, torch.tensor(mask)), ["any"], at=at)


def test_maps_of_a_sequence_are_those_of_plain_backward():
    model, inputs = sequence_classifier().eval(), study(4)
    maps = model.backbone.forward_features(model.images(*inputs[:2]))
    maps.retain_grad()
    context = model.context(model.backbone.forward_head(maps)[None], inputs[2])
    model.head(context)[0, 2, LABELS.index("any")].backward()
    expected = (maps * maps.grad.mean((2, 3), keepdim=True)).sum(1).relu().detach()
    found = torch.from_numpy(grad_cam(model, inputs, ["any"], at=2).maps[0])
    torch.testing.assert_close(nn.functional.interpolate(expected[:, None], 64, mode="bilinear")[:, 0], found)


def test_cudnn_is_off_through_forward_and_backward_of_recurrent_networks_alone():
    seen = []

    def note(module, inputs, output):
        value = output[0] if isinstance(output, tuple) else output
        seen.append(("forward", torch.backends.cudnn.enabled))
        value.register_hook(lambda gradient: seen.append(("backward", torch.backends.cudnn.enabled)))

    model = sequence_classifier()
    model.context.recurrent.register_forward_hook(note)
    grad_cam(model, study(2), ["any"], at=0)
    assert seen == [("forward", False), ("backward", False)] and torch.backends.cudnn.enabled
    seen.clear()
    plain = network("test_resnet")
    plain.fc.register_forward_hook(note)
    grad_cam(plain, (torch.randn(1, 3, 64, 64),), ["any"])
    assert seen == [("forward", True), ("backward", True)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_an_lstm_on_a_gpu_is_explained_in_evaluation_mode():
    model, inputs = sequence_classifier().eval(), study(4)
    expected = grad_cam(model, inputs, ["any"]).maps
    found = grad_cam(model.cuda(), [value.cuda() for value in inputs], ["any"]).maps
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-3 * expected.max())


def test_every_frame_of_a_pooled_study_has_a_map():
    torch.manual_seed(0)
    options = parse_config(VideoOptions, {**SMALL, "targets": "presence"}, "test")
    model, (hu, windows, _) = build_video_classifier(options), study(6)
    nn.init.ones_(model.head.weight)
    maps, logits = grad_cam(model, (hu, windows, 3), ["presence"], names=model.targets.columns)
    assert maps.shape == (1, 6, 64, 64) and maps.any((2, 3)).all() and logits.shape == (1, 2)


def test_maps_of_a_video_have_a_slice_for_every_frame():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    config = transformers.VivitConfig(
        image_size=32, num_frames=6, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=8, num_labels=2,
    )  # fmt: skip
    model = transformers.VivitForVideoClassification(config).eval()
    video = torch.randn(2, 6, 3, 32, 32)
    maps, logits = grad_cam(model, (video,), ["present"], names=("absent", "present"))
    assert maps.shape == (1, 2, 6, 32, 32) and logits.shape == (1, 2) and maps.any((0, 2, 3, 4)).all()


def test_maps_of_our_vivit_are_those_computed_by_hand():
    pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    backbone = {"tubelet": [2, 16, 16], "pretrained": False, "hidden_size": 16, "layers": 2}
    backbone |= {"attention_heads": 2}
    values = {"backbone": backbone, "image_size": 64, "frames": 6, "targets": "presence"}
    model = build_video_classifier(parse_config(VideoOptions, values, "test")).eval()
    for parameter in model.backbone.parameters():
        nn.init.normal_(parameter, std=0.3)
    hu, windows = torch.randint(-100, 200, (12, 1, 64, 64), dtype=torch.int16), WINDOWS
    network = model.backbone.network
    with torch.no_grad():
        hidden = network.embeddings(model.images(hu, windows).unflatten(0, (2, 6)))
        hidden = network.layers[0](hidden)
    last = network.layers[1]
    tokens = last.layernorm_before(hidden).detach().requires_grad_()
    attended = hidden + last.attention(tokens)[0]
    classes = network.layernorm(attended + last.mlp(last.layernorm_after(attended)))[:, 0]
    (gradients,) = torch.autograd.grad(model.head(classes).sum(), tokens)
    weighted = (tokens * gradients[:, 1:].mean(1, keepdim=True)).sum(2)[:, 1:].relu().detach()
    expected = nn.functional.interpolate(weighted.view(2, 1, 3, 4, 4), (6, 64, 64), mode="trilinear")[:, 0]
    maps, logits = grad_cam(model, (hu, windows, 6), ["presence"], names=("presence",))
    assert maps.shape == (1, 2, 6, 64, 64) and logits.shape == (1, 2) and maps.any((0, 3, 4)).all()
    np.testing.assert_allclose(maps[0], expected, rtol=1e-3, atol=1e-4 * expected.max())
    assert np.array_equal(maps[0, :, 0], maps[0, :, 1]) is False  # steps in time blend into each other
    np.testing.assert_allclose(maps[0, :, 0, 0, 0], weighted.view(2, 3, 4, 4)[:, 0, 0, 0], rtol=1e-3)


def test_the_maps_of_the_trunks_add_up_to_that_of_the_scopeformer():
    trunks = [{"backbone": name, "pretrained": False} for name in ("test_resnet", "test_efficientnet")]
    backbone = {"trunks": trunks, "embed_dim": 24, "depth": 2, "heads": 3}
    torch.manual_seed(0)
    model = build_slice_classifier(
        parse_config(ClassifierOptions, {"backbone": backbone, "image_size": 128}, "test")
    )
    inputs = torch.randint(-100, 200, (2, 1, 128, 128), dtype=torch.int16), WINDOWS
    targets = find_cam_targets(model)
    corners = np.ix_(range(6), range(2), (0, -1), (0, -1))  # where nothing is interpolated
    found = [grad_cam(model, inputs, LABELS, target=target).maps[corners] for target in targets.values()]
    whole, *parts = found
    both = (parts[0] > 0) & (parts[1] > 0)
    assert list(targets) == ["all trunks", "trunk 0", "trunk 1"] and both.any()
    np.testing.assert_allclose(whole[both], sum(parts)[both], rtol=1e-4)


def test_every_map_is_divided_by_its_own_maximum_and_an_empty_one_stays_empty():
    maps = np.array([[[0.0, 2.0], [1.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]], [[0.5, 0.0], [0.0, 0.0]]])
    scaled, empty = normalise(maps)
    assert scaled.tolist() == [[[0.0, 0.5], [0.25, 1.0]], [[0.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]]
    assert empty.tolist() == [False, True, False]
    video, none = normalise(maps[None], axes=(-3, -2, -1))
    assert video[0, 2, 0, 0] == 0.125 and none.tolist() == [False]


def test_shuffling_the_head_changes_what_the_map_owes_to_it():
    rising = torch.arange(16.0).view(1, 1, 4, 4)
    images = torch.cat([rising, 15 - rising], 1)
    model = Hand([[1.0, 0.0]])
    seeds = [
        seed for seed in range(20) if torch.randperm(2, generator=torch.Generator().manual_seed(seed))[0] == 1
    ]
    assert shuffled_head_correlation(model, "head", (images,), "epidural", seed=seeds[0]) == pytest.approx(
        [-1]
    )
    assert model.head.weight.tolist() == [[1.0, 0.0]]
    # one feature: whatever its weight, the map is that feature
    one = Hand([[1.0], [3.0]])
    assert shuffled_head_correlation(one, "head", (rising,), "epidural", seed=0) == pytest.approx([1])
    with warnings.catch_warnings(action="error"):
        flat = shuffled_head_correlation(model, "head", (torch.ones(1, 2, 4, 4),), "epidural", seed=0)
    assert np.isnan(flat).all()


def test_a_network_s_map_follows_its_head():
    model = network("convnext_atto")
    images = (torch.randn(4, 3, 128, 128),)
    found = shuffled_head_correlation(model, "head.fc", images, "any", seed=1)
    assert found.shape == (4,) and np.abs(found).max() < 0.7
    assert np.array_equal(shuffled_head_correlation(model, "head.fc", images, "any", seed=1), found)
