"""PhysioNet ct-ich (Hssayeni et al., Data 2020;5(1):14) in each of its layouts, told apart by their folders.

    ct_scans/049.nii, masks/049.nii                               releases from 1.3: NIfTI in HU
    Patients_CT/049/brain/<k>.jpg, <k>_HGE_Seg.jpg                releases 1.0 to 1.2: windowed 8-bit, not HU
    hemo_subset/049_21.dcm, Masks_subset/049_21.dcm               single slices in HU, as others share them

The table is hemorrhage_diagnosis_raw_ct.csv, hemorrhage_diagnosis.csv or labels.csv beside the folder, one
row a slice; `any` is 1 - No_Hemorrhage. Patient_demographics.csv gives age and sex where it is there.
"""

import os
import re
from pathlib import Path

import pandas as pd

from ...errors import UserError
from ...labels import LABELS, SUBTYPES
from ..dicom import scan_headers
from ..formats.images import gray_pixels
from ..formats.nifti import SUFFIXES, grid
from ..preparation.headerless import headerless
from ..preparation.inventory import OTHER_SERIES, Inventory
from ..preparation.options import Options
from ..source import BareDicom, Source, VolumeSlice, cause_of_failure, list_files, printable, read_bytes
from .csv_file import read_csv, whole_numbers
from .dicom import is_picture, other_format
from .nifti import volume_slices

TABLES = ("hemorrhage_diagnosis_raw_ct.csv", "hemorrhage_diagnosis.csv", "labels.csv")
KEYS = ["PatientNumber", "SliceNumber"]
JPEG_MASK = "_hge_seg"
REMEDY = "download it again"
_Dropped = tuple[str, str, str]  # image_id, path, cause
_Found = tuple[pd.DataFrame, list[Source | None], list[Source | None], pd.DataFrame, list[_Dropped]]


def read(raw_dir: Path, options: Options, jobs: int) -> Inventory:
    """List the slices of every scan. A slice that the table does not name raises UserError."""
    if (raw_dir / "ct_scans").is_dir():
        found = _nifti_layout(raw_dir)
    elif (raw_dir / "Patients_CT").is_dir():
        found = _jpeg_layout(raw_dir)
    elif (raw_dir / "hemo_subset").is_dir():
        found = _slice_layout(raw_dir, jobs)
    else:
        raise UserError(
            f"{raw_dir}: neither ct_scans/ nor Patients_CT/ there; set RAW_DATA_DIR to the unpacked data set"
        )
    images, sources, masks, headers, dropped = found
    table = next((raw_dir / name for name in TABLES if (raw_dir / name).is_file()), None)
    if table is None:
        raise UserError(f"{raw_dir}: none of {', '.join(TABLES)} there; it comes with the data set")
    demographics = raw_dir / "Patient_demographics.csv"
    labels = read_diagnoses(table)
    keys = pd.MultiIndex.from_frame(images[KEYS])
    unknown = ~keys.isin(labels.index) & images["cause"].isna().to_numpy()
    if unknown.any():
        raise UserError(
            f"{table}: no row for {images.loc[unknown, 'path'].iloc[0]}; every slice needs its diagnosis"
        )
    images = images.join(labels, on=KEYS)
    absent = labels.index.difference(keys)
    images = pd.concat([images, _without_file(labels.loc[absent], table.name)], ignore_index=True)
    patients = images["PatientNumber"].map(lambda number: f"{number:03d}" if number >= 0 else None)
    images["patient_id"] = images["study_id"] = images["series_id"] = patients
    nothing = [None] * len(absent)
    return Inventory(
        images.drop(columns=KEYS).assign(split="train"),
        [*sources, *nothing],
        inputs=[table, *([demographics] if demographics.is_file() else [])],
        headers=headers,
        masks=[*masks, *nothing],
        studies=read_demographics(demographics),
        dropped=dropped,
    )


def read_diagnoses(path: Path) -> pd.DataFrame:
    """Index PatientNumber, SliceNumber (from 1); the six labels and fracture. Raises UserError."""
    table = read_csv(path, REMEDY)
    names = {label.capitalize(): label for label in SUBTYPES}
    missing = [name for name in (*KEYS, *names) if name not in table]
    if missing:
        raise UserError(f"{path}: the column {missing[0]} is missing; download it again")
    for key in KEYS:
        numbers = whole_numbers(table[key])
        if numbers.isna().any():
            row = int(numbers.isna().to_numpy().argmax()) + 1
            raise UserError(f"{path}: data row {row}: {key} is not a whole number; correct it")
        table[key] = numbers.astype("int64")
    table = table.drop_duplicates()
    labels = table.set_index(KEYS)[list(names)].rename(columns=names)
    if not labels.index.is_unique:
        patient, number = labels.index[labels.index.duplicated()][0]
        raise UserError(f"{path}: patient {patient}, slice {number} has two rows that differ; keep one")
    if not labels.isin((0, 1)).all(axis=None):
        raise UserError(f"{path}: a label is neither 0 nor 1; correct it")
    labels["any"] = labels.max(axis=1)
    if "No_Hemorrhage" in table:
        wrong = labels.index[labels["any"].to_numpy() != 1 - table["No_Hemorrhage"].to_numpy()]
        if len(wrong):
            patient, number = wrong[0]
            raise UserError(
                f"{path}: patient {patient}, slice {number}: No_Hemorrhage contradicts the five types; "
                "correct it"
            )
    fracture = whole_numbers(table["Fracture_Yes_No"]).to_numpy() if "Fracture_Yes_No" in table else pd.NA
    labels["fracture"] = fracture
    return labels.astype("Int8")[[*LABELS, "fracture"]]


