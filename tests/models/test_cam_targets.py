"""Where maps are taken from: the named layer of every family, its output in the place of the image."""

import pytest
import torch
from torch import nn

from src.config import parse_config
from src.errors import UserError
from src.models.backbones import create_backbone
from src.models.cam_targets import find_cam_targets, without_prefix
from src.models.scopeformer import ScopeformerConfig, build_scopeformer


def output_of(layer, call):
    kept = []
    with torch.no_grad():
        handle = layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
        answer = call()
    handle.remove()
    return kept[0], answer


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer4.1"),
        ("seresnext26d_32x4d", "layer4.1"),
        ("legacy_seresnext50_32x4d", "layer4.2"),
        ("convnext_atto", "stages.3"),
        ("vgg11", "features.20"),
        ("densenet121", "features.norm5"),
        ("efficientnet_b0", "bn2"),
        ("mobilenetv3_small_050", "blocks.5.0"),
        ("legacy_xception", "act4"),
        ("swin_tiny_patch4_window7_224", "norm"),
        ("vit_tiny_patch16_224", "blocks.11.norm1"),
        ("pvt_v2_b0", "stages.3"),
    ],
)
def test_the_layer_of_every_family(name, layer):
    with torch.device("meta"):
        network = create_backbone(name, 3, False)
    ((found, target),) = find_cam_targets(network).items()
    assert found == layer and target.layer is network.get_submodule(layer)


@pytest.mark.parametrize(
    ("name", "pooling"),
    [
        ("resnet18", "backbone"),
        ("seresnext26d_32x4d", "avg"),
        ("densenet121", "backbone"),
        ("efficientnet_b0", "backbone"),
        ("legacy_xception", "backbone"),
        ("swin_tiny_patch4_window7_224", "backbone"),
        ("pvt_v2_b0", "backbone"),
    ],
)
def test_the_map_is_the_last_one_before_pooling(name, pooling):
    network = create_backbone(name, 3, False, image_size=112, pooling=pooling).eval()
    (target,) = find_cam_targets(network).values()
    output, pooled = output_of(target.layer, lambda: network(torch.randn(2, 3, 112, 112)))
    maps = target.to_map(output)
    assert maps.shape[2] == maps.shape[3] > 1
    torch.testing.assert_close(maps.mean((2, 3)), pooled)


def test_gem_pools_the_same_map():
    names = [
        next(iter(find_cam_targets(create_backbone("resnet18", 3, False, pooling=p)))) for p in ("gem", "avg")
    ]
    assert names == ["layer4.1", "layer4.1"]


@pytest.mark.parametrize(
    ("name", "prefix"), [("vit_tiny_patch16_224", 1), ("vit_small_patch14_reg4_dinov2", 5)]
)
def test_tokens_of_a_vision_transformer_go_back_to_their_patches(name, prefix):
    side = 6 * int(name.split("patch")[1][:2])
    network = create_backbone(name, 3, False, image_size=side).eval()
    (target,) = find_cam_targets(network).values()
    tokens = torch.arange(prefix + 36.0)[None, :, None]
    assert target.to_map(tokens)[0, 0].tolist() == (prefix + torch.arange(36.0).view(6, 6)).tolist()
    with pytest.raises(UserError, match=f"expected {prefix} . 6 x 6 tokens"):
        target.to_map(tokens[:, 1:])


def test_tubelets_go_back_to_their_frames_and_patches():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.VivitConfig(
        image_size=32,
        num_frames=6,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=8,
    )
    model = transformers.VivitForVideoClassification(config).eval()
    ((name, target),) = find_cam_targets(model).items()
    assert name == "vivit.layers.1.layernorm_before"
    tubelets = model.vivit.embeddings.patch_embeddings
    video = torch.randn(1, 6, 3, 32, 32)
    output, tokens = output_of(tubelets.projection, lambda: tubelets(video))
    assert output.shape == (1, 8, 3, 2, 2)
    with_class = torch.cat([torch.zeros(1, 1, 8), tokens], 1)
    torch.testing.assert_close(target.to_map(with_class), output)


def scopeformer(*trunks):
    values = {"trunks": [{"backbone": name, "pretrained": False} for name in trunks]}
    return build_scopeformer(parse_config(ScopeformerConfig, values | SMALL, "test"), 3, 64).eval()


SMALL = {"embed_dim": 24, "depth": 2, "heads": 3}


def test_a_model_of_several_parts_says_itself_where_its_maps_are():
    model = scopeformer("test_resnet", "test_efficientnet")
    targets = find_cam_targets(nn.Sequential(model))
    assert list(targets) == ["all trunks", "trunk 0", "trunk 1"]
    images = torch.randn(1, 3, 64, 64)
    joined, first, second = (output_of(t.layer, lambda: model(images))[0] for t in targets.values())
    assert joined.shape == (1, 96 + 64, 2, 2)
    assert torch.equal(joined, torch.cat([first, second], 1))


def test_without_trunks_the_map_is_the_transformer_s():
    ((_, target),) = find_cam_targets(model := scopeformer()).items()
    assert target.layer is model.transformer.blocks[-1].norm1
    output, _ = output_of(target.layer, lambda: model(torch.randn(1, 3, 64, 64)))
    assert target.to_map(output).shape == (1, 24, 4, 4)


def test_where_several_networks_are_no_model_says_which():
    networks = nn.ModuleList(create_backbone("test_resnet", 3, False) for _ in range(2))
    with pytest.raises(UserError, match=r"ModuleList: .* \(test_resnet, test_resnet\); give the model"):
        find_cam_targets(networks)
    with pytest.raises(UserError, match=r"Linear: .*none of timm or transformers"):
        find_cam_targets(nn.Linear(2, 2))


def test_tokens_without_a_grid_are_refused():
    with pytest.raises(UserError, match=r"expected 1 . 2 x 2 tokens, got the shape"):
        without_prefix(torch.zeros(1, 4, 3), 1, (2, 2))
