"""Which folds are trained and predicted: nothing stale, nothing twice; folds in processes stop together."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace
from pathlib import Path

import pandas as pd
import pytest
import torch

from src.data.prepared import Prepared
from src.ensemble.ensemble_config import EnsembleConfig
from src.ensemble.experiment import evaluate_experiment
from src.errors import UserError
from src.files import read_json, write_json
from src.settings import load_settings
from src.training import launch, runs
from src.training.kinds import Kind
from src.training.launch import in_processes, predict_runs, train_folds, train_together
from src.training.runs import Run
from src.training.slices.slice_config import SliceConfig
from tests.conftest import ROOT
from tests.training.prepared import rewrite, write_clean, write_settings

A, S, TREES = "tiny/stage1/a", "tiny/stage2/s", "tiny/stage2/trees"
CONFIGS = {
    A: {"backbone": "test_resnet", "pretrained": False, "image_size": 32, "epochs": 1, "batch_size": 8},
    S: {
        "stacker": "gru", "members": [A], "width": 8, "hidden": 8, "epochs": 1, "batch_size": 2,
        "embedding_space": "aligned",
    },
    TREES: {
        "stacker": "boosting", "members": [A], "inputs": ["logits"], "embedding_space": "pooled",
        "boosting": {"rounds": 3, "slices_in_leaf": 2},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two folds of a slice classifier and of two stackers on it."""
    home = tmp_path_factory.mktemp("trained")
    write_settings(home)
    write_clean(home / "clean_data")
    for name, values in CONFIGS.items():
        write_json(home / "experiments" / f"{name}.json", values)
        train(home, name)
    return home


@pytest.fixture
def home(trained, tmp_path):
    """A copy to be changed."""
    return Path(shutil.copytree(trained, tmp_path / "home"))


def train(home, name, *overrides, fold=None):
    stage = Path(name).parent.name
    arguments = Namespace(
        settings=str(home / "SETTINGS.json"), config=str(home / "experiments" / f"{name}.json"), fold=fold,
        overrides=list(overrides), device="cpu", jobs=1, quiet=True,
    )  # fmt: skip
    train_folds(f"train_{stage}.py", arguments, stage)


def predict(home):
    predict_runs(load_settings(home / "SETTINGS.json"), "tiny", "cpu", 1, True)


def blend(home):
    evaluate_experiment(load_settings(home / "SETTINGS.json"), "tiny", EnsembleConfig(replicates=100))


def run(home, name, fold=0):
    return Run(name, fold, load_settings(home / "SETTINGS.json"))


def files(home, name, fold=0):
    return {path.name for path in run(home, name, fold).folder.iterdir()}


def test_a_stacker_on_a_stage_1_that_was_trained_anew_is_refused_by_every_step(home):
    predict(home)
    shutil.rmtree(home / "model" / A)
    train(home, A, "epochs=2")
    for fold in (0, 1):
        (run(home, S, fold).folder / "test.parquet").unlink()
    for step in (lambda: train(home, S), lambda: predict(home), lambda: blend(home)):
        with pytest.raises(UserError) as error:
            step()
        assert f"{S}/fold0: what it was trained from has changed since ({A}/fold0, {A}/fold1); delete" in str(
            error.value
        )
    for name in (S, TREES):
        shutil.rmtree(home / "model" / name)
        train(home, name)
    predict(home)
    blend(home)


def test_a_fold_trained_again_loses_what_its_first_network_said(home):
    views = ["views=" + '["hflip", "vflip"]', "view_use=" + '"draw"']
    shutil.rmtree(home / "model" / S)
    train(home, S, *views)
    predict(home)
    one = run(home, A)
    derived = {f"{part}{e}" for part in ("oof_hflip", "oof_vflip", "test", "test_hflip", "test_vflip")
               for e in (".parquet", "_embeddings.npy")}  # fmt: skip
    trained = {"config.json", "embeddings.npy", "metrics.json", "model.safetensors", "oof.parquet"}
    assert files(home, A) == derived | trained
    (one.folder / "probe.parquet").touch()
    (one.folder / "metrics.json").unlink()
    train(home, A)
    assert files(home, A) == trained
    predict(home)  # it is the same training, so what reads it stands
    assert files(home, A) == {"test.parquet", "test_embeddings.npy"} | trained


