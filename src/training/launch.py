"""Which folds are still to train, one after the other or in processes of their own; and their predictions."""

import logging
import os
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import joblib
import pandas as pd
import torch

from ..command_line import start_logging
from ..config import Model, load_config
from ..data.prepared import read_folds, read_manifest
from ..errors import UserError
from ..progress import parallel
from ..settings import Settings, load_settings
from .engine import distributed
from .engine.allocator import keep_freed_memory
from .runs import Run, choose_device, fold_logger, run_name, runs_of

log = logging.getLogger("ich")


TrainFold = Callable[..., None]
Score = Callable[[pd.DataFrame, pd.DataFrame], dict[str, Any]]


def train_folds(
    script: str, arguments: Namespace, model: type[Model], train_fold: TrainFold, score: Score
) -> None:
    """What a training script does: train the asked fold, or every fold, that is not complete.

    `arguments` are the script's flags. On a CPU several folds run in processes, `--jobs` at once. Processes
    that torchrun started share one fold after the other.
    """
    settings = load_settings(arguments.settings)
    config = load_config(model, arguments.config, arguments.overrides)
    device = prepare_torch(arguments.device)
    todo = []
    for run in asked_runs(settings, run_name(arguments.config), arguments.fold):
        if run.is_done(config, read_manifest(settings.clean)["fingerprint"]):
            log.info("%s: complete", run)
        else:
            todo.append(run)
    if len(todo) > 1 and arguments.jobs > 1 and device.type == "cpu" and not distributed.launched():
        in_processes(todo, [script, *sys.argv[1:]], arguments.jobs)
        return
    with distributed.process_group(device):
        for run in todo:
            train_together(run, config, device, score, train_fold, arguments.quiet)


def train_together(
    run: Run, config: Any, device: torch.device, score: Score, train_fold: TrainFold, quiet: bool
) -> None:
    """Train one fold in this process, or in all that torchrun started; the first one locks, logs, writes."""
    if distributed.is_first():
        with run.lock():
            train_fold(run, config, device, score, fold_logger(run, quiet), show_progress=not quiet)
    else:
        silent = logging.getLogger("ich.other_processes")
        silent.setLevel(logging.CRITICAL)
        train_fold(run, config, device, score, silent, show_progress=False)
    distributed.barrier()  # the next fold begins when this one is written


def predict_runs(settings: Settings, experiment: str, device_name: str, jobs: int, quiet: bool) -> None:
    """Test predictions of every complete fold of an experiment; stage 1 first, stage 2 reads it.

    On a CPU `jobs` folds at once, each in a process with one thread; a GPU takes one after the other.
    """
    runs = [run for run in runs_of(settings, experiment) if run.complete]
    if not runs:
        raise UserError(
            f"{settings.models / experiment}: no complete run; train experiments/{experiment} first"
        )
    fingerprint = read_manifest(settings.clean)["fingerprint"]
    for run in runs:
        if run.metrics()["data_fingerprint"] != fingerprint:
            raise UserError(
                f"{run.folder}: was trained on other prepared data; delete it and run: {run.command}"
            )
    if choose_device(device_name).type != "cpu":
        jobs = 1
    threads = int(
        os.environ.get("OMP_NUM_THREADS", 1)
    )  # else joblib gives each process its share of the cores
    with joblib.parallel_config("loky", inner_max_num_threads=threads):
        for stage in ("stage1", "stage2"):
            tasks = [(run, device_name, quiet) for run in runs if run.stage == stage]
            parallel(_predict, tasks, jobs, f"predicting, {stage}", unit="folds")


def _predict(run: Run, device_name: str, quiet: bool) -> None:
    from .slices.slice_fold import predict_test_slices
    from .studies.study_fold import predict_test_studies

    start_logging(quiet)  # in a process of its own nothing else has
    predict = predict_test_slices if run.stage == "stage1" else predict_test_studies
    predict(run, prepare_torch(device_name), log)


def asked_runs(settings: Settings, name: str, fold: int | None) -> list[Run]:
    """The run of one fold, or of every fold of folds.csv; an unknown fold is a UserError."""
    known = sorted(int(k) for k in read_folds(settings.clean)["fold"].unique())
    if fold is not None and fold not in known:
        raise UserError(
            f"--fold {fold}: {settings.clean / 'folds.csv'} has the folds {', '.join(map(str, known))}"
        )
    return [Run(name, k, settings) for k in (known if fold is None else [fold])]


def prepare_torch(device_name: str) -> torch.device:
    """Choose the device. A CPU works on one thread unless OMP_NUM_THREADS says otherwise: the number of
    threads changes the last bits of every sum, and folds side by side use the cores better than threads do.
    """
    device = distributed.local_device(choose_device(device_name))
    if device.type == "cpu":
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
        torch.set_flush_denormal(True)
        keep_freed_memory()
    return device


def in_processes(runs: Sequence[Run], command: Sequence[str], jobs: int) -> None:
    """Run `command --fold K`, one process a fold, `jobs` at a time.

    A failure does not stop the other folds; at the end it is a UserError.

    An interrupt reaches the processes too; each saves its state and ends.
    """
    processes: list[subprocess.Popen] = []
    stopping = False

    def work(run: Run) -> int:
        if stopping:
            return 1
        environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        process = subprocess.Popen([sys.executable, *command, "--fold", str(run.fold)], env=environment)
        processes.append(process)
        return process.wait()

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        stopping = True
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    before = {kind: signal.signal(kind, stop) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        with ThreadPoolExecutor(jobs) as pool:
            codes = list(pool.map(work, runs))
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
    if stopping:
        raise KeyboardInterrupt("stopped; the same command continues there")
    failed = [run.fold for run, code in zip(runs, codes, strict=True) if code]
    if failed:
        raise UserError(
            f"{runs[0].name}: fold {', '.join(map(str, failed))} did not finish; the reason stands above"
        )
