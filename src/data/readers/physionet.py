"""PhysioNet ct-ich (Hssayeni et al., Data 2020;5(1):14) in each of its layouts, told apart by their folders.

    ct_scans/049.nii, masks/049.nii                               releases from 1.3: NIfTI in HU
    Patients_CT/049/brain/<k>.jpg, <k>_HGE_Seg.jpg                releases 1.0 to 1.2: windowed 8-bit, not HU
    hemo_subset/049_21.dcm, Masks_subset/049_21.dcm               single slices in HU, as others share them

The table is hemorrhage_diagnosis_raw_ct.csv, hemorrhage_diagnosis.csv or labels.csv beside the folder, one
row a slice; `any` is 1 - No_Hemorrhage. Patient_demographics.csv gives age and sex where it is there.
"""

import re
from pathlib import Path

import pandas as pd

from ...errors import UserError
from ...labels import LABELS, SUBTYPES
from ..images import gray_pixels
from ..nifti import SUFFIXES
from ..preparation.headerless import headerless
from ..preparation.inventory import Inventory
from ..preparation.options import Options
from ..source import BareDicom, Source, VolumeSlice, list_files, read_bytes
from .nifti import volume_slices

TABLES = ("hemorrhage_diagnosis_raw_ct.csv", "hemorrhage_diagnosis.csv", "labels.csv")
KEYS = ["PatientNumber", "SliceNumber"]
JPEG_MASK = "_HGE_Seg"


def read(raw_dir: Path, options: Options, jobs: int) -> Inventory:
    """List the slices of every scan. A slice that the table does not name raises UserError."""
    if (raw_dir / "ct_scans").is_dir():
        found = _nifti_layout(raw_dir)
    elif (raw_dir / "Patients_CT").is_dir():
        found = _jpeg_layout(raw_dir)
    elif (raw_dir / "hemo_subset").is_dir():
        found = _slice_layout(raw_dir)
    else:
        raise UserError(
            f"{raw_dir}: neither ct_scans/ nor Patients_CT/ there; set RAW_DATA_DIR to the unpacked data set"
        )
    images, sources, masks, headers = found
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
    images["patient_id"] = images["study_id"] = images["series_id"] = images["PatientNumber"].map(
        "{:03d}".format
    )
    nothing = [None] * len(absent)
    return Inventory(
        images.drop(columns=KEYS).assign(split="train"),
        [*sources, *nothing],
        inputs=[table, *([demographics] if demographics.is_file() else [])],
        headers=headers,
        masks=[*masks, *nothing],
        studies=read_demographics(demographics),
    )


def read_diagnoses(path: Path) -> pd.DataFrame:
    """Index PatientNumber, SliceNumber (from 1); the six labels and fracture. Raises UserError."""
    table = _read_csv(path)
    names = {label.capitalize(): label for label in SUBTYPES}
    missing = [name for name in (*KEYS, *names) if name not in table]
    if missing:
        raise UserError(f"{path}: the column {missing[0]} is missing; download it again")
    labels = table.set_index(KEYS)[list(names)].rename(columns=names)
    if not labels.index.is_unique:
        raise UserError(f"{path}: {labels.index[labels.index.duplicated()][0]} has two rows; keep one")
    if not labels.isin((0, 1)).all(axis=None):
        raise UserError(f"{path}: a label is neither 0 nor 1; correct it")
    labels["any"] = labels.max(axis=1)
    if "No_Hemorrhage" in table:
        wrong = labels.index[labels["any"].to_numpy() != 1 - table["No_Hemorrhage"].to_numpy()]
        if len(wrong):
            raise UserError(
                f"{path}: patient, slice {wrong[0]}: No_Hemorrhage contradicts the five types; correct it"
            )
    labels["fracture"] = table["Fracture_Yes_No"].to_numpy() if "Fracture_Yes_No" in table else pd.NA
    return labels.astype("Int8")[[*LABELS, "fracture"]]


