"""Views for test-time augmentation: named, deterministic, what their names say."""

import torch

from src.training.slices.views import VIEWS
from src.training.slices.warps import AIR


def stack():
    return torch.randint(
        -1000, 1000, (2, 3, 33, 33), dtype=torch.int16, generator=torch.Generator().manual_seed(0)
    )


def test_flips_transposition_and_reversal_are_exact_and_their_own_inverse():
    hu = stack()
    assert torch.equal(VIEWS["hflip"](hu)[..., 0], hu[..., -1])
    assert torch.equal(VIEWS["vflip"](hu)[..., 0, :], hu[..., -1, :])
    assert torch.equal(VIEWS["reverse"](hu)[:, 0], hu[:, 2])
    for name in ("identity", "hflip", "vflip", "transpose", "reverse"):
        assert torch.equal(VIEWS[name](VIEWS[name](hu)), hu)


def test_turning_left_moves_what_is_right_of_the_middle_up():
    hu = torch.full((1, 1, 101, 101), -1000, dtype=torch.int16)
    hu[0, 0, 49:52, 89:92] = 1000  # 40 pixels right of the middle
    row, column = (torch.nonzero(VIEWS["rotate_left"](hu)[0, 0] > 500).float().mean(0) - 50).tolist()
    assert abs(row - -40 * 0.1736) < 0.6 and abs(column - 40 * 0.9848) < 0.6
    turned_back = VIEWS["rotate_right"](VIEWS["rotate_left"](hu))
    assert turned_back[0, 0, 50, 90] > 500


def test_zooming_in_enlarges_and_zooming_out_brings_in_air():
    hu = torch.full((1, 1, 101, 101), -1000, dtype=torch.int16)
    hu[0, 0, 40:61, 40:61] = 1000
    areas = {name: (VIEWS[name](hu) > 0).sum().item() for name in ("identity", "zoom_in", "zoom_out")}
    assert 1.15 < areas["zoom_in"] / areas["identity"] < 1.3
    assert 0.75 < areas["zoom_out"] / areas["identity"] < 0.87
    assert VIEWS["zoom_out"](hu)[0, 0, 0, 0] == AIR
