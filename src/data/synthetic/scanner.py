"""The scanner: where slices lie, noise, head holder, stored values, and DICOM files as RSNA published them.

A gantry tilt inclines every slice while the table moves along z, so position x and y stay and the head drifts
through the image; the distance along the normal is the slice step. Noise follows the kernel: correlated over
about two pixels (autocorrelation .7, .3, .1 at 1, 2, 3 pixels in contest files of a soft-tissue kernel).
"""

import io
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pydicom
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from .head import AIR, Fields, Head, Plane

PADDING = -2000  # stored value outside the scan circle, -3024 HU after the intercept
SUBSLICES = 3  # samples over the slice thickness


@dataclass(frozen=True)
class Site:
    """How one hospital's files look; the triples bits, representation, intercept are those of the contest."""

    bits: int
    signed: bool
    intercept: int
    padded: bool
    implicit: bool
    decimals: int | None  # fixed decimals of DS values, or None for the shortest form
    window: tuple[str | list[str], str | list[str]]  # center, width
    tilted: float  # share of studies with gantry tilt
    weight: float


SITES = (
    Site(16, True, -1024, True, False, 6, ("30", "80"), 0.97, 38),
    Site(16, True, -1024, True, False, 6, ("35", "100"), 0.97, 10),
    Site(16, True, -1024, False, False, 6, ("35.000000", "135.000000"), 0.9, 6),
    Site(12, False, -1024, False, True, None, (["00036", "00036"], ["00080", "00080"]), 0.7, 16),
    Site(12, False, -1024, False, True, None, ("40", "150"), 0.9, 11),
    Site(12, False, -1024, False, False, None, (["40", "40"], ["80", "80"]), 0.8, 9),
    Site(12, False, -1000, False, False, None, ("40", "100"), 0.8, 4),
    Site(16, True, 0, False, False, None, ("40", "80"), 0.6, 3),
    Site(12, True, 0, False, True, None, ("40", "120"), 0.6, 3),
)


def wrapped(site: Site, intercept: int) -> Site:
    """The defect of 123 contest files: 12 bits, unsigned, intercept 0 or 1, negative HU at the top."""
    return replace(site, bits=12, signed=False, intercept=intercept, padded=False)


@dataclass(frozen=True)
class Acquisition:
    """One scan: geometry in mm (patient coordinates: x left, y back, z up), noise in HU."""

    site: Site
    size: int
    pixel: float  # of the stored image
    step: float  # along the normal; also the slice thickness
    slices: int
    tilt: float  # radians
    rotation: np.ndarray  # (3, 3) head to patient coordinates
    center: np.ndarray  # (3,) of the head
    first: np.ndarray  # (3,) position of slice 0's first pixel
    passes: tuple[int, ...]  # table index of each slice; a repeated one is a zero step
    noise: float

    @property
    def row(self) -> np.ndarray:
        return np.array([1.0, 0.0, 0.0])

    @property
    def column(self) -> np.ndarray:
        return np.array([0.0, np.cos(self.tilt), -np.sin(self.tilt)])

    @property
    def grid(self) -> int:
        """Pixels a side of the grid on which anatomy is painted; noise is added at full size."""
        return min(self.size, 256)

    def position(self, index: int) -> np.ndarray:
        """ImagePositionPatient of a slice."""
        return self.first + np.array([0.0, 0.0, self.passes[index] * self.step / np.cos(self.tilt)])

    def planes(self, index: int, head: Head) -> tuple[tuple[slice, slice], list[Plane]]:
        """The part of the painting grid that holds the head, and sampling planes through the slice there."""
        pixel = self.pixel * self.size / self.grid
        corner = self.position(index) + (self.row + self.column) * (pixel - self.pixel) / 2
        normal = np.cross(self.row, self.column)
        height = float((corner - self.center) @ normal)
        top = head.height + head.skull + head.scalp + 4.0
        shrink = np.sqrt(max(1.0 - (max(height, 0.0) / top) ** 2, 0.02)) * 0.95 + 0.12
        half = np.array([head.half_length, head.half_width]) + head.skull + head.scalp + np.array([4.0, 7.0])
        half *= min(shrink, 1.0)
        middle = self.center + self.rotation[:, 2] * height  # on the head's axis
        at = np.array([(middle - corner) @ self.column, (middle - corner) @ self.row])
        start = np.clip(((at - half) / pixel).astype(int), 0, self.grid - 8)
        stop = np.clip(((at + half) / pixel).astype(int) + 1, start + 8, self.grid)
        origin = corner + self.column * start[0] * pixel + self.row * start[1] * pixel
        inverse = self.rotation.T
        z_step = self.step / SUBSLICES
        planes = [
            Plane(
                inverse @ (origin + normal * (k - (SUBSLICES - 1) / 2) * z_step - self.center),
                inverse @ self.row,
                inverse @ self.column,
                pixel,
                (int(stop[0] - start[0]), int(stop[1] - start[1])),
                z_step,
            )
            for k in range(SUBSLICES)
        ]
        return (slice(start[0], stop[0]), slice(start[1], stop[1])), planes


