"""Small studies that look like heads: an elliptic skull with brain, as DICOM files."""

from pathlib import Path

import numpy as np

from tests.data.dicom_files import dataset, write

SIZE, PIXEL_MM = 128, 1.7


def head(place: float = 0.0, seed: int = 0, size: int = SIZE) -> np.ndarray:
    """(size, size) int16 HU: air, skin, skull, brain of 35 HU; `place` from -1 to 1 along the body."""
    row, column = (np.mgrid[:size, :size] - (size - 1) / 2) * PIXEL_MM * SIZE / size
    radius = np.hypot(row / 95, column / 78) / np.sqrt(1 - 0.8 * place**2)
    hu = np.select([radius < 0.86, radius < 0.94, radius < 1], [35, 900, 30], -1000)
    noise = np.random.default_rng(seed).integers(-5, 6, (size, size))
    return (hu + np.where(radius < 1, noise, 0)).astype(np.int16)


def volume(slices: int = 26, seed: int = 0) -> np.ndarray:
    """(slices, SIZE, SIZE) HU from below upwards."""
    return np.stack([head(place, seed + n) for n, place in enumerate(np.linspace(-0.9, 0.9, slices))])


def write_study(
    folder: Path, hu: np.ndarray | None = None, *, study: str = "1.2.1", series: str = "1.2.1.1",
    step: float = 5.0, places: list[float] | None = None, names: list[str] | None = None, drop=(), **tags,
) -> list[Path]:  # fmt: skip
    """A file a slice; z is `places` or step * number; `names` are the files'."""
    hu = volume() if hu is None else hu
    spacing = [f"{PIXEL_MM * SIZE / hu.shape[2]:.6f}"] * 2
    paths = []
    for number, values in enumerate(hu):
        data = dataset(
            f"{series}.{number + 1}", (values + 1024).astype(np.int16), patient="p", study=study,
            z=step * number if places is None else places[number], drop=drop,
            **{"SeriesInstanceUID": series, "PixelSpacing": spacing, "InstanceNumber": number + 1} | tags,
        )  # fmt: skip
        name = f"IM{number:03d}.dcm" if names is None else names[number]
        paths.append(write(folder / name, data))
    return paths
