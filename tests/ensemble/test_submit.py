"""Which images a submission has, and where the contest's sample is looked for."""

import shutil
import zipfile
from types import SimpleNamespace

import pandas as pd
import pytest

from src.data.contest_csv import read_image_ids
from src.ensemble import submit
from src.ensemble.submit import sample_submission, write_experiment_submission
from src.errors import UserError
from src.labels import LABELS
from tests.data.dicom_files import image_name, write_rsna


@pytest.fixture
def raw(tmp_path):
    return write_rsna(tmp_path / "contest", studies=2, slices=1)


def zipped(raw):
    archive = raw.parent / "zipped" / "rsna.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as out:
        for path in sorted(raw.rglob("*.*")):
            out.write(path, f"rsna/{path.relative_to(raw)}")
    return archive


PLACES = {
    "in the folder": lambda raw: raw,
    "a folder deeper": lambda raw: raw.parent,
    "in an archive": lambda raw: zipped(raw),
    "in a folder with an archive": lambda raw: zipped(raw).parent,
}


@pytest.mark.parametrize("place", PLACES)
def test_the_sample_is_found_where_step_1_finds_it(raw, place):
    found = sample_submission(PLACES[place](raw))
    assert list(read_image_ids(found)) == [image_name(200)]


def test_a_table_beside_the_archive_serves_too(raw):
    archive = zipped(raw)
    shutil.copy(raw / "stage_2_sample_submission.csv", archive.parent)
    assert sample_submission(archive.parent) == archive.parent / "stage_2_sample_submission.csv"


def test_a_sample_that_is_nowhere_is_named(raw):
    (raw / "stage_2_sample_submission.csv").unlink()
    with pytest.raises(UserError, match=r"contest: no stage_2_sample_submission\.csv there, below it"):
        sample_submission(raw)


@pytest.mark.parametrize(
    "settings", [{"dataset": "table"}, {"dataset": "rsna", "limit": 2}, {"dataset": "rsna"}]
)
def test_a_contest_s_submission_has_the_images_of_its_sample_and_any_other_those_at_hand(
    raw, tmp_path, monkeypatch, settings
):
    monkeypatch.setattr(
        submit, "fill_quarantined", lambda _, ids: (pd.DataFrame(0.25, ids, LABELS), "filled")
    )
    slices = pd.DataFrame({"image_id": ["a", "b", "c"], "split": ["test", "train", "test"]})
    experiment = SimpleNamespace(
        slices=slices, prepared=SimpleNamespace(settings=settings, folder=tmp_path),
        config=SimpleNamespace(submission_eps=1e-6),
    )  # fmt: skip
    path = tmp_path / "submission.csv"
    assert write_experiment_submission(experiment, raw, path) == "filled"
    images = pd.read_csv(path)["ID"].str.rsplit("_", n=1).str[0].unique().tolist()
    assert images == ([image_name(200)] if settings == {"dataset": "rsna"} else ["a", "c"])
    experiment.slices = slices[1:2]
    assert write_experiment_submission(experiment, raw, path) is None
