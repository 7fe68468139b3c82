"""Any step of any kind of run, killed again and again, ends with the bytes of an uninterrupted one.

The long form (`make faults`) kills every step 20 times at moments drawn evenly from its duration, and
once in place of every single renaming and deletion of a file; the short one draws a few of both.
"""

import os
import random
import signal
import time
from collections import Counter

import pytest

from tests.faults.forms import long_form, record_faults
from tests.faults.killing import artefacts, assert_same, check_visible, finish, lost_steps, start
from tests.faults.steps import CONFIGS, STEPS, copy_home

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
KILLS = 20 if long_form() else 2
INTERVAL = max(values.get("checkpoint_steps", 0) for values in CONFIGS.values())


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_random_moments_it_ends_as_if_it_had_not_been(stages, tmp_path, step):
    before, expected, seconds = stages[step]
    home, rng = copy_home(before, tmp_path / "home"), random.Random(f"moments {step}")
    killed, afresh = Counter(), True
    while killed.total() < KILLS:
        process, kind, began = start(home, step), SIGNALS[killed.total() % len(SIGNALS)], time.monotonic()
        process.join(rng.uniform(0, seconds))
        if process.is_alive():
            os.kill(process.pid, kind)
        process.join()
        assert process.exitcode in (0, 130, -kind)
        if process.exitcode == 0:  # it was done before
            assert_same(artefacts(home), expected)
            copy_home(before, home)
            seconds, afresh = min(seconds, time.monotonic() - began) if afresh else seconds, True
            continue
        afresh = False
        check_visible(home)
        assert lost_steps(home) <= INTERVAL + 1  # the one that was going on
        killed[kind.name] += 1
    finish(home, step)
    assert_same(artefacts(home), expected)
    record_faults("kills at random moments", step, dict(sorted(killed.items())))


@pytest.mark.parametrize("step", STEPS)
def test_killed_between_any_two_files_it_ends_as_if_it_had_not_been(stages, tmp_path, step):
    before, expected, _ = stages[step]
    home, rng = copy_home(before, tmp_path / "home"), random.Random(f"files {step}")
    count, killed = 0 if long_form() else rng.randrange(6), 0
    while True:
        process = start(home, step, "die", count)
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        check_visible(home)
        killed += 1
        if not long_form():
            break
        finish(home, step)
        assert_same(artefacts(home), expected)
        copy_home(before, home)
        count += 1
    finish(home, step)
    assert_same(artefacts(home), expected)
    record_faults("kills in place of a change of files", step, {"SIGKILL": killed})
