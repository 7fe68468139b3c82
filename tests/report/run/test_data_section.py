"""The data section of the report: counts of `src.report.data_overview`, pictures where there are volumes."""

import base64
import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.prepared import Prepared
from src.ensemble.experiment import Experiment
from src.labels import LABELS
from src.report.data_overview import EDGES
from src.report.figures import hu_figure
from src.report.run.data_pictures import data_pictures
from src.report.run.data_section import defect_rows, part_counts, prevalence_rows
from tests.data.dicom_files import write_rsna
from tests.report.run.test_run_report import rendered


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    raw = write_rsna(folder / "raw", studies=2, slices=3, test_studies=1)
    prepare(raw, folder / "clean", Options(size=256, folds=2))
    return folder / "clean"


def test_usable_and_quarantined_images_are_counted_apart(experiment: Experiment) -> None:
    train, test = part_counts(experiment.slices)  # 32 and 8 studies of 12 slices, one slice of each part bad
    assert (train["split"], train["images"], train["quarantined"], train["studies"]) == ("train", 383, 1, 32)
    assert (test["split"], test["images"], test["quarantined"], test["studies"]) == ("test", 95, 1, 8)
    assert train["slices_a_study"] == (11, 12, 12)


def test_prevalence_is_that_of_the_labels_at_hand(experiment: Experiment) -> None:
    row = prevalence_rows(experiment)[LABELS.index("any")]
    hidden = experiment.test_labels["any"]
    owners = experiment.slices.set_index("image_id").loc[hidden.index]
    assert row["test"]["images"] == hidden.sum()
    assert row["test"]["images_percent"] == pytest.approx(100 * hidden.mean(), abs=0.001)
    assert row["test"]["studies"] == owners.loc[hidden == 1, "study_id"].nunique()
    assert row["test"]["patients"] == owners.loc[hidden == 1, "patient_id"].nunique()
    assert row["oof"]["images"] == experiment.labels["any"].sum()


def test_a_cause_of_quarantine_has_an_example_and_a_kept_defect_none(experiment: Experiment) -> None:
    manifest = {"quarantined": {"truncated": 1}, "kept_defects": {"padded": 160}}
    truncated, padded = defect_rows(experiment.slices, manifest)
    assert truncated["example"] == ["ID_000000003", "truncated: 153710 of 524288 bytes of pixels"]
    assert padded == {"defect": "padded", "count": 160, "what_happened": "kept", "example": None}


def test_pictures_of_prepared_volumes_are_in_the_page(experiment: Experiment, clean: Path) -> None:
    page = rendered(dataclasses.replace(experiment, prepared=Prepared(clean)))
    (uri,) = re.findall(r' src="([^"]*)"', page)
    kind, _, code = uri.partition(",")
    picture = Image.open(io.BytesIO(base64.b64decode(code, validate=True)))
    assert len(uri) < 400_000
    assert (kind, picture.format) == ("data:image/webp;base64", "WEBP")
    assert picture.width == 968  # four pictures of 2.2 inches at 110 dots
    assert 0.02 < (np.asarray(picture.convert("L")) > 200).mean() < 0.3  # skulls on black
    assert "Hounsfield units" in page
    assert "Pixels of 9 evenly chosen slices" in page
    assert page == rendered(dataclasses.replace(experiment, prepared=Prepared(clean)))
    assert len(page) < 3_000_000


def test_without_volumes_the_page_says_so(experiment: Experiment, clean: Path, tmp_path: Path) -> None:
    assert "The prepared volumes are not at hand" in rendered(experiment)
    for file in ("manifest.json", "slices.parquet"):
        (tmp_path / file).write_bytes((clean / file).read_bytes())
    assert data_pictures(Prepared(tmp_path)) is None


def test_the_histogram_shows_counts_as_text() -> None:
    total = np.zeros(len(EDGES) - 1, dtype=np.int64)
    total[[0, 53]] = 1_000_000, 1_000
    figure = hu_figure(total, gray=False)
    assert ">1,000,000<" in figure and "$" not in figure
