"""Configurations that make no sense are refused with what to do."""

import pytest

from src.config import parse_config
from src.errors import UserError
from src.training.slices.slice_config import SliceConfig


def parsed(**values):
    return parse_config(SliceConfig, {"backbone": "test_resnet", **values}, "x.json")


def test_channels_are_slices_times_windows():
    assert parsed(neighbours=[-1, 0, 1], windows=["file", [40, 80]]).channels == 6
    assert parsed().channels == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mean": [0.1, 0.2]}, "mean has 2 values for 3 windows"),
        (
            {"augmentation": {"window_center_jitter": [4, 7]}},
            "window_center_jitter has 2 values for 3 windows",
        ),
        ({"augmentation": {"crop": [0.9, 0.6]}}, "augmentation.crop: 0.9 is above 0.6"),
        ({"windows": []}, "need at least one entry"),
        ({"tta": ["mirror"]}, "tta.0: Input should be 'identity', 'hflip'"),
        ({"learn_windows": True, "windows": ["file"]}, "takes fixed windows to start from"),
        (
            {"learn_windows": True, "augmentation": {"window_center_jitter": 3.0}},
            "without jitter",
        ),
        ({"neighbours": [0, 1], "tta": ["reverse"]}, r"reverse: needs the same neighbours on both sides"),
        ({"neighbours": [0, 1], "augmentation": {"reverse": 0.5}}, "needs the same neighbours"),
        ({"segmentation": {"masks": "truth"}, "augmentation": {"cutmix": 0.5}}, "masks are not mixed"),
        ({"windows": [[40, 0]]}, "windows.0"),
        ({"agumentation": {}}, "did you mean 'augmentation'"),
        (
            {"augmentation": {"rotat_deg": 5.0}},
            "unknown key 'augmentation.rotat_deg'; did you mean 'rotate_deg'",
        ),
        ({"segmentation": {"masks": "truth", "wieght": 1.0}}, "did you mean 'weight'"),
        ({"augmentation": {"cutmix": 0.6, "mixup": 0.6}}, "cutmix and mixup are shares .* at most 1"),
        ({"augmentation": {"erase_side": [0.3, 0.1]}}, "augmentation.erase_side: 0.3 is above 0.1"),
        ({"crop": "heads"}, "crop.*'head'"),
    ],
)
def test_what_makes_no_sense_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        parsed(**values)
