"""Header scan, decoding and the whole preparation against the usual code, the winners' arithmetic and the
disk.

    python -m benchmarks.bench_prepare                     on the demo data
    python -m benchmarks.bench_prepare --raw FOLDER        on a contest folder

Slices per second of CPU time, one process, one thread, files in the page cache, both sides in turn on the
same files. Ours stores exact int16 HU with their tables; the others store 8-bit windows.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import peers
from benchmarks.record import record
from benchmarks.timing import alternately, arguments, contest_folder, each, entry, show
from src.data.dicom import read_hu, scan_headers
from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare

UNIT = "slices/core-s"


def main() -> None:
    args = arguments(__doc__)
    with contest_folder(args.raw, args.files) as (raw, paths), tempfile.TemporaryDirectory() as folder:
        print(f"{len(paths)} slices of {args.raw}")
        entries = [
            *scanning(paths, args.repeats),
            *decoding(paths, args.repeats),
            *preparing(raw, paths, Path(folder), args.repeats),
        ]
    show(entries)
    if not args.no_record:
        record(entries)


def scanning(paths: list[Path], repeats: int) -> list[dict]:
    shuffled = random.Random(0).sample(paths, len(paths))
    few = shuffled[:320]
    ours = alternately(len(paths), repeats, ours=lambda: scan_headers(shuffled))["ours"]
    rates = alternately(len(few), repeats, peer=lambda: peers.scan(few))
    return [entry("scan", ours, rates["peer"], "files/core-s", "pydicom.dcmread, 20 values, a dict a file")]


def decoding(paths: list[Path], repeats: int) -> list[dict]:
    rates = alternately(
        len(paths),
        repeats,
        ours=lambda: each(read_hu, paths),
        peer=lambda: each(peers.decode, paths),
        raw=lambda: each(raw_read, paths),
    )
    return [
        entry("decode", rates["ours"], rates["peer"], UNIT, "pydicom pixel_array in float64"),
        entry("decode_limit", rates["ours"], rates["raw"], UNIT, "reading the raw bytes"),
    ]


def raw_read(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def preparing(raw: Path, paths: list[Path], folder: Path, repeats: int) -> list[dict]:
    def peer(one: Callable[[Path, Path], Path]) -> Callable[[], None]:
        return lambda: _into(folder / "peer", lambda out: each(lambda path: one(path, out), paths))

    def ours(**options: object) -> Callable[[], None]:
        return lambda: _into(folder / "ours", lambda out: prepare(raw, out, Options(folds=2, **options)))

    rates = alternately(
        len(paths),
        repeats,
        ours_256=ours(size=256, remove_holder=True),
        ours_256_whole=ours(size=256),
        ours_512=ours(size=512),
        peer_256=peer(peers.prepare_png),
        first=peer(peers.prepare_first_place),
        second=peer(peers.prepare_second_place),
        raw=lambda: each(raw_read, paths),
    )
    usual = "three float64 windows, 256 px PNG"
    return [
        entry("prepare", rates["ours_256"], rates["peer_256"], UNIT, usual),
        entry("prepare_with_holder", rates["ours_256_whole"], rates["peer_256"], UNIT, usual),
        entry(
            "prepare_512_first_place",
            rates["ours_512"],
            rates["first"],
            UNIT,
            "own window, min-max, 512 px PNG",
        ),
        entry(
            "prepare_512_second_place", rates["ours_512"], rates["second"], UNIT, "three windows, 512 px JPEG"
        ),
        entry("prepare_limit", rates["ours_256"], rates["raw"], UNIT, "reading the raw bytes"),
    ]


def _into(folder: Path, work: Callable[[Path], object]) -> None:
    folder.mkdir()
    work(folder)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
