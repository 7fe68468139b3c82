"""The page of augmented samples: its numbers describe its pictures, and it needs no other file."""

import json
import re
import sys

import numpy as np
import pytest

from src.data.prepared import Prepared
from src.errors import UserError
from src.report import augmentation_page as augmentation
from src.report.augmentation_page import channel_names, choose, describe
from src.training.slices.draws import Augmentation, draw
from src.training.slices.slice_batches import SliceBatches
from src.training.slices.slice_config import SliceConfig
from src.training.slices.warps import warp
from src.training.split import labelled_slices
from tests.training.prepared import write_clean, write_settings

SIDE = 101
STILL = {"hflip": 0.0, "affine": 0.0}


def config(**options):
    return SliceConfig(**{"backbone": "test_resnet", "pretrained": False, "image_size": SIDE, **options})


def words(seed=0, **chances):
    numbers = draw(np.random.default_rng(seed), Augmentation(**chances), 4, SIDE, np.array([[40.0, 80.0]]))
    return numbers, describe(numbers, 0, config(), SIDE, ["a", "b", "c", "d"])


def spot(numbers, down, right):
    """Where a spot that far from the middle goes: (down, right) from the middle."""
    image, out = np.full((SIDE, SIDE), -1000, np.int16), np.empty((SIDE, SIDE), np.int16)
    image[50 + down - 2 : 50 + down + 3, 50 + right - 2 : 50 + right + 3] = 1000
    warp(image, numbers.matrices[0], out)
    return np.argwhere(out > 0).mean(0) - 50


@pytest.mark.parametrize("seed", range(4))
def test_turn_and_zoom_are_those_of_the_picture(seed):
    numbers, text = words(seed, hflip=0.0, rotate_deg=40.0, scale=0.3, shift=0.0)
    down, right = spot(numbers, 0, 25)
    turned, zoom = (float(re.search(rf"{key} ([-+.\d]+)", text)[1]) for key in ("turned", "zoom"))
    assert np.rad2deg(np.arctan2(-down, right)) == pytest.approx(turned, abs=1.5)
    assert np.hypot(down, right) / 25 == pytest.approx(zoom, abs=0.03)


def test_moves_and_mirrors_are_those_of_the_picture():
    numbers, text = words(3, hflip=0.0, rotate_deg=0.0, scale=0.0, shift=0.3)
    moved = re.search(r"moved ([-+\d]+), ([-+\d]+) %", text)
    down, right = spot(numbers, 0, 0)
    assert (right, down) == pytest.approx([float(share) * SIDE / 100 for share in moved.groups()], abs=1)
    assert words(**STILL)[1] == "unchanged"
    assert words(**{**STILL, "hflip": 1.0})[1] == "mirrored"


def test_mixing_names_share_and_partner():
    numbers, text = words(**{**STILL, "cutmix": 1.0})
    assert text == f"CutMix {1 - numbers.kept[0]:.0%} of\n{'abcd'[numbers.partners[0]]}"
    assert words(**{**STILL, "mixup": 1.0})[1].startswith("mixup ")


def test_channels_are_named_in_the_network_s_order():
    options = {"neighbours": (-1, 0), "windows": ((40.0, 80.0), "file")}
    assert channel_names(config(**options)) == [
        "slice -1, 40 / 80", "slice -1, file", "slice +0, 40 / 80", "slice +0, file"
    ]  # fmt: skip


def test_the_slices_show_every_kind_before_any_twice(tmp_path):
    write_clean(tmp_path)
    slices = labelled_slices(Prepared(tmp_path))
    rows = choose(slices, 8)
    subtypes = slices.iloc[rows[:6]][["any", "epidural", "subdural", "intraventricular"]]
    assert len(set(rows)) == 8 and (subtypes["any"] == 0).sum() == 1
    assert (subtypes.drop(columns="any").sum() == 1).all()


def test_the_first_picture_of_a_slice_is_what_prediction_shows(tmp_path, monkeypatch):
    write_clean(tmp_path, masks=True)
    prepared, settings = Prepared(tmp_path), config(image_size=64, augmentation=Augmentation(**STILL))
    slices = labelled_slices(prepared)
    batches = SliceBatches(prepared, slices, settings)
    seen = []
    monkeypatch.setattr(augmentation, "_uri", lambda looks, config: seen.append(looks) or "")
    augmentation.samples(batches, slices, settings, [3, 7], draws=2)
    draws, views = seen[0], seen[1]
    assert [look.title for look in draws] == ["as predicted", "unchanged", "unchanged"]
    stored = prepared.volumes.slice(slices["image_id"][3]).astype(float)
    expected = (np.clip(stored / 80, 0, 1) - 0.2) / 0.3  # brain window: 0 to 80 HU
    for look in (*draws, *views):
        np.testing.assert_allclose(look.images[0], expected, atol=1e-5)


def test_the_page_stands_alone(tmp_path, monkeypatch):
    settings = write_settings(tmp_path)
    write_clean(tmp_path / "clean_data", masks=True)
    values = {
        "backbone": "test_resnet", "pretrained": False, "image_size": 48, "batch_size": 8, "seed": 3,
        "neighbours": [-1, 0, 1], "normalisation": "instance", "tta": ["identity", "hflip"],
        "segmentation": {"masks": "prepared"},
    }  # fmt: skip
    file, out = tmp_path / "recipe.json", tmp_path / "page.html"
    file.write_text(json.dumps(values))
    command = ["augmentation", str(file), "--settings", str(settings), "--out", str(out), "--draws", "2"]
    monkeypatch.setattr(sys, "argv", [*command, "--slices", "3"])
    augmentation.main()
    page = out.read_text()
    assert page.count('src="data:image/webp;base64,') == page.count("<img") == 6
    assert not re.search(r"(src|href)=\"(?!data:)", page) and "<script" not in page
    assert "9 channels of 48 x 48 pixels" in page and "The line is the mask" in page
    monkeypatch.setattr(sys, "argv", [*command, "--images", "nobody"])
    with pytest.raises(UserError, match="--images nobody: no usable labelled slice"):
        augmentation.main()
