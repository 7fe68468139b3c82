"""Training of the baseline's slice classifiers on a GPU.   python -m benchmarks.bench_gpu

The configurations of experiments/baseline from random weights, bf16 where the GPU has it, at 384 and 512 px,
from data prepared at 512 px. For each of them and each size: slices per second of wall time through the
loader, against the same training on one batch that lies in the GPU's memory; the GPU's busy share while the
loader feeds it (by nvidia-smi, sampled five times a second); and the utilisation of its arithmetic, 3 x the
forward pass's operations per slice x slices per second / the GPU's stated peak. (torch's counter sees too
much in backward passes of grouped convolutions: 2.9 times for ConvNeXt. The forward count is the published
one.)

--fold also trains fold 0 of the baseline's SE-ResNeXt50 by README's command, from random weights: its slices
per second, start and validation included, against those of steps alone. Without a GPU nothing is measured.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import itertools
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.record import record
from benchmarks.timing import ROOT, benchmark_parser, contest_folder, entry, show
from src.config import load_config
from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.prepared import Prepared
from src.errors import UserError
from src.files import read_json, write_json
from src.models.slice_classifier import build_slice_classifier
from src.training.engine.precision import Batch, to_device
from src.training.engine.state import TrainingState
from src.training.slices.kind import training_loss
from src.training.slices.slice_batches import SliceBatches
from src.training.slices.slice_config import SliceConfig
from src.training.split import labelled_slices

BASELINE = ROOT / "experiments" / "baseline" / "stage1"
FOLD = BASELINE / "seresnext50.json"
SIZES = (384, 512)
# Dense bf16 (fp16 where there is no bf16) FLOP/s of the makers' data sheets; the longest name counts.
PEAKS = {
    "B200": 2250e12, "H200 NVL": 835e12, "H200": 989e12, "H100 PCIe": 756e12, "H100 NVL": 835e12,
    "H100 80GB HBM3": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10": 125e12, "A30": 165e12,
    "RTX 4090": 165e12, "RTX 3090": 71e12, "Tesla T4": 65e12, "V100": 125e12,
}  # fmt: skip


def peak_flops(name: str) -> float:
    """FLOP/s of a GPU as torch names it; an unknown one is a UserError, never a guess."""
    words = f" {name.replace('-', ' ')} "
    known = [gpu for gpu in PEAKS if f" {gpu} " in words]
    if not known:
        raise UserError(f"{name}: its peak is not in benchmarks/bench_gpu.py; give it by --peak-tflops")
    return PEAKS[max(known, key=len)]


def flops_per_slice(config: SliceConfig) -> float:
    """Of one training step: three times the forward pass, counted without memory or arithmetic."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        hu = torch.zeros(1, len(config.neighbours), config.image_size, config.image_size, dtype=torch.int16)
        build_slice_classifier(config, pretrained=False).eval()(hu, torch.zeros(1, len(config.windows), 2))
    return 3.0 * counter.get_total_flops()


class Training:
    """Steps of one configuration, from the loader or from one batch in the GPU's memory."""

    def __init__(self, prepared: Prepared, config: SliceConfig, device: torch.device):
        self.batches = SliceBatches(prepared, labelled_slices(prepared), config, device)
        model = build_slice_classifier(config)
        self.state = TrainingState(model, training_loss(config), config, device, 10**6)
        self.device, self.batch_size = device, config.batch_size
        self.stored = to_device(next(iter(self.batches.epoch(0))), device)

    def fed(self) -> Iterator[Batch]:
        for epoch in itertools.count():
            yield from self.batches.epoch(epoch)

    def rate(self, source: Iterable[Batch], steps: int, warmup: int) -> float:
        """Slices per second of wall time, after some steps that are not counted."""
        self.state.model.train()
        for step, batch in zip(range(-warmup, steps), source, strict=False):
            if step == 0:
                self._wait()
                started = time.perf_counter()
            self.state.step(batch, step + warmup)
        self._wait()
        return steps * self.batch_size / (time.perf_counter() - started)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


