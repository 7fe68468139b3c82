"""The scanner: where slices lie, noise, head holder, stored values, and DICOM files as RSNA published them.

A gantry tilt inclines every slice while the table moves along z, so position x and y stay and the head drifts
through the image; the distance along the normal is the slice step. Most contest scans show a field of 250 mm.
"""

import io
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import pydicom
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from .head import AIR, Head
from .shapes import Box, Slab

NO_UID, NO_ID, POSITION_TAG = b"1.2.826.0.1.100000000000", b"ID_000000000", b"\x20\x00\x32\x00"
PADDING = -2000  # stored value outside the scan circle, -3024 HU after the intercept
SUBSLICES = 2, 3  # samples over the thickness where edges stand upright, and where they lie in the plane


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
    sharpness: float  # of the kernel, see artefacts.noise_texture
    weight: float
    # (steps of 2.5 mm at the base, steps of 5 mm above, share of studies); without: even steps near 5 mm
    protocols: tuple[tuple[int, int, float], ...] = ()
    tilts: tuple[float, ...] = ()  # degrees at even quantiles; without: about 14


SITES = (
    Site(16, True, -1024, True, False, 6, ("30", "80"), 0.97, 0.95, 38),
    Site(16, True, -1024, True, False, 6, ("35", "100"), 0.97, 0.9, 10),
    Site(16, True, -1024, False, False, 6, ("35.000000", "135.000000"), 0.9, 0.8, 6),
    Site(12, False, -1024, False, True, None, (["00036", "00036"], ["00080", "00080"]), 0.7, 0.1, 16),
    Site(12, False, -1024, False, True, None, ("40", "150"), 0.9, 0.6, 11),
    Site(12, False, -1024, False, False, None, (["40", "40"], ["80", "80"]), 0.8, 0.5, 9),
    Site(12, False, -1000, False, False, None, ("40", "100"), 0.8, 0.5, 4),
    Site(16, True, 0, False, False, None, ("40", "80"), 0.6, 0.7, 3),
    Site(12, True, 0, False, True, None, ("40", "120"), 0.6, 0.7, 3),
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
    step: float  # along the normal; of thin slices at the base: of the others
    slices: int
    tilt: float  # radians
    rotation: np.ndarray  # (3, 3) head to patient coordinates
    center: np.ndarray  # (3,) of the head
    first: np.ndarray  # (3,) position of slice 0's first pixel
    heights: np.ndarray  # (slices,) along the normal above slice 0, mm; a repeated one is a zero step
    thickness: np.ndarray  # (slices,) mm
    noise: float
    sharpness: float

    @cached_property
    def row(self) -> np.ndarray:
        return np.array([1.0, 0.0, 0.0])

    @cached_property
    def column(self) -> np.ndarray:
        return np.array([0.0, np.cos(self.tilt), -np.sin(self.tilt)])

    @cached_property
    def normal(self) -> np.ndarray:
        return np.cross(self.row, self.column)

    @property
    def grid(self) -> int:
        """Pixels a side of the grid on which anatomy is painted; noise is added at full size."""
        return min(self.size, 256)

    def position(self, index: int) -> np.ndarray:
        """ImagePositionPatient of a slice."""
        return self.first + np.array([0.0, 0.0, self.heights[index] / np.cos(self.tilt)])

    def image_position(self, points: np.ndarray, index: int) -> np.ndarray:
        """Head coordinates (n, 3) -> row, column (mm) in a slice and height above it, (n, 3)."""
        place = self.center + points @ self.rotation.T - self.position(index)
        return place @ np.stack([self.column, self.row, self.normal], axis=1)

    def slab(self, index: int, head: Head) -> tuple[Box, Slab]:
        """The part of the painting grid that holds the head, and planes through the slice there."""
        pixel = self.pixel * self.size / self.grid
        corner = self.position(index) + (self.row + self.column) * (pixel - self.pixel) / 2
        height = float((corner - self.center) @ self.normal)
        top = head.height + head.skull + head.scalp + 4.0
        shrink = np.sqrt(max(1.0 - (max(height, 0.0) / top) ** 2, 0.02)) * 0.95 + 0.12
        half = np.array([head.half_length, head.half_width]) + head.skull + head.scalp + np.array([4.0, 7.0])
        half *= min(shrink, 1.0)
        middle = self.center + self.rotation[:, 2] * height  # on the head's axis
        at = np.array([(middle - corner) @ self.column, (middle - corner) @ self.row])
        face = np.array([22.0, 8.0]) * (height < -15.0)  # nose and ears
        start = np.clip(((at - half - face) / pixel).astype(int), 0, self.grid - 8)
        stop = np.clip(((at + half + face * [0, 1]) / pixel).astype(int) + 1, start + 8, self.grid)
        origin = corner + self.column * start[0] * pixel + self.row * start[1] * pixel
        inverse = self.rotation.T
        thickness = float(self.thickness[index])
        upright = height < -50.0 or 0.0 < height < 0.65 * head.height or thickness < 3.0
        samples = SUBSLICES[0] if upright else SUBSLICES[1]
        z_step = thickness / samples
        slab = Slab(
            inverse @ (origin - self.normal * (samples - 1) / 2 * z_step - self.center),
            inverse @ self.row,
            inverse @ self.column,
            inverse @ self.normal,
            pixel,
            (samples, int(stop[0] - start[0]), int(stop[1] - start[1])),
            z_step,
            float(np.linalg.norm(head.warp[:, 0])),
        )
        return (..., slice(start[0], stop[0]), slice(start[1], stop[1])), slab


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
    tilt = 0.0
    if rng.random() < site.tilted:
        quantiles = np.linspace(0, 1, len(site.tilts))
        degrees = np.interp(rng.random(), quantiles, site.tilts) if site.tilts else rng.normal(14, 5)
        tilt = float(np.deg2rad(np.clip(degrees, 0.5, 26)))
    yaw, pitch, roll = np.deg2rad(np.clip(rng.normal(0, [8, 4, 4.5]), -14, 14))
    low, high = -rng.uniform(46, 80), head.height + head.skull + head.scalp + rng.uniform(-4, 8)
    if site.protocols and not slices:  # as many slices as the protocol says, downwards from the vertex
        shares = np.array([share for _, _, share in site.protocols])
        thin, thick, _ = site.protocols[rng.choice(len(shares), p=shares / shares.sum())]
        steps, step = np.repeat([2.5, 5.0], [thin, thick]), 5.0
        low = high - steps.sum() - 2.5
    else:
        step = (high - low) / slices if slices else float(np.clip(rng.normal(5.0, 0.25), 4.5, 5.6))
        steps = np.full((slices or int(np.clip((high - low) / step, *limits))) - 1, step)
    if repeated:
        steps = _repeat_positions(rng, steps, limits[1] if slices is None else slices)
    count, length = len(steps) + 1, float(steps.sum()) + step
    heights = np.concatenate([[0.0], np.cumsum(steps)])
    thickness = _thickness(steps)
    field = 250.0 if rng.random() < (0.95 if site.padded else 0.4) else 512 * rng.uniform(0.42, 0.53)  # mm
    pixel = round(field / size, 6)
    center = np.array([rng.normal(0, 7), rng.normal(0, 6), rng.uniform(60, 180)])
    column, normal = np.array([0, np.cos(tilt), -np.sin(tilt)]), np.array([0, np.sin(tilt), np.cos(tilt)])
    middle = low + 0.5 * length
    first = np.array([-field / 2, 0, 0]) + center * [0, 1, 1] + normal * middle - column * field / 2
    first += -np.array([0, 0, 0.5 * length / np.cos(tilt)]) - column * rng.normal(
        6 + 0.15 * length * np.sin(tilt), 5
    )
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
        heights,
        thickness,
        float(rng.uniform(*noise)),
        float(np.clip(rng.normal(site.sharpness, 0.12), 0.0, 1.2)),
    )


