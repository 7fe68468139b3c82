"""What tells a synthetic data set from a real one, and the truth that was drawn with it."""

from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import UserError
from ..labels import SUBTYPES
from ..targets import SITES

MANIFEST = "phantom.json"  # the generator's mark beside the images, and beside the truth
TEST_LABELS_CSV = "demo_test_labels.csv"
RECIPE = 3  # of the generator: raise it when the bytes of a data set change
LOCATION_FILES = ("sites.parquet", "slices.parquet")


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


def read_locations(truth: Path | str) -> pd.DataFrame:
    """Where the bleed lies that has the most blood in a slice; index image_id, columns SITES, 0 or 1.

    A bleed in the brain counts by the place of its middle, one in the ventricles is deep, one on the brain's
    surface lies over a lobe. All 0 without blood, and for subarachnoid blood, which lies in no one place.
    """
    places, slices = (_table(Path(truth) / name) for name in LOCATION_FILES)
    bleeds = places[places["kind"] == "bleed"]
    found = dict(zip(zip(bleeds["study_id"], bleeds["name"], strict=True), _sites(bleeds), strict=True))
    volumes = slices[[f"ml_{name}" for name in SUBTYPES]].to_numpy(np.float64)
    most = [SUBTYPES[column] for column in volumes.argmax(axis=1)]
    site = [
        found[study, name] if bleeding and name != "subarachnoid" else None
        for study, name, bleeding in zip(slices["study_id"], most, slices["any"] == 1, strict=True)
    ]
    shown = {column: np.array([one == column for one in site], np.float64) for column in SITES}
    return pd.DataFrame(shown, pd.Index(slices["image_id"], name="image_id"))


def _sites(bleeds: pd.DataFrame) -> list[str]:
    fixed = {"epidural": "lobar", "subdural": "lobar", "intraventricular": "deep"}
    return [fixed.get(bleed.name) or site_of(bleed.x, bleed.y, bleed.z) for bleed in bleeds.itertuples(False)]


def site_of(x: float, y: float, z: float) -> str:
    """One of SITES of a point in the brain: mm from the third ventricle to the left, the back and the vertex.

    Deep: basal ganglia, thalamus, capsules. Subtentorial: below a tent whose ridge lies in the midline, and
    behind the petrous bones. All else is lobar.
    """
    if abs(x) < 36 and -20 < y < 24 and -8 < z < 18:
        return "deep"
    tent = 15 - 0.48 * abs(x) - 0.3 * max(y - 36, 0)
    return "subtentorial" if z < tent and y > 4 + 0.42 * abs(x) else "lobar"


def _table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise UserError(
            f"{path}: missing; site_labels `truth` needs synthetic data, with `truth` beside RAW_DATA_DIR"
        )
    return pd.read_parquet(path)
