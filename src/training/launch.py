"""Which folds are still to train or to predict: one after the other, or in processes of their own."""

import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import torch

from ..command_line import start_logging
from ..data.prepared import Prepared
from ..errors import UserError
from ..progress import parallel
from ..settings import Settings, load_settings
from .engine import distributed
from .engine.devices import choose_device, prepare_torch
from .kinds import Kind, kind_of, load_run_config
from .provenance import check_geometry, check_unchanged, is_done
from .runs import Loaded, Run, experiment_name, folds_of, nothing_complete, run_name, runs_of
from .split import Part, unlabelled_part

log = logging.getLogger("ich")

PARENT = "ICH_PARENT"  # in the environment of a fold's process: the process that must not be outlived


def train_folds(script: str, arguments: Namespace, stage: str) -> None:
    """What a training script does: train the asked fold, or every fold, that is not complete.

    `arguments` are the script's flags. On a CPU several folds run in processes, `--jobs` at once. Processes
    that torchrun started share one fold after the other.
    """
    if parent := os.environ.pop(PARENT, None):
        threading.Thread(target=_stop_without, args=(int(parent),), daemon=True).start()
    settings, name = load_settings(arguments.settings), run_name(arguments.config)
    if (own := name.split("/")[1]) != stage:
        raise UserError(
            f"{arguments.config}: is of {own}; run: python train_{own}.py {shlex.join(sys.argv[1:])}"
        )
    kind, config = load_run_config(arguments.config, stage, arguments.overrides)
    prepared = Prepared(settings.clean)
    device = prepare_torch(arguments.device)
    todo = []
    for run in asked_runs(settings, prepared, name, arguments.fold):
        if is_done(run, config, prepared):
            run.remove_checkpoints()  # a kill may have come between its last file and this
            log.info("%s: complete", run)
        else:
            todo.append(run)
    if todo and kind.inputs is not None:
        kind.inputs(todo[0], prepared, config)  # said once, not by every fold
    if len(todo) > 1 and arguments.jobs > 1 and device.type == "cpu" and not distributed.launched():
        in_processes(todo, [script, *sys.argv[1:]], arguments.jobs)
        return
    with distributed.process_group(device):
        for run in todo:
            train_together(run, prepared, kind, config, device, arguments.quiet)
    if distributed.launched():
        distributed.leave()