def _rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Head to patient coordinates, radians: roll about y, then pitch about x, then yaw about z."""
    cx, sx, cy, sy, cz, sz = (
        np.cos(pitch),
        np.sin(pitch),
        np.cos(roll),
        np.sin(roll),
        np.cos(yaw),
        np.sin(yaw),
    )
    return (
        np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
        @ np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    )


def sample_acquisition(
    rng: np.random.Generator,
    head: Head,
    site: Site,
    size: int,
    slices: int | None,
    limits: tuple[int, int],
    noise: tuple[float, float],
    repeated: bool,
) -> Acquisition:
    """Lay a scan over a head: from below the skull base to above the vertex.

    `slices` fixes their number (the step follows); else the step is near 5 mm and the number within `limits`.
    `repeated`: a stretch of table positions occurs twice (two passes in one series).
    """
    tilt = np.deg2rad(np.clip(rng.normal(14, 5), 3, 26)) if rng.random() < site.tilted else 0.0
    yaw, pitch, roll = np.deg2rad(np.clip(rng.normal(0, [6, 4, 2.5]), -14, 14))
    low, high = -rng.uniform(44, 62), head.height + head.skull + head.scalp + rng.uniform(-4, 8)
    step = (high - low) / slices if slices else float(np.clip(rng.normal(5.0, 0.25), 4.5, 5.6))
    count = slices or int(np.clip((high - low) / step, *limits))
    passes = list(range(count))
    if repeated:
        again = count // 4
        passes = passes[: count - 2 * again] + [
            i for i in passes[count - 2 * again : count - again] for _ in range(2)
        ]
    field = 512 * rng.uniform(0.45, 0.52)  # reconstructed diameter, mm
    pixel = round(field / size, 6)
    center = np.array([rng.normal(0, 5), rng.normal(0, 6), rng.uniform(60, 180)])
    column, normal = np.array([0, np.cos(tilt), -np.sin(tilt)]), np.array([0, np.sin(tilt), np.cos(tilt)])
    middle = 0.5 * (low + low + step * count)
    first = np.array([-field / 2, 0, 0]) + center * [0, 1, 1] + normal * middle - column * field / 2
    first += -np.array([0, 0, 0.5 * count * step / np.cos(tilt)]) - column * rng.normal(0, 5)
    first = np.round(first, 6)
    return Acquisition(
        site,
        size,
        pixel,
        step,
        count,
        tilt,
        _rotation(yaw, pitch - tilt, roll),
        center,
        first,
        tuple(passes),
        float(rng.uniform(*noise)),
    )


def holder(rng: np.random.Generator, acquisition: Acquisition) -> np.ndarray:
    """Air with the head holder below and beside the head, (grid, grid) HU."""
    grid, pixel = acquisition.grid, acquisition.pixel * acquisition.size / acquisition.grid
    y, x = np.mgrid[:grid, :grid].astype(np.float32) * pixel - acquisition.pixel * acquisition.size / 2
    kind, bottom = rng.integers(3), rng.uniform(104, 112)
    width = rng.uniform(92, 112)
    bowl = np.hypot(x / width, (y + 5) / bottom) * width - width
    shell = np.abs(bowl) - rng.uniform(0.8, 1.8)
    shell = np.maximum(shell, (-y + rng.uniform(-25, 15)) * 0.5)
    hu = np.full((grid, grid), AIR, np.float32)
    if kind > 0:
        hu += np.clip(0.5 - shell / pixel, 0, 1) * rng.uniform(700, 1250)
    if kind < 2:
        cushion = np.maximum(np.abs(bowl + 7) - 5.5, -y + 20)
        hu += np.clip(0.5 - cushion / pixel, 0, 1) * rng.uniform(15, 60)
    return hu


def noise_texture(rng: np.random.Generator, size: int, pixel: float) -> np.ndarray:
    """Correlated noise of unit variance, (size, size) float32."""
    # bytes are ten times as fast as normal deviates, and the filter's sum of a dozen of them is nearly normal
    white = np.frombuffer(rng.bytes(size * size), np.uint8).reshape(size, size)
    kernel = cv2.getGaussianKernel(7, max(0.84 * 0.488 / pixel, 0.35))
    unit = kernel / float((kernel**2).sum()) / np.sqrt((256**2 - 1) / 12)
    mean = 127.5 * float(unit.sum())
    return cv2.sepFilter2D(white, cv2.CV_32F, kernel, unit, delta=-mean, borderType=cv2.BORDER_REFLECT_101)


def sample_streaks(rng: np.random.Generator, slices: int, strength: float) -> np.ndarray:
    """Bands of each slice, (slices, 4, 4): amplitude in HU, angle in radians, offset and width in mm."""
    shape = (slices, 4)
    return np.stack(
        [
            rng.normal(0, strength, shape),
            rng.normal(0, 0.35, shape),
            rng.uniform(-5, 45, shape),
            rng.uniform(2.5, 7, shape),
        ],
        axis=2,
    )


def streak_field(streaks: np.ndarray, fields: Fields) -> np.ndarray:
    """Dark and bright bands cast by the petrous bones over brain stem and temporal lobes, (rows, columns)."""
    near = float(np.exp(-(((fields.plane.z + 26.0) / 15.0) ** 2)))
    hu = np.zeros_like(fields.x)
    if near > 0.02:
        for amplitude, angle, offset, width in streaks.tolist():
            across = fields.y * np.cos(angle) + fields.x * np.sin(angle) - offset
            hu += near * amplitude * np.exp(-((across / width) ** 2))
    return hu


def scan_circle(size: int) -> np.ndarray:
    """Pixels outside the reconstructed circle, (size, size) bool."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.hypot(x, y) > size / 2


