"""Stage 2: training speed against the batch-of-one loop, and a full-size epoch in 8 GiB.

    python -m benchmarks.bench_stage2            2,000 studies
    python -m benchmarks.bench_stage2 --full     a whole epoch of 21,744 studies, 752,803 slices
                                                 (3.1 GB on disk)

With --full the process may not map more than 8 GiB, the file of embeddings included; `memory` is its largest
resident set, pages of that file included.

Embeddings are random numbers of 2,048 columns with the lengths of the real studies; only time and memory are
read from them.  One thread; studies per second of CPU time.  `same net` is the reference's own network
(2-layer bidirectional LSTM 256 on the embeddings, no projection) in our packed batches; `stage2` is what a
user trains by default, which projects first and so is a smaller network.
"""

import logging
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import torch
from torch import nn

from benchmarks.record import record
from src.command_line import argument_parser
from src.config import parse_config
from src.files import file_sha256
from src.labels import LABELS
from src.settings import Settings
from src.training.engine.loop import Task
from src.training.engine.state import TrainingState
from src.training.runs import Run
from src.training.studies.embedding_spaces import EmbeddingMap
from src.training.studies.stacker_config import StackerConfig
from src.training.studies.stacker_networks import FoldData, Snapshots, build_from_config, fold_task
from src.training.studies.study_inputs import StudyInputs

STUDIES, SLICES, WIDTH, MEMBER = 21_744, 752_803, 2048, "bench/stage1/random"
LIMIT = 8 * 2**30  # bytes of address space with --full
CPU = torch.device("cpu")
PLAIN = {"inputs": ["embeddings"], "embedding_space": "pooled", "members": [MEMBER], "dropout": 0.0}
NETS = {
    "stage2": {"stacker": "lstm", "members": [MEMBER], "embedding_space": "pooled"},
    "transformer": {"stacker": "transformer", "members": [MEMBER], "embedding_space": "pooled"},
    "same net": {"stacker": "lstm", "width": None, **PLAIN},  # last: what it does not read is dropped
}


def main() -> None:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="an epoch over all studies of the contest")
    parser.add_argument("--studies", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="of training, for each network")
    parser.add_argument("--no-record", action="store_true", help="print only, leave results/bench.json alone")
    parser.add_argument("--folder", help="where the embeddings are written and deleted again")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if args.full:
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        inputs = random_inputs(Path(folder), STUDIES if args.full else args.studies)
        print(f"{len(inputs):,} studies, {len(inputs.image_ids):,} slices, memory {peak():.2f} GiB so far")
        speeds = {"peer": peer_speed(inputs, args.seconds)}
        for name in ("stage2",) if args.full else NETS:
            speeds[name] = our_speed(inputs, name, float("inf") if args.full else args.seconds)
            ratio = speeds[name] / speeds["peer"]
            print(f"{name}: {speeds[name]:.1f} studies/s, {ratio:.1f}x, memory {peak():.2f} GiB", flush=True)
    if not args.no_record:
        record(entries(speeds, args.full))


def entries(speeds: dict[str, float], full: bool) -> list[dict[str, Any]]:
    if not full:
        return [entry("stage2", speeds), entry("stage2, same net", speeds, "same net")]
    memory = f"limit of address space; a whole epoch of {STUDIES:,} studies, {SLICES:,} slices"
    return [entry("stage2_full", speeds), {
        "part": "stage2_full_memory", "ours": peak(), "reference": LIMIT / 2**30, "unit": "GiB",
        "ratio": LIMIT / 2**30 / peak(), "reference_name": memory,
    }]  # fmt: skip


def entry(part: str, speeds: dict[str, float], name: str = "stage2") -> dict[str, Any]:
    return {
        "part": part, "ours": speeds[name], "reference": speeds["peer"], "unit": "studies/s",
        "ratio": speeds[name] / speeds["peer"],
        "reference_name": "batch of one, 2-layer BiLSTM 256 on 2048 columns, no projection",
    }  # fmt: skip


