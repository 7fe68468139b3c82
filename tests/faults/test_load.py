"""Ten times as many studies take no more memory, no more open files, and leave nothing behind."""

import os
import shutil

import pytest

from tests.data.dicom_files import write_rsna
from tests.data.incoming.studies import volume, write_study
from tests.faults.forms import long_form, record_faults
from tests.faults.killing import output, start
from tests.faults.steps import copy_home, write_home

FEW, MANY = (60, 600) if long_form() else (16, 96)
PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20
MOST_MIB, MOST_FILES = 48, 24  # more than this is a leak; threads and tables differ by a little


def load_of(home, step):
    """(most open files, most MiB) of a step, and the names it leaves among temporary files."""
    place = home / "temporary"
    place.mkdir()
    process = start(home, step, "watch")
    process.join()
    assert process.exitcode == 0, output(home)
    files, pages = map(int, (place / "load.txt").read_text().split())
    left = {path.name for path in place.iterdir()} - {"load.txt"}
    return files, pages * PAGE_MIB, left


def compare(step, homes):
    (few_files, few, left), (files, many, left_too) = (load_of(home, step) for home in homes)
    assert left == left_too == set()
    assert files - few_files <= MOST_FILES, (few_files, files)
    assert many - few <= MOST_MIB, (few, many)
    figures = {"studies": MANY, "more MiB than for few": round(many - few), "most open files": files}
    record_faults("load", step, figures)


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="looks at /proc")
def test_preparation_is_flat(tmp_path):
    homes = [tmp_path / str(number) for number in (FEW, MANY)]
    for home, number in zip(homes, (FEW, MANY), strict=True):
        write_home(home)
        shutil.rmtree(home / "raw_data")
        write_rsna(home / "raw_data", studies=number, slices=4)
    compare("prepare", homes)


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="looks at /proc")
def test_answers_about_new_studies_are_flat(stages, tmp_path):
    homes = [copy_home(stages["study"][0], tmp_path / str(number)) for number in (FEW, MANY)]
    for home, number in zip(homes, (2, 2 + MANY // 8), strict=True):
        for study in range(3, number + 1):
            write_study(home / f"new/{study}", volume(6, study), study=f"1.2.{study}", step=25.0)
    compare("study", homes)
