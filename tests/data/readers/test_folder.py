"""Class folders: two heads' targets, patients kept together, clear errors."""

import json
import os

import cv2
import numpy as np
import pandas as pd
import pytest

from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.prepared import Prepared
from src.data.volumes import open_volumes
from src.errors import UserError
from tests.data.dicom_files import dataset, stored_values, write

OPTIONS = Options(dataset="folder", size=256, folds=2)


def picture(path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((40, 40), level, np.uint8))


@pytest.fixture
def raw(tmp_path):
    root = tmp_path / "raw"
    for number in (1, 2, 10):
        picture(root / "normal" / "p1" / f"s{number}.png", number)
    for number in range(3):
        uid = f"1.2.{number}"
        data = dataset(uid, stored_values(number), patient="other", study="1.9", z=9.0 - number)
        write(root / "deep" / "p2" / f"{number}.dcm", data)
    picture(root / "lobar" / "p3_24h_1.png", 50)
    picture(root / "lobar" / "p3_72h_1.png", 60)
    picture(root / "subtentorial" / "p3_1.png", 70)
    return root


def test_classes_patients_and_order(raw, tmp_path):
    prepare(raw, tmp_path / "clean", OPTIONS)
    slices = Prepared(tmp_path / "clean").slices.set_index("image_id")
    assert slices.loc["normal/p1/s2", ["class_name", "class_index", "any"]].tolist() == ["normal", -1, 0]
    assert slices.loc["lobar/p3_24h_1", ["class_index", "any", "patient_id"]].tolist() == [1, 1, "p3"]
    assert slices.loc[["normal/p1/s1", "normal/p1/s2", "normal/p1/s10"], "order"].tolist() == [0, 1, 2]
    assert slices.loc["deep/p2/0", ["patient_id", "order", "units"]].tolist() == ["p2", 2, "hu"]  # from above
    assert slices.loc["normal/p1/s1", "units"] == "gray" and slices["epidural"].isna().all()
    assert sorted(Prepared(tmp_path / "clean").folds["patient_id"]) == [
        "p1",
        "p2",
        "p3",
    ]  # p3 is in two classes
    assert (open_volumes(tmp_path / "clean").slice("normal/p1/s10") == 10).all()


def test_the_configuration_names_classes_patients_and_what_to_leave_out(tmp_path):
    for name in ("a/X-1-scan.png", "b/X-2-scan.png", "b/X-2-thumb.png"):
        picture(tmp_path / "raw" / name, 5)
    config = tmp_path / "folder.json"
    config.write_text(
        json.dumps(
            {"classes": ["a", "b"], "negative": "a", "patient_regex": r"X-(\d+)", "exclude": ["*thumb*"]}
        )
    )
    prepare(
        raw := tmp_path / "raw", tmp_path / "clean", Options(**vars(OPTIONS) | {"folder_config": str(config)})
    )
    slices = Prepared(tmp_path / "clean").slices
    assert (
        raw.is_dir()
        and slices["patient_id"].tolist() == ["1", "2"]
        and slices["class_index"].tolist() == [-1, 0]
    )


def test_unknown_and_empty_classes_and_files_without_patient_are_errors(raw, tmp_path):
    picture(raw / "cats" / "p1" / "1.png", 1)
    with pytest.raises(UserError, match="cats: not one of the classes normal, deep, lobar, subtentorial"):
        prepare(raw, tmp_path / "clean", OPTIONS)
    (raw / "cats" / "p1" / "1.png").unlink()
    picture(raw / "deep" / "alone.png", 1)
    with pytest.raises(UserError, match=r"deep/alone\.png: no patient in this name"):
        prepare(raw, tmp_path / "clean", OPTIONS)
    (raw / "deep" / "alone.png").unlink()
    (raw / "subtentorial" / "p3_1.png").unlink()
    with pytest.raises(UserError, match="subtentorial: no image of this class"):
        prepare(raw, tmp_path / "clean", OPTIONS)


def test_colour_and_broken_pictures_are_quarantined(raw, tmp_path):
    colour = np.zeros((40, 40, 3), np.uint8)
    colour[..., 2] = 200
    cv2.imwrite(str(raw / "normal" / "p1" / "c.png"), colour)
    (raw / "normal" / "p1" / "b.jpg").write_text("no picture")
    manifest = prepare(raw, tmp_path / "clean", OPTIONS)
    assert manifest["quarantined"] == {"colour image": 1, "unreadable image": 1}


@pytest.mark.parametrize(
    ("pattern", "said"),
    [("p(", "no regular expression"), ("p[0-9]+", "no group; put the patient's part in parentheses")],
)
def test_a_pattern_that_names_no_patient_is_refused(raw, tmp_path, pattern, said):
    config = tmp_path / "folder.json"
    config.write_text(json.dumps({"patient_regex": pattern}))
    with pytest.raises(UserError, match=rf"folder\.json: patient_regex: .*{said}"):
        prepare(raw, tmp_path / "clean", Options(**vars(OPTIONS) | {"folder_config": str(config)}))


def test_odd_names_and_damaged_and_other_pictures_are_rows(raw, tmp_path):
    whole = (raw / "normal" / "p1" / "s1.png").read_bytes()
    (raw / "normal" / "p1" / "cut.png").write_bytes(whole[:-20])
    cv2.imwrite(str(raw / "normal" / "p1" / "zeros.jpg"), np.random.default_rng(0).integers(0, 256, (40, 40)))
    jpeg = (raw / "normal" / "p1" / "zeros.jpg").read_bytes()
    (raw / "normal" / "p1" / "zeros.jpg").write_bytes(jpeg[:-200] + bytes(200))
    (raw / "normal" / "p1" / "other.tif").write_bytes(b"II*\0")
    (raw / "normal" / "p1" / "slice\u00b2.png").write_bytes(whole)
    os.rename(raw / "normal" / "p1" / "s2.png", os.fsencode(raw) + b"/normal/p1/Sch\xe4del.png")
    prepare(raw, tmp_path / "clean", OPTIONS)
    slices = Prepared(tmp_path / "clean").slices.set_index("image_id")
    assert slices.loc["normal/p1/cut", "cause"] == "truncated: the file ends within its picture"
    assert slices.loc["normal/p1/zeros", "cause"] == "truncated: its compressed pixels have no end marker"
    assert slices.loc[["normal/p1/slice\u00b2", "normal/p1/Sch\\xe4del"], "status"].tolist() == ["ok", "ok"]
    quarantine = pd.read_csv(tmp_path / "clean" / "quarantine.csv").set_index("image_id")
    assert quarantine.loc["normal/p1/other.tif", "cause"] == "other format: .tif is not read here"
