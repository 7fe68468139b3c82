"""Work in parallel, with a bar on a terminal and plain lines elsewhere.

The same joblib calls run in this process, in several, or on a Dask cluster (`on_cluster`); results never
depend on it.
"""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .errors import UserError

log = logging.getLogger("ich")

SECONDS_BETWEEN_LINES = 30.0
SECONDS_TO_CONNECT = 15.0


class Progress:
    """Counts work done: a tqdm bar with rate and remaining time on a terminal, else a line every 30 s."""

    def __init__(self, what: str, total: int, unit: str = "it") -> None:
        self.what, self.total, self.unit, self.done = what, total, unit, 0
        self.started = self.last_line = time.monotonic()
        self.bar = None
        if log.isEnabledFor(logging.INFO) and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=total, desc=what, unit=unit, smoothing=0.05, leave=False)

    def update(self, count: int = 1) -> None:
        self.done += count
        if self.bar is not None:
            self.bar.update(count)
        elif time.monotonic() - self.last_line > SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            rate = self.done / (self.last_line - self.started)
            left = (self.total - self.done) / rate
            log.info(
                "%s: %d of %d, %s %s/s, %.0f s left",
                self.what,
                self.done,
                self.total,
                f"{rate:.0f}" if rate >= 1 else f"{rate:.2g}",
                self.unit,
                left,
            )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()


def parallel(
    function: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    jobs: int,
    what: str,
    weights: Sequence[int] | None = None,
    unit: str = "slices",
) -> list[Any]:
    """[function(*task) for task in tasks], in that order, on `jobs` processes; `weights` are the units in
    each task.
    """
    weights = weights or [1] * len(tasks)
    with Progress(what, sum(weights), unit) as progress:
        results = []
        for result, weight in zip(_results(function, tasks, jobs), weights, strict=True):
            results.append(result)
            progress.update(weight)
        return results


def _results(function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], jobs: int) -> Iterator[Any]:
    if jobs == 1 or len(tasks) <= 1:
        return (function(*task) for task in tasks)
    return _in_processes(function, tasks, jobs)


def _in_processes(function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], jobs: int) -> Iterator[Any]:
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    try:
        yield from Parallel(n_jobs=jobs, return_as="generator")(delayed(function)(*task) for task in tasks)
    except TerminatedWorkerError:
        raise UserError(
            "a worker process was killed, as a system does that runs out of memory; run the same command "
            "again with a smaller --jobs"
        ) from None


@contextlib.contextmanager
def on_cluster(address: str | None) -> Iterator[None]:
    """Inside the block, `parallel` with jobs other than 1 runs on the Dask cluster whose scheduler is at
    `address`.
    """
    if address is None:
        yield
        return
    try:
        from distributed import Client
    except ImportError:
        raise UserError(
            "--scheduler needs Dask; install it with: pip install -r requirements-extra.txt"
        ) from None
    from joblib import parallel_config

    try:
        client = Client(address, timeout=SECONDS_TO_CONNECT)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--scheduler {address}: no Dask scheduler answers ({error}); start one or check it"
        ) from None
    with client, parallel_config(backend="dask"):
        yield