def stored_values(hu: np.ndarray, site: Site, outside: np.ndarray) -> np.ndarray:
    """HU (rows, columns) float -> stored values int16 or uint16, clipped to what the bits can hold."""
    if site.bits == 12 and not site.signed and site.intercept > -100:  # the wrap
        value = np.rint(np.clip(hu, -1000, 3095)).astype(np.int32)
        return np.where(value < 0, value + 4096, value).astype(np.uint16)
    lowest, highest = (-1024, 3071) if site.bits == 16 else ((-2048, 2047) if site.signed else (0, 4095))
    low, high = (lowest, highest) if site.bits == 12 else (lowest - site.intercept, highest - site.intercept)
    value = np.rint(np.clip(hu - site.intercept, low, high)).astype(np.int16 if site.signed else np.uint16)
    if site.padded:
        value[outside] = PADDING
    return value


class SliceWriter:
    """Encodes the slices of one study as DICOM bytes with exactly the contest's tags."""

    def __init__(self, acquisition: Acquisition, patient_id: str, study_id: str, series_id: str) -> None:
        site = acquisition.site
        self.acquisition = acquisition
        self.site = site
        meta = FileMetaDataset()
        if not site.implicit:  # the contest's implicit files lack the group length and the version
            meta.FileMetaInformationGroupLength = 0
            meta.FileMetaInformationVersion = b"\x00\x01"
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.TransferSyntaxUID = ImplicitVRLittleEndian if site.implicit else ExplicitVRLittleEndian
        meta.ImplementationClassUID = "1.2.3.4"
        meta.ImplementationVersionName = "SYNTHETIC HEAD"
        with disable_value_validation():
            self.meta, self.header = meta, self._header(patient_id, study_id, series_id)

    def _header(self, patient_id: str, study_id: str, series_id: str) -> Dataset:
        acquisition, site = self.acquisition, self.site
        header = Dataset()
        header.Modality = "CT"
        header.PatientID = patient_id
        header.StudyInstanceUID = study_id
        header.SeriesInstanceUID = series_id
        header.StudyID = ""
        header.ImageOrientationPatient = [self._number(v) for v in (*acquisition.row, *acquisition.column)]
        header.SamplesPerPixel = 1
        header.PhotometricInterpretation = "MONOCHROME2"
        header.Rows = header.Columns = acquisition.size
        header.PixelSpacing = [self._number(acquisition.pixel)] * 2
        header.BitsAllocated = 16
        header.BitsStored = site.bits
        header.HighBit = site.bits - 1
        header.PixelRepresentation = int(site.signed)
        header.WindowCenter, header.WindowWidth = site.window
        header.RescaleIntercept = str(site.intercept)
        header.RescaleSlope = "1"
        return header

    def _number(self, value: float) -> str:
        value = float(value) + 0.0  # no negative zero
        return f"{value:.6f}" if self.site.decimals else f"{value:.9g}"

    def encode(self, image_id: str, index: int, values: np.ndarray) -> bytes:
        """The whole file of one slice."""
        buffer = io.BytesIO()
        with disable_value_validation():  # the contest's identifiers are no valid UIDs
            self.meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.{int(image_id[3:], 16)}"
            self.header.SOPInstanceUID = image_id
            self.header.ImagePositionPatient = [self._number(v) for v in self.acquisition.position(index)]
            self.header.PixelData = values.tobytes()
            self.header["PixelData"].VR = "OW"
            self.header.file_meta = self.meta
            self.header.preamble = bytes(128)
            pydicom.dcmwrite(
                buffer,
                self.header,
                implicit_vr=self.site.implicit,
                little_endian=True,
                enforce_file_format=False,
            )
        return buffer.getvalue()
