"""A prepared data set in a few lines, for the person who has just prepared it."""

from pathlib import Path
from typing import Any

from ..prepared import MASKS, VOLUMES


def summary(manifest: dict[str, Any], clean: Path) -> str:
    """What is there, and the count of every kind of defect."""
    images = manifest["images"]
    counts = f"{images['train']} training and {images['test']} test images"
    stored = sum(
        (clean / folder / name).stat().st_size for folder in (VOLUMES, MASKS) for name in manifest[folder]
    )
    lines = [
        f"{clean}: {counts} of {manifest['studies']} studies and {manifest['patients']} patients, "
        f"{stored / 1e9:.2f} GB"
    ]
    quarantined, kept = manifest["quarantined"], {k: n for k, n in manifest["kept_defects"].items() if n}
    for title, defects in (("quarantined", quarantined), ("kept, with a remark", kept)):
        if defects:
            lines.append(f"{title}: " + ", ".join(f"{name} {count}" for name, count in defects.items()))
    return "\n".join(lines)