def test_what_is_complete_is_not_trained_and_a_changed_configuration_is_refused(home, monkeypatch):
    monkeypatch.setattr(launch, "train_together", None)  # would fail if it were called
    for name in CONFIGS:
        train(home, name)
    with pytest.raises(UserError, match=r"another configuration \(epochs: 1, asked 3\)"):
        train(home, A, "epochs=3")


def test_members_of_other_experiments_are_predicted_with_what_they_read(home):
    settings = load_settings(home / "SETTINGS.json")
    with pytest.raises(UserError, match="other: no such experiment"):
        predict_runs(settings, "other", "cpu", 1, True)
    predict_runs(settings, "other", "cpu", 1, True, members=[S])
    data = Prepared(settings.clean).test_fingerprint
    found = {run.name: run.has("test", data) for run in runs.runs_of(settings, "tiny")}
    assert found == {A: True, S: True, TREES: False}


def test_folds_with_different_configurations_are_not_mixed(home):
    shutil.rmtree(run(home, A, 1).folder)
    train(home, A, "epochs=2", fold=1)
    said = r"folds 0 and 1 were trained with different configurations \(epochs 1, 2\); delete one of the fol"
    shutil.rmtree(home / "model/tiny/stage2")
    for step in (lambda: train(home, S), lambda: blend(home)):
        with pytest.raises(UserError, match=said):
            step()


def test_a_fold_that_another_process_finished_meanwhile_is_not_trained_again(home, monkeypatch):
    """It was not complete when the list was made, and is when this process gets the lock."""
    answers = [False]
    real = launch.is_done
    monkeypatch.setattr(launch, "is_done", lambda *given: answers.pop() if answers else real(*given))
    before = {path: path.stat().st_mtime_ns for path in run(home, A).folder.iterdir()}
    run(home, A).checkpoint.write_bytes(b"left by a process that was killed after its last file")
    train(home, A, fold=0)
    assert not answers and not run(home, A).checkpoint.exists()
    assert {path: path.stat().st_mtime_ns for path in run(home, A).folder.iterdir()} == before


def test_a_fold_is_looked_at_while_it_is_locked(home, monkeypatch):
    """Between the look and the training nobody else can begin."""
    one, looked = run(home, A), []
    monkeypatch.setattr(runs, "PATIENCE", 0.0)

    def look(run, config, prepared):
        with pytest.raises(UserError, match="another process works on this fold"), run.lock():
            pass
        looked.append(run)
        return True

    monkeypatch.setattr(launch, "is_done", look)
    kind = Kind(SliceConfig, train=None, predict=None)
    train_together(one, Prepared(one.settings.clean), kind, None, torch.device("cpu"), True)
    assert looked == [one]


def test_any_data_prepared_in_the_same_way_are_predicted(home):
    predict(home)
    at_home = run(home, S).predictions("test")
    folders = {f"{key}_DIR": str(home / key.lower()) for key in ("MODEL", "CHECKPOINT", "LOGS", "SUBMISSION")}
    other = home / "other"
    write_settings(other, **folders)
    write_clean(other / "clean_data", studies=12, slices=3)
    predict(other)
    test = Prepared(other / "clean_data").slices.query("split == 'test'")["image_id"]
    for name in CONFIGS:
        assert sorted(run(home, name).predictions("test").index) == sorted(test)
    with pytest.raises(UserError, match=r"trained on other prepared data .* under a new name") as error:
        blend(other)
    assert "delete" not in str(error.value)
    predict(home)
    pd.testing.assert_frame_equal(run(home, S).predictions("test"), at_home)


def test_data_prepared_in_another_way_are_not(home):
    path = home / "clean_data/manifest.json"
    manifest = read_json(path)
    write_json(path, manifest | {"settings": manifest["settings"] | {"size": 256}})
    with pytest.raises(UserError, match="a/fold0: was trained on slices prepared with size 64, here 256"):
        predict(home)


