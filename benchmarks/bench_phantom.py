"""Drawing synthetic slices of 512 pixels to DICOM files against saving ready ones again with pydicom.

    python -m benchmarks.bench_phantom

Both presets, slices a second on the wall, two processes, start of the command included, in turn with the
reference: pydicom reads and saves the same files in one process. 100 slices/s are asked for.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pydicom

from benchmarks.record import record
from benchmarks.timing import ROOT, entry, show
from src.command_line import argument_parser
from src.phantom.plan import PRESETS

JOBS = 2


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--studies", type=int, default=100, help="of about 30 slices (default: 100)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-record", action="store_true", help="print only, leave results/bench.json alone")
    args = parser.parse_args()
    ours: dict[str, list[float]] = {name: [] for name in PRESETS}
    reference: list[float] = []
    for _ in range(args.repeats):
        for name, rates in ours.items():
            with tempfile.TemporaryDirectory(prefix="ich-bench-") as folder:
                rates.append(draw(name, args.studies, Path(folder) / "raw"))
                reference.append(save_again(Path(folder) / "raw" / "stage_2_train"))
    unit, name = f"slices/s, {JOBS} processes", "pydicom reads and saves a slice"
    entries = [
        entry(f"phantom_{preset}", statistics.median(rates), statistics.median(reference), unit, name)
        for preset, rates in ours.items()
    ]
    show(entries)
    if not args.no_record:
        record(entries)


def draw(preset: str, studies: int, out: Path) -> float:
    """Slices per second of the whole command."""
    command = [sys.executable, "-m", "src.data.phantom", "--out", str(out), "--preset", preset]
    command += ["--studies", str(studies), "--seed", "1", "--jobs", str(JOBS)]
    started = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    seconds = time.perf_counter() - started
    return sum(1 for _ in out.glob("stage_2_*/*.dcm")) / seconds


def save_again(folder: Path, most: int = 300) -> float:
    paths = sorted(folder.glob("*.dcm"))[:most]
    started = time.perf_counter()
    for path in paths:
        pydicom.dcmread(path).save_as(folder / "again.tmp", enforce_file_format=False)
    return len(paths) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
