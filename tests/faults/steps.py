"""A tiny data set with a run of every kind, and its steps as functions for processes that get killed."""

import itertools
import os
import shutil
import signal
import sys
from argparse import Namespace
from pathlib import Path

from src.files import write_json
from src.settings import Settings, load_settings
from tests.data.dicom_files import write_rsna
from tests.data.incoming.studies import volume, write_study

SMALL = {"backbone": "test_resnet", "pretrained": False, "image_size": 32, "epochs": 3, "checkpoint_steps": 2}
RANDOM = {"dropout": 0.3, "ema_decay": 0.9, "accumulation": 2}  # whatever draws numbers or has a state
STACK = {"members": ["tiny/stage1/slice"], "batch_size": 2}
CONFIGS = {
    "stage1/slice": SMALL
    | RANDOM
    | {
        "batch_size": 4,
        "neighbours": [-1, 0, 1],
        "augmentation": {"elastic": 0.5, "noise": 0.5, "cutmix": 0.2},
    },
    "stage1/sequence": SMALL | {"kind": "sequence", "batch_size": 1, "context": {"hidden": 8}},
    "stage1/video": SMALL | {"kind": "video", "targets": "presence", "frames": 3, "batch_size": 1},
    "stage2/stacker": STACK
    | {"stacker": "gru", "width": 8, "hidden": 8, "epochs": 3, "checkpoint_steps": 1, "seeds": 2}
    | {"bag_epochs": 2, "embedding_space": "aligned", "slice_dropout": 0.2},
    "stage2/trees": STACK
    | {"stacker": "boosting", "inputs": ["logits"], "embedding_space": "pooled"}
    | {"boosting": {"rounds": 3, "slices_in_leaf": 2}},
}
OTHER = SMALL | {"batch_size": 8, "lr": 0.001}
STUDIES = {"studies": 8, "slices": 4, "test_studies": 2}


def write_home(home: Path) -> None:
    """DICOM in the contest's layout, settings, one experiment of every kind and one that can be blended."""
    keys = ("RAW_DATA", "CLEAN_DATA", "MODEL", "CHECKPOINT", "LOGS", "SUBMISSION")
    write_json(home / "SETTINGS.json", {f"{key}_DIR": key.lower() for key in keys})
    write_rsna(home / "raw_data", **STUDIES)
    for name, values in CONFIGS.items():
        write_json(home / "experiments/tiny" / f"{name}.json", values)
    write_json(home / "experiments/other/stage1/slice.json", OTHER)
    for number in (1, 2):
        write_study(home / f"new/{number}", volume(6, number), study=f"1.2.{number}", step=25.0)
    write_json(home / "experiments/tiny/ensemble.json", {"replicates": 100, "members": BLENDED})


BLENDED = [f"tiny/{name}" for name in CONFIGS if name != "stage1/video"]


def settings_of(home: Path) -> Settings:
    return load_settings(home / "SETTINGS.json")


def prepare_data(home: Path) -> None:
    from src.data.preparation import packing
    from src.data.preparation.options import Options
    from src.data.preparation.prepare import prepare

    packing.STUDIES_PER_PACK = 2
    settings = settings_of(home)
    prepare(settings.raw, settings.clean, Options(size=256, folds=2))


def train(home: Path, name: str, fold: int | None = None, jobs: int = 1) -> None:
    from src.training.launch import train_folds

    stage = Path(name).parent.name
    arguments = Namespace(
        settings=str(home / "SETTINGS.json"), config=str(home / f"experiments/tiny/{name}.json"), fold=fold,
        overrides=[], device="cpu", jobs=jobs, quiet=True,
    )  # fmt: skip
    train_folds(f"train_{stage}.py", arguments, stage)


def predict(home: Path) -> None:
    from src.training.launch import predict_runs

    predict_runs(settings_of(home), "tiny", "cpu", 1, True)


def blend(home: Path) -> None:
    from src.report.run.submission_folder import write_submission_folder

    write_submission_folder(settings_of(home), home / "experiments/tiny", 1)


def compare(home: Path) -> None:
    """The script itself: it is more than a call."""
    files = [f"{home}/experiments/{name}/stage1/slice.json" for name in ("tiny", "other")]
    _script("compare", home, *files, "--replicates", "2", "--device", "cpu", "--set", "epochs=2")


def study(home: Path) -> None:
    asked = ("--study", f"{home}/new", "--out", f"{home}/submission/answers")
    _script("predict", home, f"{home}/experiments/tiny", *asked, "--device", "cpu", "--no-maps")


def _script(name: str, home: Path, *arguments: str) -> None:
    import importlib

    sys.argv = [f"{name}.py", *arguments, "--settings", f"{home}/SETTINGS.json", "--jobs", "1", "--quiet"]
    importlib.import_module(name).main()


STEPS = {
    "prepare": prepare_data,
    **{name.rpartition("/")[2]: name for name in CONFIGS},
    "predict": predict,
    "ensemble": blend,
    "compare": compare,
    "study": study,
}


def run_step(home: Path, step: str) -> None:
    action = STEPS[step]
    if isinstance(action, str):
        train(home, action)
    else:
        action(home)


def in_process(home: str, step: str, output: str, before: str = "", argument: int = 0) -> None:
    """Target of a process: one step as its script runs it, what it says in a file; `before`: see CHANGES."""
    from src.command_line import run, start_logging

    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's job in the background ignores
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    start_logging()
    _tell_steps(Path(output).with_name("beats.txt"))
    if before:
        CHANGES[before](argument)
    run(lambda: run_step(Path(home), step))
    sys.exit(0)


def _tell_steps(path: Path) -> None:
    """Let every training step leave its number in a file, whatever becomes of the process afterwards."""
    from src.training.engine.state import TrainingState

    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    original = TrainingState.step

    def step(self, batch, number):
        os.write(file, f"{number}\n".encode())
        return original(self, batch, number)

    TrainingState.step = step


def _die_at_change(count: int) -> None:
    """Let the process kill itself in place of its `count`-th renaming or deletion of a file."""
    left = [count]

    def deadly(original):
        def change(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **options)

        return change

    Path.replace, Path.unlink = deadly(Path.replace), deadly(Path.unlink)


def _limit_files(size: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _turn_the_clock_back(hours: int) -> None:
    """Let every look at the clock find it some hours earlier than the last."""
    import time

    start, looks = time.time(), itertools.count(1)
    time.time = lambda: start - 3600 * hours * next(looks)
    time.time_ns = lambda: int(time.time() * 1e9)


def _watch(_: int) -> None:
    """Leave in load.txt, in the place of temporary files, the most open files and the most memory (pages)."""
    import tempfile
    import threading
    import time

    place = Path(os.readlink("/proc/self/fd/1")).with_name("temporary")
    tempfile.tempdir = os.environ["TMPDIR"] = str(place)

    def watch() -> None:
        most = [0, 0]
        while True:
            open_files = len(os.listdir("/proc/self/fd"))
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            if (now := [max(most[0], open_files), max(most[1], pages)]) != most:
                most = now
                # not in place: the process may end while this is half written
                beside = place.with_name("load.partial")
                beside.write_text(f"{most[0]} {most[1]}")
                beside.replace(place / "load.txt")
            time.sleep(0.005)

    threading.Thread(target=watch, daemon=True).start()


CHANGES = {
    "die": _die_at_change, "limit": _limit_files, "clock": _turn_the_clock_back, "watch": _watch,
}  # fmt: skip


def copy_home(home: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(home, target)
    return target
