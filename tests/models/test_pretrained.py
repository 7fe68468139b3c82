"""Pretrained weights are loaded completely or refused, and metrics.json says where they came from."""

import json

import pytest
import torch
from safetensors.torch import save_file

from src.errors import UserError
from src.files import file_sha256
from src.models.backbones import create_backbone
from src.models.pretrained import weights_record
from src.models.slice_classifier import ClassifierOptions, build_slice_classifier


@pytest.fixture(scope="module")
def tensors():
    return create_backbone("test_resnet", 3, False).state_dict()


def written(path, tensors):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return path


@pytest.mark.parametrize("kept", [0, 40])
def test_a_file_that_lacks_tensors_is_refused_instead_of_left_random(tmp_path, tensors, kept):
    path = written(tmp_path / "part.safetensors", dict(list(tensors.items())[:kept]) | {"x": torch.ones(1)})
    with pytest.raises(UserError, match=r"have no .*weight.* more, which would stay random"):
        create_backbone("test_resnet", 3, str(path))


def test_the_check_of_a_file_leaves_torch_as_it_was(tmp_path, tensors):
    before = torch.nn.Module.load_state_dict
    create_backbone("test_resnet", 3, str(written(tmp_path / "w.safetensors", tensors)))
    with pytest.raises(UserError):
        create_backbone("test_resnet", 3, str(written(tmp_path / "x.safetensors", {"x": torch.ones(1)})))
    assert torch.nn.Module.load_state_dict is before


@pytest.mark.parametrize("name", ["broken.safetensors", "broken.pth"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path, name):
    (tmp_path / name).write_text("not weights")
    with pytest.raises(UserError, match="these weights do not fit test_resnet"):
        create_backbone("test_resnet", 3, str(tmp_path / name))


def test_a_folder_of_timm_s_layout_loads_for_its_own_architecture_alone(tmp_path, tensors):
    written(tmp_path / "model.safetensors", tensors)
    with pytest.raises(UserError, match=r"no config.json"):
        create_backbone("test_resnet", 3, str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "test_resnet", "pretrained_cfg": {}}))
    loaded = create_backbone("test_resnet", 3, str(tmp_path)).state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in tensors.items())
    with pytest.raises(UserError, match="holds test_resnet, and the backbone is test_convnext"):
        create_backbone("test_convnext", 3, str(tmp_path))


def test_the_record_of_a_path_is_its_name_and_the_hash_of_its_file(tmp_path, tensors):
    path = written(tmp_path / "mine.safetensors", tensors)
    expected = {"mine.safetensors": file_sha256(path)}
    assert weights_record("test_resnet", str(path)) == {"source": "mine.safetensors", "sha256": expected}
    (tmp_path / "config.json").write_text("{}")
    assert weights_record("test_resnet", str(tmp_path)) == {"source": tmp_path.name, "sha256": expected}
    assert weights_record("test_resnet", False) == {"source": "random"}


def test_the_record_of_a_hub_names_tag_file_and_licence(tmp_path, tensors, monkeypatch):
    from huggingface_hub import constants

    hub = tmp_path / "models--timm--test_resnet.r160_in1k"
    path = written(hub / "snapshots/abc/model.safetensors", tensors)
    (hub / "refs").mkdir()
    (hub / "refs/main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    loaded = create_backbone("test_resnet.r160_in1k", 3, True).state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in tensors.items())
    assert weights_record("test_resnet.r160_in1k", True) == {
        "source": "https://huggingface.co/timm/test_resnet.r160_in1k",
        "name": "test_resnet.r160_in1k", "tag": "r160_in1k", "licence": "apache-2.0",
        "sha256": {"model.safetensors": file_sha256(path)},
    }  # fmt: skip


def test_weights_of_a_url_are_found_where_torch_keeps_them(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    file = tmp_path / "checkpoints/xception-43020ad28.pth"
    file.parent.mkdir()
    file.write_bytes(b"weights")
    record = weights_record("legacy_xception", True)
    assert record["sha256"] == {file.name: file_sha256(file)} and record["tag"] == "tf_in1k"
    assert record["source"].startswith("https://github.com/") and record["source"].endswith(file.name)


def run_file(path, backbone="test_resnet", channels=3, **options):
    """A run's weights, and the backbone they hold."""
    values = {"neighbours": tuple(range(channels // 3)), **options}
    model = build_slice_classifier(ClassifierOptions(backbone=backbone, pretrained=False, **values))
    written(path, model.state_dict())
    return model.backbone.state_dict()


@pytest.mark.parametrize("channels", [3, 9])
def test_the_weights_of_a_run_start_the_backbone_of_another(tmp_path, channels):
    stored = run_file(tmp_path / "model.safetensors", channels=channels)
    network = create_backbone("test_resnet", channels, str(tmp_path / "model.safetensors"))
    assert all(torch.equal(value, stored[key]) for key, value in network.state_dict().items())
    assert "state_dict" not in network.pretrained_cfg


def test_the_weights_of_a_run_are_adapted_to_channels_and_image_size_as_timm_s_are(tmp_path):
    kernels = run_file(tmp_path / "r.safetensors")["conv1.0.weight"]
    adapted = create_backbone("test_resnet", 6, str(tmp_path / "r.safetensors")).state_dict()
    torch.testing.assert_close(adapted["conv1.0.weight"], torch.cat([kernels, kernels], 1) / 2)
    run_file(tmp_path / "v.safetensors", "test_vit", image_size=160)
    network = create_backbone("test_vit", 3, str(tmp_path / "v.safetensors"), image_size=64)
    assert network.pos_embed.shape[1] == 4 * 4 + network.num_prefix_tokens


def test_a_run_s_own_exponent_of_gem_is_kept(tmp_path):
    tensors = run_file(tmp_path / "gem.safetensors", pooling="gem")
    tensors["global_pool.p"].fill_(2.5)
    path = written(tmp_path / "gem.safetensors", {f"backbone.{k}": v for k, v in tensors.items()})
    assert create_backbone("test_resnet", 3, str(path), pooling="gem").global_pool.p.item() == 2.5
    assert create_backbone("test_resnet", 3, str(path)).num_features == 96
    run_file(tmp_path / "mean.safetensors")
    loaded = create_backbone("test_resnet", 3, str(tmp_path / "mean.safetensors"), pooling="gem")
    assert loaded.global_pool.p.item() == 3.0


def test_the_weights_of_a_run_on_another_backbone_are_refused(tmp_path):
    tensors = {f"backbone.{k}": v for k, v in create_backbone("test_resnet", 3, False).state_dict().items()}
    short = {k: v for k, v in tensors.items() if "layer4" not in k}
    with pytest.raises(UserError, match=r"have no layer4.0.conv1.weight, .* more, which would stay random"):
        create_backbone("test_resnet", 3, str(written(tmp_path / "short.safetensors", short)))
    more = tensors | {"backbone.layer1.0.se.fc1.weight": torch.ones(1)}
    with pytest.raises(UserError, match=r"holds layer1.0.se.fc1.weight, which test_resnet does not have"):
        create_backbone("test_resnet", 3, str(written(tmp_path / "more.safetensors", more)))
    with pytest.raises(UserError, match="do not fit test_resnet"):
        run_file(tmp_path / "nine.safetensors", channels=9)
        create_backbone("test_resnet", 3, str(tmp_path / "nine.safetensors"))


def test_the_folder_of_a_run_points_to_its_file(tmp_path):
    run_file(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"backbone": "test_resnet"}))
    with pytest.raises(UserError, match=r"no config.json as timm saves it .* give the file itself"):
        create_backbone("test_resnet", 3, str(tmp_path))
