"""The generated tables of docs/reliability.md, from results/faults.json and results/mutation.json."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import read_json

FAULTS, MUTATION = Path("results/faults.json"), Path("results/mutation.json")
KILLS = ("kills at random moments", "kills in place of a change of files")
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")
MISSING = "not recorded"
Rows = tuple[Sequence[str], list[list[str]]]  # header, rows


def kill_rows(root: Path) -> Rows:
    """Step by step what was killed how often, and ended with the bytes of a run that was not."""
    found = read_json(root / FAULTS)
    moments, changes = (found.get(kind, {}) for kind in KILLS)
    rows = [
        [
            step,
            *(str(moments.get(step, {}).get(kind, MISSING)) for kind in SIGNALS),
            str(changes.get(step, {}).get("SIGKILL", MISSING)),
        ]
        for step in sorted(moments.keys() | changes.keys())
    ]
    return ("step", *(f"{kind} at random" for kind in SIGNALS), "SIGKILL in place of a change"), rows


def mutant_rows(root: Path) -> Rows:
    """Format by format how many damaged files were tried, and how many of them were refused."""
    found = read_json(root / FAULTS).get("mutants", {})
    return ("format", "damaged files", "refused"), [
        [name, f"{counts['tried']:,}", f"{counts['refused']:,}"] for name, counts in found.items()
    ]


def mutation_rows(root: Path) -> Rows:
    """Room by room how many mistakes in the source were tried, and how many its tests noticed."""
    outcomes: dict[str, Any] = read_json(root / MUTATION)["outcomes"]
    counts: dict[str, Counter[str]] = {}
    for mutant, outcome in outcomes.items():
        room = mutant.split("/")[1]
        counts.setdefault(room, Counter())[outcome.split()[0].rstrip(":")] += 1
    header = ("room", "mistakes", "noticed", "explained", "not noticed", "no quick test")
    return header, [
        [room, str(found.total()), *(str(found[kind]) for kind in ("killed", "explained", "survived", "no"))]
        for room, found in sorted(counts.items())
    ]
