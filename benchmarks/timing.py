"""Measuring two ways in turn, so that both meet the same machine; and the files they work on."""

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from src.command_line import argument_parser

ROOT = Path(__file__).resolve().parent.parent
DEMO, OWN = ROOT / "data" / "demo" / "raw", ROOT / "data" / "bench" / "raw"


def alternately(count: int, repeats: int, **ways: Callable[[], object]) -> dict[str, float]:
    """Items per second of CPU time for each way of doing `count` items: the median of alternating repeats."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            started = time.process_time()
            way()
            rates[name].append(count / (time.process_time() - started))
    return {name: statistics.median(values) for name, values in rates.items()}


def each(function: Callable[[Any], object], items: Iterable[Any]) -> None:
    """Call and let go of the result: a list of them would measure how fast the system hands out memory."""
    for item in items:
        function(item)


def entry(
    part: str, ours: float, reference: float, unit: str, name: str, more_is_better: bool = True
) -> dict[str, Any]:
    ratio = ours / reference if more_is_better else reference / ours
    return {
        "part": part, "ours": ours, "reference": reference, "unit": unit, "ratio": ratio,
        "reference_name": name,
    }  # fmt: skip


def show(entries: list[dict[str, Any]]) -> None:
    for result in entries:
        print(
            "{part}: {ours:,.0f} against {reference:,.0f} {unit}, {ratio:.2f}x {reference_name}".format(
                **result
            )
        )


def arguments(description: str | None) -> argparse.Namespace:
    return benchmark_parser(description).parse_args()


def benchmark_parser(description: str | None) -> argparse.ArgumentParser:
    """The flags every benchmark has."""
    parser = argument_parser(description)
    text = "contest folder to measure on (default: the demo data, or synthetic studies in data/bench)"
    parser.add_argument("--raw", type=Path, default=DEMO, help=text)
    parser.add_argument("--files", type=int, default=1280, help="slices to use at most (default: 1280)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-record", action="store_true", help="print only, leave results/bench.json alone")
    return parser


@contextlib.contextmanager
def contest_folder(raw: Path, files: int) -> Iterator[tuple[Path, list[Path]]]:
    """A folder in the contest's layout with at most `files` readable training slices of whole studies, and
    them.

    The files are read once before, so that the page cache is warm for everyone.
    """
    import cv2
    import pandas as pd
    import pydicom

    cv2.setNumThreads(0)
    warnings.simplefilter("ignore")
    pydicom.config.settings.reading_validation_mode = pydicom.config.WARN  # pydicom's default
    if raw == DEMO and not (raw / "stage_2_train.csv").is_file():
        from src.data.phantom import generate

        raw = OWN
        print(f"generating synthetic studies in {raw}", file=sys.stderr)
        generate(raw, studies=60, seed=1, truth=raw.parent / "truth", jobs=os.cpu_count() or 1)
    from src.data.dicom import scan_headers
    from src.data.preparation.checks import cause_of

    headers = scan_headers(sorted((raw / "stage_2_train").iterdir()))
    headers = headers[cause_of(headers).isna()]
    sizes = headers.groupby("study_id").size()
    chosen = sizes.index[sizes.cumsum() <= max(files, sizes.iloc[0])]
    headers = headers[headers["study_id"].isin(chosen)]
    labels = pd.read_csv(raw / "stage_2_train.csv")
    names = set(headers["sop_instance_uid"])
    with tempfile.TemporaryDirectory(prefix="ich-bench-") as folder:
        train = Path(folder) / "stage_2_train"
        train.mkdir()
        for path in headers["path"]:
            (train / Path(path).name).symlink_to(Path(path).resolve())
        labels[labels["ID"].str.rsplit("_", n=1).str[0].isin(names)].to_csv(
            f"{folder}/stage_2_train.csv", index=False
        )
        paths = sorted(train.iterdir())
        for path in paths:
            path.read_bytes()
        yield Path(folder), paths
