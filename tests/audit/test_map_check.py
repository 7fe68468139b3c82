"""Maps against masks: a network that sees bleeding by its brightness, on slices whose bleeding is known."""

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from src.audit.map_check import (
    bleeding_rows,
    head_of,
    of_all,
    of_pictures,
    on_pictures,
    page,
    score_slices,
    shuffled_maps,
    stages,
    summarise,
)
from src.audit.masked_pictures import bhsd, write_pictures
from src.config import parse_config
from src.data.prepared import Prepared
from src.files import write_csv
from src.labels import LABELS
from src.models.cam_targets import CamTarget, as_it_is
from src.models.slice_classifier import build_slice_classifier
from src.report.maps.explainers import Explainer
from src.settings import load_settings
from src.training.kinds import load_kind
from src.training.runs import Run
from src.training.slices.masks import PreparedMasks
from src.training.slices.slice_config import SliceConfig
from tests.ensemble.conftest import CPU, LOG
from tests.training.prepared import SIZE, rewrite, sign, write_clean, write_settings

VALUES = {"backbone": "test_resnet", "pretrained": False, "image_size": SIZE, "batch_size": 4, "epochs": 1}


class Bright(nn.Module):
    """Its map is what is brighter than 60 HU, which in the small prepared data is blood and nothing else."""

    def __init__(self):
        super().__init__()
        self.features, self.backbone = nn.ReLU(), nn.Sequential()
        self.head = nn.Linear(1, len(LABELS), bias=False)
        nn.init.ones_(self.head.weight)

    def forward(self, hu, windows):
        embeddings = self.features(hu[:, :1].float() - 60).mean((2, 3))
        return self.head(embeddings), embeddings

    def cam_targets(self):
        return {"features": CamTarget(self.features, as_it_is)}


def explainer(clean, model):
    write_clean(clean, masks=True)
    config = parse_config(SliceConfig, VALUES, "test")
    return Explainer(model, Prepared(clean), config, torch.device("cpu"))


def rows_of(explain):
    return bleeding_rows(explain.prepared, PreparedMasks(explain.prepared).known)


