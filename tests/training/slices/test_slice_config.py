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


def test_usual_windows_have_names_which_stand_for_their_numbers():
    config = parsed(windows=["brain", "bone", "stroke", [50, 100], "file"])
    assert config.windows == ((40, 80), (600, 2800), (40, 40), (50, 100), "file")
    assert config == parsed(windows=[[40, 80], [600, 2800], [40, 40], [50, 100], "file"])


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
        ({"tta": ["mirror"]}, r"tta.0: unknown name 'mirror'; known: identity, hflip"),
        ({"learn_windows": True, "windows": ["file"]}, "takes fixed windows to start from"),
        (
            {"learn_windows": True, "augmentation": {"window_center_jitter": 3.0}},
            "takes windows without augmentation.window_center_jitter",
        ),
        ({"learn_windows": True, "augmentation": {"sharpen": 0.5}}, "has no fixed window to sharpen in"),
        (
            {"soft_labels": "a.csv", "soft_label_weight": 0.5, "augmentation": {"cutmix": 0.5}},
            "soft_label_weight: mixed samples have no weight of their own",
        ),
        (
            {"soft_labels": "a.csv", "soft_label_weight": 0.5, "augmentation": {"mixup": 0.5}},
            "soft_label_weight: mixed samples have no weight of their own",
        ),
        ({"presence_weight": 0.5}, "presence_weight: of the targets presence_and_location only"),
        (
            {"targets": "presence_and_location", "presence_weight": 0.0, "location_weight": 0.0},
            "are both 0: nothing would be learned",
        ),
        ({"site_labels": "truth"}, "site_labels truth: of .*presence_and_location with deep, lobar, subtent"),
        ({"neighbours": [0, 1], "tta": ["reverse"]}, r"reverse: needs the same neighbours on both sides"),
        ({"neighbours": [0, 1], "augmentation": {"reverse": 0.5}}, "needs the same neighbours"),
        ({"segmentation": {"masks": "truth"}, "augmentation": {"cutmix": 0.5}}, "masks are not mixed"),
        (
            {"windows": [[40, 0]]},
            r"^x.json: windows.0 is \[40, 0\]; expected: \[number, number above 0\] or .*$",
        ),
        ({"windows": [[40]]}, r"^x.json: windows.0 is \[40\]; expected: \[number, number above 0\] or .*$"),
        (
            {"windows": ["brain", "bon"]},
            r"^x.json: windows.1: unknown name 'bon'; did you mean 'bone'\? known: brain, .*, file$",
        ),
        ({"agumentation": {}}, "did you mean 'augmentation'"),
        (
            {"augmentation": {"rotat_deg": 5.0}},
            "unknown key 'augmentation.rotat_deg'; did you mean 'rotate_deg'",
        ),
        ({"segmentation": {"masks": "truth", "wieght": 1.0}}, "did you mean 'weight'"),
        ({"augmentation": {"cutmix": 0.6, "mixup": 0.6}}, "cutmix and mixup are shares .* at most 1"),
        ({"augmentation": {"erase_side": [0.3, 0.1]}}, "augmentation.erase_side: 0.3 is above 0.1"),
        (
            {"augmentation": {"erase_holes": [1]}},
            r"erase_holes is \[1\]; expected: \[whole number from 1 up, whole number from 1 up\]$",
        ),
        ({"windows": "brain"}, r'^x.json: windows is "brain"; expected: list of '),
        (
            {"loss": "fokal"},
            "loss: unknown name 'fokal'; did you mean 'focal'\\? known: metric, bce,",
        ),
        ({"crop": "heads"}, 'crop is "heads"; expected: number above 0 to 1 or "head"$'),
    ],
)
def test_what_makes_no_sense_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        parsed(**values)
