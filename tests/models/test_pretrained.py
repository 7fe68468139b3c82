"""Pretrained weights are loaded completely or refused, and metrics.json says where they came from."""

import json

import pytest
import torch
from safetensors.torch import save_file

from src.errors import UserError
from src.files import file_sha256
from src.models.backbones import create_backbone
from src.models.pretrained import weights_record


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
