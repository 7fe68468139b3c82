"""What one training step of a published system costs: memory and time, each way in a process of its own.

    python -m benchmarks.bench_memory

Networks of published size from random weights, random pixels, one thread. Memory is how far the resident set
rises above what it was before the step: activations, gradients and buffers, without weights. The second of
two steps is timed.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

from benchmarks.record import record
from benchmarks.timing import ROOT, entry, show
from src.command_line import argument_parser

SEQUENCE = "experiments/cnn_lstm/stage1/resnet50_lstm.json"
RESNEXT = "experiments/resnext_pca_bilstm/stage1/resnext101_{}.json"
WAYS = {  # part -> ours, reference, what is compared; a way: configuration, samples, changed keys
    "checkpointing": (
        (SEQUENCE, 1, {"checkpointing": True}),
        (SEQUENCE, 1, {}),
        "CNN-LSTM on a run of ten slices of 512 px, without checkpointing",
    ),
    "half_resolution": (
        (RESNEXT.format("half"), 2, {}),
        (RESNEXT.format("full"), 2, {}),
        "ResNeXt101-32x8d, two slices of 512 px",
    ),
}


def measure(path: str, samples: int, changes: dict[str, Any]) -> dict[str, float]:
    """MiB and seconds of one training step."""
    import torch

    from src.config import parse_config, read_values
    from src.training.kinds import load_kind

    torch.set_num_threads(1)
    torch.manual_seed(0)
    values = read_values(ROOT / path)
    kind = load_kind(values.get("kind", "slice"))
    config = parse_config(kind.config, {**values, "pretrained": False, **changes}, path)
    model = kind.build(config).train()
    shape, side = (samples, getattr(config, "length", 1)), config.image_size
    hu = torch.randint(-1000, 1000, (shape[0] * shape[1], len(config.neighbours), side, side)).short()
    batch = [hu, torch.tensor(config.windows, dtype=torch.float32)[None]]
    if config.kind == "sequence":
        batch.append(torch.ones(shape, dtype=torch.bool))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2):
        started = time.process_time()
        model(*batch)[0].square().mean().backward()
        seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"mib": (peak - before) / 1024, "seconds": seconds}


def alone(way: tuple[str, int, dict[str, Any]]) -> dict[str, float]:
    """`measure` in a fresh process, whose largest resident set is its own."""
    command = [sys.executable, "-m", "benchmarks.bench_memory", "--way", json.dumps(way)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(answer.stdout.splitlines()[-1])


def main() -> None:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--no-record", action="store_true", help="print only, leave results/bench.json alone")
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(measure(*json.loads(arguments.way))))
        return
    entries = []
    for part, (own, reference, name) in WAYS.items():
        ours, theirs = alone(own), alone(reference)
        found = [(f"{part}_memory", "mib", "MiB"), (f"{part}_time", "seconds", "s a step")]
        entries += [entry(p, ours[k], theirs[k], unit, name, more_is_better=False) for p, k, unit in found]
    show(entries)
    if not arguments.no_record:
        record(entries)


if __name__ == "__main__":
    main()
