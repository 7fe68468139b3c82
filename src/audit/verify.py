"""Does this machine compute what was recorded? A small experiment, run again and compared.

    python -m src.audit.verify             compare with results/verify.json; exit 1 where it differs
    python -m src.audit.verify --record    put what this machine computes in its place

Steps 1, 2 and 4 run on 40 synthetic studies: one fold of experiments/demo/stage1/resnet.json on one thread of
the CPU. Where processor and versions are those of the record, every byte must be. Elsewhere sums are rounded
in another order, and training makes more of it: the scores may differ by `TOLERANCE`, and the fold is trained
a second time, which must give the bytes of the first.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ..command_line import command_line, run, start_logging
from ..data.prepared import Prepared
from ..errors import UserError
from ..files import file_sha256, read_json, write_json
from ..settings import load_settings
from ..training.runs import Run

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "results/verify.json"
NAME = "demo/stage1/resnet"
TEST = "test.parquet"
COMPARED = ("model.safetensors", "oof.parquet", "embeddings.npy", TEST)
LIBRARIES = ("torch", "timm", "numpy", "opencv-python-headless", "pandas", "pyarrow", "safetensors")
TOLERANCE = 0.02  # of log losses; docs/reliability.md says what was seen
DIRECTORIES = ("RAW_DATA", "CLEAN_DATA", "MODEL", "CHECKPOINT", "LOGS", "SUBMISSION")


def environment() -> dict[str, str]:
    """What bits depend on."""
    return {
        "processor": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {_processor()}",
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def compute(home: Path, jobs: int) -> Run:
    """Data, preparation, training and prediction below `home`, by the commands of the steps."""
    write_json(home / "SETTINGS.json", {f"{name}_DIR": name.lower() for name in DIRECTORIES})
    raw, settings = str(home / "raw_data"), ("--settings", str(home / "SETTINGS.json"))
    _call("-m", "src.data.phantom", "--out", raw, "--studies", "40", "--seed", "1", "--jobs", str(jobs))
    _call("prepare_data.py", *settings, "--size", "256", "--crop", "--folds", "3", "--jobs", str(jobs))
    return train(home)


def train(home: Path) -> Run:
    settings = ("--settings", str(home / "SETTINGS.json"), "--device", "cpu")
    _call("train_stage1.py", f"experiments/{NAME}.json", "--fold", "0", "--set", "epochs=4", *settings)
    _call("predict.py", "experiments/demo", "--jobs", "1", *settings)
    return Run(NAME, 0, load_settings(home / "SETTINGS.json"))


def _call(*command: str) -> None:
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=one_thread, check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise UserError(f"{' '.join(command)}: failed: {done.stderr.strip()[-500:]}")


def found_in(trained: Run) -> dict[str, Any]:
    """What is recorded of a computation, and compared."""
    metrics = trained.metrics()
    scores = {"score": metrics["score"], "baseline": metrics["baseline"], **metrics["label_log_losses"]}
    return {
        "environment": environment(),
        "data": Prepared(trained.settings.clean).fingerprint,
        "scores": scores,
        "bytes": {name: _digest(trained, name) for name in COMPARED},
    }


def _digest(trained: Run, name: str) -> str:
    """SHA-256 of a file; of predictions for new images that of their values, as their file also says what run
    and data it was made from.
    """
    if name != TEST:
        return file_sha256(trained.path(name))
    table = trained.predictions("test").sort_index()
    return hashlib.sha256("\n".join(table.index).encode() + table.to_numpy().tobytes()).hexdigest()


def rows(recorded: dict[str, Any], found: dict[str, Any]) -> Iterator[tuple[str, str, str, bool]]:
    """What, recorded, found, whether that is allowed."""
    same = recorded["environment"] == found["environment"]
    for key, value in recorded["environment"].items():
        yield key, value, found["environment"].get(key, "none"), True
    yield "data", recorded["data"], found["data"], recorded["data"] == found["data"] or not same
    for name, value in recorded["scores"].items():
        other = found["scores"][name]
        yield name, f"{value:.6f}", f"{other:.6f}", abs(value - other) <= (0 if same else TOLERANCE)
    for name, value in recorded["bytes"].items():
        other = found["bytes"][name]
        yield name, value[:16], other[:16], value == other or not same


def table(compared: list[tuple[str, str, str, bool]]) -> str:
    lines = [("", "recorded", "found", "")]
    for what, before, now, allowed in compared:
        remark = "" if before == now else "differs, allowed" if allowed else "DIFFERS"
        lines.append((what, before, now, remark))
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    cells = (
        [text.ljust(width) for text, width in zip(line[:3], widths, strict=True)] + [line[3]]
        for line in lines
    )
    return "\n".join("  ".join(line).rstrip() for line in cells)


def check_repeated(home: Path, first: Run, found: dict[str, Any]) -> None:
    """Train again from nothing: UserError unless the bytes are the same."""
    for folder in (first.settings.models, first.settings.checkpoints):
        shutil.rmtree(folder, ignore_errors=True)
    again = found_in(train(home))
    if different := [name for name in COMPARED if again["bytes"][name] != found["bytes"][name]]:
        raise UserError(f"{', '.join(different)}: trained twice with one seed, and not the same; report it")


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--record", action="store_true", help="write results/verify.json")
    arguments = parser.parse_args()
    start_logging(arguments.quiet)
    with TemporaryDirectory(prefix="ich_verify_") as folder:
        home = Path(folder)
        trained = compute(home, arguments.jobs)
        found = found_in(trained)
        if arguments.record:
            write_json(RECORD, found)
            return
        recorded = read_json(RECORD)
        compared = list(rows(recorded, found))
        print(table(compared))
        if recorded["environment"] != found["environment"]:
            check_repeated(home, trained, found)
    if not all(allowed for *_, allowed in compared):
        raise UserError(f"{RECORD}: is not what this machine computes; the table above says where")


if __name__ == "__main__":
    run(main)
