"""Slice classifiers as ONNX files, each compared with torch before it is kept."""

import warnings
from pathlib import Path

import numpy as np
import torch

from ...data.windows import BRAIN
from ...errors import UserError
from ...files import atomic_path
from ...models.slice_classifier import build_slice_classifier
from ...settings import Settings
from ...training.kinds import kind_of
from ...training.runs import Run, experiment_name
from ...training.slices.slice_config import SliceConfig
from ..gather import complete_runs

LARGEST_DIFFERENCE = 1e-4  # of logits
INPUTS, OUTPUTS = ("hu", "windows"), ("logits", "embeddings")


def export_onnx(settings: Settings, experiment: Path | str, folder: Path) -> dict[Path, float]:
    """Write every complete fold of every slice classifier: file -> largest difference of its logits to torch.

    Inputs: hu (b, slices, side, side) and windows (b, n, 2), float32, in HU. UserError without onnx and
    onnxruntime, and where a file does not compute what the network does.
    """
    _require()
    runs = complete_runs(settings, experiment_name(experiment), None)
    chosen = [run for run in runs if kind_of(run).config is SliceConfig]
    if not chosen:
        raise UserError(f"{experiment}: has no complete slice classifier; only those are written as ONNX")
    names = {folder / f"{Path(run.name).name}_fold{run.fold}.onnx": run for run in chosen}
    return {path: _export(run, path) for path, run in names.items()}


def _require() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError:
        raise UserError(
            "--onnx needs onnx and onnxruntime; install them with: pip install -r requirements-extra.txt"
        ) from None


def _export(run: Run, path: Path) -> float:
    config = run.read_config(SliceConfig)
    model = run.load_weights(build_slice_classifier(config, pretrained=False)).eval()
    axes = {name: {0: "batch"} for name in (*INPUTS, *OUTPUTS)}
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter that needs no further package
        torch.onnx.export(
            model, _example(config, 2), str(temporary), input_names=list(INPUTS), output_names=list(OUTPUTS),
            dynamic_axes=axes, dynamo=False,
        )  # fmt: skip
        difference = largest_difference(model, temporary, _example(config, 3))
        if not difference <= LARGEST_DIFFERENCE:
            raise UserError(f"{run}: its ONNX file gives other logits, by {difference:.2g}; it is not kept")
    return difference


def _example(config: SliceConfig, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random HU and the windows of the configuration."""
    generator = torch.Generator().manual_seed(count)
    shape = (count, len(config.neighbours), config.image_size, config.image_size)
    hu = torch.randint(-1000, 1500, shape, generator=generator).float()
    windows = [BRAIN if isinstance(window, str) else window for window in config.windows]
    return hu, torch.tensor(windows, dtype=torch.float32).expand(count, -1, -1).contiguous()


def largest_difference(
    model: torch.nn.Module, path: Path, example: tuple[torch.Tensor, torch.Tensor]
) -> float:
    """Of the logits by onnxruntime on the CPU to those by torch."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found, _ = session.run(list(OUTPUTS), dict(zip(INPUTS, map(torch.Tensor.numpy, example), strict=True)))
    with torch.inference_mode():
        expected = model(*example)[0].numpy()
    return float(np.abs(found - expected).max())
