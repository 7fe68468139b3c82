"""Two processes at one thing, and processes that others take away."""

import os
import signal
import time

import pytest

from src.errors import UserError
from src.progress import parallel
from src.settings import load_settings
from src.training.launch import in_processes
from src.training.runs import Run
from tests.faults.forms import long_form
from tests.faults.killing import artefacts, assert_same, check_visible, finish, output, start
from tests.faults.steps import STEPS, copy_home, write_home

SOME = tuple(STEPS) if long_form() else ("prepare", "slice", "predict")


@pytest.mark.parametrize("step", SOME)
def test_two_processes_at_one_step_end_as_one(stages, tmp_path, step):
    """Whoever comes second waits, finds it done, or ends with a line that says so."""
    before, expected, _ = stages[step]
    home = copy_home(before, tmp_path / "home")
    names = ("first.txt", "second.txt")
    processes = [start(home, step, says=name) for name in names]
    for process in processes:
        process.join()
    codes = [process.exitcode for process in processes]
    assert 0 in codes and set(codes) <= {0, 1}, [output(home, name) for name in names]
    for code, name in zip(codes, names, strict=True):
        if code:
            assert "another process" in output(home, name), output(home, name)
    check_visible(home)
    finish(home, step)
    assert_same(artefacts(home), expected)


@pytest.mark.parametrize("step", [step for step in SOME if step != "study"])
def test_one_is_killed_beside_another_that_goes_on(stages, tmp_path, step):
    """No lock outlives its process."""
    before, expected, seconds = stages[step]
    home = copy_home(before, tmp_path / "home")
    first = start(home, step, says="first.txt")
    time.sleep(seconds / 3)
    second = start(home, step, says="second.txt")
    first.kill()
    first.join()
    second.join()
    if second.exitcode:  # it came before the first was gone
        assert "another process" in output(home, "second.txt")
        finish(home, step)
    assert_same(artefacts(home), expected)


def die(number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_worker_that_is_taken_away_is_a_line_with_the_remedy():
    with pytest.raises(UserError, match=r"a worker process was killed, .* with a smaller --jobs"):
        parallel(die, [(number,) for number in range(4)], 2, "dying")


def test_a_fold_that_is_taken_away_is_named_and_the_others_end(tmp_path):
    write_home(tmp_path)
    runs = [Run("tiny/stage1/slice", fold, load_settings(tmp_path / "SETTINGS.json")) for fold in (0, 1, 2)]
    program = (
        "import os, pathlib, sys; fold = int(sys.argv[-1]); "
        f"fold == 1 and os.kill(os.getpid(), 9); pathlib.Path('{tmp_path}', str(fold)).touch()"
    )
    with pytest.raises(UserError, match=r"slice: fold 1 was killed, .* with a smaller --jobs"):
        in_processes(runs, ["-c", program], 2)
    assert [(tmp_path / str(fold)).exists() for fold in (0, 1, 2)] == [True, False, True]
