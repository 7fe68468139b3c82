"""The short form of the fault suite is part of `make test`, the long one is `make faults`."""

import os
from collections import Counter

COUNTS: Counter[str] = Counter()


def long_form() -> bool:
    return os.environ.get("ICH_FAULTS") == "long"


def count_faults(kind: str, of: str, number: int = 1) -> None:
    """Add to the figures that the long form leaves in results/faults.json."""
    COUNTS[f"{kind}: {of}"] += number