def _stop_without(parent: int) -> None:
    """Stop as by a signal, the state saved, once the process that started this one is gone."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGTERM)


def train_together(
    run: Run, prepared: Prepared, kind: Kind, config: Any, device: torch.device, quiet: bool
) -> None:
    """Train one fold in this process, or in all that torchrun started; the first one locks, logs, writes."""
    if distributed.is_first():
        with run.lock():
            done = is_done(run, config, prepared)  # by another process, since the list was made
            if distributed.largest(done):
                run.remove_checkpoints()  # a kill may have come between its last file and this
            else:
                run.remove_derived()
                kind.train(run, prepared, config, device, fold_logger(run, quiet), not quiet)
    elif not distributed.largest(False):
        silent = logging.getLogger("ich.other_processes")
        silent.setLevel(logging.CRITICAL)
        kind.train(run, prepared, config, device, silent, False)
    distributed.barrier()  # the next fold begins when this one is written


def predict_runs(
    settings: Settings,
    experiment: Path | str,
    device_name: str,
    jobs: int,
    quiet: bool,
    members: Sequence[str] | None = None,
) -> None:
    """Test predictions of every complete fold of an experiment, and of the members from others that its
    ensemble.json names; stage 1 first, stage 2 reads it.

    The prepared data may be others than the runs were trained on, if their slices were prepared the same way.
    On a CPU `jobs` folds at once, each in a process with one thread; a GPU takes one after the other.
    """
    name = experiment_name(experiment)
    elsewhere = [member for member in members or () if not member.startswith(f"{name}/")]
    runs = [run for run in runs_of(settings, name) if run.complete]
    runs += [run for member in _with_members(settings, elsewhere) for run in folds_of(settings, member)]
    if not runs:
        raise nothing_complete(settings, Path(experiment))
    prepared = Prepared(settings.clean)
    for run in runs:
        check_unchanged(run)
        check_geometry(run, prepared)
    predict_part(runs, unlabelled_part(prepared), device_name, jobs, quiet)
    log.info("%d folds of %s have their test predictions", len(runs), name)


def _with_members(settings: Settings, names: Sequence[str]) -> list[str]:
    """Runs, each after those that a stacker reads."""
    found: list[str] = []
    for name in names:
        for run in folds_of(settings, name)[:1]:
            config = run.read_config(kind_of(run).config)
            found += _with_members(settings, getattr(config, "members", ()))
        found.append(name)
    return list(dict.fromkeys(found))


def predict_part(
    runs: Sequence[Run], part: Part, device_name: str, jobs: int, quiet: bool, loaded: Loaded | None = None
) -> None:
    """test.parquet of every fold for some slices, in its `place`; stage 1 first, stage 2 reads it.

    loaded: keeps the networks for the next part, and so everything stays in this process: folds have threads
    of it, each of which computes as a process with one thread does.
    """
    if choose_device(device_name).type != "cpu":
        jobs = 1
    threads = int(
        os.environ.get("OMP_NUM_THREADS", 1)
    )  # else joblib gives each process its share of the cores
    inside = {"backend": "loky", "inner_max_num_threads": threads}
    with joblib.parallel_config(**(inside if loaded is None else {"backend": "threading"})):
        for stage in ("stage1", "stage2"):
            todo = [run for run in runs if run.stage == stage and not run.has("test", part.fingerprint)]
            tasks = [(run, part, device_name, quiet, loaded) for run in todo]
            parallel(_predict, tasks, jobs, f"predicting, {stage}", unit="folds")


def _predict(run: Run, part: Part, device_name: str, quiet: bool, loaded: Loaded | None) -> None:
    if loaded is None:
        start_logging(quiet)  # in a process of its own nothing else has
    kind_of(run).predict(run, part, prepare_torch(device_name), _logger(quiet), loaded)


def _logger(quiet: bool) -> logging.Logger:
    """What the package reports goes on in any case; only what the folds say is quiet."""
    folds = log.getChild("folds")
    folds.setLevel(logging.WARNING if quiet else logging.NOTSET)
    return folds


def asked_runs(settings: Settings, prepared: Prepared, name: str, fold: int | None) -> list[Run]:
    """The run of one fold, or of every fold of folds.csv; an unknown fold is a UserError."""
    known = sorted(int(k) for k in prepared.folds["fold"].unique())
    if fold is not None and fold not in known:
        raise UserError(
            f"--fold {fold}: {prepared.folder / 'folds.csv'} has the folds {', '.join(map(str, known))}"
        )
    return [Run(name, k, settings) for k in (known if fold is None else [fold])]


def fold_logger(run: Run, quiet: bool) -> logging.Logger:
    """Lines to LOGS_DIR/<run>/fold<k>.log and, unless quiet, to standard output."""
    logger = logging.getLogger(f"ich.{run.name}.{run.fold}")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    run.log_file.parent.mkdir(parents=True, exist_ok=True)
    to_file = logging.FileHandler(run.log_file, encoding="utf-8")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(to_file)
    if not quiet:
        to_terminal = logging.StreamHandler(sys.stdout)
        to_terminal.setFormatter(logging.Formatter(f"{run}: %(message)s"))
        logger.addHandler(to_terminal)
    return logger


def in_processes(runs: Sequence[Run], command: Sequence[str], jobs: int) -> None:
    """Run `command --fold K`, one process a fold, `jobs` at a time.

    A failure does not stop the other folds; at the end it is a UserError. An interrupt reaches the processes
    once; each saves its state and ends.
    """
    processes: list[subprocess.Popen] = []
    stopping = False

    def work(run: Run) -> int:
        if stopping:
            return 1
        threads = os.environ.get("OMP_NUM_THREADS", "1")
        environment = {**os.environ, "OMP_NUM_THREADS": threads, PARENT: str(os.getpid())}
        # A session of its own: Ctrl-C in a terminal signals the whole group, and `stop` would be the second
        # signal, which ends a training at once.
        process = subprocess.Popen(
            [sys.executable, *command, "--fold", str(run.fold)], env=environment, start_new_session=True
        )
        processes.append(process)
        if stopping:  # the signal came while this one started
            process.terminate()
        return process.wait()

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        stopping = True
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)

    kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    heard = [kind for kind in kinds if signal.getsignal(kind) != signal.SIG_IGN]  # nohup ignores SIGHUP
    before = {kind: signal.signal(kind, stop) for kind in heard}
    try:
        with ThreadPoolExecutor(jobs) as pool:
            codes = list(pool.map(work, runs))
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
    if stopping:
        raise KeyboardInterrupt("stopped; the same command continues there")
    killed = [run.fold for run, code in zip(runs, codes, strict=True) if code < 0]
    if killed:
        raise UserError(
            f"{runs[0].name}: fold {', '.join(map(str, killed))} was killed, as a system does that runs out "
            "of memory; run the same command again, which goes on, with a smaller --jobs"
        )
    failed = [run.fold for run, code in zip(runs, codes, strict=True) if code]
    if failed:
        raise UserError(
            f"{runs[0].name}: fold {', '.join(map(str, failed))} did not finish; the reason stands above"
        )
