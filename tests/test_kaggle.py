"""The folders of a Kaggle notebook: an input that cannot be written to, an output disk that is too small."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from src.data.prepared import Prepared
from src.files import read_json, write_json
from src.settings import load_settings
from tests.conftest import ROOT
from tests.data.dicom_files import write_rsna

SETTINGS = ROOT / "SETTINGS.kaggle.json"
MOUNTS = """
mount --bind {home}/input {home}/input && mount -o remount,bind,ro {home}/input || exit 9
mount -t tmpfs -o size=64k none {home}/working || exit 9
touch {home}/input/a 2>/dev/null && exit 8
{prepare}
echo "first $?" >&2
mount -o remount,size=64m {home}/working
{prepare}
echo "second $?" >&2
cp -r {home}/working/clean {home}/kept
"""


@cache
def mounts_are_possible():
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def notebook(home: Path) -> Path:
    """The contest's files as Kaggle mounts them, a folder deeper; settings moved from /kaggle to `home`."""
    write_rsna(
        home / "input" / "rsna-intracranial-hemorrhage-detection" / "rsna-intracranial-hemorrhage-detection"
    )
    (home / "working").mkdir()
    moved = {key: value.replace("/kaggle", str(home)) for key, value in read_json(SETTINGS).items()}
    write_json(home / "SETTINGS.json", moved)
    return home / "SETTINGS.json"


def prepare(file: Path) -> list[str]:
    flags = ["--size", "512", "--folds", "2", "--jobs", "1", "--quiet"]
    return [sys.executable, str(ROOT / "prepare_data.py"), "--settings", str(file), *flags]


def test_only_the_working_folder_is_written_to():
    settings = load_settings(SETTINGS)
    written = (settings.clean, settings.models, settings.checkpoints, settings.logs, settings.submissions)
    assert settings.raw.is_relative_to("/kaggle/input")
    assert all(folder.is_relative_to("/kaggle/working") for folder in written)
    assert len(set(written)) == 5


def test_preparation_leaves_the_input_as_it_was(tmp_path):
    file = notebook(tmp_path)
    state = lambda: {p: p.stat().st_mtime_ns for p in (tmp_path / "input").rglob("*")}  # noqa: E731
    before = state()
    assert subprocess.run(prepare(file), cwd=ROOT, timeout=120).returncode == 0
    assert state() == before
    assert Prepared(tmp_path / "working/clean").manifest["images"] == {"train": 12, "test": 3}


@pytest.mark.skipif(not mounts_are_possible(), reason="the system lets this user mount nothing")
def test_a_read_only_input_serves_and_a_full_disk_is_one_line_after_which_it_goes_on(tmp_path):
    script = MOUNTS.format(home=tmp_path, prepare=" ".join(prepare(notebook(tmp_path))))
    command = ["unshare", "-rm", "sh", "-c", script]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    error, *codes = result.stderr.strip().splitlines()
    assert error.startswith(f"error: {tmp_path}/working/clean")
    assert error.endswith("No space left on device; make room and run again, it goes on")
    assert codes == ["first 1", "second 0"]
    assert Prepared(tmp_path / "kept").manifest["images"] == {"train": 12, "test": 3}
