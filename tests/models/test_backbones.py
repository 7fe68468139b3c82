"""Backbones: every family the winners used, their poolings, their weights; never silently random."""

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_sample_image

from src.errors import UserError
from src.models import lite_weights
from src.models.backbones import create_backbone
from src.models.lite_weights import NETWORKS, convert, package_file, timm_key
from src.models.pooling import GeM


@pytest.mark.parametrize(
    ("name", "size", "features"),
    [
        ("resnet18", 64, 512),
        ("seresnext26d_32x4d", 64, 2048),
        ("densenet121", 64, 1024),
        ("efficientnet_b0", 64, 1280),
        ("tf_efficientnetv2_b0", 64, 1280),
        ("tf_efficientnet_lite0", 64, 1280),
        ("convnext_atto", 64, 320),
        ("maxvit_pico_rw_256", 64, 256),
        ("legacy_xception", 96, 2048),
        ("vit_tiny_patch16_224", 64, 192),
    ],
)
def test_backbones_pool_to_one_vector_at_any_size_with_any_number_of_channels(name, size, features):
    network = create_backbone(name, 9, False, image_size=size).eval()
    with torch.inference_mode():
        assert network(torch.randn(2, 9, size, size)).shape == (2, features)


@pytest.mark.parametrize(
    "name", ["resnext101_32x8d", "seresnext50_32x4d", "maxvit_tiny_tf_512", "tf_efficientnetv2_m"]
)
def test_the_large_backbones_of_the_recipes_exist(name):
    with torch.device("meta"):  # no memory, no arithmetic
        network = create_backbone(name, 3, False)
    assert network.num_features >= 512


def test_an_unknown_backbone_names_the_nearest():
    with pytest.raises(UserError, match="nearest: resnet18"):
        create_backbone("resnet188", 3, False)


def test_an_option_a_backbone_does_not_take_is_an_error():
    with pytest.raises(UserError, match=r"densenet121.*drop_path_rate.*leave that option out"):
        create_backbone("densenet121", 3, False, drop_path=0.1)


def test_unknown_weights_of_a_known_backbone_name_those_there_are():
    with pytest.raises(
        UserError, match=r"'resnet18.nonsense': timm has no such weights; it has .*resnet18.a1_in1k"
    ):
        create_backbone("resnet18.nonsense", 3, False)


def test_a_size_that_attention_cannot_divide_is_an_error_before_training():
    with pytest.raises(UserError, match=r"takes no images of 90 px: .*; change image_size"):
        create_backbone("maxvit_pico_rw_256", 3, False, image_size=90)


def test_a_pooling_a_backbone_does_not_take_is_an_error():
    with pytest.raises(UserError, match=r"coat_lite_tiny.*Only token or avg pooling.*change that option"):
        create_backbone("coat_lite_tiny", 3, False, image_size=64, pooling="max")


@pytest.mark.parametrize(("name", "size"), [("vit_tiny_patch16_224", 96), ("maxvit_pico_rw_256", 192)])
def test_weights_made_at_another_size_load_completely(tmp_path, name, size):
    source = create_backbone(name, 3, False, image_size=128)
    path = tmp_path / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in source.state_dict().items()}, path)
    loaded = create_backbone(name, 6, str(path), image_size=size).eval()
    with torch.inference_mode():
        assert loaded(torch.randn(1, 6, size, size)).isfinite().all()


def test_pretrained_weights_out_of_reach_are_an_error_with_the_remedies():
    with pytest.raises(UserError, match=r"cannot be fetched.*pretrained=\\?\"PATH.*pretrained=false"):
        create_backbone("resnet18", 3, True)


def test_a_missing_weights_file_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        create_backbone("test_resnet", 3, str(tmp_path / "none.safetensors"))


def test_weights_from_a_local_file_are_the_ones_loaded(tmp_path):
    source = create_backbone("test_resnet", 3, False)
    path = tmp_path / "weights.safetensors"
    save_file(source.state_dict(), path)
    loaded = create_backbone("test_resnet", 3, str(path))
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in source.state_dict().items())


