"""Reading the prepared volumes: any slice, any batch of slices, any whole study, as exact int16 HU."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import UserError
from .pack import Pack

OPEN_FILES = 400  # below the usual limit of 1024 descriptors a process


class Volumes:
    """The volumes of a prepared data set. Threads may share one; a copy sent to another process opens its own
    files.
    """

    def __init__(self, folder: Path, stored: pd.DataFrame, size: int) -> None:
        """folder: of the packs; stored: image_id, study_id, order, volume (a pack's name) and index (a row of
        it) of every image; size: side of a slice in pixels.
        """
        self.folder, self.size = folder, size
        stored = stored.sort_values(["study_id", "order"])
        self.image_ids: list[str] = stored["image_id"].tolist()
        self._row = {image_id: row for row, image_id in enumerate(self.image_ids)}
        studies, first = np.unique(stored["study_id"].to_numpy(dtype=str), return_index=True)
        ends = np.r_[first[1:], len(stored)].tolist() if len(studies) else []
        self._studies = {
            study: slice(*span) for study, *span in zip(studies.tolist(), first.tolist(), ends, strict=True)
        }
        self._pack, self._names = pd.factorize(stored["volume"])
        self._index = stored["index"].to_numpy(dtype=np.int64)
        self._open: OrderedDict[int, Pack] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def study_ids(self) -> list[str]:
        return list(self._studies)

    def slice(self, image_id: str) -> np.ndarray:
        """(size, size) int16 HU of one image."""
        return self.slices([image_id])[0]

    def slices(self, image_ids: Sequence[str]) -> np.ndarray:
        """(n, size, size) int16 HU in the order of `image_ids`. Raises UserError naming an id that is not
        there.
        """
        try:
            rows = np.array([self._row[image_id] for image_id in image_ids], dtype=np.int64)
        except KeyError as error:
            raise UserError(self._missing("image", str(error.args[0]))) from None
        return self._read(rows)

    def study(self, study_id: str) -> np.ndarray:
        """(slices, size, size) int16 HU of a study's usable slices in slice order."""
        if study_id not in self._studies:
            raise UserError(self._missing("study", study_id))
        span = self._studies[study_id]
        return self._read(np.arange(span.start, span.stop))

    def study_images(self, study_id: str) -> list[str]:
        """The image ids of `study(study_id)`, in the same order."""
        if study_id not in self._studies:
            raise UserError(self._missing("study", study_id))
        return self.image_ids[self._studies[study_id]]

    def verify(self) -> None:
        """Check the checksum of everything stored. Raises UserError naming the first damaged file."""
        for name in self._names:
            Pack(self.folder / name).verify()

    def _read(self, rows: np.ndarray) -> np.ndarray:
        out = np.empty((len(rows), self.size, self.size), dtype=np.int16)
        packs = self._pack[rows]
        for number in np.unique(packs):
            where = np.flatnonzero(packs == number)
            self._get(int(number)).read(self._index[rows[where]], out, where)
        return out

    def _get(self, number: int) -> Pack:
        """An open pack, the least recently used one given up. Readers that still hold it keep it open."""
        with self._lock:
            pack = self._open.pop(number, None) or Pack(self.folder / self._names[number])
            self._open[number] = pack
            if len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)
            return pack

    def _missing(self, what: str, key: str) -> str:
        return (
            f"{self.folder.parent}: no usable {what} {key!r}; quarantine.csv there tells why one is missing, "
            "prepare_data.py adds new ones"
        )

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_open", "_lock")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state, _open=OrderedDict(), _lock=threading.Lock())


def open_volumes(clean_dir: Path | str) -> Volumes:
    """The volumes below a prepared folder. Raises UserError when it is not prepared."""
    from .prepared import Prepared

    return Prepared(clean_dir).volumes
