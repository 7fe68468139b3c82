"""The table of slices as far as headers tell it: causes, positions, order, and the files of every study."""

import hashlib
import itertools
from collections.abc import Iterable

import numpy as np
import pandas as pd

from ...errors import UserError
from .. import geometry
from ..dicom import scan_headers
from ..source import Source
from ..square import Square
from . import checks
from .inventory import Inventory
from .options import Options
from .packing import ImageFile, StudyFiles


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
    placed = slices.loc[usable, geometry.PLACED_BY]
    found = pd.Series(geometry.positions(placed), index=placed.index)
    slices["position_mm"] = slices["position_mm"].fillna(found) if "position_mm" in slices else found
    slices["tilt_deg"] = geometry.tilt_degrees(slices)
    return slices.join(geometry.order_slices(slices.loc[usable, geometry.ORDERED_BY])), series


def study_files(slices: pd.DataFrame, sources: list[Source | None], options: Options) -> list[StudyFiles]:
    """The images to decode, by study in the order of study ids, slices in slice order."""
    usable = _in_order(slices)
    moves = geometry.shifts(usable).round(4) if options.correct_tilt else np.zeros((len(usable), 2))
    if np.isnan(moves).any():
        study = usable["study_id"].to_numpy()[np.isnan(moves).any(axis=1)][0]
        raise UserError(f"--correct-tilt: the slices of study {study} have no positions; leave the flag out")
    files = [sources[row] for row in usable.index]
    images = map(ImageFile, usable["image_id"], files, map(tuple, moves.tolist()))
    return _by_study(usable["study_id"], images, one_piece=options.crop)


def mask_files(slices: pd.DataFrame, masks: list[Source | None], options: Options) -> list[StudyFiles]:
    """The masks of the usable images, with the squares to which their images were cut."""
    usable = _in_order(slices)
    usable = usable[[masks[row] is not None for row in usable.index]]
    squares = usable[["square_top", "square_left", "square_side"]].to_numpy().tolist()
    shapes = usable[["rows", "columns"]].to_numpy(dtype=int).tolist()
    images = (
        ImageFile(image_id, masks[row], square=Square(*square), shape=tuple(shape))
        for image_id, row, square, shape in zip(
            usable["image_id"], usable.index, squares, shapes, strict=True
        )
    )
    return _by_study(usable["study_id"], images, one_piece=False)


def _in_order(slices: pd.DataFrame) -> pd.DataFrame:
    return slices[slices["cause"].isna()].sort_values(["study_id", "order"])


def _by_study(study_ids: Iterable[str], images: Iterable[ImageFile], one_piece: bool) -> list[StudyFiles]:
    """Both run along the slices, study by study."""
    pairs = itertools.groupby(zip(study_ids, images, strict=True), key=lambda pair: pair[0])
    return [StudyFiles.of(study, [image for _, image in held], one_piece) for study, held in pairs]


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
    for name in ("study_id", "series_id"):
        slices[name] = slices[name].mask(slices[name] == "")
    slices = _with_patients(slices)
    if "units" not in slices:
        slices["units"] = "hu"
    if inventory.image_id_is_uid:
        other = slices["sop_instance_uid"].notna() & (slices["sop_instance_uid"] != slices["image_id"])
        wrong = slices[other & slices["cause"].isna()]
        if len(wrong):
            name, uid = wrong["image_id"], wrong["sop_instance_uid"]
            text = "wrong name: the file is called " + name + ", SOPInstanceUID is " + uid
            slices.loc[wrong.index, "cause"] = text
    return slices


def _with_patients(slices: pd.DataFrame) -> pd.DataFrame:
    """Where PatientID is absent or empty, as in anonymised exports, the study's other images tell the
    patient, else the study stands for one; `patient_assumed` says so.
    """
    patient = slices["patient_id"].mask(slices["patient_id"] == "")
    if patient.notna().all():
        return slices.assign(patient_assumed=False)
    of_study = patient.groupby(slices["study_id"]).transform("first")
    filled = patient.fillna(of_study).fillna(slices["study_id"])
    return slices.assign(patient_id=filled, patient_assumed=patient.isna() & filled.notna())


def _some_studies(slices: pd.DataFrame, limit: int) -> list[str]:
    """`limit` studies that look like a random choice and are the same every time."""
    studies = slices["study_id"].dropna().unique()
    return sorted(studies, key=lambda study: hashlib.sha256(study.encode()).digest())[:limit]
