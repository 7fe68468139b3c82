"""Predictions made elsewhere: the contest's long CSV, without the images that could not be read."""

import logging
from collections.abc import Mapping

import pandas as pd

from ..data.contest_csv import read_long
from .ensemble_config import External

log = logging.getLogger("ich")


def read_external(
    external: Mapping[str, External], slices: pd.DataFrame
) -> dict[str, tuple[pd.DataFrame | None, pd.DataFrame]]:
    """`external/<name>` -> held-out (None where there are none) and test probabilities (index image_id,
    columns LABELS).

    Any team's files also hold the quarantined images, which no run of ours predicts; they are left out, and
    how many is said. Whether the images are the right ones is checked where all members are.
    """
    quarantined = slices.loc[slices["status"] == "quarantined", "image_id"]

    def read(name: str, file: str) -> pd.DataFrame:
        table = read_long(file, labels=False)
        left_out = table.index.isin(quarantined)
        if left_out.any():
            log.info("external/%s: %d quarantined images of %s are left out", name, left_out.sum(), file)
        return table[~left_out]

    return {
        f"external/{name}": (None if files.oof is None else read(name, files.oof), read(name, files.test))
        for name, files in external.items()
    }
