"""The figures of the long form, for docs/reliability.md."""

import pytest

from src.files import read_json, write_json
from tests.conftest import ROOT
from tests.faults.forms import COUNTS, long_form


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Add what this run counted to results/faults.json, in place of what stood there by the same names."""
    path = ROOT / "results" / "faults.json"
    if long_form() and COUNTS and not session.testsfailed:
        before = read_json(path) if path.exists() else {}
        write_json(path, dict(sorted((before | COUNTS).items())))
