"""From folders of classes to the scores of both heads, on pictures and with the published configuration."""

import logging

import cv2
import numpy as np
import pytest
import torch

from src.config import parse_config, read_values
from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.prepared import Prepared
from src.files import read_json
from src.report.run.submission_folder import write_submission_folder
from src.settings import load_settings
from src.training.runs import Run
from src.training.slices.kind import KIND
from src.training.slices.slice_config import SliceConfig
from src.training.split import unlabelled_part
from tests.conftest import ROOT
from tests.training.prepared import write_settings

CPU, LOG = torch.device("cpu"), logging.getLogger("ich.test")
PLACES = {"deep": (90, 90), "lobar": (30, 90), "subtentorial": (150, 90)}  # of a bright square in the head


def write_classes(raw, patients=6, pictures=8):
    """Pictures of 180 px: a gray head, with a bright square where the class says; a patient has two scans."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(("normal", *PLACES)):
        for patient in range(patients):
            for picture in range(pictures):
                image = np.zeros((180, 180), np.uint8)
                cv2.circle(image, (90, 90), 80, 100, -1)
                image[image > 0] += rng.integers(0, 12, np.count_nonzero(image)).astype(np.uint8)
                if name in PLACES:
                    row, column = np.array(PLACES[name]) + rng.integers(-8, 9, 2)
                    cv2.rectangle(image, (column - 12, row - 12), (column + 12, row + 12), 230, -1)
                scan = ("24h", "72h")[picture % 2]
                path = raw / name / f"p{patient + 10 * number}_{scan}_{picture}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), image)


@pytest.fixture
def settings(tmp_path):
    settings = load_settings(write_settings(tmp_path))
    write_classes(settings.raw)
    prepare(settings.raw, settings.clean, Options(dataset="folder", size=256, folds=3))
    return settings


def config(**values):
    """The published configuration, but for the network, the window of pictures and the length."""
    published = read_values(ROOT / "experiments/dtvit/stage1/vit_b16_replicated.json")
    small = {
        "backbone": "test_resnet", "pretrained": False, "image_size": 64, "head_hidden": 32, "batch_size": 8,
        "windows": [[127.5, 255]] * 3, "epochs": 5,
    }  # fmt: skip
    return parse_config(SliceConfig, published | small | values, "small")


def test_both_heads_learn_from_class_folders_and_are_reported(settings, tmp_path):
    run, prepared = Run("dtvit/stage1/small", 0, settings), Prepared(settings.clean)
    KIND.train(run, prepared, config(), CPU, LOG, False)
    KIND.predict(run, unlabelled_part(prepared), CPU, LOG)
    presence, location = run.metrics()["heads"]
    assert presence["rows"] == 64 and location["rows"] == 48 and location["columns"] == list(PLACES)
    assert presence["presence"]["auc"] > 0.95 and location["accuracy"] > 0.9
    folds = prepared.folds.set_index("patient_id")["fold"]
    patients = prepared.slices.set_index("image_id")["patient_id"]
    assert set(patients[run.predictions("oof").index].map(folds)) == {0}
    assert patients[run.predictions("oof").index].nunique() == 8  # both scans of each
    (tmp_path / "experiments/dtvit").mkdir(parents=True)
    (tmp_path / "experiments/dtvit/ensemble.json").write_text("{}")
    write_submission_folder(settings, tmp_path / "experiments/dtvit", 1)
    (member,) = read_json(settings.submissions / "dtvit/scores.json")["members"].values()
    assert member["patients"] == 8 and member["shares"]["location"]["accuracy"][0] == location["accuracy"]
    page = (settings.submissions / "dtvit/report.html").read_text()
    assert '<th scope="col">subtentorial</th>' in page and "Learning curves" in page
