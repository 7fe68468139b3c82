"""The whole pipeline through its numbered steps, on a tiny synthetic data set, as a user runs it."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pandas as pd
import pytest

from src.data.contest_csv import read_long
from src.evaluation.metrics import weighted_log_loss
from src.evaluation.submission import read_sample, validate_submission
from src.labels import LABELS
from tests.conftest import ROOT

FOLDERS = ("RAW_DATA_DIR", "CLEAN_DATA_DIR", "MODEL_DIR", "CHECKPOINT_DIR", "LOGS_DIR", "SUBMISSION_DIR")
SLICES = {
    "backbone": "test_resnet",
    "pretrained": False,
    "image_size": 64,
    "epochs": 2,
    "batch_size": 16,
    "lr": 2e-3,
}
STACKER = {
    "members": ["tiny/stage1/small"],
    "epochs": 2,
    "batch_size": 4,
    "width": 16,
    "hidden": 8,
    "heads": 4,
}
VIEWS = {"views": ["identity", "hflip"], "view_use": "draw"}


def call(*command, folder=ROOT, **environment):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with demo DICOM, settings and one small experiment, on which all five steps have run."""
    home = tmp_path_factory.mktemp("home")
    write_experiment(home)
    generate = (
        "-m",
        "src.data.phantom",
        "--out",
        str(home / "raw_data_dir"),
        "--studies",
        "14",
        "--seed",
        "3",
    )
    answer = call(sys.executable, *generate, "--size", "128", "--slices", "10")
    assert answer.returncode == 0, answer.stderr
    for step in steps(home):
        assert step.returncode == 0, step.stdout + step.stderr
    return home


def write_experiment(home):
    """SETTINGS.json and one small experiment of a backbone and both stackers."""
    (home / "SETTINGS.json").write_text(json.dumps({key: key.lower() for key in FOLDERS}))
    experiment = home / "experiments" / "tiny"
    for name, config in {
        "stage1/small": SLICES,
        "stage2/lstm": {"stacker": "lstm", **STACKER},
        "stage2/transformer": {"stacker": "transformer", **STACKER, **VIEWS, "slice_dropout": 0.1},
    }.items():
        path = experiment / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(config))
    (experiment / "ensemble.json").write_text('{"replicates": 100}')


def steps(home, prepare="--size 256 --folds 2"):
    variables = {
        "EXPERIMENT": str(home / "experiments/tiny"),
        "SETTINGS": str(home / "SETTINGS.json"),
        "JOBS": "2",
    }
    for script in sorted((ROOT / "steps").glob("[1-5]_*.sh")):
        flags = prepare if script.name.startswith("1") else ""
        yield call("bash", str(script), PREPARE_FLAGS=flags, **variables)


def script(home, name, *arguments):
    return call(sys.executable, str(ROOT / name), *arguments, "--settings", str(home / "SETTINGS.json"))


def test_the_submission_has_the_rows_of_the_sample_in_its_order(home):
    sample = home / "raw_data_dir/stage_2_sample_submission.csv"
    submission = home / "submission_dir/tiny/submission.csv"
    validate_submission(submission, read_sample(sample))
    assert pd.read_csv(submission)["ID"].tolist() == pd.read_csv(sample)["ID"].tolist()


def test_the_scores_are_those_of_the_files(home):
    scores = json.loads((home / "submission_dir/tiny/scores.json").read_text())
    hidden = read_long(home / "raw_data_dir/demo_test_labels.csv", labels=True)
    submitted = read_long(home / "submission_dir/tiny/submission.csv", labels=False)
    assert scores["data"] == "synthetic"
    assert scores["blend"]["test"] == pytest.approx(weighted_log_loss(hidden, submitted), abs=1e-4)
    assert set(scores["members"]) == {"tiny/stage1/small", "tiny/stage2/lstm", "tiny/stage2/transformer"}
    for name, score in scores["members"].items():
        oof = pd.concat(
            pd.read_parquet(home / "model_dir" / name / f"fold{fold}/oof.parquet").set_index("image_id")
            for fold in (0, 1)
        )
        slices = pd.read_parquet(home / "clean_data_dir/slices.parquet").set_index("image_id")
        assert score["oof"] == pytest.approx(
            weighted_log_loss(slices.loc[oof.index, list(oof)].astype(int), oof)
        )
        assert score["interval"][0] < score["oof"] < score["interval"][1]


