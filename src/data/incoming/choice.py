"""Which series of a study is predicted: the axial head series without contrast, by stated and scored rules.

Everything that speaks against a series takes points from it. The one that lost least is used; among equals
the one with a step nearest 5 mm, then with most slices, then by name. What was chosen may still have lost
points: then that is said, for a network was not trained on such images.
"""

import re

import numpy as np
import pandas as pd

from ...errors import UserError
from ..geometry import AXES, normals
from ..preparation.inventory import OTHER_SERIES
from ..series import axial_extent, by_preference, said_by

# What is said against a series, and the points it loses.
POINTS = {
    "no axial CT slice": 100,
    "another region": 16,
    "fewer than 3 slices": 12,
    "reformatted": 8,
    "contrast": 6,
    "bone kernel": 4,
    "shorter than a head": 2,
}
FEWEST = 3
# 3 of 2,213 complete series of the contest are shorter
SHORTEST_MM = 110.0
COUNTED = ("fewer than", "shorter than")  # what begins so is told in other words
SHARP_KERNEL = re.compile(r"BONE|EDGE|LUNG|SHARP|\b[BHJ][A-Z]?[67]\d|\bFC[38]\d|\bY[CDE]\b", re.IGNORECASE)
NO_AGENT = ("NO", "NON", "NONE", "N", "0", "W/O", "WITHOUT", "OHNE")
HEAD = re.compile(r"HEAD|BRAIN|SKULL|CEREBR|CRAN|NEURO|KOPF|SCHAEDEL", re.IGNORECASE)
OTHER_PLANE_DEGREES = 5.0
OTHER_PLANE = "other plane"  # class of cause
NO_POSITION = ("missing tag: ImagePositionPatient", "missing tag: ImageOrientationPatient")
USUAL_STEP_MM = 5.0


def choose(
    slices: pd.DataFrame, tags: pd.DataFrame, wanted: str | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The slices (one study, with headers and causes; `tags` has their rows) with a cause for all but those
    of one series, and the table of series: series, description, slices, step_mm, length_mm, points, against,
    placed_by, chosen.

    wanted: the SeriesInstanceUID to use instead. Raises UserError where the study does not have it.
    """
    slices = _without_other_planes(_place_by_number(slices, tags))
    groups = slices.groupby(slices["series_id"].fillna(""), sort=True)
    table = pd.DataFrame([_series_row(name, group, tags.loc[group.index]) for name, group in groups])
    if wanted is not None and wanted not in set(table["series"]):
        known = ", ".join(table["series"])
        raise UserError(f"--series {wanted}: the study has no such series, but {known}")
    ranked = pd.concat([by_preference(rows) for _, rows in table.groupby("points", sort=True)])
    chosen = ranked["series"].iloc[0] if wanted is None else wanted
    ranked["chosen"] = ranked["series"] == chosen
    other = slices["cause"].isna() & (slices["series_id"].fillna("") != chosen)
    cause = slices["cause"].mask(other, f"{OTHER_SERIES}: {chosen} was chosen")
    return slices.assign(cause=cause), ranked.reset_index(drop=True)


def _place_by_number(slices: pd.DataFrame, tags: pd.DataFrame) -> pd.DataFrame:
    """Where no image of a series has a position, InstanceNumber tells the order: positions are made of it
    and of the stated step, or 5 mm; `placed_by` says so.
    """
    slices = slices.assign(placed_by="position")
    number = pd.to_numeric(tags["number"], errors="coerce")
    for _, group in slices.groupby(slices["series_id"].fillna("")):
        lacking = group.index[group["cause"].isin(NO_POSITION)]
        if len(lacking) == 0 or group["cause"].isna().any() or number[lacking].isna().any():
            continue
        step = tags.loc[lacking, ["spacing", "thickness"]].apply(pd.to_numeric, errors="coerce").median()
        known = [value for value in step if value > 0]
        upright = {"position_x": 0.0, "position_y": 0.0, "row_x": 1.0, "row_y": 0.0, "row_z": 0.0}
        upright |= {"column_x": 0.0, "column_y": 1.0, "column_z": 0.0, "cause": None}
        slices.loc[lacking, list(upright)] = list(upright.values())
        slices.loc[lacking, "position_z"] = number[lacking] * (known[0] if known else USUAL_STEP_MM)
        slices.loc[lacking, "placed_by"] = "InstanceNumber"
    return slices


def _without_other_planes(slices: pd.DataFrame) -> pd.DataFrame:
    """A cause for slices that do not lie in the plane of their series, such as a localizer within it."""
    usable = slices[slices["cause"].isna()]
    normal = pd.DataFrame(normals(usable), columns=list(AXES), index=usable.index)
    plane = normal.groupby(usable["series_id"]).transform("median")
    cosine = (normal * plane).sum(axis=1) / np.linalg.norm(plane, axis=1)
    degrees = np.degrees(np.arccos(cosine.clip(-1, 1)))
    far = degrees.index[degrees > OTHER_PLANE_DEGREES]
    text = f"{OTHER_PLANE}: turned by " + degrees[far].round().astype("Int64").astype("str") + " degrees"
    slices.loc[far, "cause"] = text + " from its series"
    return slices


def _series_row(name: str, group: pd.DataFrame, tags: pd.DataFrame) -> dict[str, object]:
    usable = group[group["cause"].isna()]
    count, step, length = axial_extent(usable)
    first = tags.loc[usable.index[0] if len(usable) else group.index[0]]
    against = _said_against(first, group) + _counted_against(count, length)
    if count == 0:
        against = [f"no axial CT slice: {group['cause'].iloc[0]}"]
    return {
        "series": name,
        "description": first["description"],
        "slices": count,
        "step_mm": step,
        "length_mm": length,
        "points": sum(POINTS[reason.split(":")[0]] for reason in against),
        "against": "; ".join(against),
        "placed_by": usable["placed_by"].iloc[0] if len(usable) else "",
    }


def _said_against(tags: pd.Series, group: pd.DataFrame) -> list[str]:
    """What the headers say, each with the element that says it; its words may name a patient."""
    said = dict.fromkeys(said_by(tags["description"]), "SeriesDescription")
    if SHARP_KERNEL.search(tags["kernel"]):
        said.setdefault("bone kernel", "ConvolutionKernel")
    if tags["agent"].strip() and not _is_none(tags["agent"]):
        said.setdefault("contrast", "ContrastBolusAgent")
    if tags["region"].strip() and not HEAD.search(tags["region"]):
        said.setdefault("another region", "BodyPartExamined")
    if group["image_type"].fillna("").str.contains("MPR|REFORMATTED|PROJECTION|MIP").any():
        said.setdefault("reformatted", "ImageType")
    return [f"{what}: {element} says so" for what, element in said.items()]


def _is_none(agent: str) -> bool:
    """Whether the element that names a contrast agent says that there is none."""
    return agent.strip().upper().split()[0].strip(".,-") in NO_AGENT


def _counted_against(count: int, length: float) -> list[str]:
    if count < FEWEST:
        return [f"fewer than {FEWEST} slices: {count}"]
    return [f"shorter than a head: {length:.0f} mm"] if length < SHORTEST_MM else []