@contextmanager
def busy_share(seen: list[float]) -> Iterator[None]:
    """Fill `seen` with the shares of time in which the GPU computed; stays empty without nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        yield
        return
    query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
    watching = subprocess.Popen(["nvidia-smi", *query], stdout=subprocess.PIPE, text=True)
    try:
        yield
    finally:
        watching.terminate()
        lines = watching.communicate()[0].split()
        seen += [float(line) / 100 for line in lines if line.isdigit()]


def measure(prepared: Prepared, path: Path, overrides: list[str], args: Any, peak: float) -> dict[str, Any]:
    config = load_config(SliceConfig, path, ["pretrained=false", *overrides])
    training, device = Training(prepared, config, torch.device(args.device)), device_name(args.device)
    rates: dict[str, list[float]] = {"memory": [], "fed": []}
    seen: list[float] = []
    for _ in range(args.repeats):
        rates["memory"].append(training.rate(itertools.repeat(training.stored), args.steps, args.warmup))
        with busy_share(seen), closing(training.fed()) as source:
            rates["fed"].append(training.rate(source, args.steps, args.warmup))
    memory, fed = median(rates["memory"]), median(rates["fed"])
    flops = flops_per_slice(config)
    part = f"gpu_train {path.stem} {config.image_size} px"
    return entry(part, fed, memory, "slices/s", "the same training on one batch in GPU memory") | {
        "device": device, "batch_size": config.batch_size, "gflop_per_slice": flops / 1e9,
        "utilisation_fed": flops * fed / peak, "utilisation_memory": flops * memory / peak,
        "busy_fed": fmean(seen) if seen else None,
    }  # fmt: skip


def fold(clean: Path, home: Path, args: Any, steps_alone: float) -> dict[str, Any]:
    """README's command for one fold, from random weights."""
    keys = ("RAW_DATA", "CLEAN_DATA", "MODEL", "CHECKPOINT", "LOGS", "SUBMISSION")
    folders = {f"{key}_DIR": str(clean if key == "CLEAN_DATA" else home / key.lower()) for key in keys}
    write_json(home / "SETTINGS.json", folders)
    options = ["--fold", "0", "--settings", str(home / "SETTINGS.json"), "--device", args.device]
    for override in ["pretrained=false", *args.overrides]:
        options += ["--set", override]
    started = time.perf_counter()
    subprocess.run([sys.executable, "train_stage1.py", str(FOLD), *options], cwd=ROOT, check=True)
    seconds = time.perf_counter() - started
    run = home / "model" / "baseline" / "stage1" / FOLD.stem / "fold0"
    batches = read_json(run / "metrics.json")["history"][-1]["step"]
    slices = batches * read_json(run / "config.json")["batch_size"]
    name = "steps alone, one batch in GPU memory"
    return entry("gpu_fold", slices / seconds, steps_alone, "slices/s", name) | {
        "device": device_name(args.device), "slices": slices, "seconds": seconds,
    }  # fmt: skip


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def main() -> None:
    args = parse_arguments()
    if args.device == "cuda" and not torch.cuda.is_available():
        print("no GPU here: nothing measured")
        return
    peak = args.peak_tflops * 1e12 if args.peak_tflops else peak_flops(device_name(args.device))
    torch.backends.cudnn.benchmark = args.cudnn_benchmark
    with contest_folder(args.raw, args.files) as (raw, paths), tempfile.TemporaryDirectory() as folder:
        clean, entries = Path(folder) / "clean", []
        prepare(raw, clean, Options(size=512, folds=2), jobs=os.cpu_count() or 1)
        prepared = Prepared(clean)
        print(
            f"{len(paths)} slices of {args.raw}, {device_name(args.device)}, {peak / 1e12:g} TFLOP/s at most"
        )
        for path, size in itertools.product(args.configs, args.sizes):
            entries.append(measure(prepared, path, [f"image_size={size}", *args.overrides], args, peak))
            show(entries[-1:])
            busy = entries[-1]["busy_fed"]
            print(
                f"  busy {'unknown' if busy is None else f'{busy:.0%}'}, "
                f"arithmetic {entries[-1]['utilisation_fed']:.1%} of the peak"
            )
        if args.fold:
            alone = measure(prepared, FOLD, args.overrides, args, peak)["reference"]
            entries.append(fold(clean, Path(folder), args, alone))
            show(entries[-1:])
    if not args.no_record:
        record(entries)


def parse_arguments() -> Any:
    parser = benchmark_parser(__doc__)
    add = parser.add_argument
    add("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to try this file, at tiny sizes")
    add("--configs", nargs="+", type=Path, default=sorted(BASELINE.glob("*.json")), metavar="CONFIG.json")
    add("--sizes", nargs="+", type=int, default=SIZES, metavar="PX")
    add("--steps", type=int, default=60, help="that are measured (default: 60)")
    add("--warmup", type=int, default=15, help="steps before them (default: 15)")
    add("--peak-tflops", type=float, help="of a GPU that is not in the table")
    add("--cudnn-benchmark", action="store_true", help="let cuDNN try its algorithms first")
    add("--fold", action="store_true", help="also one fold of the baseline by README's command")
    add("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="as in training")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