def test_held_out_predictions_cover_every_usable_training_slice_once(home):
    slices = pd.read_parquet(home / "clean_data_dir/slices.parquet")
    usable = slices[(slices["split"] == "train") & (slices["status"] == "ok")].set_index("image_id")
    folds = pd.read_csv(home / "clean_data_dir/folds.csv", dtype={"patient_id": str}).set_index("patient_id")[
        "fold"
    ]
    for name in ("stage1/small", "stage2/lstm"):
        predicted = {
            fold: pd.read_parquet(home / f"model_dir/tiny/{name}/fold{fold}/oof.parquet")["image_id"]
            for fold in (0, 1)
        }
        assert sorted(pd.concat(predicted.values())) == sorted(usable.index)
        for fold, ids in predicted.items():
            assert (usable.loc[ids, "patient_id"].map(folds) == fold).all()


def test_the_report_is_one_file_that_says_synthetic(home):
    report = (home / "submission_dir/tiny/report.html").read_text()
    assert "SYNTHETIC" in report
    assert "http://" not in report.replace("http://www.w3.org", "") and "https://" not in report


def test_a_second_run_skips_what_is_complete_and_changes_no_byte(home):
    def content():
        return {p: p.read_bytes() for p in sorted(home.rglob("*")) if p.is_file() and p.suffix != ".log"}

    before = content()
    for step in steps(home):
        assert step.returncode == 0, step.stderr
    after = content()
    assert after.keys() == before.keys()
    assert [str(p) for p in before if after[p] != before[p]] == []


def test_one_fold_trained_again_gives_the_same_predictions(home):
    fold = home / "model_dir/tiny/stage1/small/fold1"
    before = (fold / "oof.parquet").read_bytes(), (fold / "embeddings.npy").read_bytes()
    for path in fold.iterdir():
        path.unlink()
    answer = script(
        home, "train_stage1.py", str(home / "experiments/tiny/stage1/small.json"), "--fold", "1", "--quiet"
    )
    assert answer.returncode == 0, answer.stderr
    assert ((fold / "oof.parquet").read_bytes(), (fold / "embeddings.npy").read_bytes()) == before
    assert script(home, "predict.py", str(home / "experiments/tiny")).returncode == 0


def test_test_predictions_do_not_depend_on_the_number_of_processes(home):
    def predictions(jobs):
        for path in (home / "model_dir").rglob("test*"):
            path.unlink()
        answer = script(home, "predict.py", str(home / "experiments/tiny"), "--jobs", jobs)
        assert answer.returncode == 0, answer.stderr
        return {path: path.read_bytes() for path in (home / "model_dir").rglob("test*")}

    one = predictions("1")
    assert len(one) == 2 * 6 + 4  # stage 1: embeddings too, and both again for either view; stage 2
    assert predictions("2") == one


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train_stage1.py", "experiments/a/stage1/none.json"), "no such file"),
        (("train_stage1.py", "{config}", "--fold", "7"), "--fold 7: .* has the folds 0, 1"),
        (
            ("train_stage1.py", "{config}", "--set", "lr=1"),
            "another configuration (lr: 0.002, asked 1.0)",
        ),
        (("train_stage1.py", "{config}", "--set", "learning_rate=1"), "unknown key 'learning_rate'"),
        (("predict.py", "experiments/nothing"), "experiments/nothing: no such experiment; "),
        (("ensemble.py", "experiments/nothing"), "experiments/nothing: no such experiment; "),
    ],
)
def test_a_user_s_mistake_is_one_line_and_exit_code_1(home, arguments, message):

    config = str(home / "experiments/tiny/stage1/small.json")
    answer = script(home, *(a.format(config=config) for a in arguments))
    assert answer.returncode == 1
    lines = answer.stderr.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert re.search(message.replace("(", r"\(").replace(")", r"\)"), lines[-1])
    assert "Traceback" not in answer.stderr


