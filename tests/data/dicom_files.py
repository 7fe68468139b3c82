"""Small DICOM files in RSNA's tag set, and folders in RSNA's layout, for tests."""

import copy
import io
import tempfile
import warnings
import zlib
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
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


def file_bytes(data: FileDataset) -> bytes:
    """The file as `write` writes it."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.save_as(file, enforce_file_format=True)
    return file.getvalue()


def with_bytes(data: FileDataset, keyword: str, value: bytes) -> FileDataset:
    """The dataset with an element's value exactly as given, but for a blank that makes its length even."""
    value += b" " * (len(value) % 2)
    element = data[keyword]
    data[keyword] = RawDataElement(Tag(keyword), element.VR, len(value), value, 0, False, True)
    return data


def body(data: Dataset, implicit: bool = False, little: bool = True) -> bytes:
    """The elements of a dataset without the file's meta group."""
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = implicit, little
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_dataset(file, Dataset(data))
    return file.getvalue()


def compressed(syntax: str, stored: np.ndarray | None = None) -> FileDataset:
    """A dataset compressed by GDCM, whose names of syntaxes these are."""
    import gdcm

    data = dataset("1.2.3", stored)
    with tempfile.TemporaryDirectory() as folder:
        path = str(write(Path(folder) / "a.dcm", data))
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(path)
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
        assert reader.Read()
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(path)
        assert writer.Write()
        packed = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = packed.file_meta.TransferSyntaxUID
    return with_codestream(data, codestream(packed))


def with_codestream(data: FileDataset, stream: bytes) -> FileDataset:
    """The dataset with one fragment as its pixels."""
    data.PixelData = pydicom.encaps.encapsulate([stream])
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True
    return data


def codestream(data: FileDataset) -> bytes:
    return next(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=1))


def encodings() -> dict[str, bytes]:
    """One image as a file in every encoding that is read, under metas that are right, wrong or absent."""
    plain = dataset("1.2.3")
    files = {implicit: file_bytes(dataset("1.2.3", implicit=implicit)) for implicit in (False, True)}
    start = {implicit: len(files[implicit]) - len(body(plain, implicit)) for implicit in (False, True)}
    meta = {implicit: files[implicit][: start[implicit]] for implicit in (False, True)}
    called = {
        kind: meta[False].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.%d\0" % kind)
        for kind in (2, 9)
    }
    item = Dataset()
    item.PatientID = "not the patient"
    nested = dataset("1.2.3", ReferencedImageSequence=Sequence([item]))
    defined = file_bytes(nested)
    nested["ReferencedImageSequence"].is_undefined_length = True
    deflated = meta[False].replace(b"UI\x14\x001.2.840.10008.1.2.1\0", b"UI\x16\x001.2.840.10008.1.2.1.99")
    packer = zlib.compressobj(wbits=-15)
    rle = dataset("1.2.3")
    rle.compress(pydicom.uid.RLELossless)
    return {
        "explicit": files[False],
        "implicit": files[True],
        "explicit under implicit": meta[True] + body(plain),
        "implicit under explicit": meta[False] + body(plain, implicit=True),
        "without preamble": body(plain, implicit=True),
        "without preamble, explicit": body(plain),
        "without preamble, with meta": files[False][132:],
        "without meta": bytes(128) + b"DICM" + body(plain),
        "big endian": bytes(128) + b"DICM" + body(big_endian(plain), little=False),
        "little endian called big": called[2] + body(plain),
        "plain called compressed": called[9] + body(plain),
        "deflated": deflated + packer.compress(body(plain)) + packer.flush(),
        "not deflated": deflated + body(plain),
        "sequence": defined,
        "undefined length": file_bytes(nested),
        "more after the pixels": files[False] + body(item),
        "RLE": file_bytes(rle),
        "JPEG Lossless": file_bytes(compressed("JPEGLosslessProcess14_1")),
        "JPEG-LS": file_bytes(compressed("JPEGLSLossless")),
        "JPEG 2000": file_bytes(compressed("JPEG2000Lossless")),
    }


def big_endian(data: FileDataset) -> Dataset:
    """A copy whose pixels are in big-endian words."""
    turned = copy.deepcopy(Dataset(data))
    turned.PixelData = np.frombuffer(data.PixelData, "<i2").astype(">i2").tobytes()
    turned["PixelData"].VR = "OW"
    return turned
