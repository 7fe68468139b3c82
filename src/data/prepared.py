"""A prepared data set, opened once and handed down: manifest, tables, volumes.

The columns are those of docs/data_card.md.
"""

from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import UserError
from ..files import file_sha256, fingerprint, read_json, read_parquet
from .folds import read_fold_file
from .volumes import Volumes

SLICES, STUDIES, FOLDS, QUARANTINE = "slices.parquet", "studies.parquet", "folds.csv", "quarantine.csv"
MANIFEST, VOLUMES, MASKS, SERIES = "manifest.json", "volumes", "masks", "series.csv"
PREVIOUS = ".manifest.json.previous"  # while a run replaces the tables
FORMAT = 2  # of the manifest; raise it when a folder must be written anew
TEST = -1  # in place of a fold, of patients in the test part of a division
GEOMETRY = ("size", "crop", "remove_holder", "correct_tilt")  # settings that a network gets used to


class Prepared:
    """What prepare_data.py wrote. Every table is read when first asked for, and once.

    The manifest is written last: a folder without one is not prepared, which raises UserError, as does a
    table that is not the one the manifest was written for.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        path = self.folder / MANIFEST
        if not path.is_file():
            raise UserError(
                f"{folder}: no {MANIFEST}, so no (or unfinished) prepared data; run: python prepare_data.py, "
                "with the same --settings"
            )
        self.manifest: dict[str, Any] = read_json(path)
        if self.manifest.get("format") != FORMAT:
            raise UserError(
                f"{path}: of another version of this program; run prepare_data.py again, which keeps the "
                "volumes"
            )

    def __str__(self) -> str:
        return str(self.folder)

    def __reduce__(self) -> tuple[type["Prepared"], tuple[Path]]:
        return Prepared, (self.folder,)  # another process opens the folder anew

    @property
    def settings(self) -> dict[str, Any]:
        """The options it was prepared with."""
        return self.manifest["settings"]

    @property
    def size(self) -> int:
        """Side of the stored slices in pixels."""
        return self.settings["size"]

    @property
    def synthetic(self) -> bool:
        """Whether the images were drawn by `src.data.phantom`."""
        return self.manifest.get("synthetic", False)

    @property
    def fingerprint(self) -> str:
        """Of all that training reads: usable training slices, their labels and pixels, folds, geometry."""
        return self.manifest["fingerprint"]

    @property
    def test_fingerprint(self) -> str:
        """Of the test part; new test images change this one alone."""
        return self.manifest["test_fingerprint"]

    @cached_property
    def geometry(self) -> dict[str, Any]:
        """What must be alike where a network is used on other data than it was trained on."""
        units = self.slices.loc[self.slices["status"] == "ok", "units"].unique()
        chosen = {name: self.settings.get(name) for name in GEOMETRY}
        return chosen | {"units": "+".join(sorted(map(str, units)))}

    @cached_property
    def slices(self) -> pd.DataFrame:
        """One row an image, quarantined ones included, by study and order."""
        return read_parquet(self._checked(SLICES))

    def joined(self, columns: pd.DataFrame) -> "Prepared":
        """The same data with further columns of its slices; index image_id, NaN where an image has none."""
        other = copy(self)
        other.slices = self.slices.join(columns, on="image_id")
        return other

    @cached_property
    def studies(self) -> pd.DataFrame:
        """study_id, patient_id and the study labels where the data set has them."""
        return read_parquet(self._checked(STUDIES))

    @cached_property
    def folds(self) -> pd.DataFrame:
        """patient_id (unique), fold."""
        return read_fold_file(self._checked(FOLDS))

    @cached_property
    def volumes(self) -> Volumes:
        """HU of every usable slice."""
        return Volumes(self.folder / VOLUMES, self._stored("volume", "volume_index"), self.size)

    @cached_property
    def masks(self) -> Volumes:
        """Masks of bleeding (1 inside) of the images that have one. UserError if none has."""
        if not self.manifest["masks"]:
            raise UserError(f"{self}: this data set has no masks; `physionet` has")
        return Volumes(self.folder / MASKS, self._stored("mask_volume", "mask_index"), self.size)

    def divided(self, parts: pd.DataFrame) -> "Prepared":
        """The labelled part alone, divided anew; parts: patient_id, fold, TEST for the new test part.

        Patients without a row are left out. Nothing is written: runs are trained and predicted on it as on a
        folder that was prepared so.
        """
        fold = parts.set_index("patient_id")["fold"]
        slices = self.slices[(self.slices["split"] == "train") & self.slices["patient_id"].isin(fold.index)]
        tested = slices["patient_id"].map(fold) == TEST
        other = copy(self)
        other.slices = slices.assign(split=np.where(tested, "test", "train")).reset_index(drop=True)
        other.folds = parts[parts["fold"] != TEST].reset_index(drop=True)
        other.manifest = self.manifest | fingerprints(
            other.slices, self.studies, other.folds, self.settings
        )  # fmt: skip
        return other

    def _stored(self, volume: str, index: str) -> pd.DataFrame:
        columns = ["image_id", "study_id", "order", volume, index]
        stored = (self.slices["status"] == "ok") & self.slices[volume].notna()
        return self.slices.loc[stored, columns].set_axis([*columns[:3], "volume", "index"], axis=1)

    def _checked(self, name: str) -> Path:
        """The path of a table whose content is the one the manifest names; else UserError."""
        path = self.folder / name
        if not path.is_file():
            raise UserError(f"{path}: missing; run: python prepare_data.py, with the same --settings")
        if file_sha256(path) != self.manifest["tables"][name]:
            raise UserError(
                f"{path}: is not as prepare_data.py wrote it; run prepare_data.py, with --folds-file for "
                "folds of your own"
            )
        return path


def table_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of the tables that `Prepared` checks, for the manifest."""
    return {name: file_sha256(folder / name) for name in (SLICES, STUDIES, FOLDS)}


