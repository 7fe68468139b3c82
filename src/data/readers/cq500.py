"""CQ500 (Qure.ai; Chilamkurthy et al., Lancet 2018;392:2388): 491 studies, three readers, labels by study.

    CQ500-CT-<n>.zip unpacked: CQ500CT<n> CQ500CT<n>/Unknown Study/<series>/CT000000.dcm    at any depth
    reads.csv        name, Category, R1:ICH ... R3:MidlineShift               in RAW_DATA_DIR, or --table

The truth is the opinion of at least two readers. Of each study one series is used: see `choose`.
"""

import logging
import os
import re
from pathlib import Path

import pandas as pd

from ...errors import UserError
from ..preparation.inventory import OTHER_SERIES, Inventory, empty_labels
from ..preparation.options import Options
from ..series import axial_extent, by_preference, said_by
from ..source import list_files, printable
from .csv_file import read_csv
from .dicom import image_table, other_format, sort_out

log = logging.getLogger("ich")

STUDY = re.compile(r"CQ500-?CT-?(\d+)", re.IGNORECASE)
READERS = ("R1", "R2", "R3")
# Columns of reads.csv -> ours. ICH is not derived from the subtypes: six studies are ICH without one by
# majority.
FINDINGS = {
    "EDH": "epidural",
    "IPH": "intraparenchymal",
    "IVH": "intraventricular",
    "SAH": "subarachnoid",
    "SDH": "subdural",
    "ICH": "any",
    "BleedLocation-Left": "bleed_left",
    "BleedLocation-Right": "bleed_right",
    "ChronicBleed": "chronic_bleed",
    "Fracture": "fracture",
    "CalvarialFracture": "calvarial_fracture",
    "OtherFracture": "other_fracture",
    "MassEffect": "mass_effect",
    "MidlineShift": "midline_shift",
}
# Chosen by people who looked; the names stand for the folder of the series.
OVERRIDES = {
    73: "CT Plain",
    162: "CT Plain-3",
    172: "CT 55mm Plain",
    337: "CT 2.55mm",
    470: "CT PRE CONTRAST 5MM STD",
}
HEAD_ENDS = {"CQ500-CT-345": 24}  # file numbers from here on do not show the head
SLICES = (15, 128)


def read(raw_dir: Path, options: Options, jobs: int) -> Inventory:
    """Every DICOM file, and the study labels. Raises UserError."""
    reads = raw_dir / (options.table or "reads.csv")
    labels = read_reads(reads)
    candidates, pictures = sort_out([entry.path for entry in list_files(raw_dir)])
    paths = [*candidates, *pictures]
    numbers = [_study_number(os.path.relpath(path, raw_dir)) for path in paths]
    if not any(numbers[: len(candidates)]):
        raise UserError(
            f"{raw_dir}: no folder like 'CQ500CT12 CQ500CT12' there; unpack the study archives into it"
        )
    images = image_table(paths, raw_dir, split="train")
    images["study_id"] = numbers
    images["series"] = [printable(Path(path).parent.name) for path in paths]
    unread = images["study_id"].notna() & ~images["study_id"].isin(labels.index)
    images.loc[unread, "cause"] = "not in the table: reads.csv does not name the study"
    images.loc[images["study_id"].isna(), "cause"] = "no study: no CQ500-CT-<n> in the path"
    beyond = [
        study in HEAD_ENDS and file_number(path) >= HEAD_ENDS[study]
        for study, path in zip(images["study_id"], paths, strict=True)
    ]
    images.loc[beyond, "cause"] = "not the head: beyond the last slice of the head in this study"
    images.loc[len(candidates) :, "cause"] = [other_format(path) for path in pictures]
    absent = labels.index.difference(images["study_id"])
    return Inventory(
        images.join(empty_labels(images.index)),
        [*candidates, *[None] * len(pictures)],
        inputs=[reads],
        studies=labels,
        choose_series=choose,
        notes={"studies in reads.csv without files": len(absent)},
    )


def _study_number(path: str) -> str | None:
    """The study that a path below the root names: CQ500CT001 and CQ500-CT-1 are CQ500-CT-1."""
    found = STUDY.search(path)
    return f"CQ500-CT-{int(found[1])}" if found else None


