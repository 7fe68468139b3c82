"""The page of class activation maps: which slices it shows, in which geometry, and that it stands alone."""

import re
import sys

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from src.data.volumes import open_volumes
from src.errors import UserError
from src.files import write_json, write_parquet
from src.labels import LABELS, SUBTYPES
from src.report import cam_page
from src.report.cam_page import Explainer, choose, localise, pictures, remarks
from src.report.cam_pictures import DIMMED, with_map
from src.settings import load_settings
from src.training.runs import Run
from src.training.slices.masks import PreparedMasks
from src.training.slices.slice_config import SliceConfig
from src.training.slices.slice_fold import build_from_config
from tests.training.prepared import SIZE, image_name, write_clean, write_settings

CONFIG = "experiments/mine/stage1/net.json"


def config(**options):
    values = {"backbone": "test_resnet", "pretrained": False, "image_size": SIZE, "batch_size": 4}
    return SliceConfig(**{**values, **options})


def network(options):
    """A head without negative weights, so that no map is empty."""
    torch.manual_seed(0)
    model = build_from_config(options, pretrained=False)
    torch.nn.init.uniform_(model.head.weight)
    return model


def explainer(clean, masks=True, **options):
    write_clean(clean, masks=masks)
    model = network(config(**options))
    found = PreparedMasks(clean) if masks else None
    return Explainer(model, open_volumes(clean), config(**options), torch.device("cpu"), found)


def test_subtypes_take_turns_and_a_study_shows_once_for_each():
    predicted = pd.DataFrame(0.1, list("abcdef"), LABELS)
    predicted["epidural"] = [0.9, 0.8, 0.7, 0.1, 0.1, 0.1]
    predicted["subdural"] = [0.2, 0.1, 0.1, 0.4, 0.5, 0.3]
    study = pd.Series([1, 1, 2, 2, 3, 3], list("abcdef"))
    # every other subtype is a tie, won by the first of each study: a, c, e
    assert choose(predicted, study, 3) == ["a", "e", "c"]
    assert choose(predicted, study, 9) == ["a", "e", "c", "d"]


def test_maps_and_probabilities_are_the_network_s(tmp_path):
    explain = explainer(tmp_path)
    ids = [image_name(study, 1) for study in range(6)]
    found = list(explain.slices(ids))
    assert [slice_.image_id for slice_ in found] == ids
    hu = torch.from_numpy(np.stack([slice_.hu for slice_ in found])[:, None])
    windows = torch.tensor([config().windows])
    with torch.inference_mode():
        logits = explain.model.eval()(hu, windows)[0]
    np.testing.assert_allclose([s.probabilities for s in found], logits.sigmoid(), atol=1e-5)
    assert all(slice_.maps.shape == (6, SIZE, SIZE) for slice_ in found)
    assert np.stack([slice_.maps for slice_ in found]).any((2, 3)).all()


@pytest.mark.parametrize(("image_size", "crop"), [(40, 1.0), (48, 0.5), (40, "head")])
def test_slice_and_mask_are_shown_as_the_network_sees_them_but_as_sharp_as_stored(tmp_path, image_size, crop):
    explain = explainer(tmp_path, image_size=image_size, crop=crop, neighbours=(-1, 0, 1))
    (found,) = explain.slices([image_name(0, 2)])
    seen = next(iter(cam_page.plain_batches(explain.volumes, [image_name(0, 2)], explain.config, 1)))
    assert found.hu.shape == found.mask.shape == (SIZE, SIZE)
    small = cv2.resize(found.hu.astype(np.float32), (image_size,) * 2, interpolation=cv2.INTER_AREA)
    difference = np.abs(small - seen["hu"][0, 1].numpy())
    assert np.median(difference) < 5 and np.corrcoef(small.ravel(), seen["hu"][0, 1].ravel())[0, 1] > 0.98
    assert found.mask.any() and found.hu[found.mask].min() > found.hu[~found.mask & (found.hu > -500)].mean()


