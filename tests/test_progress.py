"""Parallel work: order kept, progress told, clusters named when they do not answer."""

import math

import pytest

from src import progress
from src.errors import UserError
from src.progress import on_cluster, parallel


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_the_order_of_the_tasks(jobs):
    assert parallel(math.pow, [(n, 2) for n in range(7)], jobs, "squares") == [n**2 for n in range(7)]


def test_no_tasks_are_no_problem():
    assert parallel(math.pow, [], 2, "squares") == []


def test_long_work_reports_a_rate_and_the_remaining_time(monkeypatch, caplog):
    clock = iter([0.0, 31.0, 31.0, 32.0, 70.0, 70.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    caplog.set_level("INFO", logger="ich")
    parallel(math.pow, [(n, 2) for n in range(3)], 1, "headers", [31, 30, 39], "files")
    assert caplog.messages == [
        "headers: 31 of 100, 1 files/s, 69 s left",
        "headers: 100 of 100, 1 files/s, 0 s left",
    ]


def test_slow_work_has_a_rate_too(monkeypatch, caplog):
    clock = iter([0.0, 40.0, 40.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    caplog.set_level("INFO", logger="ich")
    progress.Progress("training", 3, "replicates").update()
    assert caplog.messages == ["training: 1 of 3, 0.025 replicates/s, 80 s left"]


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(progress, "SECONDS_TO_CONNECT", 0.2)
    message = r"--scheduler tcp://127\.0\.0\.1:9: no Dask scheduler answers"
    with pytest.raises(UserError, match=message), on_cluster("tcp://127.0.0.1:9"):
        pass


def test_a_missing_dask_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(UserError, match=r"pip install -r requirements-extra\.txt"), on_cluster("tcp://x:1"):
        pass