def fingerprints(
    slices: pd.DataFrame, studies: pd.DataFrame, folds: pd.DataFrame, settings: dict[str, Any]
) -> dict[str, str]:
    """`fingerprint` and `test_fingerprint` of the manifest; pixels are in them by their hashes.

    Where a slice is stored does not count, nor do quarantined training images.
    """
    place = [n for n in slices if n.endswith(("volume", "_index")) and n != "class_index"]
    rows, training = _row_hashes(slices.drop(columns=place)), (slices["split"] == "train").to_numpy()
    used = training & (slices["status"] == "ok").to_numpy()
    studied = studies["study_id"].isin(slices.loc[training, "study_id"])
    chosen = {name: settings.get(name) for name in ("dataset", *GEOMETRY)}
    trained = [_digest(rows[used]), digest(studies[studied]), digest(folds)]
    return {
        "fingerprint": fingerprint([trained, chosen]),
        "test_fingerprint": fingerprint([_digest(rows[~training]), chosen]),
    }


def study_digests(slices: pd.DataFrame) -> dict[str, str]:
    """study_id -> 16 hex digits of its images, order, pixels and windows: what a prediction depends on."""
    columns = ["image_id", "order", "position_mm", "pixel_hash", "status", "window_center", "window_width"]
    return {str(study): digest(rows[columns]) for study, rows in slices.groupby("study_id")}


def digest(table: pd.DataFrame) -> str:
    """16 hex digits of a table's values, in order."""
    return _digest(_row_hashes(table))


def _row_hashes(table: pd.DataFrame) -> np.ndarray:
    """(rows,) uint64, each of its row alone."""
    return pd.util.hash_pandas_object(table, index=False).to_numpy()


def _digest(hashes: np.ndarray) -> str:
    return fingerprint(hashes.tobytes().hex())
