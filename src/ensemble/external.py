"""Predictions made elsewhere, as members: the contest's long CSV, checked to hold the same images."""

from collections.abc import Mapping

import pandas as pd

from ..data.contest_csv import read_long
from .ensemble_config import External


def read_external(
    external: Mapping[str, External], slices: pd.DataFrame
) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """`external/<name>` -> held-out and test probabilities (index image_id, columns LABELS).

    A submission also holds the quarantined test images, which no run of ours predicts; they are left out.
    Whether the images are the right ones is checked where all members are.
    """
    quarantined = slices.loc[slices["status"] == "quarantined", "image_id"]
    members = {}
    for name, files in external.items():
        oof, test = read_long(files.oof, labels=False), read_long(files.test, labels=False)
        members[f"external/{name}"] = oof, test[~test.index.isin(quarantined)]
    return members
