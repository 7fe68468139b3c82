"""The table of slices as far as headers tell it: causes, positions, order, and the files of every study."""

import hashlib
import itertools

import numpy as np
import pandas as pd

from ..errors import UserError
from . import checks, geometry
from .dicom import scan_headers
from .inventory import Inventory
from .options import Options
from .packing import StudyFiles
from .source import Source
from .square import Square


def describe(inventory: Inventory, options: Options, jobs: int) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """-> one row per image in the inventory's order (index: its row), and the table of series choices, if
    any.

    Causes found by the reader come first, then those of the file itself, then those of its study.
    """
    slices = _join_headers(inventory, jobs)
    if options.limit is not None:
        slices = slices[slices["study_id"].isin(_some_studies(slices, options.limit))]
    slices["cause"] = checks.mark_spread_studies(slices)
    series = None
    if inventory.choose_series is not None:
        slices, series = inventory.choose_series(slices)
    usable = slices["cause"].isna()
    slices["position_mm"] = pd.Series(geometry.positions(slices[usable]), index=slices.index[usable])
    slices["tilt_deg"] = geometry.tilt_degrees(slices)
    return slices.join(geometry.order_slices(slices[usable])), series


def study_files(slices: pd.DataFrame, sources: list[Source | None], options: Options) -> list[StudyFiles]:
    """The images to decode, by study in the order of study ids, slices in slice order."""
    usable = _in_order(slices)
    moves = geometry.shifts(usable).round(4) if options.correct_tilt else np.zeros((len(usable), 2))
    if np.isnan(moves).any():
        study = usable["study_id"].to_numpy()[np.isnan(moves).any(axis=1)][0]
        raise UserError(f"--correct-tilt: the slices of study {study} have no positions; leave the flag out")
    return _by_study(usable, sources, moves.tolist())


def mask_files(slices: pd.DataFrame, masks: list[Source | None], options: Options) -> list[StudyFiles]:
    """The masks of the usable images, with the squares to which their images were cut."""
    usable = _in_order(slices)
    usable = usable[[masks[row] is not None for row in usable.index]]
    squares = usable[["square_top", "square_left", "square_side"]].to_numpy().tolist()
    return _by_study(usable, masks, [(0.0, 0.0)] * len(usable), [Square(*square) for square in squares])


def _in_order(slices: pd.DataFrame) -> pd.DataFrame:
    return slices[slices["cause"].isna()].sort_values(["study_id", "order"])


def _by_study(
    usable: pd.DataFrame,
    sources: list[Source | None],
    moves: list[tuple[float, float]],
    squares: list[Square] | None = None,
) -> list[StudyFiles]:
    names = usable["study_id"].to_numpy()
    bounds = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)] if len(names) else []
    image_ids = usable["image_id"].tolist()
    files = [sources[row] for row in usable.index]
    studies = []
    for start, end in itertools.pairwise(bounds):
        span = slice(start, end)
        cut = None if squares is None else squares[span]
        studies.append(
            StudyFiles(names[start], image_ids[span], files[span], [tuple(m) for m in moves[span]], cut)
        )
    return studies


def _join_headers(inventory: Inventory, jobs: int) -> pd.DataFrame:
    images = inventory.images.reset_index(drop=True)
    rows = [row for row, source in enumerate(inventory.sources) if source is not None]
    headers = inventory.headers
    if headers is None:
        headers = scan_headers([inventory.sources[row] for row in rows], jobs)
        file_cause = checks.cause_of(headers).set_axis(rows).reindex(images.index)
        images["cause"] = images["cause"].where(images["cause"].notna(), file_cause)
    known = headers.columns.intersection(
        images.columns
    )  # what the reader says of a study goes before the header
    slices = images.join(headers.drop(columns=known).set_axis(rows))
    if "units" not in slices:
        slices["units"] = "hu"
    if inventory.image_id_is_uid:
        other = slices["sop_instance_uid"].notna() & (slices["sop_instance_uid"] != slices["image_id"])
        text = (
            "wrong name: the file is called "
            + slices["image_id"]
            + ", SOPInstanceUID is "
            + slices["sop_instance_uid"]
        )
        slices["cause"] = slices["cause"].where(~other | slices["cause"].notna(), text)
    return slices


def _some_studies(slices: pd.DataFrame, limit: int) -> list[str]:
    """`limit` studies that look like a random choice and are the same every time."""
    studies = slices["study_id"].dropna().unique()
    return sorted(studies, key=lambda study: hashlib.sha256(study.encode()).digest())[:limit]
