"""A column that nearly has a known name is refused, not dropped."""

import pytest

from src.data.readers.near_names import meant, near_misses
from src.data.readers.table_rows import read_rows
from src.errors import UserError

MEANT = {
    "patient": "patient_id", "PatientID": "patient_id", "Patient ID": "patient_id", "patientid": "patient_id",
    "subject_id": "patient_id", "patien_id": "patient_id",
    "study": "study_id", "StudyInstanceUID": "study_id", "study uid": "study_id", "exam_id": "study_id",
    "SeriesInstanceUID": "series_id", "position": "position_mm", "z": "position_mm", "z_mm": "position_mm",
    "WindowCenter": "window_center", "window width": "window_width", "window_centre": "window_center",
    "label_any": "any", "any_label": "any", "Any hemorrhage": "any", "ICH": "any", "has_any": "any",
    "SDH": "subdural", "epidural_haemorrhage": "epidural", "subdral": "subdural",
    "label_intraventricular": "intraventricular", "subset": "split",
}  # fmt: skip
OTHER = ["fracture", "age", "site", "SliceLocation", "name", "id", "label", "fold", "presence", "deep", "kVp"]


@pytest.mark.parametrize("name", MEANT)
def test_what_a_name_was_meant_for(name):
    assert meant(name) == MEANT[name]


@pytest.mark.parametrize("name", OTHER)
def test_other_names_are_left_alone(name):
    assert meant(name) is None


def test_a_column_that_is_there_is_not_missed():
    assert near_misses(["PatientID", "study"], ["image_id", "patient_id", "study"]) == {"study": "study_id"}


def test_a_table_names_all_its_near_misses_at_once(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("image_id,PatientID,label_any,site\n1,p,0,x\n")
    with pytest.raises(UserError) as error:
        read_rows(path)
    assert str(error.value) == (
        f"{path}: unknown columns PatientID (did you mean patient_id?), label_any (did you mean any?); "
        "rename or strike them"
    )