def random_inputs(folder: Path, studies: int) -> StudyInputs:
    """A stage-1 run with random outputs; lengths are round(N(34.6, 6.5)) in 20 to 60, in all as real."""
    rng = np.random.default_rng(0)
    lengths = rng.normal(34.6, 6.5, studies).round().clip(20, 60).astype(int)
    if studies == STUDIES:  # the last slices are spread so that the sum is the contest's
        rest = SLICES - lengths.sum()
        lengths[rng.choice(studies, abs(rest), replace=False)] += np.sign(rest)
    study = np.repeat(np.arange(studies), lengths)
    slices = pd.DataFrame({"image_id": [f"ID_{i:09x}" for i in range(len(study))]})
    slices["study_id"] = np.char.add("S", study.astype(str))
    slices["position_mm"] = (np.arange(len(study)) - np.r_[0, np.cumsum(lengths)[:-1]][study]) * 5.0
    labels = rng.random((len(study), 6)) < 0.05
    slices[list(LABELS)] = labels.astype(np.int8)
    names = ("raw", "clean", "models", "checkpoints", "logs", "submissions")
    run = Run(MEMBER, 0, Settings(folder / "SETTINGS.json", *(folder / name for name in names)))
    probabilities = pd.DataFrame(rng.random((len(study), 6)), slices["image_id"], list(LABELS))
    embeddings = run.embeddings_file("oof")
    embeddings.parent.mkdir(parents=True)
    with open(embeddings, "wb") as file:
        header = {"descr": "<f2", "fortran_order": False, "shape": (len(study), WIDTH)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(study), 8192):
            block = rng.standard_normal((min(8192, len(study) - start), WIDTH), np.float32)
            file.write(block.astype(np.float16).tobytes())
    run.save_predictions("oof", probabilities, made_from={"embeddings": file_sha256(embeddings)})
    return StudyInputs(slices, {MEMBER: [run]}, "oof", config("stage2"))


def config(name: str) -> StackerConfig:
    return parse_config(StackerConfig, {"epochs": 1, "batch_size": 32, "lr": 1e-3, **NETS[name]}, name)


def our_speed(inputs: StudyInputs, name: str, seconds: float) -> float:
    """Studies/s of one epoch, or of its first `seconds`, through our batches and our training step."""
    own = config(name)
    inputs.config = own
    data = FoldData(inputs, inputs, EmbeddingMap((MEMBER,), (WIDTH,)), {})
    task = make_task(data, own)
    state = TrainingState(task.model, task.loss, own, CPU, task.batches.steps)
    batches = enumerate(task.batches.epoch(0))
    return speed((len(b["ids"]) for i, b in batches if state.step(b, i) is not None), seconds)


def make_task(data: FoldData, own: StackerConfig) -> Task:
    """The engine's task; a network that reads embeddings alone is given nothing else."""
    if "logits" not in own.inputs:
        data.training.logits = np.empty((1, len(data.training.image_ids), 0), np.float32)
        data.training.positions = np.empty((len(data.training.image_ids), 0), np.float32)
    torch.manual_seed(0)
    model = build_from_config(own, data.space.out)
    return fold_task(model, own, data, CPU, Snapshots(Path("unused"), own), lambda entry: None)


def peer_speed(inputs: StudyInputs, seconds: float) -> float:
    """The usual code: a study a step, float32, no packing needed since there is no batch."""
    torch.manual_seed(0)
    lstm = nn.LSTM(WIDTH, 256, 2, batch_first=True, bidirectional=True)
    head = nn.Linear(512, 6)
    optimizer = torch.optim.AdamW([*lstm.parameters(), *head.parameters()], 1e-3)
    embeddings = inputs.copies[0][0].arrays[0][0]

    def steps() -> Iterator[int]:
        for study in np.random.default_rng(0).permutation(len(inputs)):
            rows = slice(inputs.bounds[study], inputs.bounds[study + 1])
            x = torch.from_numpy(embeddings[rows].astype(np.float32))[None]
            y = torch.from_numpy(inputs.labels[rows])[None]
            loss = nn.functional.binary_cross_entropy_with_logits(head(lstm(x)[0]), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield 1

    return speed(steps(), seconds)


def speed(studies: Iterator[int], seconds: float, clock: Callable[[], float] = time.process_time) -> float:
    """Studies per second of CPU time, the first step left out."""
    next(studies)
    started, count = clock(), 0
    for number in studies:
        count += number
        if clock() - started > seconds:
            break
    return count / (clock() - started)


def peak() -> float:
    """GiB, the largest resident set so far; pages of the mapped file count."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main()