def test_slices_without_a_mask_have_none(tmp_path):
    explain = explainer(tmp_path)
    with_mask, without = explain.slices([image_name(0, 1), image_name(1, 1)])
    assert with_mask.mask is not None and without.mask is None


def test_maps_are_judged_on_positive_slices_with_a_mask_and_subtypes_where_they_are_alone(tmp_path):
    explain = explainer(tmp_path)
    ids = [image_name(study, order) for study in (0, 1, 2, 4) for order in range(5)]
    labels = pd.DataFrame(0, ids, LABELS)
    labels.loc[[image_name(0, 1), image_name(1, 1)], ["epidural", "any"]] = 1  # study 1 has no masks
    labels.loc[image_name(2, 1), ["epidural", "subdural", "any"]] = 1
    labels.loc[image_name(4, 2), ["subdural", "any"]] = 1
    found = localise(explain, labels)
    assert {label: row.hits.cases for label, row in found.items()} == {"epidural": 1, "subdural": 1, "any": 3}
    explain.masks = None
    assert localise(explain, labels) == {}


def test_bleeding_outside_of_what_the_network_sees_is_not_looked_for(tmp_path):
    explain = explainer(tmp_path)
    labels = pd.DataFrame(1, [image_name(0, 1), image_name(2, 1)], LABELS)
    read = explain.masks.read
    explain.masks.read = lambda image_id: read(image_id) * (image_id == image_name(2, 1))
    assert localise(explain, labels)["any"].hits.cases == 1


def test_the_most_probable_labels_are_drawn_and_an_empty_map_is_said_to_be(tmp_path, monkeypatch):
    explain = explainer(tmp_path, masks=False)
    (found,) = explain.slices([image_name(0, 1)])
    maps = found.maps.copy()
    maps[1], maps[4] = 0, np.linspace(0, 3, SIZE)
    drawn = []
    monkeypatch.setattr(cam_page, "picture_uri", drawn.append)
    given = cam_page.Explained("a", found.hu, maps, np.array([0.1, 0.9, 0.2, 0.3, 0.5, 0.4]), None)
    shown = pictures(given, (40, 80), 2)["maps"]
    assert [(m["label"], m["probability"], bool(m["empty"])) for m in shown] == [
        ("intraparenchymal", 0.9, True), ("subdural", 0.5, False),
    ]  # fmt: skip
    assert shown[1]["highest"] == 3
    empty, rising, gray = drawn
    assert np.allclose(empty, DIMMED * gray) and np.ptp(rising[5, -1]) > 0.5 and np.ptp(rising[5, 0]) < 0.01
    half = with_map(gray, np.full((SIZE, SIZE), 0.5))
    assert np.allclose(rising[5, 160], half[5, 160], atol=0.03)


def test_what_a_slice_is_to_the_fold():
    bleeding = pd.Series(dict.fromkeys(LABELS, 0) | {"subdural": 1, "any": 1, "split": "train"})
    assert remarks(bleeding, True) == {"part": "held out", "labels": "subdural, any"}
    calm = pd.Series(dict.fromkeys(LABELS, 0) | {"split": "train"})
    assert remarks(calm, False) == {"part": "trained on", "labels": "no bleeding"}
    test = pd.Series(dict.fromkeys(LABELS, pd.NA) | {"split": "test"})
    assert remarks(test, False) == {"part": "test part", "labels": "unknown"}


@pytest.fixture
def trained(tmp_path):
    """Settings, and a fold as training leaves it."""
    settings = load_settings(write_settings(tmp_path))
    write_clean(settings.clean, masks=True)
    table = pd.read_parquet(settings.clean / "slices.parquet").assign(units="hu")
    write_parquet(settings.clean / "slices.parquet", table)
    run, options = Run("mine/stage1/net", 0, settings), config(image_size=48, neighbours=(-1, 0, 1))
    run.save_config(options)
    run.save_weights(network(options))
    held_out = table.loc[(table["split"] == "train") & (table["order"] == 1), "image_id"]
    run.save_predictions("oof", pd.DataFrame(0.5, held_out, LABELS))
    write_json(run.folder / "metrics.json", {})
    return settings


