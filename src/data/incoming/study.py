"""One study prepared for prediction as any data set is, and what is doubtful about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...errors import UserError
from ..dicom import scan_headers
from ..formats.images import decode_source
from ..hu import Slice
from ..preparation.inventory import Inventory, empty_labels
from ..preparation.options import Options
from ..preparation.prepare import prepare
from ..prepared import GEOMETRY, SERIES, Prepared
from ..readers.nifti import volume_slices
from ..source import Source
from .choice import COUNTED, FEWEST, SHORTEST_MM, choose
from .find import Incoming
from .gaps import find_gaps
from .looks import MOST_SLICES, Look, doubts, look_at, refusal
from .tags import read_identity, read_tags

Axis = tuple[float, float, float]
NO_LOSS = ("duplicate", "localizer", "non-axial", "other plane")  # classes of cause that leave no gap


@dataclass(frozen=True)
class PreparedStudy:
    """A study that can be predicted.

    slices    the usable ones in order: image_id (index), sop_instance_uid ("" of a volume), order,
              position_mm (missing where InstanceNumber told the order)
    left_out  every other file: name, cause
    series    what was chosen among, see `choose`; empty of a volume
    axes      directions along a row and down a column, patient coordinates (LPS); None where unknown
    identity  what names the patient or the file, by its meaning
    """

    study_id: str
    prepared: Prepared
    slices: pd.DataFrame
    left_out: pd.DataFrame
    series: pd.DataFrame
    axes: tuple[Axis, Axis] | None
    identity: dict[str, str]
    look: Look
    warnings: list[str]


def prepare_study(
    study: Incoming, geometry: Mapping[str, Any], folder: Path, series: str | None = None, jobs: int = 1
) -> PreparedStudy:
    """Prepare one study into `folder` as slices of `geometry` (size, crop ...; see `Prepared.geometry`).

    series: the SeriesInstanceUID to use against the rules' choice. Raises UserError where nothing in it can
    be a head CT in HU.
    """
    if geometry.get("units", "hu") != "hu":
        raise UserError(f"{study.study_id}: these networks were trained on gray images, not on HU")
    options = Options(
        dataset="nifti" if study.volume else "dicom", **{name: geometry[name] for name in GEOMETRY}
    )
    inventory = _volume(study, series) if study.volume else _images(study, series)
    prepare(Path(study.study_id), folder, options, jobs, inventory)
    prepared = Prepared(folder)
    table = _series(folder)
    usable = prepared.slices[prepared.slices["status"] == "ok"].set_index("image_id")
    look = _look(usable, dict(zip(inventory.images["image_id"], inventory.sources, strict=True)))
    if (reason := refusal(look)) is not None:
        raise UserError(f"{study.study_id}: {reason}; give a head CT in HU")
    by_number = len(table) > 0 and table.loc[table["chosen"], "placed_by"].iloc[0] == "InstanceNumber"
    names = dict(zip(inventory.images["image_id"], inventory.images["path"], strict=True))
    said = [*_of_series(table), *_of_places(usable, by_number), *_of_bad_slices(prepared.slices, names)]
    return PreparedStudy(
        study_id=study.study_id,
        prepared=prepared,
        slices=_slices(usable, by_number, dict(zip(names, study.uids, strict=not study.volume))),
        left_out=_left_out(prepared.slices, names),
        series=table,
        axes=None if by_number else _axes(usable.index[0], inventory),
        identity=_identity(study, usable.index[0], inventory),
        look=look,
        warnings=[*said, *doubts(look)],
    )


def _slices(usable: pd.DataFrame, by_number: bool, uids: Mapping[str, str]) -> pd.DataFrame:
    """As in `PreparedStudy`. Places that were made of InstanceNumber are not given."""
    places = np.full(len(usable), np.nan) if by_number else usable["position_mm"]
    known = [uids.get(image, "") for image in usable.index]
    return usable[["order"]].assign(position_mm=places, sop_instance_uid=known)


def _images(study: Incoming, series: str | None) -> Inventory:
    """Images are called by their SOPInstanceUID, so that a file's name changes nothing; a repeated one or one
    without UID gets a number."""
    uids = pd.Series(study.uids, dtype="str")
    repeat = uids.groupby(uids).cumcount()
    ids = uids.where((repeat == 0) & (uids != ""), uids + "~" + repeat.astype("str"))
    images = pd.DataFrame({"image_id": ids, "path": study.names, "split": "test", "cause": None})
    tags = read_tags(study.paths)
    return Inventory(
        images.join(empty_labels(images.index)),
        list(study.paths),
        choose_series=partial(choose, tags=tags, wanted=series),
    )


def _volume(study: Incoming, series: str | None) -> Inventory:
    if series is not None:
        raise UserError(f"--series {series}: {study.names[0]} is a NIfTI volume, which has no series")
    slices, headers, cause = volume_slices(Path(study.paths[0]))
    numbers = range(1, len(slices) + 1)
    images = pd.DataFrame({"image_id": [f"{study.study_id}/{number}" for number in numbers]})
    known = {name: study.study_id for name in ("study_id", "series_id", "patient_id")}
    images = images.assign(path=study.names[0], split="test", units="hu", cause=cause, **known)
    return Inventory(images.join(empty_labels(images.index)), slices, headers=headers)


def _axes(image_id: str, inventory: Inventory) -> tuple[Axis, Axis]:
    """Of one slice, as its header states them."""
    row = int(np.flatnonzero(inventory.images["image_id"] == image_id)[0])
    headers, at = inventory.headers, row
    if headers is None:
        headers, at = scan_headers([inventory.sources[row]]), 0
    along, down = (headers.iloc[at][[f"{name}_{axis}" for axis in "xyz"]] for name in ("row", "column"))
    return tuple(map(float, along)), tuple(map(float, down))


def _identity(study: Incoming, image_id: str, inventory: Inventory) -> dict[str, str]:
    if study.volume:
        return {"file": study.names[0]}
    row = int(np.flatnonzero(inventory.images["image_id"] == image_id)[0])
    return read_identity(study.paths[row])


def _series(folder: Path) -> pd.DataFrame:
    path = folder / SERIES
    return (
        pd.read_csv(path, dtype={"series": "str"}, keep_default_na=True) if path.is_file() else pd.DataFrame()
    )


def _look(usable: pd.DataFrame, files: Mapping[str, Source | None]) -> Look:
    """At evenly spaced slices as they were decoded: what they were cut or resized to must not matter."""
    rows = np.unique(np.linspace(0, len(usable) - 1, MOST_SLICES).round().astype(int))
    chosen = usable.iloc[rows]
    decoded = [decode_source(files[image]) for image in chosen.index]
    good = [
        (image.values, side)
        for image, side in zip(decoded, chosen["pixel_spacing_mm"], strict=True)
        if isinstance(image, Slice)
    ]
    return look_at(*zip(*good, strict=True))


def _left_out(slices: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    bad = slices[slices["status"] != "ok"]
    table = pd.DataFrame(
        {"name": [names[image] for image in bad["image_id"]], "cause": bad["cause"].tolist()}
    )
    return table.sort_values(["name", "cause"], ignore_index=True)


def _of_series(table: pd.DataFrame) -> list[str]:
    """What speaks against the series that was chosen all the same."""
    if len(table) == 0:
        return []
    against = table.loc[table["chosen"], "against"].iloc[0]
    said = [] if pd.isna(against) else str(against).split("; ")
    return [reason for reason in said if not reason.startswith(COUNTED)]


def _of_places(usable: pd.DataFrame, by_number: bool) -> list[str]:
    if by_number:
        return [
            "no positions: the order is that of InstanceNumber, whose direction is unknown, and steps are "
            "not known"
        ]
    places = usable["position_mm"].to_numpy()
    said = [f"missing slices: {gap}; nothing was put in their place" for gap in find_gaps(places)]
    if len(usable) < FEWEST:
        said.append(f"fewer than {FEWEST} slices: {len(usable)}; a network sees no neighbours")
    elif np.ptp(places) < SHORTEST_MM:
        said.append(
            f"part of the head may be missing: the slices cover {np.ptp(places):.0f} mm, those of 2,210 of "
            f"2,213 complete series {SHORTEST_MM:.0f} or more"
        )
    return said


def _of_bad_slices(slices: pd.DataFrame, names: Mapping[str, str]) -> list[str]:
    """Slices of the chosen series that cannot be used: they leave a gap that must be known."""
    chosen = slices.loc[slices["status"] == "ok", "series_id"].iloc[0]
    bad = slices[(slices["status"] != "ok") & (slices["series_id"] == chosen)]
    bad = bad[~bad["cause"].str.split(":").str[0].isin(NO_LOSS)]
    places = bad["position_mm"].map(lambda place: "" if pd.isna(place) else f" at {place:.1f} mm")
    return [
        f"unusable slice{place}: {names[image]}: {cause}"
        for place, image, cause in zip(places, bad["image_id"], bad["cause"], strict=True)
    ]
