"""Images in HU become pictures as the contest's PNGs were made, with a table for predict.py --evaluate."""

import cv2
import numpy as np
import pandas as pd
import pytest

from src.audit.as_pictures import levels, write_pictures
from src.errors import UserError
from tests.data.dicom_files import dataset, write


@pytest.fixture
def table(tmp_path):
    """Two DICOM files, of which one cannot be read, and their table."""
    write(tmp_path / "raw" / "a.dcm", dataset("a"))
    (tmp_path / "raw" / "b.dcm").write_bytes(b"no DICOM")
    rows = pd.DataFrame(
        {"image_id": ["a", "b"], "patient_id": ["p", "q"], "study_id": ["s", "t"], "any": [1, 0]}
    )
    rows.to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


def test_levels_are_whole_shares_of_the_window_and_clipped_to_it():
    hu = np.array([[-1000, 0, 1, 40, 79, 80, 900]], np.int16)
    assert levels(hu, 40, 80).tolist() == [[0, 0, 3, 127, 251, 255, 255]]
    assert levels(hu, 50, 100).tolist() == [[0, 0, 2, 102, 201, 204, 255]]


@pytest.mark.parametrize("window", [None, (80.0, 200.0)])
def test_a_picture_is_the_file_in_its_own_window_or_the_one_given(table, tmp_path, window):
    data = dataset("a")
    own = float(np.atleast_1d(data.WindowCenter)[0]), float(np.atleast_1d(data.WindowWidth)[0])
    causes = write_pictures(table, tmp_path / "raw", tmp_path / "out", window)
    hu = data.pixel_array.astype(float) * float(data.RescaleSlope) + float(data.RescaleIntercept)
    picture = cv2.imread(str(tmp_path / "out" / "a.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(picture, levels(hu, *(window or own)))
    assert len(np.unique(picture)) > 3 and len(causes) == 1 and causes[0].startswith("b: ")


def test_the_table_goes_with_the_pictures_without_their_windows(table, tmp_path):
    write_pictures(table, tmp_path / "raw", tmp_path / "out", None)
    (row,) = pd.read_csv(tmp_path / "out" / "table.csv").to_dict("records")
    assert {key: row[key] for key in ("image_id", "path", "patient_id", "study_id", "any")} == {
        "image_id": "a", "path": "a.png", "patient_id": "p", "study_id": "s", "any": 1,
    }  # fmt: skip
    assert "window_center" not in row


def test_what_is_gray_already_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((64, 64), np.uint8))
    (tmp_path / "table.csv").write_text("image_id,any\na,1\n")
    with pytest.raises(UserError, match=r"table.csv: its images are gray levels already"):
        write_pictures(tmp_path / "table.csv", tmp_path, tmp_path / "out", None)
