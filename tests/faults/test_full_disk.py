"""A disk that is full, that must not be written to, or whose clock is wrong."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.faults.forms import long_form
from tests.faults.killing import WRITTEN, artefacts, assert_same, check_visible, finish, output, start
from tests.faults.steps import STEPS, copy_home

READS_RAW = ("prepare", "study")
OUTSIDE = "../output.txt"  # what a step says finds room
SOME = tuple(STEPS) if long_form() else ("prepare", "slice")


def failed(home: Path, step: str, before: str = "", argument: int = 0) -> str:
    """The one line that a step ends with, its code 1, nothing half-written left to be seen."""
    process = start(home, step, before, argument, OUTSIDE)
    process.join()
    said = output(home, OUTSIDE)
    assert process.exitcode == 1, said
    assert "Traceback" not in said
    check_visible(home)
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and said.rstrip().endswith(errors[0])
    return errors[0]


def partial_files(home: Path) -> list[Path]:
    return [path for folder in WRITTEN for path in (home / folder).rglob("*.partial")]


def largest_new_file(before: Path, expected: dict[str, object]) -> int:
    """Bytes of the largest file that a step wrote and that was not there before."""
    return max(len(data) for name, data in expected.items() if _is_new(before, name, data))


def _is_new(before: Path, name: str, data: object) -> bool:
    return isinstance(data, bytes) and not (before / name).exists() and name.endswith(BIG)


BIG = (".pack", ".safetensors", ".parquet", ".html", ".txt", ".npy", ".csv")


@pytest.mark.parametrize("step", SOME)
def test_a_file_that_may_not_grow_is_named_and_the_next_run_goes_on(stages, tmp_path, step):
    before, expected, _ = stages[step]
    home = copy_home(before, tmp_path / "home")
    limit = largest_new_file(before, expected) - 1
    assert failed(home, step, "limit", limit).endswith(
        ": File too large; make room and run again, it goes on"
    )
    assert partial_files(home) == []
    finish(home, step)
    assert_same(artefacts(home), expected)


@pytest.fixture
def disk(tmp_path):
    """A file system of its own."""
    path = tmp_path / "home"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", path], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.mark.parametrize("step", SOME)
def test_a_disk_without_room_is_named_and_the_next_run_goes_on(stages, disk, step):
    before, expected, _ = stages[step]
    shutil.copytree(before, disk, dirs_exist_ok=True)
    room = largest_new_file(before, expected) // 2
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(disk).free - room))
    said = failed(disk, step)
    assert said.endswith(": No space left on device; make room and run again, it goes on") or "GB are" in said
    assert partial_files(disk) == []
    ballast.unlink()
    finish(disk, step)
    assert_same(artefacts(disk), expected)


@pytest.mark.parametrize("step", SOME)
def test_a_disk_that_must_not_be_written_to_is_named(stages, disk, step):
    shutil.copytree(stages[step][0], disk, dirs_exist_ok=True)
    (disk / "beats.txt").unlink(missing_ok=True)  # which is no part of the step
    (disk / "beats.txt").symlink_to(disk.with_name("beats.txt"))
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    said = failed(disk, step)
    assert said.endswith(": Read-only file system; check the permissions of the folder"), said


PLACES = {"prepare": "clean_data", "slice": "model", "sequence": "logs", "ensemble": "submission"}


@pytest.mark.parametrize("step", PLACES)
def test_a_file_in_the_place_of_a_folder_is_named(stages, tmp_path, step):
    home = copy_home(stages[step][0], tmp_path / "home")
    shutil.rmtree(home / PLACES[step], ignore_errors=True)
    (home / PLACES[step]).write_text("a file")
    said = failed(home, step)
    assert said.startswith(f"error: {home / PLACES[step]}")
    assert said.endswith(("move the file away, a folder must be there", "set CLEAN_DATA_DIR to another path"))
    assert (home / PLACES[step]).read_text() == "a file"


@pytest.mark.parametrize("step", ["slice", "ensemble", "study"])
def test_folders_that_are_not_there_are_made(stages, tmp_path, step):
    """Also those above them."""
    before, expected, _ = stages[step]
    home = copy_home(before, tmp_path / "home")
    settings = (home / "SETTINGS.json").read_text()
    for folder in ("checkpoint", "logs", "submission"):
        settings = settings.replace(f'"{folder}"', f'"not/yet/{folder}"')
    (home / "SETTINGS.json").write_text(settings)
    if (home / "submission").exists():
        (home / "not/yet").mkdir(parents=True)
        (home / "submission").rename(home / "not/yet/submission")
    finish(home, step)
    if step == "slice":
        assert (home / "not/yet/logs/tiny/stage1/slice/fold0.log").exists()
    new = [name for name in expected if name.startswith("model/")]
    assert {name: artefacts(home)[name] for name in new} == {name: expected[name] for name in new}


@pytest.mark.parametrize("step", SOME)
def test_a_clock_that_goes_back_changes_nothing(stages, tmp_path, step):
    """Every look at it is earlier than the last, and what was made before is of the future. Raw files of the
    future are known by their dates, so packs have other names then, until the clock is right again.
    """
    before, expected, _ = stages[step]
    home = copy_home(before, tmp_path / "home")
    for path in (path for folder in WRITTEN for path in (home / folder).rglob("*")):
        os.utime(path, (4e9, 4e9))
    process = start(home, step, "clock", 5)
    process.join()
    assert process.exitcode == 0, output(home)
    check_visible(home)
    if step not in READS_RAW:
        assert_same(artefacts(home), expected)
    finish(home, step)
    if step != "study":  # which is answered and stays
        assert_same(artefacts(home), expected)
    table = "submission/answers/predictions.csv"
    assert artefacts(home).get(table) == expected.get(table)
