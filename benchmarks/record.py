"""results/bench.json: one entry for each part of the pipeline, ours against a stated reference."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src.files import read_json, write_json

FILE = Path(__file__).resolve().parent.parent / "results" / "bench.json"
KEYS = {"part", "ours", "reference", "unit", "ratio", "reference_name"}


def record(entries: Sequence[Mapping[str, Any]], path: Path = FILE) -> None:
    """Merge entries into the file by `part`; ratio > 1 means that ours is better."""
    for entry in entries:
        if not set(entry) >= KEYS:
            raise ValueError(f"an entry needs {sorted(KEYS)}, got {sorted(entry)}")
    merged = {entry["part"]: dict(entry) for entry in (read_json(path) if path.exists() else [])}
    merged |= {entry["part"]: dict(entry) for entry in entries}
    write_json(path, [merged[part] for part in sorted(merged)])
