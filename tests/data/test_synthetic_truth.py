"""Where a synthetic bleed lies, from what its generator wrote."""

import pandas as pd
import pytest

from src.data.synthetic_truth import read_locations, site_of
from src.files import write_parquet
from src.labels import SUBTYPES


@pytest.mark.parametrize(
    ("point", "site"),
    [
        ((25, -3, 4), "deep"),  # putamen
        ((-11, 12, 7), "deep"),  # thalamus
        ((32, -38, 28), "lobar"),  # frontal
        ((-34, 38, 30), "lobar"),  # parietal
        ((44, 0, -14), "lobar"),  # temporal
        ((20, 56, -28), "subtentorial"),  # cerebellum
        ((0, 15, -26), "subtentorial"),  # pons
    ],
)
def test_the_generator_s_centres_of_bleeds_in_the_brain_have_a_site(point, site):
    assert site_of(*point) == site


def test_a_slice_is_located_by_the_bleed_with_the_most_blood_in_it(tmp_path):
    bleeds = [
        ("a", "bleed", "intraparenchymal", 0.0, 15.0, -26.0),
        ("a", "mimic", "pineal", 0.0, 27.0, 2.0),
        ("a", "bleed", "intraventricular", 0.0, 40.0, 5.0),
        ("b", "bleed", "subdural", 60.0, 0.0, 20.0),
        ("b", "bleed", "subarachnoid", 0.0, -11.0, -20.0),
    ]
    columns = ["study_id", "kind", "name", "x", "y", "z"]
    write_parquet(tmp_path / "sites.parquet", pd.DataFrame(bleeds, columns=columns))
    volumes = {  # study, ml of blood in the order of SUBTYPES
        "a0": ("a", 0, 3.0, 0.5, 0, 0),
        "a1": ("a", 0, 0.4, 0.5, 0, 0),
        "a2": ("a", 0, 0, 0, 0, 0),
        "b0": ("b", 0, 0, 0, 0.4, 0.5),
        "b1": ("b", 0, 0, 0, 0.6, 0.5),
    }
    rows = [(image, *values, sum(values[1:]) > 0) for image, values in volumes.items()]
    names = ["image_id", "study_id", *(f"ml_{name}" for name in SUBTYPES), "any"]
    write_parquet(tmp_path / "slices.parquet", pd.DataFrame(rows, columns=names))
    found = read_locations(tmp_path)
    site = {image: [name for name in found if found.at[image, name]] for image in found.index}
    assert site == {"a0": ["subtentorial"], "a1": ["deep"], "a2": [], "b0": ["lobar"], "b1": []}
