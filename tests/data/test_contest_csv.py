"""The contest's long CSV: what is accepted, what is refused and what the message names."""

import zipfile

import numpy as np
import pandas as pd
import pytest

from src.data.contest_csv import read_image_ids, read_labels, read_long
from src.data.source import list_members
from src.errors import UserError
from src.labels import LABELS


def lines(image: str, values: list) -> list[str]:
    return [f"{image}_{label},{value}" for label, value in zip(LABELS, values, strict=True)]


A, B = lines("ID_a", [0, 1, 0, 0, 0, 1]), lines("ID_b", [0, 0, 0, 0, 0, 0])


def write(path, rows: list[str], header: str = "ID,Label", end: str = "\n", start: bytes = b""):
    path.write_bytes(start + (end.join([header, *rows]) + end).encode())
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_rows_in_any_order_become_one_row_an_image(tmp_path, end, start):
    path = write(tmp_path / "labels.csv", [*B[::-1], *A[3:], *A[:3]], end=end, start=start)
    table, repeated_rows = read_labels(path).labels, read_labels(path).repeated_rows
    assert table.index.tolist() == ["ID_b", "ID_a"]  # order of first appearance
    assert tuple(table.columns) == LABELS
    assert set(table.dtypes) == {np.dtype("int8")}
    assert table.loc["ID_a"].to_dict() == dict.fromkeys(LABELS, 0) | {"intraparenchymal": 1, "any": 1}
    assert table.loc["ID_b"].tolist() == [0] * 6
    assert repeated_rows == 0
    pd.testing.assert_frame_equal(read_long(path, labels=True), table)


def test_a_member_of_a_zip_archive_is_as_good_as_a_file(tmp_path):
    path = write(tmp_path / "labels.csv", [*A, *B])
    with zipfile.ZipFile(tmp_path / "contest.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "stage_2_train.csv")
        archive.writestr("bad.csv", "ID,Label\n" + "\n".join(A[1:]))
    good, bad = list_members(tmp_path / "contest.zip")
    pd.testing.assert_frame_equal(read_labels(good).labels, read_labels(path).labels)
    assert read_image_ids(good).tolist() == ["ID_a", "ID_b"]
    with pytest.raises(UserError, match=r"contest\.zip/bad\.csv: ID_a has no row for epidural"):
        read_labels(bad)


def test_ids_may_hold_underscores_and_paths(tmp_path):
    table = read_long(write(tmp_path / "p.csv", lines("study_1/slice_2", [0.5] * 6)), labels=False)
    assert table.index.tolist() == ["study_1/slice_2"]
    assert table.to_numpy().tolist() == [[0.5] * 6]


def test_probabilities_are_not_held_to_any_being_the_largest(tmp_path):
    table = read_long(write(tmp_path / "p.csv", lines("ID_a", [0.9, 0, 1, 0.2, 0.3, 1e-7])), labels=False)
    assert table.loc["ID_a"].tolist() == [0.9, 0, 1, 0.2, 0.3, 1e-7]


def test_spaces_and_further_columns_are_of_no_account(tmp_path):
    rows = [row.replace(",", " , ") + ",Private" for row in A]
    path = write(tmp_path / "labels.csv", rows, header="ID,Label,Usage")
    assert read_labels(path).labels.loc["ID_a"].tolist() == [0, 1, 0, 0, 0, 1]


def test_repeated_label_rows_that_agree_count_once(tmp_path):
    path = write(tmp_path / "labels.csv", [*A, *B, *A, "ID_b_any,0.0"])
    table = read_labels(path)
    assert table.labels.index.tolist() == ["ID_a", "ID_b"]
    assert table.labels.loc["ID_a"].tolist() == [0, 1, 0, 0, 0, 1]
    assert table.repeated_rows == 7


@pytest.mark.parametrize(
    "rows, labels, named",
    [
        ([*A, "ID_a_any,0"], True, "ID_a_any has conflicting values"),
        (["ID_a_any,0", *A], True, "ID_a_any has conflicting values"),
        ([*lines("ID_a", [0.5] * 6), "ID_a_any,0.5"], False, "ID_a_any has more than one value"),
        ([*B, *A[:3], *A[4:]], True, "ID_a has no row for subarachnoid (1 rows are missing"),
        ([*A, "ID_c_bleeding,0"], True, "data row 7: the ID 'ID_c_bleeding' does not end in"),
        ([*A, "nothing,0"], True, "data row 7: the ID 'nothing' does not end in"),
        ([*A[:5], "ID_a_any,2"], True, "ID_a_any is 2 (1 such rows); expected 0 or 1"),
        ([*A[:5], "ID_a_any,"], True, "ID_a_any is empty or NaN"),
        ([*A[:5], "ID_a_any,nan"], False, "ID_a_any is empty or NaN"),
        ([*A[:5], "ID_a_any,-0.1"], False, "ID_a_any is -0.1"),
        ([*A[:5], "ID_a_any,yes"], True, "ID_a_any has no number"),
        ([*A[:5], "ID_a_any,0.5.1"], False, "ID_a_any has no number"),
        (
            [*A[:5], "ID_a_any,1,1"],
            True,
            "not a readable CSV (CSV parse error: Row #7: Expected 2 columns",
        ),
        ([*B, *A[:5], "ID_a_any,0"], True, "ID_a has any = 0, its largest subtype is 1"),
        ([*A, *lines("ID_b", [0, 0, 0, 0, 0, 1])], True, "ID_b has any = 1, its largest subtype is 0"),
        ([], True, "no rows"),
    ],
)
def test_what_does_not_follow_the_format_is_refused_by_name(tmp_path, rows, labels, named):
    path = write(tmp_path / "bad.csv", rows)
    with pytest.raises(UserError) as error:
        read_long(path, labels)
    assert named in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_wrong_files_are_refused_by_name(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_long(tmp_path / "absent.csv", labels=True)
    with pytest.raises(UserError, match="Is a directory"):
        read_long(tmp_path, labels=True)
    with pytest.raises(UserError, match="its first line is not the header ID,Label"):
        read_long(write(tmp_path / "header.csv", A, header="id,label"), labels=True)
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(UserError, match="Empty CSV"):
        read_long(tmp_path / "empty.csv", labels=True)


def test_a_sample_submission_keeps_its_order_whatever_its_values(tmp_path):
    rows = [*lines("ID_z", [0.5] * 6), *lines("ID_b", ["?"] * 6)]
    assert read_image_ids(write(tmp_path / "s.csv", rows)).tolist() == ["ID_z", "ID_b"]
    assert read_image_ids(write(tmp_path / "s.csv", [])).tolist() == []  # a data set without a test part
    with pytest.raises(UserError, match="ID_b has no row for any"):
        read_image_ids(write(tmp_path / "s.csv", rows[:-1]))


def test_the_labels_of_ten_real_studies(realdata):
    table = read_labels(realdata / "rsna2019_dicom_dev" / "stage_2_train_subset.csv").labels
    slices = pd.read_csv(realdata / "rsna2019_dicom_dev" / "slices.csv", index_col="Image")
    assert sorted(table.index) == sorted(slices.index)
    assert (table.loc[slices.index] == slices[list(LABELS)]).all(axis=None)
    assert len(table) == 375
