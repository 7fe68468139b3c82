"""The prepared folder: its files' names, its tables, its manifest. The columns are those of
docs/data_card.md.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import UserError
from ..files import read_json

SLICES, STUDIES, FOLDS, QUARANTINE = "slices.parquet", "studies.parquet", "folds.csv", "quarantine.csv"
MANIFEST, VOLUMES, MASKS, SERIES = "manifest.json", "volumes", "masks", "series.csv"
PREVIOUS = ".manifest.json.previous"  # while a run replaces the tables


def read_manifest(clean_dir: Path | str) -> dict[str, Any]:
    """What was prepared, and how; `fingerprint` changes exactly when the usable data or the settings do.

    The manifest is written last: a folder without one is not prepared, which raises UserError.
    """
    path = Path(clean_dir) / MANIFEST
    if not path.is_file():
        raise UserError(
            f"{clean_dir}: no {MANIFEST}, so no (or unfinished) prepared data; run: python prepare_data.py"
        )
    return read_json(path)


def read_slices(clean_dir: Path | str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """One row per image, quarantined ones included, by study and order; all columns or those named."""
    read_manifest(clean_dir)
    return pd.read_parquet(Path(clean_dir) / SLICES, columns=None if columns is None else list(columns))


def read_studies(clean_dir: Path | str) -> pd.DataFrame:
    """study_id, patient_id and the study labels where the data set has them."""
    read_manifest(clean_dir)
    return pd.read_parquet(Path(clean_dir) / STUDIES)


def read_folds(clean_dir: Path | str) -> pd.DataFrame:
    """patient_id (unique), fold."""
    read_manifest(clean_dir)
    return pd.read_csv(Path(clean_dir) / FOLDS, dtype={"patient_id": "str", "fold": "int64"})
