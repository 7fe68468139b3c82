"""Cutting stored slices to the head when they are read, for data prepared without `--crop`."""

import numpy as np

from ...data.crop import head_square
from ...data.prepared import Prepared
from ...data.square import Square, extract, whole


class HeadSquares:
    """The square of every study that prepare_data.py --crop would have cut; data cut already are left whole.

    A study's square is found when its first slice is asked for, from all its slices, and kept.
    """

    def __init__(self, prepared: Prepared):
        self.volumes = volumes = prepared.volumes
        self.cut_already = bool(prepared.settings.get("crop"))
        self.study_of = {image: study for study in volumes.study_ids for image in volumes.study_images(study)}
        self.squares: dict[str, Square] = {}

    def cut(self, image_id: str, values: np.ndarray, fill: int) -> np.ndarray:
        """(size, size) int16 as stored -> the same size, its head alone; `fill` beyond the stored slice."""
        return extract(values, self.of(image_id), self.volumes.size, fill)

    def of(self, image_id: str) -> Square:
        """In pixels of the stored slice; the same for all slices of a study."""
        if self.cut_already:
            return whole(self.volumes.size, self.volumes.size)
        study_id = self.study_of[image_id]
        if study_id not in self.squares:
            slices = self.volumes.study(study_id)
            self.squares[study_id] = head_square(list(slices), [(0.0, 0.0)] * len(slices))
        return self.squares[study_id]