def test_the_five_steps_run_from_real_dicom_to_a_submission(realdata, tmp_path):
    raw = tmp_path / "raw_data_dir"
    unpack_rsna(realdata, raw)
    write_experiment(tmp_path)
    for step in steps(tmp_path):
        assert step.returncode == 0, step.stdout + step.stderr
    submission = read_long(tmp_path / "submission_dir/tiny/submission.csv", labels=False)
    expected = pd.read_csv(realdata / "rsna2019_dicom_unlabelled_test/slices.csv")["Image"]
    assert sorted(submission.index) == sorted(expected)
    scores = json.loads((tmp_path / "submission_dir/tiny/scores.json").read_text())
    assert scores["data"] == "real" and scores["slices"] == {"oof": 375, "test": 32}
    assert scores["blend"]["test"] is None
    assert "SYNTHETIC" not in (tmp_path / "submission_dir/tiny/report.html").read_text()


def unpack_rsna(realdata, raw):
    """The real slices in the layout of the contest: two folders of DICOM, labels, sample submission."""
    for part, folder in (("train", "rsna2019_dicom_dev"), ("test", "rsna2019_dicom_unlabelled_test")):
        target = raw / f"stage_2_{part}"
        target.mkdir(parents=True)
        for archive in sorted((realdata / folder).glob("*.tar.xz")):
            with tarfile.open(archive) as tar:
                for member in tar:
                    if member.isfile():
                        (target / Path(member.name).name).write_bytes(tar.extractfile(member).read())
    shutil.copy(realdata / "rsna2019_dicom_dev/stage_2_train_subset.csv", raw / "stage_2_train.csv")
    ids = [f"{path.stem}_{label}" for path in sorted((raw / "stage_2_test").iterdir()) for label in LABELS]
    pd.DataFrame({"ID": ids, "Label": 0.5}).to_csv(raw / "stage_2_sample_submission.csv", index=False)


@pytest.mark.parametrize("name", ["prepare_data", "train_stage1", "train_stage2", "predict", "ensemble"])
def test_help_is_quick_and_wrong_usage_exits_with_2(name):
    answer = call(sys.executable, str(ROOT / f"{name}.py"), "--help")
    assert answer.returncode == 0 and "--settings" in answer.stdout
    assert call(sys.executable, str(ROOT / f"{name}.py"), "--no-such-flag").returncode == 2


def test_a_submission_is_learned_from_in_a_second_round_and_never_scored(home):
    """Round 1 -> its submission as soft labels -> round 2, whose held-out slices are those of round 1."""
    table, models = home / "round1.csv", home / "model_dir"
    shutil.copy(home / "submission_dir/tiny/submission.csv", table)
    config = home / "experiments/round2/stage1/soft.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps(SLICES | {"soft_labels": str(table), "soft_label_weight": 0.5}))
    (config.parents[1] / "ensemble.json").write_text('{"replicates": 100}')
    trained = script(home, "train_stage1.py", str(config), "--fold", "0")
    assert trained.returncode == 0, trained.stderr
    assert f"30 slices of {table} join with soft labels" in trained.stdout
    first = pd.read_parquet(models / "tiny/stage1/small/fold0/oof.parquet")
    second = pd.read_parquet(models / "round2/stage1/soft/fold0/oof.parquet")
    assert first["image_id"].tolist() == second["image_id"].tolist()
    for name in ("predict.py", "ensemble.py"):
        done = script(home, name, str(config.parents[1]))
        assert done.returncode == 0, done.stderr
    assert f"{table}' | sha256sum --check" in (home / "submission_dir/round2/commands.txt").read_text()
    pd.read_csv(table).assign(Label=0.5).to_csv(table, index=False)
    refused = script(home, "train_stage1.py", str(config), "--fold", "0")
    assert refused.returncode == 1 and f"has changed since ({table})" in refused.stderr
