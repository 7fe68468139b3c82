"""Processes that start at once, since one with all modules loaded is forked, and what they leave behind."""

import json
import multiprocessing
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from src.data.prepared import Prepared
from src.files import file_sha256
from src.report.run.run_report import TIMES
from tests.faults.steps import in_process, settings_of

PRELOADED = [
    "src.training.launch", "src.training.slices.kind", "src.training.sequences.kind",
    "src.training.videos.kind", "src.training.studies.kind", "src.report.run.submission_folder",
    "src.data.preparation.prepare", "src.models.studies.boosting", "matplotlib.backends.backend_svg",
    "scipy.stats", "joblib", "timm", "lightgbm", "safetensors.torch", "tests.faults.steps",
]  # fmt: skip
LAST = {  # file that is written last, and those that are there by then
    "scores.json": ("submission.csv", "blend.json", "report.html"),
    "compare.json": ("splits.csv", "compare.html"),
    "predictions.json": ("predictions.csv", "study.html"),
}
WRITTEN = ("clean_data", "model", "checkpoint", "submission")

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(PRELOADED)


def start(home: Path, step: str, before: str = "", argument: int = 0, says: str = "output.txt"):
    """The step in a process of its own; see `output` for what it says."""
    given = (str(home), step, str(home / says), before, argument)
    process = context.Process(target=in_process, args=given)
    process.start()
    return process


def warm_up() -> None:
    """Let the process be there that the others are forked from."""
    process = context.Process(target=time.sleep, args=(0,))
    process.start()
    process.join()


def finish(home: Path, step: str) -> tuple[float, str]:
    """Seconds that a step takes, and what it says; it must end well."""
    began = time.monotonic()
    process = start(home, step)
    process.join()
    assert process.exitcode == 0, output(home)
    return time.monotonic() - began, output(home)


def output(home: Path, says: str = "output.txt") -> str:
    return (home / says).read_text()


def artefacts(home: Path) -> dict[str, object]:
    """Every file of the results, hidden ones too, by its path; what a clock said taken out of it."""
    files = [path for folder in WRITTEN for path in sorted((home / folder).rglob("*")) if path.is_file()]
    return {str(path.relative_to(home)): _content(path) for path in files if path.name != "lock"}


def _content(path: Path) -> object:
    if path.name == "metrics.json":
        return json.loads(path.read_text()) | {"seconds": 0}
    if path.name == "predictions.json":
        return re.sub(r'("seconds": \{)[^}]*', r"\1", path.read_text())
    data = re.sub(rb"/[\w./-]+/home\b", b"HOME", path.read_bytes())  # of what was copied with its home
    if path.name == "report.html":  # hours of training, seconds of this step
        return re.sub(rb"\d+(\.\d+)? (s|h|min)\b", b"", re.sub(TIMES.pattern.encode(), b"", data, flags=re.S))
    return data


def assert_same(found: dict[str, object], expected: dict[str, object]) -> None:
    """Files name the commit of the code, so nothing may be committed while this runs."""
    assert found.keys() == expected.keys(), f"only in one: {sorted(found.keys() ^ expected.keys())}"
    changed = [name for name in expected if found[name] != expected[name]]
    assert not changed, f"other bytes than without a kill: {changed}"


def check_visible(home: Path) -> None:
    """Whatever is not hidden is whole: tables can be read, marks of completeness hold what they promise."""
    for path in (home / "model").rglob("*.parquet"):
        pd.read_parquet(path)
    for path in (home / "model").rglob("*.npy"):
        np.load(path)
    for path in (home / "model").rglob("metrics.json"):
        for name, sha in json.loads(path.read_text())["files"].items():
            assert file_sha256(path.with_name(name)) == sha, path.with_name(name)
    for path in [p for folder in WRITTEN for p in (home / folder).rglob("*.json")]:
        json.loads(path.read_text())
    if (home / "clean_data/manifest.json").exists():
        prepared = Prepared(settings_of(home).clean)
        assert len(prepared.slices) and len(prepared.folds) and len(prepared.studies)
        prepared.volumes.verify()
    for last, before in LAST.items():
        for path in (home / "submission").rglob(last):
            if path.parent.name != "answers":  # of all studies, which have their pages
                assert all(path.with_name(name).exists() for name in before), path


def lost_steps(home: Path) -> int:
    """Training steps that a killed process had done or begun, and that the newest checkpoint has not."""
    files = sorted((home / "checkpoint").rglob("*.pt"), key=lambda path: path.stat().st_mtime_ns)
    saved = torch.load(files[-1], weights_only=True)["progress"]["step"] if files else 0
    beats = home / "beats.txt"
    complete = [path.stat().st_mtime_ns for path in (home / "model").rglob("metrics.json")]
    begun = beats.read_text().split() if beats.exists() else []
    if not begun or beats.stat().st_mtime_ns < max(complete, default=0):  # of a fold that is complete
        return 0
    return int(begun[-1]) + 1 - saved
