"""The page of class activation maps: which slices it shows, in which geometry, and that it stands alone."""

import logging
import re
import sys

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from src.config import parse_config
from src.data.prepared import Prepared
from src.errors import UserError
from src.files import write_json
from src.labels import LABELS, SUBTYPES
from src.report.maps import cam_page
from src.report.maps.cam_page import choose, localise, pictures, remarks
from src.report.maps.cam_pictures import DIMMED, with_map
from src.report.maps.explainers import EXPLAINERS, Explained
from src.report.maps.gradcam import grad_cam
from src.settings import load_settings
from src.training.kinds import load_kind
from src.training.runs import Run
from src.training.slices.masks import PreparedMasks
from src.training.slices.slice_batches import plain_batches
from tests.training.prepared import SIZE, image_name, rewrite, study_name, write_clean, write_settings

SMALL = {"backbone": "test_resnet", "pretrained": False, "image_size": SIZE, "batch_size": 4, "epochs": 1}
CPU = torch.device("cpu")


def explainer(clean, masks=True, kind="slice", **options):
    """With a head without negative weights, so that no map is empty."""
    write_clean(clean, masks=masks)
    options = {**SMALL, "kind": kind, **options}
    if isinstance(options["backbone"], dict):  # which says itself where its weights are from
        del options["pretrained"]
    kind = load_kind(kind)
    prepared, config = Prepared(clean), parse_config(kind.config, options, "test")
    torch.manual_seed(0)
    model = kind.build(config)
    torch.nn.init.uniform_(model.head.weight)
    masks = PreparedMasks(prepared) if masks else None
    return EXPLAINERS[kind.config](model, prepared, config, CPU, masks)


def test_subtypes_take_turns_and_a_study_shows_once_for_each():
    predicted = pd.DataFrame(0.1, list("abcdef"), LABELS)
    predicted.loc["f", "any"] = 0.9  # asks for no turn
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
    windows = torch.tensor([explain.config.windows])
    with torch.inference_mode():
        logits = explain.model.eval()(hu, windows)[0]
    np.testing.assert_allclose([s.probabilities for s in found], logits.sigmoid(), atol=1e-5)
    assert all(slice_.maps.shape == (6, SIZE, SIZE) for slice_ in found)
    assert np.stack([slice_.maps for slice_ in found]).any((2, 3)).all()


@pytest.mark.parametrize(("image_size", "crop"), [(40, 1.0), (48, 0.5), (40, "head")])
def test_slice_and_mask_are_shown_as_the_network_sees_them_but_as_sharp_as_stored(tmp_path, image_size, crop):
    explain = explainer(tmp_path, image_size=image_size, crop=crop, neighbours=[-1, 0, 1])
    (found,) = explain.slices([image_name(0, 2)])
    seen = next(iter(plain_batches(explain.prepared, [image_name(0, 2)], explain.config, 1)))
    assert found.hu.shape == found.mask.shape == (SIZE, SIZE)
    small = cv2.resize(found.hu.astype(np.float32), (image_size,) * 2, interpolation=cv2.INTER_AREA)
    difference = np.abs(small - seen["hu"][0, 1].numpy())
    assert np.median(difference) < 5 and np.corrcoef(small.ravel(), seen["hu"][0, 1].ravel())[0, 1] > 0.98
    assert found.mask.any() and found.hu[found.mask].min() > found.hu[~found.mask & (found.hu > -500)].mean()


def test_a_slice_of_a_sequence_is_explained_by_its_own_logit_among_its_study(tmp_path):
    explain = explainer(tmp_path, kind="sequence", context={"hidden": 8})
    ids = [image_name(3, 2), image_name(0, 1), image_name(3, 4)]
    found = {one.image_id: one for one in explain.slices(ids)}
    assert list(found) == [image_name(3, 2), image_name(3, 4), image_name(0, 1)]  # study by study
    study = next(plain_batches(explain.prepared, [image_name(3, k) for k in range(5)], explain.config, 5))
    inputs = (study["hu"], study["windows"], torch.ones(1, 5, dtype=torch.bool))
    maps, logits = grad_cam(explain.model, inputs, LABELS, at=4)
    np.testing.assert_allclose(found[ids[2]].maps, maps[:, 4], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found[ids[2]].probabilities, 1 / (1 + np.exp(-logits[:, 4])), rtol=1e-5)
    assert found[ids[2]].maps.any()
    np.testing.assert_array_equal(found[ids[2]].hu, study["hu"][4, 0])


VIVIT = {
    "tubelet": [2, 16, 16], "pretrained": False, "hidden_size": 24, "layers": 2, "attention_heads": 3,
}  # fmt: skip


