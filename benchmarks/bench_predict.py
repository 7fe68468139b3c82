"""A new study from DICOM files to probabilities, against the usual code.  python -m benchmarks.bench_predict

A synthetic study of 32 slices of 512 pixels. Both sides: ResNet18 at 256 pixels and a two-layer bidirectional
LSTM of 256, random weights. Ours is what `predict.py --study` does, checks of the study and tables included;
the reference reads by pydicom, windows in float64 and sees one slice at a time. Warm: everything is loaded.
One thread, seconds of CPU time, the two in turn. Cold: the command in
a process of its own, imports and loading included, without maps.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from benchmarks import peers
from benchmarks.record import record
from benchmarks.timing import entry
from src.command_line import argument_parser
from src.config import parse_config
from src.data.phantom import generate
from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.prepared import Prepared
from src.ensemble.answering import predictor as predictor_module
from src.ensemble.answering.answers import TrainedExperiment
from src.ensemble.answering.predictor import Predictor
from src.files import write_json
from src.labels import LABELS
from src.models.slice_classifier import build_slice_classifier
from src.report.study.new_study_page import shown_study
from src.report.study.study_page import render_study_page
from src.settings import load_settings
from src.training import launch
from src.training.engine.training_progress import Progress
from src.training.provenance import origin
from src.training.runs import Run
from src.training.slices.slice_config import SliceConfig
from src.training.split import labelled_slices
from src.training.studies.embedding_spaces import EmbeddingMap
from src.training.studies.stacker_config import StackerConfig
from src.training.studies.stacker_networks import build_from_config

SLICES, CPU, LOG = 32, torch.device("cpu"), logging.getLogger("ich.bench")
PIXELS = {"backbone": "resnet18", "pretrained": False, "image_size": 256}
PEER = "pydicom, float64 windows, ResNet18 fp32 NCHW batch 1, BiLSTM 256"


def main() -> None:
    arguments = parse_arguments()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="ich-bench-") as folder:
        home = Path(folder)
        generate(home / "raw", studies=6, seed=1, slices=SLICES, truth=home / "truth")
        prepared, study = prepared_of(home), first_study(home)
        for precision in ("fp32", "bf16"):
            finish_experiment(home, prepared, precision)
        predictors = {name: load(home, name) for name in ("fp32", "bf16")}
        seconds = {name: [] for name in ("peer", *predictors)}
        ways = {"peer": usual_code(sorted(study.iterdir()))}
        ways |= {name: asked(predictor, study) for name, predictor in predictors.items()}
        for _ in range(1 + arguments.repeats):
            for name, way in ways.items():
                seconds[name].append(cpu_seconds(way))
        middle = {name: float(np.median(values[1:])) for name, values in seconds.items()}
        print({name: [round(value, 3) for value in values] for name, values in seconds.items()})
        parts = {name: parts_of(predictor, study) for name, predictor in predictors.items()}
        cold = cold_seconds(home, study)
    entries = [
        entry("predict", middle["bf16"], middle["peer"], "s a study", f"{PEER}; ours in bf16", False),
        entry("predict_fp32", middle["fp32"], middle["peer"], "s a study", PEER, False),
        entry("predict_cold", cold, middle["bf16"], "s a study", "the same study warm", False),
    ]
    for name, found in parts.items():
        print(name, ", ".join(f"{part} {value * 1000:.0f} ms" for part, value in found.items()))
    for one in entries:
        print("{part}: {ours:.3f} against {reference:.3f} {unit}, {ratio:.2f}x".format(**one))
    if not arguments.no_record:
        record(
            [one | ({"parts_ms": _ms(parts["bf16"])} if one["part"] == "predict" else {}) for one in entries]
        )


def _ms(parts: dict[str, float]) -> dict[str, float]:
    return {name: round(1000 * value, 1) for name, value in parts.items()}


def cpu_seconds(way: Callable[[], object]) -> float:
    started = time.process_time()
    way()
    return time.process_time() - started


def prepared_of(home: Path) -> Prepared:
    """Of the training part: what made-up runs say they were trained on."""
    names = ("RAW_DATA", "CLEAN_DATA", "MODEL", "CHECKPOINT", "LOGS", "SUBMISSION")
    folders = ("raw", "clean", "models", "checkpoints", "logs", "submissions")
    write_json(home / "S.json", {f"{n}_DIR": folder for n, folder in zip(names, folders, strict=True)})
    prepare(home / "raw", home / "clean", Options(size=256, folds=2))
    return Prepared(home / "clean")


def first_study(home: Path) -> Path:
    """A folder with the files of one test study."""
    slices = Prepared(home / "clean").slices
    usable = slices[(slices["split"] == "test") & (slices["status"] == "ok")]
    own = usable[usable["study_id"] == usable["study_id"].iloc[0]]
    (home / "study").mkdir()
    for image_id in own["image_id"]:
        source = home / "raw" / "stage_2_test" / f"{image_id}.dcm"
        (home / "study" / source.name).write_bytes(source.read_bytes())
    return home / "study"


def finish_experiment(home: Path, prepared: Prepared, name: str, pixels: dict[str, Any] = PIXELS) -> None:
    """A fold of a slice classifier and one of a stacker, as training leaves them, with random weights; its
    name is the precision they compute in.
    """
    settings = load_settings(home / "S.json")
    config = parse_config(SliceConfig, pixels | {"precision": name}, name)
    first = Run(f"{name}/stage1/slices", 0, settings)
    torch.manual_seed(0)
    model = build_slice_classifier(config)
    width = model.embedding_size
    finish(first, prepared, config, model, [], width)
    values = {
        "stacker": "lstm", "members": [first.name], "inputs": ["embeddings"], "embedding_space": "pooled",
        "width": None, "hidden": 256, "layers": 2, "precision": name,
    }  # fmt: skip
    config = parse_config(StackerConfig, values, name)
    run, space = Run(f"{name}/stage2/lstm", 0, settings), EmbeddingMap((first.name,), (width,))
    space.save(run.folder)
    finish(run, prepared, config, nn.ModuleList([build_from_config(config, space.out)]), [first])


def finish(
    run: Run, prepared: Prepared, config: Any, model: nn.Module, inputs: list[Run], embeddings: int = 0
) -> None:
    """Write a run folder; what it says of slices it held out is made up."""
    ids, rng = labelled_slices(prepared)["image_id"].to_numpy(), np.random.default_rng(0)
    table = pd.DataFrame(rng.random((len(ids), 6)), pd.Index(ids, name="image_id"), list(LABELS))
    run.save_config(config)
    run.save_weights(model)
    columns = rng.random((len(ids), embeddings), np.float32) if embeddings else None
    run.save_predictions("oof", table, columns)
    made_from = origin(run, config, prepared, inputs=inputs)
    run.finish({"score": 0.2, "baseline": 0.2}, made_from, 0, CPU, Progress(), LOG)


def load(home: Path, name: str) -> Predictor:
    trained = TrainedExperiment(load_settings(home / "S.json"), name, "cpu", keep=True, quiet=True)
    return Predictor(trained)


def asked(predictor: Predictor, study: Path) -> Callable[[], object]:
    return lambda: predictor.study(study)


def usual_code(paths: list[Path]) -> Callable[[], object]:
    import timm  # after src, which lets its torchvision work

    torch.manual_seed(0)
    cnn = timm.create_model("resnet18", num_classes=0).eval()
    lstm = nn.LSTM(512, 256, 2, batch_first=True, bidirectional=True).eval()
    head = nn.Linear(512, 6).eval()
    return lambda: peers.predict_study(paths, cnn, lstm, head)


def parts_of(predictor: Predictor, study: Path) -> dict[str, float]:
    """CPU seconds of one warm study, part by part."""
    predict, prepare_one = launch._predict, predictor_module.prepare_study
    found: dict[str, float] = dict.fromkeys(("read", "stage1", "stage2"), 0.0)

    def timed(run: Run, *others: Any) -> None:
        found[run.stage] += cpu_seconds(lambda: predict(run, *others))

    def reading(*others: Any) -> Any:
        started = time.process_time()
        try:
            return prepare_one(*others)
        finally:
            found["read"] += time.process_time() - started

    launch._predict, predictor_module.prepare_study = timed, reading
    started = time.process_time()
    result = predictor.study(study)
    rest = time.process_time() - started - sum(found.values())
    launch._predict, predictor_module.prepare_study = predict, prepare_one
    shown = shown_study(result, predictor, maps=False)
    maps = cpu_seconds(lambda: shown_study(result, predictor))
    return {
        "read": found["read"], "networks": found["stage1"], "stackers": found["stage2"], "tables": rest,
        "maps": maps, "page": cpu_seconds(lambda: render_study_page(shown)),
    }  # fmt: skip


def cold_seconds(home: Path, study: Path) -> float:
    """CPU seconds of the command in a process of its own, without maps."""
    command = [
        sys.executable,
        "predict.py",
        "experiments/bf16",
        "--settings",
        str(home / "S.json"),
        "--quiet",
    ]
    command += ["--study", str(study), "--out", str(home / "out"), "--no-maps", "--device", "cpu"]
    before = os.times()
    subprocess.run(command, check=True, cwd=Path(__file__).resolve().parent.parent, capture_output=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-record", action="store_true", help="print only, leave results/bench.json alone")
    return parser.parse_args()


if __name__ == "__main__":
    main()