def read_demographics(path: Path) -> pd.DataFrame | None:
    """Index study_id; age_years, sex, null where the table does not tell, or tells two things of a patient.

    The header of the file spans lines; its second row names subtypes.
    """
    if not path.is_file():
        return None
    table = read_csv(path, REMEDY)
    if "Patient Number" not in table:
        raise UserError(f"{path}: the column Patient Number is missing; {REMEDY}, or take the file away")
    numbers = whole_numbers(table["Patient Number"])
    table = table.reindex(columns=["Age (years)", "Gender"])[numbers.notna()]
    known = pd.DataFrame({"age_years": table["Age (years)"].map(_years), "sex": table["Gender"]})
    by_patient = known.groupby(numbers.dropna().map("{:03d}".format).rename("study_id"))
    return by_patient.first().where(by_patient.nunique() == 1)


_UNITS = {"y": 1.0, "m": 12.0, "w": 365.25 / 7, "d": 365.25}


def _years(age: object) -> float:
    """35 and "35" are years, "3 months" 0.25; NaN for what is no age."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([a-z]*)\.?\s*", str(age).lower())
    if found is None or (found[2] and found[2][0] not in _UNITS):
        return float("nan")
    return float(found[1]) / _UNITS[(found[2] or "y")[0]]


def _nifti_layout(raw_dir: Path) -> _Found:
    rows, sources, masks, headers = [], [], [], []
    paths, dropped = _sorted_out(raw_dir, "ct_scans", SUFFIXES)
    drawn, unread = _sorted_out(raw_dir, "masks", SUFFIXES, needed=False)
    mask_of = {path.name.split(".")[0]: path for path in reversed(drawn)}
    for path in paths:
        name = path.name.split(".")[0]
        patient = _number(name)
        slices, table, cause = volume_slices(path)
        sources += slices
        headers.append(table)
        if cause is not None or patient < 0:
            rows.append(_row(f"ct_scans/{printable(name)}", path, patient, 0, cause or _wrong_name(name)))
            sources[-len(slices) :] = [str(path)]
            headers[-1] = table.iloc[:1]
            masks.append(None)
            continue
        rows += [_row(f"ct_scans/{name}/{n}", path, patient, n) for n in range(1, len(slices) + 1)]
        found, wrong = _volume_masks(path, mask_of.pop(name, None), raw_dir)
        masks += found or [None] * len(slices)
        dropped += wrong
    dropped += [*unread, *(_orphan(path, raw_dir) for path in mask_of.values())]
    images = _unique(pd.DataFrame(rows), raw_dir)
    return images.assign(units="hu"), sources, masks, pd.concat(headers, ignore_index=True), dropped


def _volume_masks(path: Path, mask: Path | None, raw_dir: Path) -> tuple[list[Source], list[_Dropped]]:
    """The mask of every slice of a volume; or none, and why the mask cannot be used."""
    if mask is None:
        return [], []
    try:
        (_, _, count), axes = grid(str(path))
        (_, _, drawn), mask_axes = grid(str(mask))
    except (OSError, ValueError) as error:
        return [], [_dropped(mask, raw_dir, f"mask: {cause_of_failure(error)}")]
    if drawn != count:
        return [], [_dropped(mask, raw_dir, f"mask: it has {drawn} slices, its scan {count}")]
    order = range(count) if axes[2] == mask_axes[2] else range(count - 1, -1, -1)
    return [VolumeSlice(str(mask), index) for index in order], []


def _jpeg_layout(raw_dir: Path) -> _Found:
    rows, sources, masks, shapes = [], [], [], []
    paths, dropped = _sorted_out(raw_dir, "Patients_CT", (".jpg", ".jpeg"))
    is_mask = {path: path.stem.lower().endswith(JPEG_MASK) for path in paths}
    mask_of = {_slice_key(path, path.stem[: -len(JPEG_MASK)]): path for path in paths if is_mask[path]}
    for path in paths:
        if is_mask[path]:
            continue
        if path.parent.name != "brain":
            dropped.append(_dropped(path, raw_dir, f"{OTHER_SERIES}: the brain window is used"))
            continue
        patient, number = _number(path.parent.parent.name), _number(path.stem)
        shape, cause = (0, 0), None
        try:
            shape = gray_pixels(read_bytes(path)).shape
        except Exception as error:  # as in images.decode_source: this file's matter alone
            cause = cause_of_failure(error)
        if min(patient, number) < 0:
            cause = _wrong_name(f"{path.parent.parent.name}/brain/{path.stem}")
        image_id = f"Patients_CT/{patient:03d}/brain/{number}" if cause is None else _relative(path, raw_dir)
        rows.append(_row(image_id, path, patient, number, cause))
        sources.append(str(path))
        mask = mask_of.pop(_slice_key(path, path.stem), None)
        masks.append(None if mask is None else str(mask))
        shapes.append(shape)
    dropped += [_orphan(path, raw_dir) for path in mask_of.values()]
    headers = headerless([row["SliceNumber"] for row in rows], shapes)
    return _unique(pd.DataFrame(rows), raw_dir).assign(units="gray"), sources, masks, headers, dropped


def _slice_key(path: Path, stem: str) -> tuple[Path, str]:
    return path.parent, stem.lower()


def _slice_layout(raw_dir: Path, jobs: int) -> _Found:
    rows, sources, masks, shapes = [], [], [], []
    paths, dropped = _sorted_out(raw_dir, "hemo_subset", (".dcm",))
    drawn, unread = _sorted_out(raw_dir, "Masks_subset", (".dcm",), needed=False)
    mask_of = {path.name.lower(): path for path in drawn}
    scanned = scan_headers([str(path) for path in paths], jobs)
    for path, header in zip(paths, scanned.itertuples(), strict=True):
        patient, number = (_number(part) for part in (*path.stem.split("_"), "")[:2])
        cause = _wrong_name(path.stem) if min(patient, number) < 0 else None
        size = (header.columns, header.rows)  # the slices are turned by 90 degrees
        if isinstance(header.error, str) or pd.isna(size[0]) or pd.isna(size[1]):
            cause, size = header.error if isinstance(header.error, str) else "missing tag: Rows", (0, 0)
        rows.append(_row(f"hemo_subset/{printable(path.stem)}", path, patient, number, cause))
        sources.append(BareDicom(str(path)))
        mask = mask_of.pop(path.name.lower(), None)
        masks.append(None if mask is None else BareDicom(str(mask)))
        shapes.append(size)
    dropped += [*unread, *(_orphan(path, raw_dir) for path in mask_of.values())]
    headers = headerless([row["SliceNumber"] for row in rows], shapes)
    return _unique(pd.DataFrame(rows), raw_dir).assign(units="hu"), sources, masks, headers, dropped


def _row(image_id: str, path: Path, patient: int, number: int, cause: str | None = None) -> dict[str, object]:
    return {
        "image_id": image_id,
        "path": printable(path),
        "PatientNumber": patient,
        "SliceNumber": number,
        "cause": cause,
    }


def _unique(images: pd.DataFrame, raw_dir: Path) -> pd.DataFrame:
    """Files with the number of another one, such as 049.nii and 49.nii.gz, keep a row under their own
    name.
    """
    again = images.duplicated("image_id")
    name = images["path"].str.removeprefix(printable(raw_dir) + "/") + "/" + images["SliceNumber"].astype(str)
    images["image_id"] = images["image_id"].mask(again, name)
    images["cause"] = images["cause"].mask(
        again & images["cause"].isna(), "duplicate image: another file has this patient and slice"
    )
    return images


def _without_file(labels: pd.DataFrame, table: str) -> pd.DataFrame:
    frame = labels.reset_index()
    frame["image_id"] = [f"{patient:03d}/{number}" for patient, number in labels.index]
    return frame.assign(path=None, cause=f"no file: named in {table}", units="hu")


def _sorted_out(
    raw_dir: Path, folder: str, suffixes: tuple[str, ...], needed: bool = True
) -> tuple[list[Path], list[_Dropped]]:
    """The files of a folder with one of the suffixes, and rows for pictures of another kind. Raises UserError
    where some are needed and there are none.
    """
    found = list_files(raw_dir / folder) if (raw_dir / folder).is_dir() else []
    files = [Path(entry.path) for entry in found]
    paths = [path for path in files if path.name.lower().endswith(suffixes)]
    if needed and not paths:
        raise UserError(
            f"{raw_dir / folder}: no {' or '.join(suffixes)} file there; unpack the data set again"
        )
    chosen = set(paths)
    others = [path for path in files if path not in chosen and is_picture(str(path))]
    return paths, [_dropped(path, raw_dir, other_format(str(path))) for path in others]


def _dropped(path: Path, raw_dir: Path, cause: str) -> _Dropped:
    return _relative(path, raw_dir), printable(path), cause


def _relative(path: Path, raw_dir: Path) -> str:
    return printable(os.path.relpath(path, raw_dir))


def _orphan(path: Path, raw_dir: Path) -> _Dropped:
    return _dropped(path, raw_dir, "mask: its image is not there")


def _number(text: str) -> int:
    """The number that a name is; -1 where it is none."""
    return int(text) if text.isascii() and text.isdigit() else -1


def _wrong_name(text: str) -> str:
    return f"wrong name: {printable(text)} is no number, as the data set's names are"