def test_weights_of_another_backbone_are_refused_with_the_keys(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(create_backbone("test_efficientnet", 3, False).state_dict(), path)
    with pytest.raises(UserError, match=r"do not fit test_resnet: .* for bn1.weight: .* more\)"):
        create_backbone("test_resnet", 3, str(path))


@pytest.mark.parametrize("channels", [1, 4, 9])
def test_pretrained_kernels_respond_to_the_same_image_in_every_channel_as_before(tmp_path, channels):
    path = tmp_path / "weights.safetensors"
    source = create_backbone("test_resnet", 3, False).eval()
    save_file(source.state_dict(), path)
    adapted = create_backbone("test_resnet", channels, str(path)).eval()
    image = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        expected, found = source(image.expand(1, 3, 64, 64)), adapted(image.expand(1, channels, 64, 64))
    if channels % 3 == 0 or channels == 1:
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    else:  # kernels of 4 channels are r, g, b, r times 3/4: near, not equal
        assert torch.nn.functional.cosine_similarity(found, expected).item() > 0.9


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "densenet121", "legacy_xception"])
@pytest.mark.parametrize("pooling", ["avg", "max", "gem"])
def test_another_pooling_leaves_the_rest_of_the_network(name, pooling):
    torch.manual_seed(0)
    network = create_backbone(name, 3, False, pooling=pooling).eval()
    image = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        maps, pooled = network.forward_features(image), network(image)
    assert pooled.shape == (1, network.num_features)
    if name != "test_convnext" and pooling != "gem":  # ConvNeXt normalises after pooling
        reduced = maps.mean((2, 3)) if pooling == "avg" else maps.amax((2, 3))
        torch.testing.assert_close(pooled, reduced)


def test_gem_lies_between_mean_and_maximum():
    features = torch.rand(2, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    pool = GeM()
    expected = (features**3).mean((2, 3)) ** (1 / 3)
    torch.testing.assert_close(pool(features), expected)
    with torch.no_grad():
        pool.p.fill_(1.0)
        torch.testing.assert_close(pool(features), features.mean((2, 3)))
        pool.p.fill_(200.0)
        torch.testing.assert_close(pool(features), features.amax((2, 3)), rtol=0.02, atol=0)
    assert GeM(channels_last=True)(features.permute(0, 2, 3, 1)).shape == (2, 5)
    assert GeM(flatten=False)(features).shape == (2, 5, 1, 1)


def test_gem_is_refused_where_no_feature_map_is_pooled():
    with pytest.raises(UserError, match="pooling gem: test_vit does not pool a feature map"):
        create_backbone("test_vit", 3, False, pooling="gem")


def test_names_of_efficientnet_pytorch_become_timm_s():
    assert timm_key("_conv_stem.weight") == "conv_stem.weight"
    assert timm_key("_blocks.0._project_conv.weight") == "blocks.0.0.conv_pw.weight"
    assert timm_key("_blocks.4._bn2.running_var") == "blocks.2.1.bn3.running_var"
    assert timm_key("_blocks.15._expand_conv.weight") == "blocks.6.0.conv_pw.weight"
    assert timm_key("_blocks.20._bn2.bias", NETWORKS["lite2"]) == "blocks.6.0.bn3.bias"
    with pytest.raises(KeyError):
        timm_key("_unknown.weight")


def test_the_script_writes_the_file_or_says_what_is_not_installed(tmp_path, monkeypatch, capsys):
    out = tmp_path / "weights.safetensors"
    monkeypatch.setattr(lite_weights, "package_file", lambda network: network)
    monkeypatch.setattr(lite_weights, "convert", lambda file, network: {file + network: torch.ones(2, 3)})
    monkeypatch.setattr("sys.argv", ["lite_weights", str(out), "--network", "lite2"])
    assert lite_weights.main() == 0 and list(load_file(out)) == ["lite2lite2"]
    assert capsys.readouterr().out == f"{out}: 6 values, for timm's tf_efficientnet_lite2\n"

    def missing(network):
        raise UserError(f"{network} is not installed")

    monkeypatch.setattr(lite_weights, "package_file", missing)
    assert lite_weights.main() == 1
    assert capsys.readouterr().err == "error: lite2 is not installed\n"
    monkeypatch.setattr("sys.argv", ["lite_weights", "--help"])
    with pytest.raises(SystemExit):
        lite_weights.main()
    assert "ImageNet weights from a package index instead of a hub" in capsys.readouterr().out


@pytest.fixture(scope="module", params=NETWORKS)
def lite(request, tmp_path_factory):
    """Name of a timm network and the converted weights of its package."""
    try:
        source = package_file(request.param)
    except UserError as error:
        pytest.skip(str(error))
    name = f"tf_efficientnet_{request.param}"
    path = tmp_path_factory.mktemp("weights") / f"{name}.safetensors"
    save_file(convert(source, request.param), path)
    return name, path


def test_weights_from_a_package_load_strictly_and_are_a_trained_network(lite):
    import timm

    name, file = lite
    network = timm.create_model(name, pretrained=False).eval()
    network.load_state_dict(load_file(file), strict=True)
    photo = load_sample_image("china.jpg")[:, 106:533]  # the middle square
    photo = cv2.resize(photo, (224, 224), interpolation=cv2.INTER_AREA) / 127.5 - 1
    image = torch.from_numpy(photo.astype(np.float32)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        assert network(image).argmax().item() == 698  # ImageNet's class `palace`
    own = create_backbone(name, 3, str(file))
    stem = own.state_dict()["conv_stem.weight"]
    np.testing.assert_array_equal(stem, load_file(file)["conv_stem.weight"])