def test_a_map_of_the_blood_hits_it_every_time(tmp_path):
    explain = explainer(tmp_path, Bright())
    rows = rows_of(explain)
    scores = score_slices(explain, rows, of_all(PreparedMasks(explain.prepared)))
    assert len(rows) == 6 and len(scores) == 12  # three labelled studies with masks; `any` and one subtype
    assert scores["hit"].all() and (scores["energy"] > 0.999).all()
    head = SIZE * 3 // 4  # a square, of which the blood is a square of a sixth of the image
    assert scores["area"].to_numpy() == pytest.approx((SIZE // 6) ** 2 / head**2, rel=0.01)
    assert (scores["by_chance"] > scores["area"]).all() and (scores["energy_of_the_middle"] < 0.5).all()
    found = summarise(scores)["any"]
    assert (found["slices"], found["patients"], found["hit"]) == (6, 3, [1, 1, 1])
    assert found["hit_minus_chance"][0] == pytest.approx(1 - found["by_chance"][0], abs=1e-4)


def test_one_patient_alone_has_no_interval(tmp_path):
    row = {"patient_id": "a", "label": "any", "hit": True}
    names = ("by_chance", "by_the_middle", "energy", "area", "energy_of_the_middle")
    found = summarise(pd.DataFrame([row | dict.fromkeys(names, 0.25)]))
    assert found["any"]["hit"] == [1, None, None] and found["any"]["energy_minus_even"] == [0, None, None]
    about = {"what": "x, fold 0", "remark": "", "labels": found, "shuffled": {"head": [0.5, None, None]}}
    assert "| any | 1 | 1 | 1.00 | 0.25 | 0.25 |" in page({"one": about}) and "head 0.50." in page(
        {"one": about}
    )


def test_what_is_shuffled_goes_from_the_head_down_and_changes_maps(tmp_path):
    config = parse_config(SliceConfig, VALUES, "test")
    torch.manual_seed(0)
    explain = explainer(tmp_path, build_slice_classifier(config))
    nn.init.normal_(explain.model.head.weight)
    before = [weight.clone() for weight in explain.model.parameters()]
    names = [name for name, _ in stages(explain.model)]
    assert names[0] == "head" and names[1] == "backbone.layer4" and names[-1] == "backbone.conv1"
    assert stages(explain.model)[1] == ("backbone.layer4", ["head", "backbone.layer4"])
    found = shuffled_maps(explain, rows_of(explain))
    assert list(found) == names and all(len(values) == 6 for values in found.values())
    assert found["backbone.conv1"]["correlation"].abs().max() < 0.9
    assert all(torch.equal(a, b) for a, b in zip(explain.model.parameters(), before, strict=True))
    blind = explainer(tmp_path / "blind", Bright())  # no weight but the head's, all of them ones
    assert shuffled_maps(blind, rows_of(blind))["head"]["correlation"].to_numpy() == pytest.approx(1)


def test_a_head_is_what_bone_encloses():
    values = np.full((20, 20), -1000, np.int16)
    cv2.circle(values, (9, 9), 6, 900, 1)
    values[18:, :3] = 900  # a bit of the table
    head = head_of(values, "hu")
    assert (
        head[9, 9]
        and not head[19, 0]
        and head.sum() == (cv2.circle(np.zeros((20, 20)), (9, 9), 6, 1, -1) > 0).sum()
    )
    assert head_of(np.full((4, 4), -1000, np.int16), "hu").all()


@pytest.fixture
def pictures(tmp_path):
    """Four slices as BHSD has them, gray levels are HU; the last two upside down."""
    rows = []
    for number in range(4):
        hu, classes = np.zeros((96, 96), np.uint8), np.zeros((96, 96), np.uint8)
        cv2.ellipse(hu, (48, 52), (36, 40), 0, 0, 360, 35, -1)
        cv2.ellipse(hu, (48, 52), (36, 40), 0, 0, 360, 255, 2)
        classes[30:40, 30:42] = 5
        hu[30:40, 30:42] = 70
        if number == 1:
            classes[60:66, 60:66] = 2
        name, labels = f"slice{number}", dict.fromkeys(LABELS, 0)
        labels |= {"any": 1, "subdural": 1, "intraparenchymal": int(number == 1)}
        up = slice(None, None, 1 if number < 2 else -1)
        for kind, image in (("images", hu), ("masks_index", classes)):
            (tmp_path / "bhsd" / kind).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / "bhsd" / kind / f"{name}.png"), image[up])
        source = "bhsd" if number < 2 else "mbhseg25"
        rows.append({"name": name, "source": source, "volume": f"v{number}", **labels})
    write_csv(tmp_path / "bhsd" / "table.csv", pd.DataFrame(rows))
    assert write_pictures(bhsd(tmp_path / "bhsd"), tmp_path / "pictures") == 4
    return tmp_path / "pictures"


def test_pictures_show_the_brain_window_upright_with_masks_by_class(pictures):
    images = [cv2.imread(str(pictures / f"slice{n}.png"), cv2.IMREAD_GRAYSCALE) for n in range(4)]
    assert images[0][35, 35] == int(70 / 80 * 255) and images[0][52, 48] == int(35 / 80 * 255)
    assert np.array_equal(images[0], images[2])
    row = pd.Series({"square_top": 0, "square_left": 0, "square_side": 96, "size": 96}, name="slice1.png")
    row = pd.concat([row, pd.Series(dict.fromkeys(LABELS, 1))]).rename("slice1")
    read = of_pictures(pictures)
    assert read(row, "any").sum() == 120 + 36 and read(row, "subdural").sum() == 120
    assert read(row, "intraparenchymal").sum() == 36 and not read(row, "epidural").any()


def test_a_network_of_pictures_is_checked_on_them(pictures, tmp_path):
    settings = load_settings(write_settings(tmp_path))
    write_clean(settings.clean, studies=4, slices=3, size=256)
    rewrite(settings.clean, "slices.parquet", lambda slices: slices.assign(units="gray"))
    sign(settings.clean, 256)
    run, kind = Run("gray/stage1/a", 0, settings), load_kind("slice")
    config = parse_config(SliceConfig, VALUES | {"windows": ["gray"]}, "test")
    kind.train(run, Prepared(settings.clean), config, CPU, LOG, False)
    found = on_pictures(run, pictures)
    assert {label: one["slices"] for label, one in found["labels"].items()} == {
        "any": 4, "subdural": 4, "intraparenchymal": 1,
    }  # fmt: skip
    assert found["labels"]["any"]["patients"] == 4 and next(iter(found["shuffled"])) == "head"
