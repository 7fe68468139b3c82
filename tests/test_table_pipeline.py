"""All five steps on PNGs and a table, as someone has them who never had the DICOM files."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest

from src.data.prepared import Prepared
from src.labels import LABELS, SUBTYPES
from tests.test_pipeline import FOLDERS, SLICES, STACKER, steps

TRAINING, SLICES_A_STUDY = 10, 4  # the last two patients are the test part


def draw(path, patient: int, order: int, bleeding: bool) -> None:
    """A gray disc, and with bleeding a white square."""
    rng = np.random.default_rng((patient, order))
    image = rng.integers(0, 20, (256, 256), dtype=np.uint8)
    cv2.circle(image, (128, 128), 90, 110, -1)
    if bleeding:
        row, column = rng.integers(80, 140, 2)
        image[row : row + 30, column : column + 30] = 250
    assert cv2.imwrite(str(path), image)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """PNGs, their table, settings and an experiment of both stages, on which all five steps have run."""
    home = tmp_path_factory.mktemp("pictures")
    raw = home / "raw_data_dir"
    raw.mkdir()
    rows = []
    for patient in range(TRAINING + 2):
        for order in range(SLICES_A_STUDY):
            bleeding = order in (1, 2) and patient % 5 != 4
            labels = {label: int(bleeding and SUBTYPES[patient % 5] == label) for label in SUBTYPES}
            labels["any"] = int(bleeding)
            name = f"ID_{patient:02d}{order}"
            draw(raw / f"{name}.png", patient, order, bleeding)
            known = patient < TRAINING
            place = {"patient_id": f"p{patient}", "study_id": f"s{patient}", "position_mm": 5 * order}
            rows.append({"image_id": name} | place | (labels if known else dict.fromkeys(LABELS)))
    pd.DataFrame(rows).to_csv(home / "pictures.csv", index=False)
    (home / "SETTINGS.json").write_text(json.dumps({key: key.lower() for key in FOLDERS}))
    stage1 = SLICES | {"windows": ["gray"], "epochs": 3}
    for name, config in {"stage1/small": stage1, "stage2/lstm": {"stacker": "lstm", **STACKER}}.items():
        path = home / "experiments" / "tiny" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(config))
    (home / "experiments" / "tiny" / "ensemble.json").write_text('{"replicates": 100}')
    for step in steps(home, f"--dataset table --table {home / 'pictures.csv'} --size 256 --folds 2"):
        assert step.returncode == 0, step.stdout + step.stderr
    return home


def test_pictures_become_a_submission_and_a_report(home):
    data = Prepared(home / "clean_data_dir")
    assert set(data.slices["units"]) == {"gray"} and data.manifest["images"] == {"train": 40, "test": 8}
    submission = pd.read_csv(home / "submission_dir" / "tiny" / "submission.csv")
    test = data.slices.loc[data.slices["split"] == "test", "image_id"]
    assert sorted(submission["ID"]) == sorted(f"{name}_{label}" for name in test for label in LABELS)
    assert submission["Label"].between(1e-6, 1 - 1e-6).all()
    scores = json.loads((home / "submission_dir" / "tiny" / "scores.json").read_text())
    assert set(scores["members"]) == {"tiny/stage1/small", "tiny/stage2/lstm"}
    assert scores["data"] == "real" and scores["slices"] == {"oof": 40, "test": 8}
    page = (home / "submission_dir" / "tiny" / "report.html").read_text()
    assert "These images have no Hounsfield units" in page and "brain window" not in page


def test_the_commands_that_make_it_again_name_the_table(home):
    commands = (home / "submission_dir" / "tiny" / "commands.txt").read_text()
    assert f"--table {home / 'pictures.csv'}" in commands and "--dataset table" in commands