@pytest.mark.parametrize("backbone", ["test_resnet", VIVIT])
def test_frames_of_a_video_are_explained_by_the_answer_for_their_study(tmp_path, backbone):
    if backbone is VIVIT:
        pytest.importorskip("transformers", reason="transformers is not installed")
    options = {"targets": "presence", "backbone": backbone, "frames": 8, "frame_choice": "first"}
    explain = explainer(tmp_path, kind="video", **options)
    (study, found), _ = explain.groups([study_name(4), study_name(0)])
    ids = [image_name(4, order) for order in range(5)]  # of which the last fills three frames more
    assert (study, [one.image_id for one in found]) == (study_name(4), ids)
    frames = next(plain_batches(explain.prepared, [*ids, *ids[4:] * 3], explain.config, 8))
    inputs, columns = (frames["hu"], frames["windows"], 8), ["presence"]
    maps, logits = grad_cam(explain.model, inputs, columns, names=columns)
    maps = maps.reshape(8, SIZE, SIZE)
    for place in range(4):
        np.testing.assert_allclose(found[place].maps[0], maps[place], rtol=1e-4, atol=1e-7)
        np.testing.assert_array_equal(found[place].hu, frames["hu"][place, 0])
        assert found[place].probabilities == pytest.approx(1 / (1 + np.exp(-logits[0, 0])))
    assert [one.mask is not None for one in found] == [True] * 5
    labels = pd.DataFrame({"presence": [1, 1, 0]}, [study_name(4), study_name(1), study_name(0)])
    assert localise(explain, labels)["presence"].hits.cases == 2  # two slices of a study bleed


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
    given = Explained("a", found.hu, maps, np.array([0.1, 0.9, 0.2, 0.3, 0.5, 0.4]), None)
    shown = pictures([given], LABELS, (40, 80), 2)[0]["maps"]
    assert [(m["label"], m["probability"], bool(m["empty"])) for m in shown] == [
        ("intraparenchymal", 0.9, True), ("subdural", 0.5, False),
    ]  # fmt: skip
    assert shown[1]["highest"] == 3
    empty, rising, gray = drawn
    assert np.allclose(empty, DIMMED * gray) and np.ptp(rising[5, -1]) > 0.5 and np.ptp(rising[5, 0]) < 0.01
    half = with_map(gray, np.full((SIZE, SIZE), 0.5))
    assert np.allclose(rising[5, 160], half[5, 160], atol=0.03)


def test_of_a_video_the_frames_are_shown_where_the_map_is_highest_scaled_together(monkeypatch):
    monkeypatch.setattr(cam_page, "picture_uri", lambda picture: picture)
    hu, shares = np.zeros((8, 8), np.int16), np.array([0.2, 0.7])
    peaks = [3, 0, 1, 6, 2, 5, 4, 12, 7, 8]
    group = [
        Explained(str(k), hu, np.stack([np.zeros((8, 8)), np.full((8, 8), peak)]), shares, None)
        for k, peak in enumerate(peaks)
    ]
    shown = pictures(group, ["a", "b"], (40, 80), 1)
    assert "".join(one["image_id"] for one in shown) == "03456789"
    assert [one["maps"][0]["highest"] for one in shown] == [3, 6, 2, 5, 4, 12, 7, 8]
    half = with_map(shown[1]["gray"], np.full((8, 8), 0.5))  # 6 of 12
    np.testing.assert_allclose(shown[1]["maps"][0]["uri"], half)


