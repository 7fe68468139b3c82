"""What tells a synthetic data set from a real one, and the truth that was drawn with it."""

from pathlib import Path

import numpy as np

MANIFEST = "phantom.json"  # the generator's mark beside the images, and beside the truth
TEST_LABELS_CSV = "demo_test_labels.csv"
RECIPE = 3  # of the generator: raise it when the bytes of a data set change


def is_synthetic(raw: Path) -> bool:
    """Whether the data set in RAW_DATA_DIR was drawn by `src.data.phantom`."""
    return (raw / MANIFEST).is_file()


def read_masks(truth: Path | str, study_id: str) -> tuple[np.ndarray, np.ndarray]:
    """Truth of one study, slices upwards as `order` in slices.parquet.

    -> blood (slices, subtypes, grid, grid), in the order of SUBTYPES; cavity (slices, grid, grid); bool
    """
    with np.load(Path(truth) / "masks" / f"{study_id}.npz") as saved:
        slices, _, *grid = shape = saved["shape"].tolist()
        blood = np.unpackbits(saved["blood"], count=int(np.prod(shape))).reshape(shape)
        cavity = np.unpackbits(saved["cavity"], count=slices * grid[0] * grid[1]).reshape(slices, *grid)
    return blood.astype(bool), cavity.astype(bool)
