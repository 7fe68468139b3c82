"""Where the sample submission is looked for."""

import shutil
import zipfile

import pytest

from src.data.contest_csv import read_image_ids
from src.ensemble.submit import sample_submission
from src.errors import UserError
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
