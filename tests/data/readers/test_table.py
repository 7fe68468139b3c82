"""A table as data set: what its rows may say, what is refused, and what becomes of the images."""

import logging
import re

import cv2
import numpy as np
import pandas as pd
import pytest

from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.prepared import Prepared
from src.errors import UserError
from src.labels import LABELS
from tests.data.dicom_files import dataset, stored_values, write

FIVE = "epidural,intraparenchymal,intraventricular,subarachnoid,subdural"
NONE, BLED = "0,0,0,0,0,0", "0,1,0,0,0,1"


def picture(path, level: int, dtype=np.uint8, size: int = 40):
    """One value everywhere but in a corner, so that no picture is blank."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((size, size), level, dtype)
    image[0, 0] = np.iinfo(dtype).max
    assert cv2.imwrite(str(path), image)
    return path


def table(tmp_path, text: str, name: str = "table.csv") -> Options:
    (tmp_path / name).write_text(text)
    return Options(dataset="table", table=str(tmp_path / name), size=256, folds=2)


def prepared(tmp_path, options: Options) -> Prepared:
    prepare(tmp_path / "raw", tmp_path / "clean", options)
    return Prepared(tmp_path / "clean")


def rows(tmp_path, options: Options) -> pd.DataFrame:
    return prepared(tmp_path, options).slices.set_index("image_id")


def refused(tmp_path, text: str) -> str:
    with pytest.raises(UserError) as error:
        prepare(tmp_path / "raw", tmp_path / "clean", table(tmp_path, text))
    return str(error.value)


@pytest.fixture
def four(tmp_path):
    """raw/a/1.png to raw/a/4.png, gray levels 1 to 4."""
    for number in range(1, 5):
        picture(tmp_path / "raw" / "a" / f"{number}.png", number)
    return tmp_path


def test_paths_labels_patients_and_order(four):
    text = f"path,patient_id,study_id,position_mm,{FIVE},any\n"
    text += f"a/1.png,NA,s,10,{NONE}\na/2.png,NA,s,-5.5,{BLED}\na/3.png,null,t,1,{NONE}\n"
    data = prepared(four, table(four, text))
    slices = data.slices.set_index("image_id")
    assert slices.loc["a/1", ["patient_id", "order", "position_mm", "units", "split"]].tolist() == [
        "NA", 1, 10.0, "gray", "train",
    ]  # fmt: skip
    assert slices.loc["a/2", ["order", "step_mm", "intraparenchymal", "any"]].tolist() == [0, 15.5, 1, 1]
    assert slices["hu_min"].isna().all() and slices["padded"].isna().all()
    assert data.folds["patient_id"].tolist() == ["NA", "null"]  # names, not missing values
    assert (data.volumes.slice("a/2")[64:, 64:] == 2).all()


def test_image_ids_name_files_anywhere_below_the_root(four):
    text = "image_id,patient_id,any\n1,p,0\n2.png,q,0\na/3,q,1\na/4.png,p,1\n"
    slices = rows(four, table(four, text))
    assert slices.index.tolist() == ["1", "2.png", "a/3", "a/4.png"] and (slices["status"] == "ok").all()


def test_the_contests_long_csv_and_its_sample_submission(four):
    """The folder and stage_2_train.csv as they are; the CSV is found below RAW_DATA_DIR."""
    raw = four / "raw"
    for number, name in enumerate(("stage_2_train/ID_a", "stage_2_train/ID_b", "stage_2_test/ID_c")):
        picture(raw / f"{name}.png", 10 + number)
    lines = [f"{name}_{label},{value}" for name, value in (("ID_a", 0), ("ID_b", 1)) for label in LABELS]
    (raw / "stage_2_train.csv").write_text("\n".join(["ID,Label", *lines, lines[0]]) + "\n")
    sample = [f"{name}_{label},0.5" for name in ("ID_c", "ID_d") for label in LABELS]
    (raw / "stage_2_sample_submission.csv").write_text("\n".join(["ID,Label", *sample]) + "\n")
    data = prepared(four, Options(dataset="table", table="stage_2_train.csv", size=256, folds=2))
    slices = data.slices.set_index("image_id")
    assert slices.loc["ID_b", list(LABELS)].tolist() == [1] * 6
    assert slices.loc[["ID_a", "ID_c", "ID_d"], "split"].tolist() == ["train", "test", "test"]
    assert slices.loc["ID_d", "cause"] == "no file: named in stage_2_sample_submission.csv"
    assert data.manifest["images"] == {"train": 2, "test": 1}
    assert data.manifest["kept_defects"]["repeated label rows"] == 1


def test_a_sample_submission_whose_images_are_not_there_is_no_test_part(four):
    lines = [f"{name}_{label},0" for name in "1234" for label in LABELS]
    options = table(four, "\n".join(["ID,Label", *lines]) + "\n", "stage_2_train.csv")
    sample = [f"ID_c_{label},0.5" for label in LABELS]
    (four / "stage_2_sample_submission.csv").write_text("\n".join(["ID,Label", *sample]) + "\n")
    assert rows(four, options)["split"].tolist() == ["train"] * 4


def test_parquet_is_a_table_too(four):
    frame = pd.DataFrame({"image_id": [1, 2], "patient_id": [49.0, np.nan], "any": [True, False]})
    frame.to_parquet(four / "table.parquet")
    slices = rows(four, Options(dataset="table", table=str(four / "table.parquet"), size=256, folds=2))
    assert slices["patient_id"].tolist() == ["49", "2"] and slices["any"].tolist() == [1, 0]


def test_a_window_turns_gray_levels_into_hu(tmp_path):
    """8 bits: HU = center - width / 2 + level * width / 255; 16 bits: / 65535."""
    picture(tmp_path / "raw" / "a.png", 51)  # a fifth of white
    picture(tmp_path / "raw" / "b.png", 1024 + 32768, np.uint16)
    text = "path,window_center,window_width,any\na.png,\"['00040', '00060']\",80,0\nb.png,-0.5,65535,1\n"
    data = prepared(tmp_path, table(tmp_path, text))
    slices = data.slices.set_index("image_id")
    assert slices.loc["a", ["hu_min", "hu_max", "window_center", "window_width"]].tolist() == [16, 80, 40, 80]
    assert slices.loc["b", ["hu_min", "hu_max", "units"]].tolist() == [1024, 32767, "hu"]


def test_another_window_makes_the_image_anew(tmp_path):
    picture(tmp_path / "raw" / "a.png", 51)
    picture(tmp_path / "raw" / "b.png", 51, size=50)
    text = "path,window_center,window_width,any\na.png,40,80,0\nb.png,40,80,1\n"
    assert prepared(tmp_path, table(tmp_path, text)).slices["hu_max"].tolist() == [80, 80]
    changed = text.replace("b.png,40", "b.png,50")
    assert prepared(tmp_path, table(tmp_path, changed)).slices["hu_max"].tolist() == [80, 90]


def test_sixteen_bits_without_a_window_are_gray_and_stored_values_are_refused(tmp_path):
    picture(tmp_path / "raw" / "a.png", 257 * 100, np.uint16)
    picture(tmp_path / "raw" / "b.png", 257 * 7, np.uint16)
    cv2.imwrite(str(tmp_path / "raw" / "c.png"), np.full((40, 40), 1064, np.uint16))
    data = prepared(tmp_path, table(tmp_path, "path,any\na.png,0\nb.png,1\nc.png,0\n"))
    slices = data.slices.set_index("image_id")
    assert (data.volumes.slice("a")[64:, 64:] == 100).all() and slices.loc["a", "units"] == "gray"
    assert slices.loc["c", "cause"].startswith("unknown units: 16-bit levels up to 1064")


def test_windows_of_some_pictures_are_not_used(four, caplog):
    text = "path,window_center,window_width,any\na/1.png,40,80,0\na/2.png,,,1\n"
    with caplog.at_level(logging.WARNING, "ich"):
        slices = rows(four, table(four, text))
    assert slices["units"].tolist() == ["gray"] * 2 and slices["window_center"].isna().all()
    assert "only 1 of 2 pictures have a window, so all stay gray" in caplog.text


def dicom(path, z: float, study: str = "1.9", patient: str = "header"):
    write(path, dataset(f"1.2.{z}", stored_values(int(z)), patient=patient, study=study, z=z))


def test_dicom_headers_tell_what_the_table_does_not(tmp_path):
    for z in (1.0, 2.0):
        dicom(tmp_path / "raw" / f"{z:.0f}.dcm", z)
    dicom(tmp_path / "raw" / "3.dcm", 3.0, study="1.10", patient="other")
    slices = rows(tmp_path, table(tmp_path, "path,any,patient_id\n2.dcm,1,\n1.dcm,0,\n3.dcm,0,mine\n"))
    assert slices.loc["2", ["study_id", "patient_id", "order"]].tolist() == ["1.9", "header", 1]
    assert slices.loc["3", "patient_id"] == "mine" and (slices["units"] == "hu").all()


def test_slices_of_a_volume_are_named_by_their_number(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    (tmp_path / "raw").mkdir()
    values = np.stack(
        [np.arange(40 * 40, dtype=np.int16).reshape(40, 40) + 100 * z for z in range(3)], axis=2
    )
    for name in "pq":
        nibabel.save(
            nibabel.Nifti1Image(values, np.diag([-1, -1, 5, 1])), tmp_path / "raw" / f"{name}.nii.gz"
        )
    text = "path,slice,any\np.nii.gz,2,1\np.nii.gz,1,0\nq.nii.gz,3,0\nq.nii.gz,4,0\n"
    slices = rows(tmp_path, table(tmp_path, text))
    assert slices.loc["p/2", ["study_id", "position_mm", "hu_min", "order"]].tolist() == ["p", 5.0, 100, 1]
    assert slices.loc["q/4", "cause"] == "no file: the volume has 3 slices"
    assert "number its slice from 1" in refused(tmp_path, "path,any\np.nii.gz,1\n")


def test_missing_grouping_is_said(four, caplog):
    with caplog.at_level(logging.WARNING, "ich"):
        data = prepared(four, table(four, "path,any\na/1.png,0\na/2.png,1\n"))
    assert "2 images without patient and study" in caplog.text and "optimistic" in caplog.text
    remark = "no patient or study known, each image stands for a patient"
    assert data.manifest["kept_defects"][remark] == 2
    assert data.slices["patient_id"].tolist() == ["a/1", "a/2"] == data.slices["study_id"].tolist()


def test_positions_count_only_where_the_whole_study_has_them(four, caplog):
    text = "path,patient_id,study_id,position_mm,any\na/1.png,p,s,9,0\na/2.png,p,s,,1\na/3.png,q,t,1,0\n"
    with caplog.at_level(logging.WARNING, "ich"):
        slices = rows(four, table(four, text))
    assert slices.loc["a/1", ["order", "position_mm"]].isna().tolist() == [False, True]
    assert slices["order"].tolist() == [0, 1, 0] and "2 images of studies without positions" in caplog.text


def test_one_bad_image_is_a_row_with_a_cause_and_the_others_stay(four):
    raw = four / "raw"
    (raw / "cut.png").write_bytes((raw / "a" / "1.png").read_bytes()[:-5])
    (raw / "empty.png").write_bytes(b"")
    (raw / "text.jpg").write_text("no picture")
    (raw / "map.bmp").write_text("")
    picture(raw / "b" / "1.png", 9)
    text = "path,image_id,patient_id,any\na/1.png,,p,0\na/2.png,,q,1\ncut.png,,p,0\nempty.png,,p,0\n"
    text += "text.jpg,,p,0\ngone.png,,p,0\nmap.bmp,,p,0\n,1,p,0\n"
    slices = rows(four, table(four, text))
    causes = slices["cause"].dropna().str.split(":").str[0].to_dict()
    assert causes == {
        "cut": "truncated",
        "empty": "empty file",
        "text": "unreadable image",
        "gone": "no file",
        "map.bmp": "other format",
        "1": "several files",
    }
    assert (slices["status"] == "ok").sum() == 2
    quarantine = pd.read_csv(four / "clean" / "quarantine.csv").set_index("image_id")
    assert quarantine.loc["1", "remedy"] == "name the right one in a column `path`, or take the others away"


def test_columns_of_other_targets_travel_along(four, caplog):
    text = "path,patient_id,Any,fracture,site,class_name\na/1.png,p,1,0,x,deep\na/2.png,q,0,,y,normal\n"
    with caplog.at_level(logging.INFO, "ich"):
        slices = rows(four, table(four, text))
    assert slices["fracture"].tolist() == [0, pd.NA] and slices["class_name"].tolist() == ["deep", "normal"]
    assert slices["any"].tolist() == [1, 0] and "columns that are not used: site" in caplog.text


def test_rows_without_labels_are_the_test_part_and_split_may_say_otherwise(four):
    text = "path,patient_id,split,any\na/1.png,p,,1\na/2.png,q,,\na/3.png,q,train,0\na/4.png,q,test,1\n"
    assert rows(four, table(four, text))["split"].tolist() == ["train", "test", "train", "test"]


def test_any_is_the_maximum_of_five_subtypes_where_there_is_no_such_column(four):
    text = f"path,patient_id,{FIVE}\na/1.png,p,0,0,0,1,0\na/2.png,q,0,0,0,0,0\na/3.png,q,0,,0,1,0\n"
    assert rows(four, table(four, text))["any"].tolist() == [1, 0, pd.NA]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("path,any\n", "has a header and no rows"),
        ("file,any\na/1.png,0\n", "no column `path` or `image_id`, but file, any; rename"),
        ("path,any,any\na/1.png,0,1\n", "two columns any"),
        ("path,any\na/1.png\n", "data row 1 has 1 fields, the header 2"),
        ("path,any\na/1.png,0\na/2.png,0.5\n", "data row 2: any is neither 0 nor 1 nor empty"),
        ("path,any\na/1.png,0\n,1\n", "data row 2: names no image"),
        ("path,any\n../table.csv,0\n", "data row 1: ../table.csv lies outside RAW_DATA_DIR"),
        ("path,any\n/etc/passwd,0\n", "/etc/passwd lies outside RAW_DATA_DIR"),
        ("path,any\na/1.png,0\na/./1.png,1\n", "data row 2: the image .*/a/1.png stands in data row 1 too"),
        ("path,image_id,any\na/1.png,x,0\na/2.png,x,1\n", "data row 2: image_id x stands in data row 1 too"),
        (
            "path,image_id,any\na/1.png,,0\na/2.png,a/1,1\n",
            "data row 2: image_id a/1 stands in data row 1 too",
        ),
        (f"path,{FIVE},any\na/1.png,1,0,0,0,0,0\n", "data row 1: any is 0, its largest subtype is 1"),
        (f"path,{FIVE},any\na/1.png,0,0,0,0,0,1\n", "data row 1: any is 1, its largest subtype is 0"),
        ("path,any,split\na/1.png,0,valid\n", "data row 1: split is neither train nor test"),
        ("path,any,position_mm\na/1.png,0,high\n", "position_mm is not a number"),
        ("path,any,slice\na/1.png,0,2\n", "data row 1: .*a/1.png is one image; leave `slice` empty"),
        (
            "path,any,window_center,window_width\na/1.png,0,40,0\n",
            "window_width is not a number above 0",
        ),
        ("path,any,window_center,window_width\na/1.png,0,40,\n", "has one of window_center and window_width"),
        ("ID,Label\nx_any,1\n", "x has no row for epidural"),
    ],
)
def test_a_table_that_a_person_must_mend_is_one_error(four, text, message):
    assert re.search(message, refused(four, text))
    assert not (four / "clean").exists()


def test_gray_and_hu_are_not_mixed(four):
    dicom(four / "raw" / "1.dcm", 1.0)
    message = refused(four, "path,any\na/1.png,0\n1.dcm,1\n")
    assert "1 DICOM or NIfTI images are in HU, 1 pictures have no window, such as" in message


def test_a_study_of_two_patients_is_quarantined(four):
    text = "path,patient_id,study_id,any\na/1.png,p,s,0\na/2.png,q,s,1\na/3.png,r,t,0\na/4.png,u,u,1\n"
    assert rows(four, table(four, text))["status"].tolist().count("quarantined") == 2


def test_the_table_and_its_data_set_go_together():
    with pytest.raises(UserError, match="--dataset table: which table"):
        Options(dataset="table")
    with pytest.raises(UserError, match="is read by --dataset table, not rsna"):
        Options(table="a.csv")
    assert Options(dataset="table", table="a.csv").volumes == Options(dataset="table", table="b.csv").volumes


def test_patients_keep_their_fold_when_a_longer_table_replaces_the_first(four):
    text = "path,patient_id,any\na/1.png,p,0\na/2.png,q,1\n"
    before = prepared(four, table(four, text)).folds
    longer = table(four, text + "a/3.png,a,1\na/4.png,b,1\n", "longer.csv")
    after = prepared(four, longer).folds
    assert after.merge(before).equals(before.merge(after)) and len(after) == 4
