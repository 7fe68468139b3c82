"""Changes of HU and mixing of samples, by hand-checked numbers."""

import numpy as np
import pytest
import torch

from src.data.windows import stack_windows
from src.training.engine.memory import first_samples
from src.training.slices.draws import Augmentation, draw
from src.training.slices.intensity import add_noise, blur, erase, mix, sharpen
from src.training.slices.sample_changes import finish
from src.training.slices.slice_config import SliceConfig
from src.training.slices.warps import AIR


def test_noise_has_the_asked_deviation_inside_and_leaves_air_alone():
    hu = torch.full((3, 1, 100, 100), 30.0)
    hu[:, :, :50] = AIR
    out = add_noise(hu.clone(), [8.0, 0.0, 8.0], [1, 2, 3])
    assert torch.equal(out[:, :, :50], hu[:, :, :50]) and torch.equal(out[1], hu[1])
    assert out[0, 0, 50:].std().item() == pytest.approx(8, rel=0.05)
    assert not torch.equal(out[0], out[2])
    # a sample's noise is its own, whoever is beside it
    assert torch.equal(out[2:], add_noise(hu[2:].clone(), [8.0], [3]))


def test_blur_spreads_a_point_by_the_asked_deviation_and_keeps_the_sum():
    hu = torch.zeros(2, 2, 41, 41)
    hu[:, 1, 20, 20] = 1000.0
    out = blur(hu.clone(), [2.0, 0.0])
    assert torch.equal(out[1], hu[1]) and not out[0, 0].any()
    assert out[0, 1].sum().item() == pytest.approx(1000, rel=1e-3)
    variance = ((torch.arange(41) - 20) ** 2 * out[0, 1].sum(0)).sum() / 1000
    assert variance.item() == pytest.approx(4, rel=0.03)


def test_holes_are_air_in_every_slice_of_the_stack():
    hu = torch.zeros(1, 3, 10, 10, dtype=torch.int16)
    out = erase(hu, torch.tensor([[[2, 3, 5, 7], [0, 0, 0, 0]]]))
    assert (out[0, :, 2:5, 3:7] == AIR).all()
    assert (out == AIR).sum() == 3 * 3 * 4


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_a_sharpened_image_is_that_of_torchvision_on_the_windowed_image(factor):
    from torchvision.transforms.v2.functional import adjust_sharpness

    hu = torch.randint(-1000, 1500, (2, 1, 20, 24)).float()
    windows = torch.tensor([[[40.0, 80.0]], [[60.0, 100.0]]])
    out = sharpen(hu.clone(), windows, [factor, 1.0])
    assert torch.equal(out[1], hu[1])
    expected = adjust_sharpness(stack_windows(hu[:1], windows[:1]), factor)
    torch.testing.assert_close(stack_windows(out[:1], windows[:1]), expected, atol=1e-5, rtol=0)
    assert (expected - stack_windows(hu[:1], windows[:1])).abs().max() > 0.1


def mixing(n, size, **chances):
    numbers = draw(np.random.default_rng(0), Augmentation(**chances), n, size, np.array([[40.0, 80.0]]))
    return list(zip(numbers.partners.tolist(), numbers.kept.tolist(), numbers.pastes.tolist(), strict=True))


def test_cutmix_mixes_labels_by_the_area_it_pastes():
    hu = torch.arange(8, dtype=torch.int16).view(8, 1, 1, 1).expand(8, 1, 20, 20).clone()
    labels = torch.eye(8, 8)
    numbers = mixing(8, 20, cutmix=1.0)
    out, mixed = mix(hu, labels, numbers)
    for row, (partner, kept, (top, left, bottom, right)) in enumerate(numbers):
        assert partner != row and (out[row, 0, top:bottom, left:right] == partner).all()
        assert (out[row] == row).float().mean().item() == pytest.approx(kept, abs=1e-6)
        assert mixed[row, row].item() == pytest.approx(kept) and mixed[row].sum().item() == pytest.approx(1)
    assert sum(kept < 1 for _, kept, _ in numbers) > 0


def test_mixup_mixes_images_and_labels_by_one_share():
    hu = (100 * torch.arange(4)).to(torch.int16).view(4, 1, 1, 1).expand(4, 1, 3, 3).clone()
    out, mixed = mix(hu, torch.eye(4, 6), mixing(4, 3, mixup=1.0))
    expected = (mixed[:, :4] * torch.tensor([0.0, 100, 200, 300])).sum(1)
    torch.testing.assert_close(out[:, 0, 0, 0].float(), expected, atol=0.51, rtol=0)
    torch.testing.assert_close(mixed.sum(1), torch.ones(4))
    assert (mixed[:, :4].diagonal() < 1).all()


def test_a_single_sample_has_nobody_to_be_mixed_with():
    assert mixing(1, 20, cutmix=0.5, mixup=0.5) == [(0, 1.0, [0, 0, 0, 0])]


def test_a_part_of_a_batch_can_be_mixed_without_its_partners():
    hu = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 1, 8, 8)
    batch = {"ids": list("abcdef"), "hu": hu, "labels": torch.eye(6), "mixing": mixing(6, 8, cutmix=1.0)}
    part = first_samples(batch, 2)
    out, labels = mix(part["hu"], part["labels"], part["mixing"])
    assert out.shape == (2, 1, 8, 8) and torch.isfinite(labels).all()


def test_learned_windows_get_scaled_and_shifted_hu_and_fixed_windows_another_window():
    hu = torch.randint(-1000, 400, (3, 1, 8, 8), dtype=torch.int16)
    scale, shift = torch.tensor([1.1, 0.9, 1.0]), torch.tensor([5.0, -8.0, 0.0])
    empty = {
        "noise": [0.0] * 3,
        "noise_seeds": [0] * 3,
        "blur": [0.0] * 3,
        "sharpness": [1.0] * 3,
        "holes": torch.zeros(3, 0, 4),
        "mixing": [],
    }
    batch = {"hu": hu, "hu_scale": scale, "hu_shift": shift, "labels": torch.zeros(3, 6), **empty}
    out = finish(batch, SliceConfig(backbone="test_resnet", learn_windows=True))["hu"]
    windows = torch.tensor([[40.0, 80.0]]).expand(3, 1, 2)
    moved = torch.stack(
        [(windows[..., 0] - shift[:, None]) / scale[:, None], windows[..., 1] / scale[:, None]], 2
    )
    torch.testing.assert_close(stack_windows(out, windows), stack_windows(hu, moved), atol=1e-4, rtol=0)
