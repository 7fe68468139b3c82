"""Does the memory of a process that answers study after study stay flat?   python -m benchmarks.bench_studies

200 times a small synthetic study (12 slices), each with its page and its maps, by a small network and a
BiLSTM from random weights: the resident set after 20 and after 200, and what is left of temporary files.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import gc
import logging
import tempfile
from pathlib import Path

from benchmarks.bench_predict import finish_experiment, first_study, load, prepared_of
from benchmarks.record import record
from benchmarks.timing import entry
from src.command_line import argument_parser
from src.data.phantom import generate
from src.ensemble.answering.study_files import predict_studies
from src.report.study.new_study_page import PAGE, write_new_study_page

EARLY = 20
SMALL = {"backbone": "test_resnet", "pretrained": False, "image_size": 128}


def main() -> None:
    arguments = parse_arguments()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="ich-bench-") as folder:
        home = Path(folder)
        generate(home / "raw", studies=6, seed=1, slices=12, truth=home / "truth")
        prepared, study = prepared_of(home), first_study(home)
        finish_experiment(home, prepared, "fp32", SMALL)
        predictor, used = load(home, "fp32"), []
        (home / "temporary").mkdir()
        tempfile.tempdir = str(home / "temporary")
        for number in range(1, arguments.studies + 1):
            out = home / "out" / str(number)
            predict_studies(predictor, study, out, page=write_new_study_page)
            assert (out / PAGE).stat().st_size > 1e5
            used.append(resident())
            if number % EARLY == 0:
                print(f"{number} studies: {used[-1]:.0f} MiB", flush=True)
        gc.collect()
        left = list((home / "temporary").iterdir())
        tempfile.tempdir = None
    print(f"temporary files left: {len(left)}")
    assert not left, left
    name = f"after {EARLY} studies, the same process"
    if not arguments.no_record:
        record([entry("studies_memory", used[-1], used[EARLY - 1], "MiB after 200 studies", name, False)])


def resident() -> float:
    """MiB of this process that lie in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--no-record", action="store_true", help="print only, leave results/bench.json alone")
    return parser.parse_args()


if __name__ == "__main__":
    main()
