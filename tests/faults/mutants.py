"""Files of every format that is read, changed in ways that keep most of their structure."""

import gzip
import io
import json
import random
import struct
import zipfile
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from src.data.contest_csv import read_labels, read_long
from src.data.dicom import decode, scan_headers
from src.data.formats.nifti import header_rows, slice_values
from src.data.preparation.checks import cause_of
from src.data.source import VolumeSlice, list_members, read_bytes
from src.files import parquet_made_from, read_json, read_parquet, write_parquet
from src.labels import LABELS
from tests.data.dicom_files import body, dataset, encodings, file_bytes
from tests.data.test_differential import mutated

HOSTILE = (
    *(
        b"../../../../tmp/escaped",
        b"/etc/passwd",
        b"C:\\\\x",
        b"a\0b",
        b"\xff\xfe\xfd",
        b"\xe2\x80\xae<script>",
    ),
    *(
        b"nan",
        b"-inf",
        b"1e400",
        b"1\\2\\3\\4\\5\\6\\7",
        b"",
        b" ",
        b"9" * 400,
        b"0x10",
        "\u0661\u0662".encode(),
    ),
)
SIZES = (0, 1, 2, 3, 255, 4095, 4096, 4097, 32767, 65534, 65535)
ENDS = ("", ".1", ".1.99", ".2", ".4.50", ".4.57", ".4.70", ".4.80", ".4.90", ".5", ".77")
SYNTAXES = tuple(f"1.2.840.10008.1.2{end}" for end in ENDS)
VRS = ("UN", "SQ", "OB", "DS", "US", "LO", "UT", "PN", "FD", "AT")
FILES = encodings()


def dicom_mutant(rng: random.Random) -> bytes:
    """One element of a file in the contest's tags changed, nested or doubled; a wrong syntax; a bomb."""
    if rng.random() < 0.4:
        return mutated(rng.choice(list(FILES.values())), rng)
    data, what = dataset("1.2.3", implicit=rng.random() < 0.5), rng.randrange(6)
    element = data[rng.choice(sorted(data.keys()))]
    if what == 0:
        value = rng.choice(HOSTILE)
        data[element.tag] = RawDataElement(element.tag, element.VR, len(value), value, 0, False, True)
    elif what == 1:
        data.Rows, data.Columns = rng.choice(SIZES), rng.choice(SIZES)
    elif what == 2:
        return _nested(rng.choice((1, 30, 400, 5000)))
    elif what == 3:
        value = body(data)[: rng.randrange(64)]
        tag = Tag(rng.choice((0x00081140, 0x00090010, 0x7FE00010, element.tag)))
        data[tag] = RawDataElement(tag, rng.choice(VRS), len(value), value, 0, False, True)
    elif what == 4 and rng.random() < 0.02:
        return _bomb()
    else:
        data.file_meta.TransferSyntaxUID = rng.choice(SYNTAXES)
    try:
        return mutated(file_bytes(data), rng) if rng.random() < 0.3 else file_bytes(data)
    except Exception:  # pydicom does not write everything that can be thought of
        return mutated(FILES["explicit"], rng)


def _nested(depth: int) -> bytes:
    """A sequence in a sequence in a sequence ... (pydicom takes for ever to write one)."""
    opened = b"\x08\x00\x40\x11SQ\0\0" + b"\xff" * 4 + b"\xfe\xff\x00\xe0" + b"\xff" * 4
    closed = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    plain = FILES["explicit"]
    start = plain.index(b"\x20\x00")  # before the first element of group 0020
    return plain[:start] + opened * depth + closed * depth + plain[start:]


@cache
def _bomb() -> bytes:
    """A deflated file of 300 kB that would become 300 MB."""
    plain = FILES["deflated"]
    packer = zlib.compressobj(9, wbits=-15)
    block = bytes(1 << 20)
    parts = [packer.compress(block) for _ in range(300)]
    start = plain.index(b"1.2.840.10008.1.2.1.99") + 22
    return plain[:start] + b"".join(parts) + packer.flush()


def text_mutant(rng: random.Random, text: bytes) -> bytes:
    """A field, a line or some bytes of a text replaced, doubled or taken out."""
    lines, what = text.split(b"\n"), rng.randrange(5)
    at = rng.randrange(len(lines))
    if what == 0:
        lines[at] = rng.choice((b",", b":")).join(
            rng.choices((*HOSTILE, *lines[at].split(b",")), k=rng.randrange(1, 4))
        )
    elif what == 1:
        lines.insert(at, lines[rng.randrange(len(lines))])
    elif what == 2:
        del lines[at]
    elif what == 3:
        lines[at] = rng.choice((b"[", b'{"a":', b'"', b"9")) * rng.choice((1, 5000, 200_000))
    else:
        return mutated(text + b" " * 24, rng)
    return b"\n".join(lines)


def csv_text() -> bytes:
    rows = [
        f"ID_{k}_{label},{k % 2 if label in ('any', 'subdural') else 0}" for k in range(4) for label in LABELS
    ]
    return "\n".join(["ID,Label", *rows]).encode() + b"\n"


CONFIG = {"backbone": "resnet18", "windows": [[40, 80], [80, 200]], "lr": 0.5}
JSON_TEXT = json.dumps(CONFIG, indent=1).encode()


