"""The contest's tables are read exactly, or refused with the row that is wrong."""

import pandas as pd
import pytest

from src.data.label_table import read_labels, read_sample_submission
from src.errors import UserError
from src.labels import LABELS
from tests.data.dicom_files import write_label_table


def rows_of(path, change=None, add=()):
    """Write the table of two images, the second with a subdural bleeding, with some rows changed or added."""
    write_label_table(path, {"ID_a": set(), "ID_b": {"subdural"}})
    lines = path.read_text().splitlines()
    for old, new in (change or {}).items():
        lines[lines.index(old)] = new
    path.write_text("\n".join([line for line in [*lines, *add] if line]) + "\n")
    return path


def test_six_rows_become_one(tmp_path):
    table = read_labels(rows_of(tmp_path / "t.csv"))
    assert table.labels.index.tolist() == ["ID_a", "ID_b"]
    assert table.labels.loc["ID_b"].to_dict() == dict.fromkeys(LABELS, 0) | {"subdural": 1, "any": 1}
    assert table.repeated_rows == 0


def test_row_order_does_not_matter(tmp_path):
    path = rows_of(tmp_path / "t.csv")
    expected = read_labels(path).labels
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *sorted(rows, key=lambda row: row[::-1])]) + "\n")
    pd.testing.assert_frame_equal(read_labels(path).labels.loc[expected.index], expected)


def test_a_bom_and_crlf_are_as_good_as_none(tmp_path):
    path = rows_of(tmp_path / "t.csv")
    expected = read_labels(path).labels
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    pd.testing.assert_frame_equal(read_labels(path).labels, expected)


def test_repeated_rows_that_agree_count_once(tmp_path):
    table = read_labels(rows_of(tmp_path / "t.csv", add=["ID_a_any,0", "ID_b_subdural,1"]))
    assert len(table.labels) == 2 and table.repeated_rows == 2


@pytest.mark.parametrize(
    ("change", "add", "message"),
    [
        ({}, ["ID_a_epidural,1"], "ID_a_epidural is given twice with different labels"),
        ({"ID_b_subdural,1": "ID_b_subdural,2"}, [], "ID_b_subdural has the label '2'; labels are 0 or 1"),
        ({"ID_b_subdural,1": "ID_b_subdural,yes"}, [], "ID_b_subdural has the label 'yes'"),
        ({"ID_b_subdural,1": "ID_b_subdural,"}, [], "ID_b_subdural has the label ''"),
        ({"ID_b_epidural,0": ""}, [], "ID_b has no row for epidural"),
        ({"ID_b_any,1": "ID_b_any,0"}, [], "ID_b has any = 0, its largest subtype is 1"),
        ({"ID_b_any,1": "ID_b_some,1"}, [], "data row 12 has the ID 'ID_b_some'"),
        ({"ID,Label": "Id,Label"}, [], "its columns are Id, Label; expected ID,Label"),
        ({"ID_b_any,1": "ID_b_any,1,3"}, [], "not a readable CSV"),
    ],
)
def test_a_wrong_table_is_refused_with_the_row(tmp_path, change, add, message):
    path = rows_of(tmp_path / "t.csv", change, add)
    with pytest.raises(UserError, match=r"t\.csv: ") as error:
        read_labels(path)
    assert message in str(error.value)


def test_a_sample_submission_keeps_its_order(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text(
        "ID,Label\n" + "".join(f"{name}_{label},0.5\n" for name in ("ID_z", "ID_b") for label in LABELS)
    )
    assert read_sample_submission(path).tolist() == ["ID_z", "ID_b"]
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(UserError, match="ID_b has no row for any"):
        read_sample_submission(path)


def test_the_real_table_gives_the_given_labels(realdata):
    table = read_labels(realdata / "rsna2019_dicom_dev" / "stage_2_train_subset.csv")
    given = pd.read_csv(realdata / "rsna2019_dicom_dev" / "slices.csv").set_index("Image")[list(LABELS)]
    pd.testing.assert_frame_equal(table.labels.loc[given.index].astype("int64"), given, check_names=False)