def _repeat_positions(rng: np.random.Generator, steps: np.ndarray, most: int) -> np.ndarray:
    """Scan a stretch of positions twice: zero steps come in, at the top steps go where the limit needs it."""
    again = max(4, min(int(rng.integers(4, 13)), len(steps) // 3))
    steps = steps[: most - 1 - again]
    start = int(rng.integers(0, len(steps) - again + 2))
    return np.insert(steps, np.arange(start, start + again), 0.0)


def _thickness(steps: np.ndarray) -> np.ndarray:
    """Thickness of each slice, (slices,) mm: its step from the slice below, or its twin's."""
    below = np.concatenate([steps[steps > 0][:1], steps])
    for index in np.flatnonzero(below == 0.0):
        below[index] = below[index - 1]
    return below


def holder(rng: np.random.Generator, acquisition: Acquisition) -> np.ndarray:
    """Air with the head holder below and beside the head, (grid, grid) HU."""
    grid, pixel = acquisition.grid, acquisition.pixel * acquisition.size / acquisition.grid
    y, x = np.mgrid[:grid, :grid].astype(np.float32) * pixel - acquisition.pixel * acquisition.size / 2
    kind, bottom = rng.integers(3), rng.uniform(104, 116)
    width = rng.uniform(88, 112)
    bowl = np.hypot(x / width, (y + 5) / bottom) * width - width
    shell = np.abs(bowl) - rng.uniform(1.0, 2.0)
    shell = np.maximum(shell, (-y + rng.uniform(-25, 15)) * 0.5)
    hu = np.full((grid, grid), AIR, np.float32)
    if kind > 0:
        hu += np.clip(0.5 - shell / pixel, 0, 1) * rng.uniform(1050, 1500)
    if kind < 2:
        cushion = np.maximum(np.abs(bowl + 7) - 5.5, -y + 20)
        hu += np.clip(0.5 - cushion / pixel, 0, 1) * rng.uniform(15, 90)
    return hu


@lru_cache(maxsize=4)
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
    value = hu - np.float32(site.intercept)
    value = np.rint(np.clip(value, low, high, out=value), out=value)
    value = value.astype(np.int16 if site.signed else np.uint16)
    if site.padded:
        np.copyto(value, PADDING, where=outside)
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
            template = self._template(self._header(patient_id, study_id, series_id), meta)
        self.parts = template.split(self._element(POSITION_TAG, b"DS", rb"0\0\0 "))

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

    def _template(self, header: Dataset, meta: FileMetaDataset) -> bytes:
        """A file with placeholders for what differs between slices, and without pixels."""
        buffer = io.BytesIO()
        with disable_value_validation():  # the contest's identifiers are no valid UIDs
            meta.MediaStorageSOPInstanceUID = NO_UID.decode()
            header.SOPInstanceUID = NO_ID.decode()
            header.ImagePositionPatient = ["0", "0", "0"]
            header.file_meta, header.preamble = meta, bytes(128)
            implicit = self.site.implicit
            pydicom.dcmwrite(
                buffer, header, implicit_vr=implicit, little_endian=True, enforce_file_format=False
            )
        return buffer.getvalue()

    def encode(self, image_id: str, index: int, values: np.ndarray) -> bytes:
        """The whole file of one slice. pydicom writes the header once a study: that takes 1 ms."""
        uid = f"1.2.826.0.1.{int(image_id[3:], 16) + 10**11}"
        position = "\\".join(self._number(v) for v in self.acquisition.position(index)).encode()
        position += b" " * (len(position) % 2)
        pixels = self._head(b"\xe0\x7f\x10\x00", b"OW", values.nbytes)
        before, after = self.parts
        before = before.replace(NO_UID, uid.encode()).replace(NO_ID, image_id.encode())
        return b"".join((before, self._element(POSITION_TAG, b"DS", position), after, pixels, values.data))

    def _element(self, tag: bytes, kind: bytes, value: bytes) -> bytes:
        return self._head(tag, kind, len(value)) + value

    def _head(self, tag: bytes, kind: bytes, size: int) -> bytes:
        """What stands before an element's value."""
        if self.site.implicit:
            return tag + size.to_bytes(4, "little")
        if kind == b"OW":
            return tag + kind + bytes(2) + size.to_bytes(4, "little")
        return tag + kind + size.to_bytes(2, "little")