def read_demographics(path: Path) -> pd.DataFrame | None:
    """Index study_id; age_years, sex. The header of the file spans lines; its second row names subtypes."""
    if not path.is_file():
        return None
    table = _read_csv(path)
    table.columns = [re.sub(r"\s+", " ", str(name)).strip() for name in table.columns]
    table = table[pd.to_numeric(table["Patient Number"], errors="coerce").notna()]
    index = pd.Index(table["Patient Number"].astype(float).astype(int).map("{:03d}".format), name="study_id")
    age = pd.to_numeric(table["Age (years)"]).to_numpy()
    return pd.DataFrame({"age_years": age, "sex": table["Gender"].to_numpy()}, index=index)


_Found = tuple[pd.DataFrame, list[Source], list[Source | None], pd.DataFrame]


def _nifti_layout(raw_dir: Path) -> _Found:
    rows, sources, masks, headers = [], [], [], []
    for path in _with_suffix(raw_dir / "ct_scans", SUFFIXES):
        name = path.name.split(".")[0]
        patient = _number(path, name)
        mask = next((raw_dir / "masks").glob(f"{name}.nii*"), None)
        slices, table, cause = volume_slices(path)
        if cause is not None:
            rows.append(_row(f"ct_scans/{name}", path, patient, 0, cause=cause))
            masks.append(None)
        for index in range(len(slices) if cause is None else 0):
            rows.append(_row(f"ct_scans/{name}/{index + 1}", path, patient, index + 1))
            masks.append(None if mask is None else VolumeSlice(str(mask), index))
        sources += slices
        headers.append(table)
    table = pd.concat(headers, ignore_index=True)
    return pd.DataFrame(rows).assign(units="hu"), sources, masks, table


def _jpeg_layout(raw_dir: Path) -> _Found:
    rows, sources, masks, shapes = [], [], [], []
    for path in _with_suffix(raw_dir / "Patients_CT", (".jpg",)):
        if path.parent.name != "brain" or path.stem.endswith(JPEG_MASK):
            continue
        patient, number = _number(path, path.parent.parent.name), _number(path, path.stem)
        mask = path.with_name(path.stem + JPEG_MASK + ".jpg")
        shape, cause = (0, 0), None
        try:
            shape = gray_pixels(read_bytes(path)).shape
        except (ValueError, OSError) as error:
            cause = str(error)
        rows.append(_row(f"Patients_CT/{patient:03d}/brain/{number}", path, patient, number, cause))
        sources.append(str(path))
        masks.append(str(mask) if mask.is_file() else None)
        shapes.append(shape)
    headers = headerless([row["SliceNumber"] for row in rows], shapes)
    return pd.DataFrame(rows).assign(units="gray"), sources, masks, headers


def _slice_layout(raw_dir: Path) -> _Found:
    rows, sources, masks = [], [], []
    for path in _with_suffix(raw_dir / "hemo_subset", (".dcm",)):
        patient, number = (_number(path, part) for part in path.stem.split("_")[:2])
        mask = raw_dir / "Masks_subset" / path.name
        rows.append(_row(f"hemo_subset/{path.stem}", path, patient, number))
        sources.append(BareDicom(str(path)))
        masks.append(BareDicom(str(mask)) if mask.is_file() else None)
    headers = headerless([row["SliceNumber"] for row in rows], [(512, 512)] * len(rows))
    return pd.DataFrame(rows).assign(units="hu"), sources, masks, headers


def _row(image_id: str, path: Path, patient: int, number: int, cause: str | None = None) -> dict[str, object]:
    return {
        "image_id": image_id,
        "path": str(path),
        "PatientNumber": patient,
        "SliceNumber": number,
        "cause": cause,
    }


def _without_file(labels: pd.DataFrame, table: str) -> pd.DataFrame:
    frame = labels.reset_index()
    frame["image_id"] = [f"{patient:03d}/{number}" for patient, number in labels.index]
    return frame.assign(path=None, cause=f"no file: named in {table}", units="hu")


def _with_suffix(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    paths = [Path(entry.path) for entry in list_files(folder, suffixes)]
    if not paths:
        raise UserError(f"{folder}: no {' or '.join(suffixes)} file there; unpack the data set again")
    return paths


def _number(path: Path, text: str) -> int:
    if not text.isdigit():
        raise UserError(
            f"{path}: {text!r} is not a number; file and folder names of the data set are numbers"
        )
    return int(text)


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable CSV ({error}); download it again") from None