def read_dicom(path: Path) -> None:
    """As preparation does: the header in a table with its cause, and the pixels."""
    table = scan_headers([path])
    assert len(table) == 1
    cause_of(table)
    assert decode(path.read_bytes()).values.dtype == np.int16


def read_csv(path: Path) -> None:
    for read in (read_labels, lambda source: read_long(source, labels=False)):
        read(path)


def read_settings(path: Path) -> None:
    from src.config import read_values
    from src.training.slices.slice_config import SliceConfig

    read_json(path)
    from src.config import parse_config

    parse_config(SliceConfig, read_values(path), str(path))


def read_table(path: Path) -> None:
    parquet_made_from(path)
    read_parquet(path)


def read_nifti(path: Path) -> None:
    header_rows(str(path))
    slice_values(VolumeSlice(str(path), 0))


def read_zip(path: Path) -> None:
    for member in list_members(path):
        read_bytes(member)


def read_weights(path: Path) -> None:
    """As `pretrained` in a configuration names a file."""
    from src.models.backbones import create_backbone

    create_backbone("test_resnet", 3, str(path))


def parquet_file(folder: Path) -> bytes:
    frame = pd.DataFrame({"image_id": ["a", "b"] * 50, "any": np.linspace(0, 1, 100)})
    write_parquet(folder / "a.parquet", frame, {"run": "x", "data": "y"})
    return (folder / "a.parquet").read_bytes()


def nifti_file() -> bytes:
    import nibabel

    values = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    return nibabel.Nifti1Image(values, np.diag((0.5, 0.5, 5, 1))).to_bytes()


def zip_file() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../escaped.dcm", FILES["explicit"])
        archive.writestr("stage_2_train/zeros.dcm", bytes(1 << 22))
    return file.getvalue()


def weights_file() -> bytes:
    from safetensors.torch import save

    from src.models.backbones import create_backbone

    return save(create_backbone("test_resnet", 3, False).state_dict())


def _anywhere(rng: random.Random, data: bytes) -> bytes:
    """Bytes of the head, of the end where these formats keep their directory, or of the rest."""
    found, place = bytearray(data), rng.randrange(3)
    low, high = ((0, min(400, len(data))), (max(len(data) - 900, 0), len(data)), (0, len(data)))[place]
    for _ in range(rng.choice((1, 2, 8))):
        at = rng.randrange(low, high)
        piece = rng.choice(
            (rng.randbytes(1), struct.pack("<i", rng.choice((-1, 0, 1 << 30, 1 << 20))), b"\xff" * 8)
        )
        found[at : at + len(piece)] = piece
    return bytes(found[: rng.randrange(len(found))] if rng.random() < 0.1 else found)


def formats(folder: Path) -> dict[str, tuple]:
    """Format -> (file name, mutant by a generator of random numbers, reader)."""
    table, volume, archive, weights, labels = (
        parquet_file(folder),
        nifti_file(),
        zip_file(),
        weights_file(),
        csv_text(),
    )
    return {
        "DICOM": ("a.dcm", dicom_mutant, read_dicom),
        "CSV": ("a.csv", lambda rng: text_mutant(rng, labels), read_csv),
        "JSON": ("a.json", lambda rng: text_mutant(rng, JSON_TEXT), read_settings),
        "Parquet": ("a.parquet", lambda rng: _anywhere(rng, table), read_table),
        "NIfTI": ("a.nii", lambda rng: _anywhere(rng, volume), read_nifti),
        "NIfTI, gzip": ("a.nii.gz", lambda rng: gzip.compress(_anywhere(rng, volume), 1), read_nifti),
        "zip": ("a.zip", lambda rng: _anywhere(rng, archive), read_zip),
        "safetensors": ("a.safetensors", lambda rng: _anywhere(rng, weights), read_weights),
    }


def try_mutants(kind: str, number: int, seed: int, folder: str) -> None:
    """Target of a process: `number` mutants of a format are read or refused, each within bounds.

    Exit code 0; otherwise the last mutant lies in the folder and what went wrong in `problem.txt`.
    """
    import resource
    import signal
    import traceback

    from src.data.formats import nifti
    from src.errors import UserError

    place = Path(folder)
    name, mutant, read = formats(place)[kind]
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 31), used + (1 << 31)))
    rng, path, refused = random.Random(f"{kind} {seed}"), place / name, 0
    (place / "problem.txt").write_text("the process died, or a mutant took more than 20 s")
    for _ in range(number):
        path.write_bytes(mutant(rng))
        nifti._image_rows.cache_clear()
        signal.setitimer(signal.ITIMER_PROF, 20)  # of processor time, whatever else the machine does
        try:
            read(path)
        except (UserError, ValueError, OSError) as error:
            refused += 1
            if isinstance(error, UnicodeError) or not str(error):
                (place / "problem.txt").write_text(traceback.format_exc())
                raise SystemExit(1) from None
        except BaseException:
            (place / "problem.txt").write_text(traceback.format_exc())
            raise SystemExit(1) from None
        signal.setitimer(signal.ITIMER_PROF, 0)
    (place / "problem.txt").unlink()
    path.unlink()
    (place / "refused.txt").write_text(str(refused))