def test_new_test_images_leave_every_run_complete_and_change_no_old_prediction(home):
    predict(home)
    before = {name: run(home, name).predictions("test") for name in CONFIGS}
    grow(home / "clean_data")
    for name in CONFIGS:
        train(home, name)  # complete, so nothing happens
    predict(home)
    for name, table in before.items():
        after = run(home, name).predictions("test")
        assert len(after) == len(table) + 5
        if name == A:
            pd.testing.assert_frame_equal(after.loc[table.index], table)
    blend(home)


def grow(clean):
    """A study more in the test part."""

    def add(slices):
        new = slices[slices["study_id"] == "study07"].assign(study_id="new", patient_id="new")
        return pd.concat([slices, new.assign(image_id=[f"new_{k}" for k in range(len(new))])])

    rewrite(clean, "slices.parquet", add)


DAMAGED = {
    "model/tiny/stage1/a/fold0/model.safetensors": predict,
    "model/tiny/stage1/a/fold0/test.parquet": blend,
    "model/tiny/stage1/a/fold0/test_embeddings.npy": predict,
    "model/tiny/stage1/a/fold1/oof.parquet": lambda home: train(home, S),
    "model/tiny/stage1/a/fold1/embeddings.npy": lambda home: train(home, S),
    "model/tiny/stage2/s/fold1/model.safetensors": predict,
    "model/tiny/stage2/s/fold1/embedding_map.safetensors": predict,
    "model/tiny/stage2/s/fold0/oof.parquet": blend,
    "model/tiny/stage2/trees/fold1/model.txt": predict,
    "model/tiny/stage2/trees/fold1/metrics.json": predict,
    "clean_data/slices.parquet": predict,
}


@pytest.mark.parametrize("how", ["cut off", "zeroed"])
@pytest.mark.parametrize("file", DAMAGED)
def test_a_damaged_file_is_named_with_the_remedy(home, file, how):
    path, step = home / file, DAMAGED[file]
    if step is blend:
        predict(home)
    elif step is predict:
        grow(home / "clean_data")  # or stage 1 has nothing to do, see `aligned`
    else:
        shutil.rmtree(home / "model" / S)  # to be trained again
    data = path.read_bytes()
    place = len(data) // 8  # in a table: of the values
    path.write_bytes(data[:-place] if how == "cut off" else data[:place] + bytes(50) + data[place + 50 :])
    with pytest.raises(UserError, match=f"{path.name}: .*(delete|run)") as error:
        step(home)
    assert str(path) in str(error.value)


def test_trees_that_were_edited_are_refused(home):
    path = run(home, TREES, 1).folder / "model.txt"
    path.write_text(re.sub(r"(leaf_value=-?)\d", r"\g<1>7", path.read_text(), count=1))
    with pytest.raises(
        UserError, match=r"model\.txt: is not the file that training wrote; delete .*fold1 and"
    ):
        predict(home)


def test_a_complete_fold_without_its_weights_says_how_to_get_them(home):
    (run(home, A).folder / "model.safetensors").unlink()
    for step in (predict, blend, lambda home: train(home, A)):
        with pytest.raises(
            UserError, match=r"model.safetensors: missing, .*; delete .*a/fold0 and run: python"
        ):
            step(home)
    shutil.rmtree(run(home, A).folder)
    train(home, A, fold=0)
    predict(home)


def test_a_copy_of_a_run_under_another_name_joins_nothing(home):
    predict(home)
    shutil.copytree(home / "model" / S, home / "model/tiny/stage2/twin")
    for step in (predict, blend):
        with pytest.raises(UserError, match=f"twin/fold0: is a copy of {S}/fold0; delete it and train"):
            step(home)


COUNTER = """
import os, signal, sys, time
from pathlib import Path

seen, here = [], Path(__file__).parent / sys.argv[-1]
signal.signal(signal.SIGINT, lambda *given: seen.append(1))
here.with_suffix(".ready").touch()
while not seen:
    time.sleep(0.01)
time.sleep(0.5)  # for a second signal to come
here.write_text(f"{len(seen)} {os.getpgrp() == os.getpid()}")
"""
PARENT = """
from src.settings import load_settings
from src.training.launch import in_processes
from src.training.runs import Run

try:
    in_processes([Run("x/stage1/a", k, load_settings({settings!r})) for k in range(3)], [{counter!r}], 2)
except KeyboardInterrupt:
    print("stopped")
"""


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)


