"""Positions, order, steps and tilt."""

import numpy as np
import pandas as pd
import pytest

from src.data.dicom import scan_headers
from src.data.geometry import is_axial, normals, order_slices, positions, shifts, tilt_degrees


def stack(positions_mm, tilt=0.0, study="S", uids=None) -> pd.DataFrame:
    """Slices of a gantry tilted by `tilt` degrees whose table moves along z."""
    cosine, sine = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    count = len(positions_mm)
    return pd.DataFrame(
        {
            "study_id": study,
            "image_id": [f"ID_{n}" for n in range(count)],
            "sop_instance_uid": uids or [f"U{n}" for n in range(count)],
            "position_x": -125.0,
            "position_y": -120.0,
            "position_z": np.asarray(positions_mm, float),
            "row_x": 1.0, "row_y": 0.0, "row_z": 0.0,
            "column_x": 0.0, "column_y": cosine, "column_z": -sine,
            "pixel_spacing_row": 0.5,
            "pixel_spacing_column": 0.5,
        }
    )  # fmt: skip


def ordered(slices: pd.DataFrame) -> pd.DataFrame:
    slices["position_mm"] = positions(slices)
    return slices.join(order_slices(slices))


def test_the_normal_points_up():
    assert normals(stack([0])).tolist() == [[0, 0, 1]]
    upside_down = stack([0]).assign(column_y=-1.0)
    assert normals(upside_down)[0, 2] == 1


def test_tilt_has_the_sign_of_the_scanners_tag(real_ge):
    assert tilt_degrees(stack([0], tilt=20)) == pytest.approx([20])
    headers = scan_headers(real_ge)
    assert tilt_degrees(headers) == pytest.approx([18.5] * 28, abs=1e-4)  # Gantry/Detector Tilt is +18.5


def test_positions_are_measured_along_the_normal():
    slices = stack([0, 10], tilt=60)
    assert np.diff(positions(slices)) == pytest.approx([5])  # 10 mm of table, cosine 0.5


def test_slices_are_ordered_from_below_and_steps_are_never_divided_by():
    table = ordered(stack([10, 0, 5, 5, 30]))
    assert table["order"].tolist() == [3, 0, 1, 2, 4]
    assert table["step_mm"].tolist() == [5, 5, 5, 0, 20]  # the first takes the step to the second


def test_equal_positions_are_ordered_by_uid():
    assert ordered(stack([5, 5, 0], uids=["U2", "U1", "U9"]))["order"].tolist() == [2, 1, 0]


def test_order_does_not_depend_on_the_rows():
    table = ordered(stack([10, 0, 5, 5, 30, 30, 2]))
    shuffled = ordered(stack([10, 0, 5, 5, 30, 30, 2]).sample(frac=1, random_state=3))
    pd.testing.assert_frame_equal(shuffled.sort_index()[["order", "step_mm"]], table[["order", "step_mm"]])


def test_studies_are_ordered_each_for_itself():
    table = ordered(
        pd.concat([stack([9, 3]), stack([1], study="A"), stack([2, 4], study="Z")], ignore_index=True)
    )
    assert table["order"].tolist() == [1, 0, 0, 0, 1]
    assert table["step_mm"].isna().tolist() == [False, False, True, False, False]


def test_a_study_of_a_thousand_slices():
    heights = np.random.default_rng(0).permutation(1000) * 0.5
    table = ordered(stack(heights))
    assert (table["order"].to_numpy() == heights / 0.5).all()


def test_one_odd_orientation_does_not_move_the_others():
    slices = stack([0, 5, 10, 15, 20])
    slices.loc[4, ["column_y", "column_z"]] = [0.0, 1.0]
    assert positions(slices)[:4].tolist() == [0, 5, 10, 15]
    assert is_axial(slices).tolist() == [True] * 4 + [False]


def test_shifts_undo_the_shear_of_a_tilted_stack():
    """A rod along the slice normal shows at the same place of every slice once the shifts are undone."""
    slices = ordered(stack([0, 10, 20, 30, 40], tilt=30))
    move = shifts(slices)
    assert move[2].tolist() == [0, 0]  # the middle slice is the reference
    assert move[:, 1] == pytest.approx(0)
    # 10 mm of table are 10 sin 30 = 5 mm within the plane, 10 pixels of 0.5 mm, down towards the feet
    assert move[:, 0] == pytest.approx([20, 10, 0, -10, -20], abs=1e-9) or move[:, 0] == pytest.approx(
        [-20, -10, 0, 10, 20], abs=1e-9
    )
    normal = normals(slices)[0]
    rod = slices.loc[2, ["position_x", "position_y", "position_z"]].to_numpy(float) + 7.0 * np.array(
        [0, 1, 0]
    )
    column = slices.loc[0, ["column_x", "column_y", "column_z"]].to_numpy(float)
    rows = []
    for index in range(5):
        corner = slices.loc[index, ["position_x", "position_y", "position_z"]].to_numpy(float)
        point = rod + normal * (normal @ (corner - rod))  # where the rod meets this slice
        rows.append(column @ (point - corner) / 0.5 - move[index, 0])
    assert rows == pytest.approx([rows[0]] * 5)


def test_no_slices_are_no_problem():
    assert len(order_slices(stack([]).assign(position_mm=[]))) == 0


def test_78513_real_slices_are_ordered_in_seconds(realdata):
    """Sorting by table height gives the same order in all but three of the 2,214 studies."""
    import time

    table = pd.read_csv(realdata / "rsna2019_tables" / "stage1_test_slices_meta_labels.csv.xz")
    cosine = table["cos_tilt"].to_numpy()
    slices = pd.DataFrame(
        {
            "study_id": table["StudyInstanceUID"], "image_id": table["Image"],
            "sop_instance_uid": table["Image"],
            "position_x": table["x"], "position_y": table["y"], "position_z": table["z"],
            "row_x": 1.0, "row_y": 0.0, "row_z": 0.0,
            "column_x": 0.0, "column_y": cosine, "column_z": -np.sqrt(np.maximum(0, 1 - cosine**2)),
        }
    )  # fmt: skip
    started = time.perf_counter()
    result = ordered(slices)
    assert time.perf_counter() - started < 10
    assert (
        result.groupby("study_id")["order"].agg(lambda order: sorted(order) == list(range(len(order)))).all()
    )
    by_height = (
        slices.sort_values(["study_id", "position_z", "image_id"]).groupby("study_id")["image_id"].agg(list)
    )
    by_order = result.sort_values(["study_id", "order"]).groupby("study_id")["image_id"].agg(list)
    assert (by_height != by_order).sum() <= 3
    assert result["step_mm"].median() == pytest.approx(5.2, abs=0.3)
    assert (result["step_mm"].dropna() >= 0).all()
