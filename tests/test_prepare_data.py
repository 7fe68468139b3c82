"""Step 1 from the command line: exit codes, one-line errors, a killed process, a Dask cluster."""

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from src.data.prepared import Prepared
from tests.conftest import ROOT
from tests.data.dicom_files import image_name, write_rsna

FOLDERS = {
    "RAW_DATA_DIR": "raw",
    "CLEAN_DATA_DIR": "clean",
    "MODEL_DIR": "models",
    "CHECKPOINT_DIR": "checkpoints",
    "LOGS_DIR": "logs",
    "SUBMISSION_DIR": "submissions",
}


def settings(folder: Path, **changed: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "SETTINGS.json"
    path.write_text(json.dumps(FOLDERS | changed))
    return path


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / "prepare_data.py"), *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_a_run_ends_with_a_summary_that_counts_every_defect(tmp_path):
    raw = write_rsna(tmp_path / "raw")
    (raw / "stage_2_train" / f"{image_name(0)}.dcm").write_bytes(b"")
    result = run("--settings", settings(tmp_path), "--size", 256, "--folds", 2, "--jobs", 1)
    assert result.returncode == 0
    assert "11 training and 3 test images of 5 studies and 5 patients" in result.stdout
    assert "quarantined: empty file 1" in result.stdout
    quiet = run("--settings", settings(tmp_path), "--size", 256, "--folds", 2, "--jobs", 1, "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


def test_a_users_error_is_one_line(tmp_path):
    result = run("--settings", settings(tmp_path))
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1 and "set RAW_DATA_DIR" in result.stderr


@pytest.mark.parametrize("arguments", [["--size", "300"], ["--jobs", "0"], ["--unknown"], ["--limit", "-2"]])
def test_wrong_usage_is_2(arguments):
    assert run(*arguments).returncode == 2


def test_flags_that_are_not_given_are_those_of_the_prepared_folder(tmp_path):
    write_rsna(tmp_path / "raw")
    where = ["--settings", settings(tmp_path), "--jobs", 1]
    assert run(*where, "--size", 256, "--crop", "--folds", 2, "--limit", 4).returncode == 0
    packs = sorted((tmp_path / "clean" / "volumes").iterdir())
    again = run(*where)
    assert again.returncode == 0 and "flags not given stay as it was prepared" in again.stderr
    assert Prepared(tmp_path / "clean").manifest["settings"]["limit"] == 4
    refused = run(*where, "--no-crop")
    assert (refused.returncode, refused.stdout) == (1, "") and refused.stderr.count("\n") == 1
    assert "crop True -> False would remake all its volumes" in refused.stderr
    assert sorted((tmp_path / "clean" / "volumes").iterdir()) == packs
    assert run(*where, "--no-crop", "--again", "--limit", "all").returncode == 0
    found = Prepared(tmp_path / "clean").manifest["settings"]
    assert (found["size"], found["crop"], found["folds"], found["limit"]) == (256, False, 2, None)


def test_folds_and_folders_that_cannot_be_are_one_line(tmp_path):
    write_rsna(tmp_path / "raw")
    for clean, folds, said in (
        ("clean", 1, "two folds at least"),
        ("raw", 2, "which is never written to"),
        ("SETTINGS.json", 2, "a file, not a folder"),
    ):
        result = run("--settings", settings(tmp_path, CLEAN_DATA_DIR=clean), "--folds", folds, "--jobs", 1)
        assert (result.returncode, result.stdout) == (1, "")
        assert said in result.stderr.splitlines()[-1] and "Traceback" not in result.stderr
    assert not (tmp_path / "clean").exists()


def test_the_space_that_is_needed_and_taken_is_said(tmp_path):
    write_rsna(tmp_path / "raw")
    result = run("--settings", settings(tmp_path), "--size", 256, "--folds", 2, "--jobs", 1)
    assert "volumes: needs about 0.0 GB, " in result.stderr and " GB are free" in result.stderr
    assert "5 patients, 0.00 GB" in result.stdout


def test_help_is_quick_and_imports_nothing_heavy():
    program = "import sys, runpy; sys.argv = ['prepare_data.py', '--help']\n"
    program += "try: runpy.run_path('prepare_data.py', run_name='__main__')\n"
    program += (
        "except SystemExit: print([m for m in ('torch', 'pandas', 'pydicom', 'cv2') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert result.stdout.endswith("[]\n") and "--scheduler" in result.stdout


def test_a_killed_process_leaves_nothing_that_looks_finished(tmp_path):
    write_rsna(tmp_path / "raw", studies=26, slices=12, test_studies=1)
    arguments = ["--settings", settings(tmp_path), "--size", 512, "--folds", 2, "--jobs", 1, "--quiet"]
    process = subprocess.Popen(command(*arguments), cwd=ROOT)
    volumes, deadline = tmp_path / "clean" / "volumes", time.monotonic() + 60
    while not list(volumes.glob("*.pack")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    first = {path.name: path.stat().st_mtime_ns for path in volumes.glob("*.pack")}
    assert first and not (tmp_path / "clean" / "manifest.json").exists()
    assert run(*arguments).returncode == 0
    straight = settings(tmp_path / "straight", RAW_DATA_DIR=str(tmp_path / "raw"))
    assert run(*arguments[2:], "--settings", straight).returncode == 0
    ours, theirs = (
        {str(p.relative_to(f)): p.read_bytes() for p in f.rglob("*") if p.is_file()}
        for f in (tmp_path / "clean", tmp_path / "straight" / "clean")
    )
    assert ours == theirs
    assert all((volumes / name).stat().st_mtime_ns == then for name, then in first.items())


def test_a_disk_that_fills_up_is_one_line_and_the_next_run_goes_on(tmp_path):
    """No file of more than 60 kB can be written, as on a disk with that much room."""
    write_rsna(tmp_path / "raw", studies=4, slices=4)
    arguments = ["--settings", settings(tmp_path), "--size", 512, "--folds", 2, "--jobs", 1, "--quiet"]
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))  # noqa: E731
    full = subprocess.run(
        command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=120, preexec_fn=limit
    )
    assert full.returncode == 1 and full.stderr.count("\n") == 1
    assert "File too large; make room and run again, it goes on" in full.stderr
    assert not [path for path in (tmp_path / "clean").rglob("*") if path.is_file()]
    assert run(*arguments).returncode == 0
    assert Prepared(tmp_path / "clean").manifest["images"] == {"train": 16, "test": 4}


def test_a_dask_cluster_of_two_workers_gives_the_same_bytes(tmp_path):
    distributed = pytest.importorskip("distributed")
    write_rsna(tmp_path / "raw", studies=16, slices=2, test_studies=1)
    options = ["--size", 256, "--folds", 2, "--quiet"]
    assert run("--settings", settings(tmp_path), *options, "--jobs", 1).returncode == 0
    other = settings(tmp_path / "dask", RAW_DATA_DIR=str(tmp_path / "raw"))
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        result = run("--settings", other, *options, "--scheduler", cluster.scheduler_address)
        assert (result.returncode, result.stderr) == (0, "")
        with distributed.Client(cluster) as client:
            finished = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.transition_counter)
        assert finished > 0  # the cluster has done something
    names = [str(p.relative_to(tmp_path / "clean")) for p in (tmp_path / "clean").rglob("*") if p.is_file()]
    assert len([name for name in names if name.endswith(".pack")]) == 3
    for name in names:
        assert (tmp_path / "clean" / name).read_bytes() == (tmp_path / "dask" / "clean" / name).read_bytes()
    assert Prepared(tmp_path / "dask" / "clean").manifest["images"]["train"] == 32
