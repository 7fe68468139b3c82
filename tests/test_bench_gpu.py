"""The GPU benchmark: its numbers by hand, and the whole of it on a processor at a tiny size."""

import sys
import time

import pytest

from benchmarks import bench_gpu, record
from src.data.phantom import generate
from src.errors import UserError
from src.files import read_json
from src.training.slices.slice_config import SliceConfig


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H200", 989), ("NVIDIA H200 NVL", 835), ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100 80GB PCIe", 312), ("NVIDIA L4", 121), ("NVIDIA L40S", 362),
        ("NVIDIA GeForce RTX 3090", 71), ("Tesla V100-SXM2-16GB", 125),
    ],
)  # fmt: skip
def test_the_peak_of_a_gpu_is_found_by_its_name(name, tflops):
    assert bench_gpu.peak_flops(name) == tflops * 1e12


@pytest.mark.parametrize("name", ["NVIDIA H100", "NVIDIA A1000", "NVIDIA L400", "cpu"])
def test_an_unknown_gpu_is_an_error_not_a_guess(name):
    with pytest.raises(UserError, match="give it by --peak-tflops"):
        bench_gpu.peak_flops(name)


@pytest.mark.parametrize(
    ("backbone", "size", "gmac"),
    [("resnet18", 224, 1.81), ("seresnext50_32x4d", 224, 4.23), ("convnext_tiny", 224, 4.46)],
)
def test_operations_are_three_times_the_published_forward_pass(backbone, size, gmac):
    config = SliceConfig(backbone=backbone, image_size=size)
    assert bench_gpu.flops_per_slice(config) == pytest.approx(3 * 2 * gmac * 1e9, rel=0.005)


def test_without_a_gpu_nothing_is_measured(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench_gpu"])
    monkeypatch.setattr(bench_gpu.torch.cuda, "is_available", lambda: False)
    bench_gpu.main()
    assert capsys.readouterr().out == "no GPU here: nothing measured\n"


def test_the_benchmark_runs_at_a_tiny_size_on_a_processor(tmp_path, monkeypatch):
    generate(tmp_path / "raw", studies=4, seed=1, size=64, slices=8)
    small = ['backbone="test_resnet"', "batch_size=2", "drop_path=0.0", "epochs=1", "image_size=32"]
    flags = [
        "--device",
        "cpu",
        "--peak-tflops",
        "0.1",
        "--sizes",
        "32",
        "--steps",
        "2",
        "--warmup",
        "1",
        "--repeats",
        "1",
        "--fold",
    ]
    flags += ["--configs", str(bench_gpu.FOLD)]
    for override in small:
        flags += ["--set", override]
    monkeypatch.setattr(sys, "argv", ["bench_gpu", "--raw", str(tmp_path / "raw"), *flags])
    monkeypatch.setattr(bench_gpu, "record", lambda entries: record.record(entries, tmp_path / "bench.json"))
    bench_gpu.main()
    found = {entry["part"]: entry for entry in read_json(tmp_path / "bench.json")}
    assert sorted(found) == ["gpu_fold", "gpu_train seresnext50 32 px"]
    one = found["gpu_train seresnext50 32 px"]
    assert one["ratio"] == pytest.approx(one["ours"] / one["reference"]) and one["device"] == "cpu"
    assert one["utilisation_fed"] == pytest.approx(one["ours"] * one["gflop_per_slice"] * 1e9 / 1e11)
    assert found["gpu_fold"]["slices"] > 0 and found["gpu_fold"]["ratio"] < 1


def test_the_busy_share_is_the_mean_of_what_nvidia_smi_says(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 50; echo '[N/A]'; echo 70; exec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    seen = []
    with bench_gpu.busy_share(seen):
        time.sleep(0.3)
    assert seen == [0.5, 0.7]
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with bench_gpu.busy_share(seen):
        pass
    assert len(seen) == 2
