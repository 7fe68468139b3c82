"""The short form of the fault suite is part of `make test`, the long one is `make faults`."""

import os

from src.files import read_json, write_json
from tests.conftest import ROOT

FIGURES = ROOT / "results" / "faults.json"


def long_form() -> bool:
    return os.environ.get("ICH_FAULTS") == "long"


def record_faults(kind: str, of: str, figures: dict[str, int]) -> None:
    """Put what a test counted, once it has passed, in its place in the figures of docs/reliability.md."""
    if long_form():
        found = read_json(FIGURES) if FIGURES.exists() else {}
        found.setdefault(kind, {})[of] = figures
        write_json(FIGURES, {name: dict(sorted(found[name].items())) for name in sorted(found)})