def is_reads(path: Path) -> bool:
    """Whether a table is of CQ500's studies, not of images."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return f"{READERS[0]}:ICH".encode() in file.readline(10_000)


def read_reads(path: Path) -> pd.DataFrame:
    """Majority of the three readers: index study_id, the six labels, the other findings, category. Raises
    UserError.
    """
    reads = read_csv(path, "it comes with CQ500")
    wanted = ["name", "Category", *(f"{reader}:{finding}" for reader in READERS for finding in FINDINGS)]
    missing = [name for name in wanted if name not in reads]
    if missing:
        raise UserError(f"{path}: the column {missing[0]} is missing; download reads.csv again")
    votes = reads[wanted[2:]]
    if not votes.isin((0, 1)).all(axis=None):
        raise UserError(f"{path}: an opinion is neither 0 nor 1; download reads.csv again")
    studies = [_study_number(str(name)) for name in reads["name"]]
    table = pd.DataFrame(index=pd.Index(studies, name="study_id", dtype="str"))
    if not table.index.is_unique or table.index.hasnans:
        raise UserError(f"{path}: the names are not 491 different CQ500-CT-<n>; download reads.csv again")
    for finding, name in FINDINGS.items():
        agreeing = sum(reads[f"{reader}:{finding}"] for reader in READERS)
        table[name] = pd.array((agreeing >= 2).astype("int8"), dtype="Int8")
    return table.assign(category=reads["Category"].to_numpy())


def file_number(path: str) -> int:
    """CT000023.dcm -> 23; -1 for a name without a number."""
    digits = re.findall(r"\d+", os.path.basename(path))
    return int(digits[-1]) if digits else -1


def choose(slices: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Keep one series of each study, with a cause for the images of all others; the table names every series,
    whether it was chosen, and why or why not.

    Names of bone, contrast, sinus and similar series go first, then series that are not axial or have fewer
    than 15 or more than 128 slices; of the rest the one with a step nearest 5 mm, then with most slices, then
    by name. Exceptions made by people win.
    """
    columns = ["study_id", "series", "slices", "step_mm", "reason"]
    rows = [_series_row(*item) for item in slices.groupby(["study_id", "series"], sort=True)]
    table = pd.DataFrame(rows, columns=columns)
    chosen = {study: _choose_one(study, group) for study, group in table.groupby("study_id", sort=False)}
    table["chosen"] = [
        chosen[study] == name for study, name in zip(table["study_id"], table["series"], strict=True)
    ]
    table.loc[table["chosen"] & (table["reason"] == ""), "reason"] = "step nearest 5 mm, most slices, name"
    table.loc[~table["chosen"] & (table["reason"] == ""), "reason"] = "another series was preferred"
    unsuitable = [study for study, name in chosen.items() if name is None]
    if unsuitable:
        log.warning(
            "%d studies without a suitable series, such as %s: see series.csv", len(unsuitable), unsuitable[0]
        )
    other = slices["cause"].isna() & (slices["series"] != slices["study_id"].map(chosen))
    reason = (
        slices["series"] + ", " + slices[["study_id", "series"]].merge(table, how="left")["reason"].to_numpy()
    )
    return slices.assign(cause=slices["cause"].mask(other, f"{OTHER_SERIES}: " + reason)), table


def _series_row(key: tuple[str, str], group: pd.DataFrame) -> dict[str, object]:
    study, name = key
    usable = group[group["cause"].isna()]
    axial, step, _ = axial_extent(usable)
    reasons = []
    if len(usable) == 0:
        reasons.append(group["cause"].iloc[0])
    if said_by(name):
        reasons.append("name")
    if not SLICES[0] <= axial <= SLICES[1]:
        reasons.append("number of slices")
    reason = "unsuitable: " + ", ".join(reasons) if reasons else ""
    return {"study_id": study, "series": name, "slices": axial, "step_mm": step, "reason": reason}


def _choose_one(study: str, table: pd.DataFrame) -> str | None:
    number = int(study.rsplit("-", 1)[1])
    if number in OVERRIDES and OVERRIDES[number] in set(table["series"]):
        table.loc[table["series"] == OVERRIDES[number], "reason"] = "chosen by people"
        return OVERRIDES[number]
    fit = table[table["reason"] == ""]
    if fit.empty:
        return None
    return by_preference(fit)["series"].iloc[0]