def test_what_a_slice_is_to_the_fold():
    labels = pd.DataFrame(0.0, list("ab"), LABELS)
    labels.loc["a", ["subdural", "any"]] = 1.0
    held_out = pd.Index(["a"])
    assert remarks("a", labels, held_out) == {"part": "held out", "labels": "subdural, any"}
    assert remarks("b", labels, held_out) == {"part": "trained on", "labels": "no bleeding"}
    assert remarks("c", labels, held_out) == {"part": "not trained on", "labels": "unknown"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Settings and a fold as training leaves it."""
    settings = load_settings(write_settings(tmp_path_factory.mktemp("home")))
    write_clean(settings.clean, masks=True)
    train(settings, "net", image_size=48, neighbours=[-1, 0, 1])
    return settings


def train(settings, name, kind="slice", **options):
    run, loaded = Run(f"mine/stage1/{name}", 0, settings), load_kind(kind)
    config = parse_config(loaded.config, {**SMALL, "kind": kind, **options}, "test")
    loaded.train(run, Prepared(settings.clean), config, CPU, logging.getLogger("ich.test"), False)
    return run


def call(monkeypatch, settings, out, *more, config="stage1/net"):
    command = [
        "cam_page",
        f"experiments/mine/{config}.json",
        "--fold",
        "0",
        "--settings",
        str(settings.file),
        "--out",
        str(out),
    ]
    monkeypatch.setattr(sys, "argv", [*command, "--device", "cpu", "--out", str(out), *more])
    cam_page.main()
    return out.read_text()


def test_the_page_stands_alone(home, tmp_path, monkeypatch, capsys):
    page = call(monkeypatch, home, tmp_path / "a.html", "--slices", "3", "--maps", "4", "--masks", "prepared")
    assert page.count('src="data:image/webp;base64,') == page.count("<img") == 3 * 5
    assert not re.search(r"(src|href)=\"(?!data:)|url\(", page) and "<script" not in page
    for text in (
        "mine/stage1/net fold 0", "test_resnet", "backbone.layer4.0", "9 channels of 48 x 48",
        "slices -1, +0, +1", "brain window, center 40 HU, width 80 HU", "40 / 80, 80 / 200, 40 / 380",
        "mask of all bleeding", "held out; labels: ", "mean rank correlation", "(n = 3, flat maps",
    ):  # fmt: skip
        assert text in page
    assert "SYNTHETIC" not in page and "a.html: 3 slices, 4 maps of each" in capsys.readouterr().out
    assert (
        call(monkeypatch, home, tmp_path / "b.html", "--slices", "3", "--maps", "4", "--masks", "prepared")
        == page
    )


def test_named_slices_and_synthetic_data_are_said_to_be_so(home, tmp_path, monkeypatch):
    home.raw.mkdir()
    (home.raw / "demo_test_labels.csv").write_text("")
    names = [image_name(7, 0), image_name(0, 1), image_name(1, 2)]
    page = call(monkeypatch, home, tmp_path / "a.html", "--images", *names)
    assert "SYNTHETIC" in page and "Do the maps point" not in page and "mask of" not in page
    found = re.findall(r"<h2>(.*?)</h2>\n<p class=\"sub\">(.*?); labels: (.*?)</p>", page)
    assert found == [
        (names[0], "not trained on", "unknown"), (names[1], "held out", f"{SUBTYPES[0]}, any"),
        (names[2], "trained on", f"{SUBTYPES[1]}, any"),
    ]  # fmt: skip


def test_other_targets_and_gray_levels(tmp_path, monkeypatch):
    settings = load_settings(write_settings(tmp_path))
    write_clean(settings.clean, masks=True)
    rewrite(settings.clean, "slices.parquet", lambda table: table.assign(units="gray"))
    train(settings, "presence", targets="presence", windows=("gray",))
    out = tmp_path / "a.html"
    page = call(monkeypatch, settings, out, "--slices", "1", "--masks", "prepared", config="stage1/presence")
    assert "gray levels 0 to 255" in page and " HU" not in page
    assert page.count("<img") == 2 and '<th scope="row">presence</th><td>6</td>' in page


def test_the_page_of_a_sequence_shows_slices_and_that_of_a_video_frames_of_studies(
    home, tmp_path, monkeypatch, capsys
):
    train(home, "runs", "sequence", context={"hidden": 8})
    page = call(monkeypatch, home, tmp_path / "a.html", "--slices", "3", config="stage1/runs")
    assert page.count("<img") == 3 * 3 and page.count("<h2>image") == 3
    train(home, "frames", "video", targets="presence", frames=4)
    out = tmp_path / "b.html"
    page = call(monkeypatch, home, out, "--slices", "2", "--masks", "prepared", config="stage1/frames")
    assert page.count("<img") == 2 * 4 * 2 and page.count("<h2>study") == 2
    for text in ("<dd>4, evenly</dd>", "over all frames of its study", "held out; labels: presence",
                 "<th>frames</th>", '<th scope="row">presence</th><td>3</td>'):  # fmt: skip
        assert text in page
    assert "b.html: 2 studies, 2 maps of each" in capsys.readouterr().out
    oof = Run("mine/stage1/frames", 0, home).predictions("oof")["presence"]
    shown = re.findall(r"<h2>(study\d+)</h2>", page)
    assert shown == list(oof.sort_values(ascending=False, kind="stable").index[:2])
    for study in shown:
        assert f"probability {oof[study]:.3f};" in page
    named = call(monkeypatch, home, out, "--images", study_name(7), config="stage1/frames")
    assert f'<h2>{study_name(7)}</h2>\n<p class="sub">not trained on; labels: unknown' in named


def test_mistakes_are_named(home, tmp_path, monkeypatch):
    out = tmp_path / "a.html"
    with pytest.raises(UserError, match="no usable image 'nobody'"):
        call(monkeypatch, home, out, "--images", "nobody")
    with pytest.raises(UserError, match=r"metrics\.json: missing; run: python train_stage1.py"):
        call(monkeypatch, home, out, "--fold", "1")
    run = Run("mine/stage2/net", 0, home)
    write_json(run.folder / "metrics.json", {})
    write_json(run.folder / "config.json", {})
    with pytest.raises(UserError, match=r"stage2/net\.json: its runs read no pixels"):
        call(monkeypatch, home, out, config="stage2/net")
    elsewhere = load_settings(write_settings(tmp_path, MODEL_DIR=str(home.models)))
    write_clean(elsewhere.clean)
    rewrite(elsewhere.clean, "slices.parquet", lambda table: table.assign(image_id=table["image_id"] + "b"))
    with pytest.raises(UserError, match=r"holds out image00_0, which .* has not; give the settings"):
        call(monkeypatch, elsewhere, out)
