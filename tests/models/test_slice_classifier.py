"""Slice classifiers: any timm backbone, windows on the device, no silent random weights."""

import pytest
import torch
from safetensors.torch import save_file

from src.errors import UserError
from src.models.slice_classifier import build_slice_classifier, create_backbone

WINDOWS = torch.tensor([[[40.0, 80.0], [80.0, 200.0], [40.0, 380.0]]])


def build(backbone, **options):
    return build_slice_classifier(
        backbone, 3, **{"pretrained": False, "mean": (0.2,), "std": (0.3,), **options}
    )


@pytest.mark.parametrize(
    "backbone",
    [
        "resnet18",
        "seresnext26d_32x4d",
        "densenet121",
        "efficientnet_b0",
        "convnext_atto",
        "vit_tiny_patch16_224",
    ],
)
def test_backbones_give_six_logits_and_their_embedding(backbone):
    model = build(backbone, image_size=64).eval()
    logits, embeddings = model(torch.randint(-1000, 1000, (2, 1, 64, 64), dtype=torch.int16), WINDOWS)
    assert logits.shape == (2, 6)
    assert embeddings.shape == (2, model.embedding_size)


def test_logits_are_the_head_of_the_embedding():
    model = build("test_resnet").eval()
    logits, embeddings = model(torch.zeros(1, 1, 64, 64, dtype=torch.int16), WINDOWS)
    torch.testing.assert_close(logits, embeddings @ model.head.weight.T + model.head.bias)


def test_windows_may_differ_from_sample_to_sample():
    model = build("test_resnet").eval()
    hu = torch.full((2, 1, 64, 64), 50, dtype=torch.int16)
    hu[:, :, 16:48, 16:48] = 70
    logits, _ = model(hu, torch.cat([WINDOWS, WINDOWS + 10]))
    alone, _ = model(hu[1:], WINDOWS + 10)
    torch.testing.assert_close(logits[1:], alone, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(logits[0], logits[1], atol=1e-4)


def test_an_unknown_backbone_names_the_nearest():
    with pytest.raises(UserError, match="nearest: resnet18"):
        build("resnet188")


def test_pretrained_weights_out_of_reach_are_an_error_with_the_remedies():
    with pytest.raises(UserError, match=r"cannot be fetched.*pretrained=\\?\"PATH.*pretrained=false"):
        build("resnet18", pretrained=True)


def test_a_missing_weights_file_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        build("test_resnet", pretrained=str(tmp_path / "none.safetensors"))


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


def test_three_input_kernels_are_adapted_to_one_channel(tmp_path):
    path = tmp_path / "weights.safetensors"
    source = create_backbone("test_resnet", 3, False)
    save_file(source.state_dict(), path)
    one = create_backbone("test_resnet", 1, str(path))
    first = next(iter(source.state_dict().values()))
    torch.testing.assert_close(next(iter(one.state_dict().values())), first.sum(1, keepdim=True))
