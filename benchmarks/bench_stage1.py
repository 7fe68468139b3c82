"""Training a slice classifier from prepared data against the usual loop.   python -m benchmarks.bench_stage1

256 pixels, batch 32, a small network whose training the loader can hold up, float32, one thread, slices per
second of CPU time. The reference: the Dataset of bench_loader, the network in NCHW, memory given back to the
system after every step. `stage1_limit` compares with training on one batch again and again.

This file measures a processor; for a GPU see bench_gpu.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from benchmarks import peers
from benchmarks.bench_loader import CONFIG, SIZE, PngSlices
from benchmarks.record import record
from benchmarks.timing import alternately, arguments, contest_folder, entry, show
from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.prepared import Prepared
from src.models.slice_classifier import build_slice_classifier
from src.training.engine.devices import keep_freed_memory
from src.training.engine.precision import Batch
from src.training.engine.state import TrainingState
from src.training.losses import weighted_bce
from src.training.slices.kind import training_loss
from src.training.slices.slice_batches import SliceBatches
from src.training.split import labelled_slices

BATCH, STEPS = 32, 8
UNIT = "slices/core-s"
SETTINGS = CONFIG.model_copy(
    update={"backbone": "mobilenetv3_small_050", "pretrained": False, "batch_size": BATCH}
)


def main() -> None:
    args = arguments(__doc__)
    torch.set_num_threads(1)
    with contest_folder(args.raw, BATCH * STEPS * 2) as (raw, paths), tempfile.TemporaryDirectory() as folder:
        images, clean = Path(folder) / "png", Path(folder) / "clean"
        images.mkdir()
        files = [str(peers.prepare_png(path, images)) for path in paths]
        prepare(raw, clean, Options(size=SIZE, folds=2, remove_holder=True))
        print(f"{len(files)} slices of {args.raw}")
        # The reference first: what the process keeps of its memory cannot be undone.
        peer = alternately(BATCH * STEPS, args.repeats, peer=usual_loop(files))["peer"]
        keep_freed_memory()
        loop, alone = our_loops(Prepared(clean))
        rates = alternately(BATCH * STEPS, args.repeats, ours=loop, limit=alone)
    name = "PNG Dataset, float32 NCHW, mobilenetv3_small_050, 256 px"
    entries = [
        entry("stage1", rates["ours"], peer, UNIT, name),
        entry(
            "stage1_limit", rates["ours"], rates["limit"], UNIT, "the same training on one batch in memory"
        ),
    ]
    show(entries)
    if not args.no_record:
        record(entries)


def our_loops(prepared: Prepared) -> tuple:
    batches = SliceBatches(prepared, labelled_slices(prepared), SETTINGS)
    state = TrainingState(
        build_slice_classifier(SETTINGS), training_loss(SETTINGS), SETTINGS, torch.device("cpu"), 1000
    )
    stored = next(iter(batches.epoch(0)))

    def run(source: Iterable[Batch]) -> None:
        state.model.train()
        for step, batch in zip(range(STEPS), source, strict=False):
            state.step(batch, step).item()

    return lambda: run(batches.epoch(0)), lambda: run([stored] * STEPS)


def usual_loop(files: list[str]):
    import timm

    model = timm.create_model("mobilenetv3_small_050", pretrained=False, num_classes=6)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    loader = DataLoader(PngSlices(files[: BATCH * STEPS]), BATCH, shuffle=True)

    def run() -> None:
        model.train()
        for images in loader:
            loss = weighted_bce(model(images), torch.zeros(len(images), 6))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run


if __name__ == "__main__":
    main()
