"""The usual public code and the winners' own arithmetic, re-implemented to be measured against.

Facts from the public solutions of RSNA 2019; nothing is copied. Windows are (center, width) in HU.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pydicom
import torch

WINDOWS = ((40, 80), (80, 200), (40, 380))
ELEMENTS = (
    *("SOPInstanceUID", "Modality", "PatientID", "StudyInstanceUID", "SeriesInstanceUID"),
    *("ImagePositionPatient", "ImageOrientationPatient", "SamplesPerPixel", "PhotometricInterpretation"),
    *("Rows", "Columns", "PixelSpacing", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("WindowCenter", "WindowWidth", "RescaleIntercept", "RescaleSlope"),
)


def scan(paths: Sequence[Path]) -> list[dict[str, object]]:
    """Headers the usual way: the whole file by pydicom, one dict a file."""
    rows = []
    for path in paths:
        dataset = pydicom.dcmread(path)
        row: dict[str, object] = {}
        for name in ELEMENTS:
            value = dataset[name].value
            if name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
                row |= {f"{name}_{place}": float(part) for place, part in enumerate(value)}
            elif name.startswith("Window"):
                row[name] = float(value[0] if isinstance(value, pydicom.multival.MultiValue) else value)
            else:
                row[name] = value
        rows.append(row)
    return rows


def decode(path: Path) -> np.ndarray:
    """(rows, columns) float64 HU."""
    dataset = pydicom.dcmread(path)
    return dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)


def three_windows(hu: np.ndarray) -> np.ndarray:
    """(rows, columns, 3) uint8 by float64 arithmetic."""
    channels = []
    for center, width in WINDOWS:
        low, high = center - width / 2, center + width / 2
        channels.append((np.clip(hu, low, high) - low) / width)
    return (np.stack(channels, axis=-1) * 255).astype(np.uint8)


def prepare_png(path: Path, folder: Path, size: int = 256) -> Path:
    """The usual preparation: three windows, resized, a PNG a slice."""
    image = three_windows(decode(path))
    out = folder / f"{path.stem}.png"
    cv2.imwrite(str(out), image if len(image) == size else cv2.resize(image, (size, size)))
    return out


def prepare_first_place(path: Path, folder: Path) -> Path:
    """1st place: the file's own window, min-max of the image, 512 pixel PNG."""
    dataset = pydicom.dcmread(path)
    hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    center, width = (_first(dataset[name].value) for name in ("WindowCenter", "WindowWidth"))
    windowed = np.clip(hu, center - width // 2, center + width // 2)
    spread = windowed.max() - windowed.min()
    image = ((windowed - windowed.min()) / (spread or 1) * 255).astype(np.uint8)
    out = folder / f"{path.stem}.png"
    cv2.imwrite(str(out), cv2.resize(image, (512, 512)))
    return out


def prepare_second_place(path: Path, folder: Path) -> Path:
    """2nd place: three windows in float64, 512 pixel JPEG."""
    out = folder / f"{path.stem}.jpg"
    cv2.imwrite(str(out), cv2.resize(three_windows(decode(path)), (512, 512)))
    return out


def _first(value: object) -> float:
    return float(value[0] if isinstance(value, pydicom.multival.MultiValue) else value)  # type: ignore[arg-type]


def predict_study(paths: Sequence[Path], cnn: Callable, lstm: Callable, head: Callable) -> np.ndarray:
    """(6,) of a study the usual way: every file by pydicom, sorted by z, three windows in float64, resized to
    256, the network on one slice at a time, a recurrent network over the study, the maximum of its sigmoids.
    """
    datasets = sorted((pydicom.dcmread(path) for path in paths), key=lambda d: d.ImagePositionPatient[2])
    features = []
    with torch.inference_mode():
        for data in datasets:
            hu = data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)
            image = cv2.resize(three_windows(hu), (256, 256)).astype(np.float32) / 255
            features.append(cnn(torch.from_numpy(image.transpose(2, 0, 1).copy())[None]))
        answers = head(lstm(torch.cat(features)[None])[0]).sigmoid()
    return answers[0].amax(0).numpy()
