"""Small DICOM files in RSNA's tag set, and folders in RSNA's layout, for tests."""

import warnings
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from src.labels import LABELS

SIZE = 32


def stored_values(seed: int = 0, size: int = SIZE) -> np.ndarray:
    """(size, size) int16 as a 16-bit scanner with intercept -1024 stores a head: air, skull, brain, noise."""
    row, column = np.mgrid[:size, :size] / (size - 1) * 2 - 1
    radius = np.hypot(row, column)
    hu = np.where(radius < 0.6, 35, np.where(radius < 0.7, 900, -1000))
    noise = np.random.default_rng(seed).integers(-8, 9, (size, size))
    return (hu + noise + 1024).astype(np.int16)


def dataset(
    image_id: str = "ID_000000001",
    stored: np.ndarray | None = None,
    *,
    patient: str = "ID_p1",
    study: str = "ID_s1",
    z: float = 0.0,
    bits: int = 16,
    signed: int = 1,
    intercept: str = "-1024",
    implicit: bool = False,
    drop: tuple[str, ...] = (),
    **tags: object,
) -> FileDataset:
    """A dataset with exactly the tags of an RSNA file; `drop` leaves some out, `tags` change or add some."""
    stored = stored_values() if stored is None else stored
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    values: dict[str, object] = {
        "SOPInstanceUID": image_id,
        "Modality": "CT",
        "PatientID": patient,
        "StudyInstanceUID": study,
        "SeriesInstanceUID": study.replace("s", "e"),
        "StudyID": "",
        "ImagePositionPatient": ["-125", "-125", f"{z:.6f}"],
        "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": stored.shape[0],
        "Columns": stored.shape[1],
        "PixelSpacing": ["0.488281", "0.488281"],
        "BitsAllocated": 16,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": signed,
        "WindowCenter": ["00040", "00040"],
        "WindowWidth": ["00080", "00080"],
        "RescaleIntercept": intercept,
        "RescaleSlope": "1",
    } | tags
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in values.items():
            if name not in drop:
                setattr(data, name, value)
    if "PixelData" not in drop:
        data.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()
        data["PixelData"].VR = "OW"
    return data


def write(path: Path, data: FileDataset) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.save_as(path, enforce_file_format=True)
    return path


def image_name(number: int) -> str:
    return f"ID_{number:09x}"


def write_rsna(
    folder: Path, studies: int = 4, slices: int = 3, test_studies: int = 1, size: int = SIZE, first: int = 0
) -> Path:
    """A contest folder: every study a patient, every second one with a subdural bleeding in its middle."""
    names: dict[str, list[str]] = {"train": [], "test": []}
    for study in range(first, first + studies + test_studies):
        split = "train" if study < first + studies else "test"
        for place in range(slices):
            number = 100 * study + place
            data = dataset(
                image_name(number),
                stored_values(number, size),
                patient=f"ID_p{study}",
                study=f"ID_s{study}",
                z=5.0 * place,
                implicit=bool(study % 2),
            )
            write(folder / f"stage_2_{split}" / f"{image_name(number)}.dcm", data)
            names[split].append(image_name(number))
    bleeding = {image_name(100 * study + slices // 2) for study in range(first, first + studies, 2)}
    write_label_table(
        folder / "stage_2_train.csv", {n: {"subdural"} if n in bleeding else set() for n in names["train"]}
    )
    lines = [f"{name}_{label},0.5" for name in names["test"] for label in LABELS]
    (folder / "stage_2_sample_submission.csv").write_text("\n".join(["ID,Label", *lines]) + "\n")
    return folder


def write_label_table(path: Path, positives: dict[str, set[str]]) -> None:
    rows = ["ID,Label"]
    for name, labels in positives.items():
        rows += [
            f"{name}_{label},{int(label in labels or (label == 'any' and bool(labels)))}" for label in LABELS
        ]
    path.write_text("\n".join(rows) + "\n")


def pydicom_hu(data: pydicom.Dataset) -> np.ndarray:
    """HU by pydicom's own arithmetic, float64."""
    return data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)