def start(command, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, start_new_session=True, stdout=subprocess.PIPE, text=True,
        **options,
    )  # fmt: skip


def test_an_interrupt_of_the_whole_group_reaches_every_process_once(tmp_path):
    """As a terminal's Ctrl-C does, which signals the parent and whatever is in its group: no child is."""
    counter = tmp_path / "counter.py"
    counter.write_text(COUNTER)
    program = PARENT.format(settings=str(write_settings(tmp_path)), counter=str(counter))
    process = start([sys.executable, "-c", program])
    wait_for(lambda: all((tmp_path / f"{k}.ready").exists() for k in (0, 1)), process)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60)[0] == "stopped\n"
    assert [(tmp_path / str(k)).read_text() for k in (0, 1)] == ["1 True"] * 2
    assert not (tmp_path / "2.ready").exists()  # the third was not begun


def folds(settings_file, count):
    return [Run("x/stage1/a", k, load_settings(settings_file)) for k in range(count)]


def test_every_fold_has_its_process_and_those_that_fail_or_are_killed_are_named(tmp_path):
    three = folds(write_settings(tmp_path), 3)
    in_processes(three, ["-c", f"import sys; open({str(tmp_path)!r} + '/done' + sys.argv[2], 'w')"], 2)
    assert sorted(path.name for path in tmp_path.glob("done*")) == ["done0", "done1", "done2"]
    with pytest.raises(UserError, match="x/stage1/a: fold 1, 2 did not finish"):
        in_processes(three, ["-c", "import sys; sys.exit(int(sys.argv[2]) > 0)"], 2)
    with pytest.raises(UserError, match="x/stage1/a: fold 0 was killed"):
        in_processes(three[:1], ["-c", "import os; os.kill(os.getpid(), 9)"], 2)


def test_a_closed_terminal_stops_the_folds_as_a_plain_stop_does(tmp_path):
    """A SIGHUP comes to the processes as SIGTERM, at which a training saves its state."""
    (one,) = folds(write_settings(tmp_path), 1)
    told, ready = tmp_path / "told", tmp_path / "ready"
    program = (
        "import signal\n"
        "def told(number, frame):\n"
        f"    open({str(told)!r}, 'w').write(signal.Signals(number).name)\n"
        "    raise SystemExit(1)\n"
        "for number in (signal.SIGTERM, signal.SIGHUP):\n"
        "    signal.signal(number, told)\n"
        f"open({str(ready)!r}, 'w')\n"
        "signal.pause()\n"
    )

    def close() -> None:
        while not ready.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        threading.Thread(target=close, daemon=True).start()
        with pytest.raises(KeyboardInterrupt, match="stopped; the same command continues there"):
            in_processes([one], ["-c", program], 1)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert told.read_text() == "SIGTERM"


def test_one_ctrl_c_saves_every_fold_at_its_step(tmp_path):
    settings = load_settings(write_settings(tmp_path))
    write_clean(settings.clean)
    long = {"sampling": "per_study", "slices_per_study": 20_000, "checkpoint_steps": 20}
    write_json(tmp_path / "experiments" / f"{A}.json", CONFIGS[A] | long)
    command = [
        sys.executable, "train_stage1.py", str(tmp_path / "experiments" / f"{A}.json"), "--jobs", "2",
        "--settings", str(settings.file), "--device", "cpu",
    ]  # fmt: skip
    runs = [Run(A, fold, settings) for fold in (0, 1)]
    process = start(command, stderr=subprocess.PIPE)
    wait_for(lambda: all(run.checkpoint.exists() for run in runs), process)
    interrupted = time.time_ns()
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in error
    steps = []
    for run in runs:
        assert run.checkpoint.stat().st_mtime_ns > interrupted
        steps.append(torch.load(run.checkpoint, weights_only=True)["progress"]["step"])
    process = start(command, stderr=subprocess.PIPE)
    wait_for(lambda: all("resumed" in run.log_file.read_text() for run in runs), process)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    for run, step in zip(runs, steps, strict=True):
        assert f"resumed at step {step}\n" in run.log_file.read_text()
