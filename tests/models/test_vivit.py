"""ViViT has the published size, starts from what it is given, and from nothing else."""

import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from src.config import parse_config
from src.errors import UserError
from src.files import write_json
from src.models.backbones import create_backbone
from src.models.video_classifier import VideoOptions, build_video_classifier
from src.models.vivit import PATCHES, POSITIONS, VivitConfig, build_vivit

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

SMALL = {
    "tubelet": [2, 16, 16],
    "pretrained": False,
    "hidden_size": 64,
    "layers": 6,
    "attention_heads": 2,
    "intermediate_ratio": 3,
}
OLD_NAMES = (
    ("vivit.layers.", "vivit.encoder.layer."), ("attention.o_proj", "attention.output.dense"),
    ("attention.q_proj", "attention.attention.query"), ("attention.k_proj", "attention.attention.key"),
    ("attention.v_proj", "attention.attention.value"), ("mlp.fc1", "intermediate.dense"),
    ("mlp.fc2", "output.dense"),
)  # fmt: skip


def vivit(frames=4, image_size=64, **values):
    return build_vivit(parse_config(VivitConfig, SMALL | values, "test"), 3, image_size, frames)


def random_weights(network):
    """Positions and class tokens start at zero, which would hide what is done to them."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.1)
    return network.eval()


@pytest.fixture
def published():
    torch.manual_seed(0)
    config = transformers.VivitConfig(
        image_size=64, num_frames=4, hidden_size=64, num_hidden_layers=6, num_attention_heads=2,
        intermediate_size=192, num_labels=2,
    )  # fmt: skip
    return random_weights(transformers.VivitForVideoClassification(config))


def options(**values):
    return parse_config(VideoOptions, {"targets": "presence", "image_size": 64, **values}, "test")


@pytest.mark.parametrize(("frames", "tokens"), [(18, 1765), (32, 3137)])
def test_the_published_size(frames, tokens):
    backbone = {"tubelet": [2, 16, 16], "pretrained": False}
    with torch.device("meta"):
        model = build_video_classifier(options(backbone=backbone, frames=frames, image_size=224))
    shapes = {name: tuple(value.shape) for name, value in model.backbone.network.named_parameters()}
    assert shapes[POSITIONS] == (1, tokens, 768) and shapes[PATCHES] == (768, 3, 2, 16, 16)
    assert sum(p.numel() for p in model.parameters()) == 86_237_953 + tokens * 768  # 87.6 M with 18 frames
    assert tuple(model.head.weight.shape) == (1, 768)


def test_windows_and_frames_reach_the_network_as_transformers_reads_them():
    torch.manual_seed(0)
    model = build_video_classifier(options(backbone=SMALL, frames=4, mean=[0.5], std=[0.5])).eval()
    random_weights(model)
    hu = torch.randint(-100, 200, (8, 1, 64, 64), dtype=torch.int16)
    windows = torch.tensor([[[40.0, 80.0], [80.0, 200.0], [40.0, 380.0]]])
    logits, embeddings = model(hu, windows, 4)
    center, width = windows[0, :, 0, None, None], windows[0, :, 1, None, None]
    videos = (((hu.float() - center + width / 2) / width).clamp(0, 1) * 2 - 1).view(2, 4, 3, 64, 64)
    expected = model.backbone.network(videos).last_hidden_state[:, 0]
    torch.testing.assert_close(embeddings, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits, expected @ model.head.weight.T + model.head.bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["folder", "safetensors", "bin", "run"])
def test_weights_of_a_vivit_are_its_own_under_old_names_and_new(tmp_path, published, form):
    path, tensors = tmp_path / "model.safetensors", published.state_dict()
    old = {}
    for name, value in tensors.items():
        for new, before in OLD_NAMES:
            name = name.replace(new, before)
        old[name] = value
    if form == "folder":
        published.save_pretrained(path := tmp_path / "vivit")
    elif form == "bin":
        torch.save(old, path := tmp_path / "model.bin")
    elif form == "run":
        save_file({f"backbone.network.{k}": v for k, v in published.vivit.state_dict().items()}, path)
    else:
        save_file(old, path)
    loaded = vivit(pretrained=str(path))
    video = torch.randn(2, 4, 3, 64, 64)
    expected = published.vivit(video).last_hidden_state[:, 0]
    assert loaded.training
    torch.testing.assert_close(loaded.eval()(video), expected)


def test_positions_of_another_number_of_frames_start_again_and_all_else_is_loaded(tmp_path, published):
    save_file(published.state_dict(), tmp_path / "w.safetensors")
    loaded = vivit(frames=6, pretrained=str(tmp_path / "w.safetensors")).network.state_dict()
    assert loaded[POSITIONS].shape == (1, 49, 64) and not loaded[POSITIONS].any()
    given = published.vivit.state_dict()
    assert all(torch.equal(value, given[name]) for name, value in loaded.items() if name != POSITIONS)


def without(tensors, *names):
    return {
        k: v for k, v in tensors.items() if k.removeprefix("vivit.").removeprefix("embeddings.") not in names
    }


@pytest.mark.parametrize(
    ("change", "values", "message"),
    [
        (lambda t: t, {"hidden_size": 32}, r"they hold .* \(64,.*for \(32,"),
        (lambda t: t, {"tubelet": [4, 16, 16]}, r"hold .*projection.weight .*2, 16, 16\) for .*4, 16, 16\)"),
        (lambda t: t, {"layers": 7}, r"have no layers.6.* and 13 more"),
        (lambda t: t, {"layers": 5}, r"unknown to it, layers.5.* and 13 more"),
        (lambda t: {"x": torch.ones(1)}, {}, "they have no embeddings.cls_token"),
        (lambda t: without(t, "layernorm.weight", "layernorm.bias", "cls_token"), {},
         "no embeddings.cls_token, layernorm.bias, layernorm.weight; give weights"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused(tmp_path, published, change, values, message):
    path = tmp_path / "w.safetensors"
    save_file(change(published.state_dict()), path)
    with pytest.raises(UserError, match=f"{path}: these weights do not fit this ViViT: .*{message}"):
        vivit(pretrained=str(path), **values)


def test_what_is_no_file_of_weights_is_refused(tmp_path):
    with pytest.raises(UserError, match="gone: no such file or folder; give one local file"):
        vivit(pretrained=str(tmp_path / "gone"))
    (tmp_path / "w.safetensors").write_text("not weights")
    with pytest.raises(UserError, match="no weights can be read from it"):
        vivit(pretrained=str(tmp_path / "w.safetensors"))
    with pytest.raises(UserError, match=r"its config.json is of missing"):
        vivit(pretrained=str(tmp_path))
    write_json(tmp_path / "config.json", {"model_type": "videomae"})
    with pytest.raises(UserError, match=r"its config.json is of videomae"):
        vivit(pretrained=str(tmp_path))


@pytest.mark.parametrize("form", ["timm", "run", "scopeformer", "transformers"])
def test_it_starts_as_a_vision_transformer_on_the_middle_frame(tmp_path, form):
    torch.manual_seed(0)
    path, image = tmp_path / "w.safetensors", torch.randn(2, 3, 64, 64)
    if form == "transformers":
        config = transformers.ViTConfig(
            hidden_size=64, num_hidden_layers=6, num_attention_heads=2, intermediate_size=192, image_size=64,
            layer_norm_eps=1e-6,
        )  # fmt: skip
        network = random_weights(transformers.ViTForImageClassification(config))
        network.save_pretrained(path := tmp_path / "vit")
        expected = network.vit(image).last_hidden_state[:, 0]
    else:
        network = random_weights(create_backbone("test_vit", 3, False, image_size=64))
        prefix = {"timm": "", "run": "backbone.", "scopeformer": "backbone.transformer."}[form]
        save_file({prefix + name: value for name, value in network.state_dict().items()}, path)
        expected = network(image)
    video = torch.stack([torch.randn_like(image), image], 1)  # the first frame of a tubelet has no weight yet
    loaded = vivit(frames=2, pretrained=str(path)).eval()
    for layer in loaded.network.layers:
        layer.mlp.activation_fn = nn.GELU()  # ViViT's is an approximation of it
    torch.testing.assert_close(loaded(video), expected, rtol=1e-4, atol=1e-4)


def test_every_step_in_time_starts_with_the_positions_of_the_image(tmp_path):
    network = random_weights(create_backbone("test_vit", 3, False, image_size=64))
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    loaded = vivit(frames=6, pretrained=str(tmp_path / "w.safetensors")).network
    positions = loaded.embeddings.position_embeddings[0]
    image = load_file(tmp_path / "w.safetensors")["pos_embed"][0]
    assert torch.equal(positions, torch.cat([image, image[1:], image[1:]]))
    with pytest.raises(UserError, match=r"has 16 patches an image, not those of 96 px in patches of 16 x 16"):
        vivit(image_size=96, pretrained=str(tmp_path / "w.safetensors"))


def test_a_missing_library_is_named_with_its_list(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match="transformers is not installed; run: pip install"):
        vivit()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"frames": 5}, "backbone.tubelet: 2 does not divide frames 5"),
        ({"image_size": 40}, "backbone.tubelet: 16 does not divide image_size 40"),
        (
            {"backbone": SMALL | {"attention_heads": 3}},
            "backbone.attention_heads: 3 do not divide hidden_size 64",
        ),
        ({"frame_pooling": "max"}, "frame_pooling: a ViViT has its own; leave it out"),
        ({"pretrained": False}, "pretrained: of a timm backbone only; see the keys of backbone"),
    ],
)
def test_options_that_do_not_fit_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        options(**({"backbone": SMALL, "frames": 4} | values))


def test_layers_learn_at_a_falling_rate():
    model = build_video_classifier(options(backbone=SMALL, frames=4))
    rates = {id(p): group["lr_scale"] for group in model.layer_groups(0.01, 0.5) for p in group["params"]}
    layers = model.backbone.network.layers
    assert rates[id(model.head.weight)] == 1 and rates[id(model.backbone.network.layernorm.weight)] == 0.5
    below = [rates[id(layer.mlp.fc1.weight)] for layer in layers]
    assert below == [0.5**k for k in range(6, 0, -1)]
    assert rates[id(model.backbone.network.embeddings.cls_token)] == 0.5**7
