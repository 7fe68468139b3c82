"""The ablation: paired differences with the spread of seeds and of patients; nothing is trained twice."""

import json
import sys
from logging import getLogger

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from src.audit import ablation
from src.audit.ablation import effect, table, verdict
from src.config import parse_config
from src.data.prepared import Prepared
from src.evaluation.metrics import weighted_log_loss
from src.files import read_json, write_json
from src.labels import LABELS
from src.settings import load_settings
from src.training.runs import Run
from src.training.slices.kind import KIND
from src.training.slices.slice_config import SliceConfig
from src.training.split import labelled_slices
from tests.training.prepared import write_clean, write_settings

PATIENTS = np.repeat([f"p{k}" for k in range(20)], 3)


def test_a_constant_difference_has_no_spread():
    base = np.random.default_rng(0).random((3, 60))
    found = effect(base - 0.1, base, PATIENTS)
    for interval in (found.difference, found.by_patients, found.by_seeds):
        assert interval == pytest.approx((-0.1, -0.1, -0.1))
    assert verdict(found) == "better" and verdict(effect(base + 0.1, base, PATIENTS)) == "worse"


def test_the_interval_over_seeds_is_student_s_and_over_patients_knows_patients_alone():
    seeds = np.array([0.3, -0.1, 0.2, 0.4])[:, None] * np.ones((1, 60))
    found = effect(seeds, np.zeros((4, 60)), PATIENTS)
    expected = stats.ttest_1samp(seeds[:, 0], 0).confidence_interval(0.95)
    assert found.by_seeds == pytest.approx((0.2, *expected))
    assert found.seed_sd == pytest.approx(seeds[:, 0].std(ddof=1))
    assert found.by_patients == pytest.approx((0.2, 0.2, 0.2))
    assert found.difference.low < 0.1 and found.difference.high > 0.3
    assert verdict(found) == "not clear"  # by the seeds it may be nothing

    by_patient = np.repeat(np.random.default_rng(1).normal(0.2, 1, 20), 3)
    found = effect(np.tile(by_patient, (4, 1)), np.zeros((4, 60)), PATIENTS)
    half = 1.96 * by_patient[::3].std() / np.sqrt(20)
    assert found.by_patients.high - found.by_patients.estimate == pytest.approx(half, rel=0.1)
    assert found.by_seeds == pytest.approx((found.by_seeds.estimate,) * 3)


def test_the_table_puts_the_base_first_and_then_the_worst():
    base = np.random.default_rng(0).random((2, 60))
    losses = {"less": [*(base + 0.01)], "full": [*base], "more": [*(base - 0.01)]}
    lines = table(ablation.compare(losses, "full", PATIENTS), "full").splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["full", "less", "more"]
    assert "+0.0100 | [+0.0100, +0.0100]" in lines[3] and lines[4].endswith("better |")


def test_views_need_no_training_and_what_is_complete_is_not_trained_again(tmp_path, monkeypatch, capsys):
    settings = write_settings(tmp_path)
    write_clean(tmp_path / "clean_data")
    small = {"backbone": "test_resnet", "pretrained": False, "image_size": 32, "epochs": 1, "batch_size": 8}
    variants = {
        "full": {},
        "flipped": {"tta": ["identity", "hflip"]},
        "calm": {"augmentation": {"affine": 0}},
    }
    for name, values in variants.items():
        path = tmp_path / "experiments/tiny/stage1" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(small | values))
    command = ["ablation", str(tmp_path / "experiments/tiny"), "--settings", str(settings), "--device", "cpu"]
    out = tmp_path / "out.json"
    monkeypatch.setattr(sys, "argv", [*command, "--seeds", "2", "--fold", "0", "--quiet", "--out", str(out)])
    ablation.main()
    first = read_json(out)
    folders = sorted(path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("metrics.json"))
    assert folders == [
        f"model/seed{seed}/tiny/stage1/{name}/fold0" for seed in (0, 1) for name in ("calm", "full")
    ]
    scores = [read_json(tmp_path / f"model/seed{k}/tiny/stage1/full/fold0/metrics.json") for k in (0, 1)]
    assert first["configurations"]["full"]["score"] == pytest.approx(np.mean([s["score"] for s in scores]))
    assert first["configurations"]["flipped"]["difference"] != 0
    monkeypatch.setattr(ablation, "train_together", None)  # would fail if it were called
    ablation.main()
    assert read_json(out) == first and "| full |" in capsys.readouterr().out


def test_stackers_are_compared_on_every_fold_and_read_the_same_stage_1(tmp_path, monkeypatch):
    settings = load_settings(write_settings(tmp_path))
    write_clean(settings.clean)
    small = {"backbone": "test_resnet", "pretrained": False, "image_size": 32, "epochs": 1, "batch_size": 8}
    for fold in (0, 1):
        run = Run("tiny/stage1/a", fold, settings)
        one = parse_config(SliceConfig, small, "a")
        prepared = Prepared(settings.clean)
        KIND.train(run, prepared, one, torch.device("cpu"), getLogger("ich.test"), False)
    for name, values in {"gru": {"stacker": "gru"}, "mlp": {"stacker": "mlp"}}.items():
        write_json(
            tmp_path / f"experiments/tiny/stage2/{name}.json",
            {"members": ["tiny/stage1/a"], "width": 8, "hidden": 8, "epochs": 1, **values},
        )
    command = ["ablation", str(tmp_path / "experiments/tiny"), "--settings", str(settings.file), "--quiet"]
    options = ["--stage", "stage2", "--base", "gru", "--seeds", "2", "--out", str(tmp_path / "out.json")]
    monkeypatch.setattr(sys, "argv", [*command, *options])
    ablation.main()
    found = read_json(tmp_path / "out.json")
    labels = labelled_slices(Prepared(settings.clean)).set_index("image_id")[list(LABELS)]
    for name, entry in found["configurations"].items():
        scores = []
        for seed in (0, 1):
            runs = [Run(f"seed{seed}/tiny/stage2/{name}", fold, settings) for fold in (0, 1)]
            oof = pd.concat([run.predictions("oof") for run in runs])
            scores.append(weighted_log_loss(labels, oof))
        assert entry["score"] == pytest.approx(np.mean(scores))
    assert scores[0] != scores[1]
