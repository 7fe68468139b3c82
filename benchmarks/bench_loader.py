"""Training batches of slices against the usual Dataset of PNG files.   python -m benchmarks.bench_loader

256 pixels, batch 64, shuffled, one thread, page cache warm, slices per second of CPU time.

`cpu_loader`  both sides end with a float32 batch of three windows, flipped, warped (scale .9-1.1, shift
              +-6 %, turn +-20 degrees) and with brightness and contrast varied: ours by window jitter.
`gpu_feed`    the host's share when a GPU does all that: ours ends with the stored int16 batch and the random
              numbers, the reference as before, for its work cannot be split.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks import peers
from benchmarks.record import record
from benchmarks.timing import alternately, arguments, contest_folder, entry, show
from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.prepared import Prepared
from src.data.windows import stack_windows
from src.training.engine.devices import keep_freed_memory
from src.training.slices.draws import Augmentation
from src.training.slices.slice_batches import SliceBatches
from src.training.slices.slice_config import SliceConfig
from src.training.split import labelled_slices

SIZE, BATCH = 256, 64
UNIT = "slices/core-s"
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
CONFIG = SliceConfig(
    backbone="resnet18",
    image_size=SIZE,
    batch_size=BATCH,
    windows=peers.WINDOWS,
    augmentation=Augmentation(
        rotate_deg=20, scale=0.1, shift=0.06, window_center_jitter=(8.0, 20.0, 38.0), window_width_jitter=0.1
    ),
)


class PngSlices(Dataset):
    """The usual data set: read, flip and warp RGB, brightness and contrast, normalise, to a tensor."""

    def __init__(self, files: list[str]):
        self.files, self.rng = files, np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> torch.Tensor:
        rng, image = self.rng, cv2.imread(self.files[row])
        matrix = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), rng.uniform(-20, 20), rng.uniform(0.9, 1.1))
        matrix[:, 2] += rng.uniform(-0.06, 0.06, 2) * SIZE
        if rng.random() < 0.5:
            matrix[:, 0], matrix[:, 2] = -matrix[:, 0], matrix[:, 2] + matrix[:, 0] * (SIZE - 1)
        image = cv2.warpAffine(image, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR)
        contrast, brightness = rng.uniform(0.9, 1.1), rng.uniform(-25.5, 25.5)
        image = cv2.convertScaleAbs(image, alpha=contrast, beta=max(brightness, 0))
        image = (image.astype(np.float32) / 255 - MEAN) / STD
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def main() -> None:
    args = arguments(__doc__)
    torch.set_num_threads(1)
    keep_freed_memory()  # as training does; the reference gains by it too
    with contest_folder(args.raw, args.files) as (raw, paths), tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "png"
        images.mkdir()
        files = [str(peers.prepare_png(path, images)) for path in paths]
        clean = Path(folder) / "clean"
        prepare(raw, clean, Options(size=SIZE, folds=2, remove_holder=True))
        print(f"{len(files)} slices of {args.raw}")
        entries = measure(Prepared(clean), files, args.repeats)
    show(entries)
    if not args.no_record:
        record(entries)


def measure(prepared: Prepared, files: list[str], repeats: int) -> list[dict]:
    slices = labelled_slices(prepared)
    ready = SliceBatches(prepared, slices, CONFIG)
    feed = SliceBatches(prepared, slices, CONFIG)
    feed.on_cpu, feed.pinned = False, False  # as for a GPU, which this need not have
    count = ready.steps * BATCH
    peer = DataLoader(PngSlices(files[:count]), BATCH, shuffle=True)

    def windowed() -> None:
        for batch in ready.epoch(0):
            stack_windows(batch["hu"], batch["windows"], mean=0.2, std=0.3)

    rates = alternately(
        count, repeats, ours=windowed, feed=lambda: run_through(feed.epoch(0)), peer=lambda: run_through(peer)
    )
    name = "Dataset of 256 px PNG, plain cv2, 0 workers"
    return [
        entry("cpu_loader", rates["ours"], rates["peer"], UNIT, name),
        entry("gpu_feed", rates["feed"], rates["peer"], UNIT, name),
    ]


def run_through(batches: object) -> None:
    for _ in batches:  # type: ignore[attr-defined]
        pass


if __name__ == "__main__":
    main()
