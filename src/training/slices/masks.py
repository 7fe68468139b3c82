"""Masks of bleeding for the auxiliary segmentation task, in the geometry of the stored slices."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Protocol

import cv2
import numpy as np
import pandas as pd

from ...config import OneOf
from ...data.prepared import Prepared
from ...data.square import Square, extract
from ...data.synthetic_truth import read_masks
from ...errors import UserError
from ...models.segmentation import DecoderOptions

INSIDE = 255  # value of a pixel in the bleeding; leaves room for averaging


class Masks(Protocol):
    """Some images have a mask."""

    def __contains__(self, image_id: object) -> bool: ...

    def read(self, image_id: str) -> np.ndarray:
        """(size, size) int16, 255 inside the bleeding, 0 outside."""
        ...


class PreparedMasks:
    """The masks a data set comes with, as prepare_data.py stored them. UserError where it has none."""

    def __init__(self, prepared: Prepared):
        self.volumes = prepared.masks
        self.known = frozenset(self.volumes.image_ids)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self.known

    def read(self, image_id: str) -> np.ndarray:
        return (self.volumes.slice(image_id) > 0).astype(np.int16) * INSIDE


class TruthMasks:
    """The masks of a synthetic data set, all subtypes in one; the folder `truth` beside the raw data.

    Held in memory, a bit a pixel: 8 kB an image.
    """

    def __init__(self, truth: Path, prepared: Prepared):
        if not (truth / "masks").is_dir():
            raise UserError(f"{truth}: no masks there; segmentation.masks `truth` needs synthetic data")
        order = pd.read_parquet(truth / "slices.parquet", columns=["image_id", "study_id", "order"])
        images = order.sort_values("order").groupby("study_id")["image_id"].agg(list)
        slices = prepared.slices
        slices = slices[slices["status"] == "ok"].set_index("image_id")
        self.size, self.bits, self.place = prepared.size, {}, {}
        for study_id, rows in slices.groupby("study_id"):
            if study_id not in images:
                continue
            blood = read_masks(truth, study_id)[0].any(axis=1)
            bits = dict(zip(images[study_id], map(np.packbits, blood), strict=True))
            for row in rows.itertuples():
                self.bits[row.Index] = bits[row.Index]
                square = Square(row.square_top, row.square_left, row.square_side)
                self.place[row.Index] = (blood.shape[1:], (int(row.rows), int(row.columns)), square)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self.place

    def read(self, image_id: str) -> np.ndarray:
        grid, (rows, columns), square = self.place[image_id]
        mask = np.unpackbits(self.bits[image_id], count=grid[0] * grid[1]).reshape(grid)
        image = cv2.resize(mask, (columns, rows), interpolation=cv2.INTER_NEAREST)
        return extract(image.astype(np.int16) * INSIDE, square, self.size, fill=0)


SOURCES: dict[str, Callable[[Path, Prepared], Masks]] = {  # of raw and prepared data
    "prepared": lambda raw, prepared: PreparedMasks(prepared),
    "truth": lambda raw, prepared: TruthMasks(raw.parent / "truth", prepared),
}


class Segmentation(DecoderOptions):
    """The auxiliary task: where the blood is."""

    masks: Annotated[str, OneOf(SOURCES)]
    """prepared: the data set's own; truth: those of synthetic data, beside RAW_DATA_DIR"""


def open_mask_source(kind: str, raw: Path, prepared: Prepared) -> Masks:
    """One of SOURCES."""
    return SOURCES[kind](raw, prepared)
