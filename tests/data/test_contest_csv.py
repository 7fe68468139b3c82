"""The contest's long CSV: what is accepted, what is refused and what the message names."""

import numpy as np
import pandas as pd
import pytest

from src.data.contest_csv import read_long
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
    table = read_long(path, labels=True)
    assert table.index.tolist() == ["ID_b", "ID_a"]  # order of first appearance
    assert tuple(table.columns) == LABELS
    assert set(table.dtypes) == {np.dtype("int8")}
    assert table.loc["ID_a"].tolist() == [0, 1, 0, 0, 0, 1]
    assert table.loc["ID_b"].tolist() == [0] * 6


def test_ids_may_hold_underscores_and_paths(tmp_path):
    table = read_long(write(tmp_path / "p.csv", lines("study_1/slice_2", [0.5] * 6)), labels=False)
    assert table.index.tolist() == ["study_1/slice_2"]
    assert table.to_numpy().tolist() == [[0.5] * 6]


def test_probabilities_are_not_held_to_any_being_the_largest(tmp_path):
    table = read_long(write(tmp_path / "p.csv", lines("ID_a", [0.9, 0, 1, 0.2, 0.3, 1e-7])), labels=False)
    assert table.loc["ID_a"].tolist() == [0.9, 0, 1, 0.2, 0.3, 1e-7]


def test_repeated_label_rows_that_agree_are_dropped(tmp_path):
    table = read_long(write(tmp_path / "labels.csv", [*A, *B, *A]), labels=True)
    assert table.index.tolist() == ["ID_a", "ID_b"]
    assert table.loc["ID_a"].tolist() == [0, 1, 0, 0, 0, 1]


@pytest.mark.parametrize(
    "rows, labels, named",
    [
        ([*A, "ID_a_any,0"], True, "ID_a_any has conflicting values"),
        (["ID_a_any,0", *A], True, "ID_a_any has conflicting values"),
        ([*lines("ID_a", [0.5] * 6), "ID_a_any,0.5"], False, "ID_a_any has more than one value"),
        ([*B, *A[:3], *A[4:]], True, "ID_a has no row for subarachnoid (1 rows are missing"),
        ([*A, "ID_c_bleeding,0"], True, "'ID_c_bleeding' does not end in"),
        ([*A, "nothing,0"], True, "'nothing' does not end in"),
        ([*A[:5], "ID_a_any,2"], True, "ID_a_any is 2 (1 such rows); expected 0 or 1"),
        ([*A[:5], "ID_a_any,"], True, "ID_a_any is empty or NaN"),
        ([*A[:5], "ID_a_any,nan"], False, "ID_a_any is empty or NaN"),
        ([*A[:5], "ID_a_any,-0.1"], False, "ID_a_any is -0.1"),
        ([*A[:5], "ID_a_any,yes"], True, "yes"),
        ([*A[:5], "ID_a_any,1,1"], True, "Expected 2 columns, got 3"),
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
    with pytest.raises(UserError, match="is a directory"):
        read_long(tmp_path, labels=True)
    with pytest.raises(UserError, match="the header is id,label"):
        read_long(write(tmp_path / "header.csv", A, header="id,label"), labels=True)
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(UserError, match="Empty CSV"):
        read_long(tmp_path / "empty.csv", labels=True)


def test_the_labels_of_ten_real_studies(realdata):
    table = read_long(realdata / "rsna2019_dicom_dev" / "stage_2_train_subset.csv", labels=True)
    slices = pd.read_csv(realdata / "rsna2019_dicom_dev" / "slices.csv", index_col="Image")
    assert sorted(table.index) == sorted(slices.index)
    assert (table.loc[slices.index] == slices[list(LABELS)]).all(axis=None)
    assert len(table) == 375
