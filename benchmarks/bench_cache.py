"""Reading prepared slices and studies against the image files others prepare.

    python -m benchmarks.bench_cache

256 pixels, slices per second of CPU time, one thread, page cache warm, random order. `stored_slice` ends with
the stored values on both sides, `slice_tensor` and `study_read` with a float32 tensor of three windows,
`stored_bytes` are bytes a slice. The reference is a three-channel PNG a slice.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import random
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks import peers
from benchmarks.record import record
from benchmarks.timing import alternately, arguments, contest_folder, each, entry, show
from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.volumes import Volumes, open_volumes
from src.data.windows import stack_windows

UNIT = "slices/core-s"
WINDOWS = torch.tensor(peers.WINDOWS, dtype=torch.float32)


def main() -> None:
    args = arguments(__doc__)
    torch.set_num_threads(1)
    with contest_folder(args.raw, args.files) as (raw, paths), tempfile.TemporaryDirectory() as folder:
        print(f"{len(paths)} slices of {args.raw}")
        images = Path(folder) / "png"
        images.mkdir()
        files = {path.stem: str(peers.prepare_png(path, images)) for path in paths}
        prepare(raw, Path(folder) / "clean", Options(size=256, folds=2, remove_holder=True))
        prepare(raw, Path(folder) / "whole", Options(size=256, folds=2))
        entries = measure(open_volumes(Path(folder) / "clean"), files, args.repeats)
        entries += [
            _bytes(name, Path(folder) / clean, files)
            for name, clean in (("stored_bytes", "clean"), ("stored_bytes_with_holder", "whole"))
        ]
        whole = open_volumes(Path(folder) / "whole")
        rate = alternately(len(files), args.repeats, ours=lambda: each(whole.slice, files))["ours"]
        reference = next(result["reference"] for result in entries if result["part"] == "stored_slice")
        entries.append(entry("stored_slice_with_holder", rate, reference, UNIT, "cv2.imread of a 256 px PNG"))
    show(entries)
    if not args.no_record:
        record(entries)


def measure(volumes: Volumes, files: dict[str, str], repeats: int) -> list[dict]:
    names = random.Random(0).sample(sorted(files), len(files))
    studies = random.Random(0).sample(volumes.study_ids, len(volumes.study_ids))

    def png_study(study: str) -> torch.Tensor:
        return torch.stack([png_tensor(files[name]) for name in volumes.study_images(study)])

    rates = alternately(
        len(names),
        repeats,
        slice=lambda: each(volumes.slice, names),
        slice_peer=lambda: each(cv2.imread, [files[name] for name in names]),
        tensor=lambda: each(lambda name: hu_tensor(volumes.slice(name)[None]), names),
        tensor_peer=lambda: each(lambda name: png_tensor(files[name]), names),
        study=lambda: each(lambda study: hu_tensor(volumes.study(study)), studies),
        study_peer=lambda: each(png_study, studies),
    )
    return [
        entry("stored_slice", rates["slice"], rates["slice_peer"], UNIT, "cv2.imread of a 256 px PNG"),
        entry("slice_tensor", rates["tensor"], rates["tensor_peer"], UNIT, "256 px PNG to float32 tensor"),
        entry("study_read", rates["study"], rates["study_peer"], UNIT, "256 px PNGs to one float32 tensor"),
    ]


def hu_tensor(hu: np.ndarray) -> torch.Tensor:
    """(slices, h, w) int16 -> (slices, 3, h, w) float32."""
    return stack_windows(torch.from_numpy(hu)[:, None], WINDOWS)


def png_tensor(path: str) -> torch.Tensor:
    """A PNG -> (3, h, w) float32."""
    return torch.from_numpy(cv2.imread(path).astype(np.float32) / 255).permute(2, 0, 1).contiguous()


def _bytes(part: str, clean: Path, files: dict[str, str]) -> dict:
    packs = sum(path.stat().st_size for path in (clean / "volumes").iterdir())
    pictures = sum(Path(path).stat().st_size for path in files.values())
    return entry(
        part, packs / len(files), pictures / len(files), "bytes", "256 px PNG of three windows", False
    )


if __name__ == "__main__":
    main()
