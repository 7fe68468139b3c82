"""Folds: which are still to train, one after the other or in processes of their own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from ..config import Model, load_config
from ..data.tables import read_folds, read_manifest
from ..errors import UserError
from ..settings import load_settings
from .runs import Run, choose_device, run_name


def folds_to_train(
    model: type[Model],
    config_file: Path | str,
    overrides: Sequence[str],
    settings_file: Path | str,
    fold: int | None,
) -> tuple[Model, list[Run], list[Run]]:
    """The configuration, and the runs of the asked fold (or of all): those to train, those complete."""
    settings = load_settings(settings_file)
    config = load_config(model, config_file, overrides)
    name = run_name(config_file)
    known = sorted(int(k) for k in read_folds(settings.clean)["fold"].unique())
    if fold is not None and fold not in known:
        raise UserError(
            f"--fold {fold}: {settings.clean / 'folds.csv'} has the folds {', '.join(map(str, known))}"
        )
    runs = [Run(name, k, settings) for k in (known if fold is None else [fold])]
    data_fingerprint = read_manifest(settings.clean)["fingerprint"]
    done = [run for run in runs if run.is_done(config, data_fingerprint)]
    return config, [run for run in runs if run not in done], done


def prepare_torch(device_name: str) -> torch.device:
    """Choose the device. On a CPU a fold trains on one thread unless OMP_NUM_THREADS says otherwise.

    The number of threads changes the last bits of every sum, and folds side by side use the cores better.
    """
    device = choose_device(device_name)
    if device.type == "cpu":
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        torch.set_flush_denormal(True)
    return device


def in_processes(runs: Sequence[Run], command: Callable[[Run], list[str]], jobs: int) -> None:
    """Run one process a fold, `jobs` at a time; a failure does not stop the others, but is a UserError.

    An interrupt reaches the processes too; each saves its state and ends.
    """
    processes: list[subprocess.Popen] = []
    stopping = False

    def work(run: Run) -> int:
        if stopping:
            return 1
        environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        process = subprocess.Popen([sys.executable, *command(run)], env=environment)
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
