"""Scopeformer: maps of several trunks, one transformer; published sizes; weights of every trunk."""

import pytest
import torch
from safetensors.torch import save_file

from src.config import parse_config
from src.errors import UserError
from src.files import file_sha256
from src.models.backbones import create_backbone
from src.models.scopeformer import ScopeformerConfig, TrunkConfig, build_scopeformer, size_table
from src.models.slice_classifier import (
    ClassifierOptions,
    build_slice_classifier,
    encoder_files,
    encoder_weights,
)

XCEPTION = {"backbone": "legacy_xception", "stage": "block12"}
FOUR = [
    {"backbone": name, "project": 256}
    for name in ("legacy_xception", "resnet50", "densenet121", "efficientnet_b0")
]
TINY = {"embed_dim": 24, "depth": 2, "heads": 3}


def configured(*trunks, **options):
    return parse_config(ScopeformerConfig, {"trunks": list(trunks), **options}, "test")


def trunk(backbone="test_resnet", **options):
    return {"backbone": backbone, "pretrained": False, **options}


def build(*trunks, channels=3, image_size=64, **options):
    torch.manual_seed(0)
    return build_scopeformer(configured(*trunks, **TINY | options), channels, image_size)


def images(channels=3, size=64):
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))


def equal_weights(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_xception_is_tapped_behind_its_last_residual_block():
    """1024 channels at 7 x 7 of 224 pixels; nothing of the exit flow is left to be trained for nothing."""
    tapped = build(trunk("legacy_xception", stage="block12"), image_size=224).eval().trunks[0]
    whole = create_backbone("legacy_xception", 3, False).eval()
    kept = tapped.network.state_dict()
    whole.load_state_dict(kept, strict=False)
    with torch.inference_mode():
        x = images(size=224)[:1]
        found = tapped(x)
        for name in ("conv1", "bn1", "act1", "conv2", "bn2", "act2", *(f"block{k}" for k in range(1, 13))):
            x = getattr(whole, name)(x)
    assert found.shape == (1, 1024, 7, 7)
    torch.testing.assert_close(found, x)
    assert not any(name.startswith(("conv3", "bn3", "conv4", "bn4")) for name in kept)
    assert sum(p.numel() for p in tapped.parameters()) == 16_058_152


def test_the_networks_have_their_published_sizes():
    """679.5 and 84.9 million weights in the blocks, and here their biases and norms: 8 times fewer."""
    rows = size_table(
        {
            "concat": configured(*[XCEPTION] * 3, embed_dim="concat", mlp_ratio=1.0),
            "768": configured(*[XCEPTION] * 3),
            "efficient 768": configured(*FOUR),
            "efficient 512": configured(*FOUR, embed_dim=512, depth=6, heads=8),
            "efficient 384": configured(*FOUR, embed_dim=384, depth=6, heads=6),
        }
    )
    found = {row["network"]: tuple(row.values())[1:6] for row in rows}
    trunks = 20_806_952 + 23_508_032 + 6_953_856 + 3_595_388
    projections = 256 * (2048 + 2048 + 1024 + 320) + 4 * 256
    #        trunks, projections, blocks, tokens, total
    assert found == {
        "concat": (3 * 16_058_152, 0, 679_845_888, 162_816, 728_183_160),
        "768": (3 * 16_058_152, 0, 85_054_464, 2_400_768, 135_629_688),
        "efficient 768": (trunks, projections, 85_054_464, 827_904, 142_140_260),
        "efficient 512": (trunks, projections, 18_914_304, 551_936, 75_724_132),
        "efficient 384": (trunks, projections, 10_646_784, 413_952, 67_318_628),
    }
    smaller = {row["network"]: (row["smaller"], row["blocks_smaller"]) for row in rows}
    assert smaller["768"] == pytest.approx((5.369, 7.993), abs=1e-3)
    assert smaller["efficient 768"] == pytest.approx((5.123, 7.993), abs=1e-3)
    assert smaller["efficient 512"] == pytest.approx((9.616, 35.943), abs=1e-3)
    assert smaller["efficient 384"] == pytest.approx((10.817, 63.855), abs=1e-3)


@pytest.mark.parametrize(("width", "mlp_ratio", "weights"), [("concat", 1.0, 679.5), (768, 4.0, 84.9)])
def test_the_blocks_hold_the_published_millions_of_weights(width, mlp_ratio, weights):
    with torch.device("meta"):
        config = configured(*[XCEPTION] * 3, embed_dim=width, mlp_ratio=mlp_ratio)
        encoder = build_scopeformer(config.untrained(), 3, 224)
    matrices = sum(p.numel() for p in encoder.transformer.blocks.parameters() if p.ndim > 1)
    assert matrices / 1e6 == pytest.approx(weights, abs=0.05)
    assert encoder.transformer.pos_embed.shape == (1, 50, encoder.num_features)


def test_without_trunks_it_is_timm_s_vision_transformer():
    published = create_backbone("vit_tiny_patch16_224", 3, False, image_size=64).eval()
    own = build(embed_dim=192, depth=12, heads=3).eval()
    own.transformer.load_state_dict(published.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(own(images()), published(images()))


def test_the_class_token_reads_the_maps_of_all_trunks():
    """Every position of the joined map is a token: linear map, class token first, learned positions."""
    encoder = build(trunk(), trunk("test_efficientnet", seed=3)).eval()
    vit = encoder.transformer
    with torch.inference_mode():
        maps = torch.cat([part(images()) for part in encoder.trunks], 1)
        tokens = maps.permute(0, 2, 3, 1).flatten(1, 2) @ vit.patch_embed.proj.weight[:, :, 0, 0].T
        tokens = torch.cat([vit.cls_token.expand(2, 1, -1), tokens + vit.patch_embed.proj.bias], 1)
        expected = vit.norm(vit.blocks(tokens + vit.pos_embed))[:, 0]
        torch.testing.assert_close(encoder(images()), expected)
    assert maps.shape == (2, 96 + 64, 2, 2) and tokens.shape == (2, 1 + 4, 24)


def test_concatenated_channels_are_the_tokens_themselves():
    encoder = build(trunk(), trunk(seed=1), embed_dim="concat").eval()
    maps = encoder.forward_features(images())
    assert encoder.num_features == 2 * 96
    torch.testing.assert_close(encoder.transformer.patch_embed(maps)[:, 3], maps[:, :, 1, 1])


def test_a_map_may_be_cut_into_larger_patches():
    encoder = build(trunk(stage=-2), patch_size=2).eval()
    assert encoder.forward_features(images()).shape == (2, 192, 4, 4)
    assert encoder.transformer.pos_embed.shape == (1, 1 + 4, 24)
    assert encoder(images()).shape == (2, 24)
    with pytest.raises(UserError, match="patch_size 3 does not divide 4 x 4"):
        build(trunk(stage=-2), patch_size=3)


@pytest.mark.parametrize("channels", [1, 3, 9])
def test_every_parameter_of_every_part_learns(channels):
    """And the look at the maps' sizes leaves no trace."""
    parts = [trunk(), trunk("test_convnext", seed=1, project=8), trunk("test_efficientnet", stage="blocks.4")]
    encoder = build(*parts, channels=channels, dropout=0.1, drop_path=0.1)
    assert all(module.training for module in encoder.modules())
    assert encoder.trunks[0].network.bn1.num_batches_tracked == 0
    encoder(images(channels)).square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []
    assert [part.channels for part in encoder.trunks] == [96, 8, 64]


def test_a_transformer_may_be_a_trunk():
    encoder = build(trunk("test_vit"), trunk(stage=-2)).train()
    encoder(images()).square().sum().backward()
    assert [part.channels for part in encoder.trunks] == [64, 192]
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def test_a_stage_has_a_name_and_a_number():
    by_name, by_number = (build(trunk(stage=stage)).trunks[0] for stage in ("layer3", 3))
    assert equal_weights(by_name, by_number)
    assert by_name(images()).shape == (2, 192, 4, 4)
    for stage in ("layer9", 5, "block12"):
        with pytest.raises(UserError, match=r"trunk test_resnet: no stage .* it has act1, layer1, .*layer4"):
            build(trunk(stage=stage))
    with pytest.raises(UserError, match=r"no stage 'x'; it has act2, .*act4, block12"):
        build(trunk("legacy_xception", stage="x"))


def test_maps_of_different_sizes_are_refused():
    with pytest.raises(UserError, match="different sizes: test_resnet 2 x 2, test_efficientnet 4 x 4"):
        build(trunk(), trunk("test_efficientnet", stage=-2))


def test_images_a_trunk_cannot_reduce_are_refused():
    with pytest.raises(UserError, match="a trunk takes no images of 2 px"):
        build(trunk("legacy_xception"), image_size=2)


def test_the_seed_of_a_trunk_alone_draws_its_random_weights():
    first, second, third = build(trunk(), trunk(), trunk(seed=1)).trunks
    assert equal_weights(first, second) and not equal_weights(first, third)
    torch.manual_seed(99)
    config = configured(trunk(seed=1), **TINY)
    assert equal_weights(build_scopeformer(config, 3, 64).trunks[0], third)
    torch.manual_seed(99)
    other = build_scopeformer(configured(trunk(seed=2), **TINY), 3, 64)
    torch.manual_seed(99)
    assert equal_weights(other.transformer, build_scopeformer(config, 3, 64).transformer)


def test_a_trunk_starts_from_the_weights_of_a_slice_classifier(tmp_path):
    trained = build_slice_classifier(ClassifierOptions(backbone="test_resnet", pretrained=False))
    path = tmp_path / "model.safetensors"
    save_file(trained.state_dict(), path)
    config = configured(trunk(), trunk(pretrained=str(path)), **TINY)
    _, own = build_scopeformer(config, 3, 64).trunks
    stored = trained.backbone.state_dict()
    assert all(torch.equal(value, stored[name]) for name, value in own.network.state_dict().items())
    torch.testing.assert_close(
        own.eval()(images()), trained.eval().backbone.forward_features(images()), rtol=0, atol=0
    )
    record = {"source": "model.safetensors", "sha256": {"model.safetensors": file_sha256(path)}}
    assert config.weights() == {"trunks": [{"source": "random"}, record]}
    single = ClassifierOptions(backbone="test_resnet", pretrained=str(path))
    several = ClassifierOptions(backbone=config)
    assert encoder_weights(single) == record and encoder_weights(several) == config.weights()
    assert encoder_files(single) == encoder_files(several) == [path]
    assert [part.pretrained for part in config.untrained().trunks] == [False, False]


def test_dropout_stands_behind_positions_attention_and_mlp():
    transformer = build(trunk(), dropout=0.3, drop_path=0.2).transformer
    block = transformer.blocks[1]
    places = (transformer.pos_drop, block.attn.proj_drop, block.mlp.drop1, block.mlp.drop2)
    assert [place.p for place in places] == [0.3] * 4
    assert block.drop_path2.drop_prob == pytest.approx(0.2)


@pytest.mark.parametrize("option", ["dropout", "drop_path"])
def test_dropout_acts_in_training_alone(option):
    encoder = build(trunk(), **{option: 0.5})
    maps = encoder.eval().forward_features(images())
    assert torch.equal(encoder.forward_head(maps), encoder.forward_head(maps))
    encoder.train()
    assert not torch.equal(encoder.forward_head(maps), encoder.forward_head(maps))
    plain = build(trunk()).train()
    assert torch.equal(plain.forward_head(maps), plain.forward_head(maps))


def test_it_stands_in_a_slice_classifier_with_falling_rates():
    own = configured(trunk(), **TINY)
    model = build_slice_classifier(ClassifierOptions(backbone=own, image_size=64, neighbours=(0, 1)))
    hu = torch.randint(-1000, 1000, (2, 2, 64, 64), dtype=torch.int16)
    logits, embeddings = model(hu, torch.tensor([[[40.0, 80.0], [80.0, 200.0], [40.0, 380.0]]]))
    assert logits.shape == (2, 6) and embeddings.shape == (2, 24)
    rates = {id(p): g["lr_scale"] for g in model.layer_groups(0.1, 0.5) for p in g["params"]}
    encoder = model.backbone
    assert len(rates) == len(list(model.parameters()))
    assert rates[id(model.head.weight)] == 1
    assert rates[id(encoder.transformer.norm.weight)] == rates[id(encoder.transformer.blocks[1].norm1.weight)]
    assert rates[id(encoder.transformer.blocks[0].norm1.weight)] == 0.5**2
    assert rates[id(encoder.transformer.cls_token)] == 0.5**3
    assert {rates[id(p)] for p in encoder.trunks.parameters()} == {0.5**3}


def test_the_joined_map_and_the_rest_are_two_halves_of_one_network():
    """What Grad-CAM differentiates: the map, and the channels of one trunk in it."""
    encoder = build(trunk(), trunk("test_efficientnet", seed=1)).eval()
    maps = encoder.forward_features(images()).detach().requires_grad_()
    pooled = encoder.forward_head(maps)
    assert torch.equal(pooled, encoder(images()))
    pooled[0, 0].backward()
    first, second = maps.grad.split([part.channels for part in encoder.trunks], 1)
    assert first[0].abs().sum() > 0 and second[0].abs().sum() > 0 and maps.grad[1].abs().sum() == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trunks": [trunk()] * 5}, "trunks is"),
        ({"trunks": [], "embed_dim": "concat"}, "needs trunks"),
        ({"trunks": [trunk()], "embed_dim": "concat", "patch_size": 2}, "patch_size of 1"),
        ({"trunks": [{"backbone": "test_resnet", "seed": 1}]}, "seed: of random weights only"),
        ({"trunks": [], "width": 3}, "width"),
    ],
)
def test_what_does_not_fit_together_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        parse_config(ScopeformerConfig, values, "test")


def test_heads_must_divide_the_tokens():
    with pytest.raises(UserError, match="heads 3 do not divide tokens of 25 values"):
        build(trunk(), embed_dim=25)


def test_an_unknown_backbone_of_a_trunk_names_the_nearest():
    with pytest.raises(UserError, match="nearest: resnet18"):
        build_scopeformer(ScopeformerConfig(trunks=(TrunkConfig(backbone="resnet188"),)), 3, 64)
