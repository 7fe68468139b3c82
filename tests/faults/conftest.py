"""What the suite starts from: a home before and after every step."""

import pytest

from tests.faults.killing import artefacts, finish, warm_up
from tests.faults.steps import STEPS, copy_home, write_home


@pytest.fixture(scope="session")
def stages(tmp_path_factory):
    """Step -> a home as it was before that step, the artefacts after it, and the seconds it took."""
    folder = tmp_path_factory.mktemp("stages")
    home = folder / "home"
    write_home(home)
    warm_up()
    found = {}
    for step in STEPS:
        before = copy_home(home, folder / f"before_{step}")
        seconds, _ = finish(home, step)
        found[step] = before, artefacts(home), seconds
    return found
