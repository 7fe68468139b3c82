"""Stage 1 as a user runs it: killed and continued, twice at once, on two processes."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace

import numpy as np
import pytest
import torch

from src.data.prepared import Prepared
from src.errors import UserError
from src.settings import load_settings
from src.training import runs
from src.training.kinds import kind_of
from src.training.launch import train_folds
from src.training.runs import Run
from src.training.slices.kind import KIND
from src.training.slices.slice_config import SliceConfig
from tests.conftest import ROOT
from tests.training.prepared import write_clean, write_settings

RANDOM = {  # everything that draws random numbers or has a state
    "backbone": "test_resnet", "pretrained": False, "image_size": 32, "batch_size": 4, "epochs": 8,
    "dropout": 0.3, "ema_decay": 0.9, "accumulation": 2, "checkpoint_steps": 3, "neighbours": [-1, 0, 1],
    "augmentation": {"elastic": 0.5, "noise": 0.5, "cutmix": 0.2, "window_center_jitter": 5.0},
}  # fmt: skip
# No batch normalisation or dropout: the sums of two processes are those of one, mixed pairs included.
EXACT = {
    "backbone": "test_convnext", "pretrained": False, "image_size": 64, "batch_size": 8, "epochs": 3,
    "lr": 1e-3, "augmentation": {"cutmix": 0.5, "noise": 0.5}, "accumulation": 2, "ema_decay": 0.9,
}  # fmt: skip
SEQUENCE = {  # runs longer than some studies, so that padding is in the batch
    "kind": "sequence", "backbone": "test_convnext", "pretrained": False, "image_size": 64, "length": 6,
    "context": {"hidden": 8, "dropout": 0.0}, "batch_size": 2, "epochs": 2, "lr": 1e-3,
    "augmentation": {"noise": 0.5, "cutmix": 0.5}, "accumulation": 2,
}  # fmt: skip
VIDEO = {
    "kind": "video", "targets": "presence", "frames": 4, "frame_choice": "first", "draws": "study",
    "backbone": "test_convnext", "pretrained": False, "image_size": 64, "batch_size": 2, "epochs": 3,
    "lr": 1e-3, "augmentation": {"noise": 0.5}, "ema_decay": 0.9,
}  # fmt: skip


@pytest.fixture
def home(tmp_path):
    write_settings(tmp_path)
    write_clean(tmp_path / "clean_data", studies=12)
    for name, values in {"random": RANDOM, "exact": EXACT, "sequence": SEQUENCE, "video": VIDEO}.items():
        path = tmp_path / "experiments/tiny/stage1" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    return tmp_path


def command(home, name, *launcher):
    config, settings = home / f"experiments/tiny/stage1/{name}.json", home / "SETTINGS.json"
    script = [ROOT / "train_stage1.py", config, "--fold", "0", "--settings", settings, "--device", "cpu"]
    return [sys.executable, *launcher, *map(str, script)]


def start(home, name):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command(home, name), cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def newer(path, than):
    return path.exists() and path.stat().st_mtime_ns > than


def test_killed_twice_and_started_again_gives_the_same_bytes(home):
    settings = load_settings(home / "SETTINGS.json")
    run = Run("tiny/stage1/random", 0, settings)
    for kind in (signal.SIGKILL, signal.SIGTERM):
        before = run.checkpoint.stat().st_mtime_ns if run.checkpoint.exists() else 0
        process = start(home, "random")
        while process.poll() is None and not newer(run.checkpoint, before):
            time.sleep(0.002)
        process.send_signal(kind)
        process.communicate()
        assert process.returncode == (-signal.SIGKILL if kind == signal.SIGKILL else 130)
        assert run.checkpoint.exists() and not run.complete
    process = start(home, "random")
    output, _ = process.communicate()
    assert process.returncode == 0 and run.complete and not run.checkpoint.exists()
    assert "resumed at step" in output and run.log_file.read_text().count("resumed at step") == 2

    straight = Run("tiny/stage1/straight", 0, settings)
    quiet = logging.getLogger("ich.test")
    KIND.train(
        straight, Prepared(settings.clean), run.read_config(SliceConfig), torch.device("cpu"), quiet, False
    )
    for file in ("model.safetensors", "oof.parquet", "embeddings.npy"):
        assert (run.folder / file).read_bytes() == (straight.folder / file).read_bytes(), file
    assert run.metrics()["history"] == straight.metrics()["history"]


@pytest.mark.parametrize("name", ["exact", "sequence", "video"])
def test_two_processes_on_cpu_train_what_one_trains(home, name):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    answer = subprocess.run(
        command(home, name, *launcher), cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    settings = load_settings(home / "SETTINGS.json")
    together = Run(f"tiny/stage1/{name}", 0, settings)
    assert "2 processes" in together.log_file.read_text()

    alone = Run("tiny/stage1/alone", 0, settings)
    quiet = logging.getLogger("ich.test")
    kind = kind_of(together)
    config = together.read_config(kind.config)
    kind.train(alone, Prepared(settings.clean), config, torch.device("cpu"), quiet, False)
    one, two = alone.predictions("oof"), together.predictions("oof")
    assert list(one.index) == list(two.index)
    np.testing.assert_allclose(two.to_numpy(), one.to_numpy(), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(together.embeddings("oof"), alone.embeddings("oof"), atol=5e-3)
    losses = [[entry["train_loss"] for entry in run.metrics()["history"]] for run in (alone, together)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_a_second_process_on_one_fold_says_so_and_stops(home, monkeypatch):
    monkeypatch.setattr(runs, "PATIENCE", 0.0)
    settings = load_settings(home / "SETTINGS.json")
    arguments = Namespace(
        settings=str(home / "SETTINGS.json"), config=str(home / "experiments/tiny/stage1/exact.json"),
        overrides=[], fold=0, device="cpu", jobs=1, quiet=True,
    )  # fmt: skip
    with (
        Run("tiny/stage1/exact", 0, settings).lock(),
        pytest.raises(UserError, match="another process works on this fold; wait for it or stop it"),
    ):
        train_folds("train_stage1.py", arguments, "stage1")