def call(monkeypatch, settings, out, *more):
    command = ["cam_page", CONFIG, "--fold", "0", "--settings", str(settings.file), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [*command, "--device", "cpu", *more])
    cam_page.main()
    return out.read_text()


def test_the_page_stands_alone(trained, tmp_path, monkeypatch, capsys):
    page = call(
        monkeypatch, trained, tmp_path / "a.html", "--slices", "3", "--maps", "4", "--masks", "prepared"
    )
    assert page.count('src="data:image/webp;base64,') == page.count("<img") == 3 * 5
    assert not re.search(r"(src|href)=\"(?!data:)|url\(", page) and "<script" not in page
    for text in (
        "mine/stage1/net fold 0", "test_resnet", "backbone.layer4.0", "9 channels of 48 x 48",
        "slices -1, +0, +1", "brain window, center 40 HU, width 80 HU", "40 / 80, 80 / 200, 40 / 380",
        "mask of the bleeding", "held out; labels: ", "mean rank correlation", "(3 slices)",
    ):  # fmt: skip
        assert text in page
    assert "SYNTHETIC" not in page and "a.html: 3 slices, 4 maps of each" in capsys.readouterr().out
    assert (
        call(monkeypatch, trained, tmp_path / "b.html", "--slices", "3", "--maps", "4", "--masks", "prepared")
        == page
    )


def test_named_slices_and_synthetic_data_are_said_to_be_so(trained, tmp_path, monkeypatch):
    trained.raw.mkdir()
    (trained.raw / "demo_test_labels.csv").write_text("")
    names = [image_name(7, 0), image_name(0, 1), image_name(0, 2)]
    page = call(monkeypatch, trained, tmp_path / "a.html", "--images", *names)
    assert "SYNTHETIC" in page and "Do the maps point" not in page and "mask of" not in page
    found = re.findall(r"<h2>(.*?)</h2>\n<p class=\"sub\">(.*?); labels: (.*?)</p>", page)
    label = SUBTYPES[0]
    assert found == [
        (names[0], "test part", "unknown"), (names[1], "held out", f"{label}, any"),
        (names[2], "trained on", f"{label}, any"),
    ]  # fmt: skip


def test_gray_levels_are_not_called_hu(trained, tmp_path, monkeypatch):
    table = pd.read_parquet(trained.clean / "slices.parquet").assign(units="gray")
    write_parquet(trained.clean / "slices.parquet", table)
    page = call(monkeypatch, trained, tmp_path / "a.html", "--slices", "1")
    assert "gray levels 0 to 255" in page and " HU" not in page


def test_mistakes_are_named(trained, tmp_path, monkeypatch):
    out = tmp_path / "a.html"
    with pytest.raises(UserError, match="no usable image 'nobody'"):
        call(monkeypatch, trained, out, "--images", "nobody")
    oof = Run("mine/stage1/net", 0, trained).folder / "oof.parquet"
    write_parquet(oof, pd.read_parquet(oof).replace({"image_id": {image_name(0, 1): "other"}}))
    with pytest.raises(UserError, match=r"holds out other, which .* has not; give the settings"):
        call(monkeypatch, trained, out)
    with pytest.raises(UserError, match=r"metrics\.json: missing; run: python train_stage1.py"):
        call(monkeypatch, trained, out, "--fold", "1")
    monkeypatch.setattr(sys.modules[__name__], "CONFIG", "experiments/mine/stage2/net.json")
    with pytest.raises(UserError, match=r"stage2/net\.json: sees no pixels; give a configuration of stage 1"):
        call(monkeypatch, trained, out)
