"""What the name of a series says, and which of several is preferred."""

import numpy as np
import pandas as pd
import pytest

from src.data.series import by_preference, said_by


@pytest.mark.parametrize(
    "name",
    ["CT Plain", "CT PLAIN THIN", "CT 0.625mm", "CT PRE CONTRAST 5MM STD", "HEAD W/O CONTRAST",
     "NON-CONTRAST", "Posterior Fossa", "POST FOSSA 2.5", "noncontrast", "Head 5.0 H31s", "D3D on", ""],
)  # fmt: skip
def test_names_that_say_nothing_against_a_series(name):
    assert said_by(name) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("CT BONE", ["bone kernel"]), ("CT POST CONTRAST", ["contrast"]), ("CT C", ["contrast"]),
        ("CT HRCT", ["bone kernel"]), ("CT CONTRAST", ["contrast"]), ("4cc sec 150cc D3D on", ["contrast"]),
        ("TEMPORAL BONE", ["bone kernel", "another region"]), ("ORAL", ["contrast"]),
        ("CT_POST", ["contrast"]),
        ("MPR cor", ["reformatted"]), ("3D", ["reformatted"]), ("CT PNS", ["another region"]),
        ("CT ORBIT", ["another region"]), ("CECT", ["contrast"]),
    ],
)  # fmt: skip
def test_names_that_speak_against_a_series(name, said):
    assert said_by(name) == said


def test_the_step_nearest_5_mm_goes_first_then_the_larger_series_then_the_name():
    rows = [("b", 30, 5.0), ("a", 30, 4.97), ("c", 31, 5.0), ("d", 200, 1.0), ("e", 1, np.nan)]
    table = pd.DataFrame(rows, columns=["series", "slices", "step_mm"])
    assert by_preference(table)["series"].tolist() == ["c", "a", "b", "d", "e"]
