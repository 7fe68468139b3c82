"""Two configurations over replicates: what is trained on what, what is counted, what is said of it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from src.data.division import VALIDATION, Division
from src.data.prepared import TEST, Prepared
from src.ensemble.compare import (
    Comparison,
    Outcome,
    compare_configurations,
    compared_targets,
    default_folder,
    replicate_seeds,
    short_names,
    splits_table,
)
from src.ensemble.replicates import plan
from src.errors import UserError
from src.evaluation.metrics import weighted_log_loss
from src.files import read_json, write_json
from src.labels import LABELS
from src.settings import load_settings
from src.targets import find_targets
from tests.conftest import ROOT
from tests.ensemble.replicated import config_path, write_home
from tests.evaluation.test_statistics import CONVNEXT, SUMMARIES, TESTS, VIVIT, printed

A, B, VIDEO, FOUND = "tiny/stage1/a", "tiny/stage1/b", "tiny/stage1/video", "tiny/stage1/found"
AFTER, TREES = "tiny/stage1/after", "tiny/stage2/trees"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    write_home(home)
    return home


def plans(home, *names, overrides=()):
    return tuple(plan(config_path(home, name), overrides) for name in names)


def compare(home, a, b, replicates=2, shared=True, label=None, overrides=(), seed=0):
    both = plans(home, a, b, overrides=overrides)
    targets, label = compared_targets(*both, label)
    division = Division(targets, label, stratified=shared)
    seeds = replicate_seeds(replicates, seed, shared)
    settings = load_settings(home / "SETTINGS.json")
    return compare_configurations(settings, both, division, seeds, "cpu", 1, True)


@pytest.fixture(scope="module")
def slices(home):
    """Two slice classifiers over two splits."""
    return compare(home, A, B)


def test_a_replicate_is_trained_validated_and_tested_on_patients_of_its_own(home, slices):
    _, replicates = slices
    prepared = Prepared(home / "clean_data")
    patient = prepared.slices.set_index("image_id")["patient_id"]
    for replicate in replicates:
        fold = replicate.parts.set_index("patient_id")["fold"]
        for name in (A, B):
            run = replicate.run(name)
            assert set(patient[run.predictions("oof").index]) == set(fold.index[fold == VALIDATION])
            assert set(patient[run.predictions("test").index]) == set(fold.index[fold == TEST])
    first, second = (set(one.parts.loc[one.parts["fold"] == TEST, "patient_id"]) for one in replicates)
    assert first != second and len(first) == len(second) == 6  # 3 of 8 bleeding, 3 of 7 others, rounded up
    seeds = [replicate.run(A).metrics()["seed"] for replicate in replicates]
    assert seeds == [0, 1]


def test_studies_are_counted_by_any_slice_above_a_half_and_slices_scored_by_the_metric(home, slices):
    comparison, replicates = slices
    labels = Prepared(home / "clean_data").slices.set_index("image_id")
    for model, name in enumerate((A, B)):
        for found, replicate in zip(comparison.outcomes[model], replicates, strict=True):
            p = replicate.run(name).predictions("test")
            own = labels.loc[p.index]
            positive, called = (
                own["any"].astype(int).groupby(own["study_id"]).max() == 1,
                (p["any"] > 0.5).groupby(own["study_id"]).any(),
            )
            cells = [(~positive & ~called), (~positive & called), (positive & ~called), (positive & called)]
            assert found.counts == tuple(int(cell.sum()) for cell in cells)
            assert found.score == pytest.approx(weighted_log_loss(own[list(LABELS)].astype("int8"), p))
            assert found.patients == {"training": 7, "validation": 2, "test": 6}
    assert comparison.test_to_train == 6 / 7
    result = comparison.to_json()
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["metrics"]["score"]["words"] == "weighted log loss of slices"
    assert (result["a"], result["b"], result["label"], result["data"]) == (A, B, "any", "real")
    table = splits_table(replicates)
    assert list(table.columns) == ["patient_id", "split0", "split1"]
    assert table["split0"].value_counts().to_dict() == {"training": 7, "test": 6, "validation": 2}


def test_a_video_and_a_slice_classifier_are_compared_by_study(home):
    comparison, replicates = compare(home, VIDEO, FOUND)
    units = [[one.unit for one in model] for model in comparison.outcomes]
    assert units == [["study"] * 2, ["image"] * 2]
    assert "score" not in comparison.to_json()["metrics"]
    p = replicates[0].run(VIDEO).predictions("test")["presence"]
    numbers = p.index.str[5:].astype(int)
    truth = numbers % 2 == 0
    cells = [(true, call) for true in (False, True) for call in (False, True)]
    expected = [int(((truth == true) & ((p > 0.5) == call)).sum()) for true, call in cells]
    assert list(comparison.outcomes[0][0].counts) == expected
    counts = [sum(one.counts[2:]) for one in comparison.outcomes[1]]
    assert counts == [3, 3]


def test_what_a_stacker_and_a_start_from_a_run_read_is_trained_in_the_same_replicate(home, slices):
    comparison, replicates = compare(home, TREES, AFTER)
    for replicate in replicates:
        folds = sorted(replicate.parts.loc[replicate.parts["fold"] != TEST, "fold"].unique())
        assert folds == [0, 1, 2, 3]
        assert replicate.run(TREES).made_from["inputs"].keys() == {f"{A}/fold{k}" for k in folds}
        assert replicate.run(AFTER).made_from["inputs"] == {f"{A}/fold0": replicate.run(A).fingerprint}
        assert not replicate.run(AFTER, 1).complete
    assert [one.settings for one in replicates] == [one.settings for one in slices[1]]  # the splits of before
    assert comparison.unit == "image"


def test_what_is_complete_serves_every_comparison_and_more_replicates(home, slices):
    before, replicates = slices
    files = [path for one in replicates for path in one.run(A).folder.iterdir()]
    done = {path: path.stat().st_mtime_ns for path in files}
    comparison, more = compare(home, B, A, replicates=3)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert comparison.outcomes[1][:2] == before.outcomes[0] and len(more) == 3


def test_independent_models_have_seeds_of_their_own(home):
    comparison, replicates = compare(home, A, B, shared=False)
    assert [one.seed for one in replicates] == [0, 1, 2, 3]
    assert [[one.seed for one in model] for model in comparison.outcomes] == [[0, 2], [1, 3]]
    result = comparison.to_json()
    assert result["splits"]["shared"] is result["splits"]["stratified"] is False
    assert result["metrics"]["accuracy"]["paired"]["pairs"] == 0


def test_a_changed_configuration_is_refused(home, slices):
    with pytest.raises(UserError, match=r"a/fold0: is complete with another .* \(epochs: 1, asked 3\)"):
        compare(home, A, B, overrides=["epochs=3"])


def test_a_damaged_run_says_how_to_get_it_back(home, tmp_path):
    copy = shutil.copytree(home, tmp_path / "copy")
    _, replicates = compare(copy, A, B)
    (replicates[0].run(A).folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"delete .*a/fold0 and run: the same command again"):
        compare(copy, A, B)
    shutil.rmtree(replicates[0].run(A).folder)
    compare(copy, A, B)


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ((A, A), {}, f"{A} and {A}: are the same configuration; name two that differ"),
        (
            (A, VIDEO),
            {},
            "a predicts hemorrhage epidural, .*, .*video presence presence; compare .* same `",
        ),
        ((A, B), {"label": "presence"}, "--label presence: the targets hemorrhage have epidural, "),
        ((A, B), {"replicates": 1}, "--replicates 1: one run says nothing of the next; give 2 at least"),
        (
            (A, B),
            {"label": "epidural"},
            "positive for `epidural` .*: too few .* change --label or the shares",
        ),
        ((A, "tiny/stage1/none"), {}, "none.json: no such file; present there: .*video.json"),
    ],
)
def test_what_cannot_be_compared_says_why(home, names, options, message):
    with pytest.raises(UserError, match=message):
        compare(home, *names, **options)


def test_what_is_judged_is_whether_anything_bleeds_unless_asked_otherwise(home):
    assert compared_targets(*plans(home, A, B), None)[1] == "any"
    assert compared_targets(*plans(home, VIDEO, FOUND), None)[1] == "presence"
    assert compared_targets(*plans(home, A, B), "epidural")[1] == "epidural"


def test_a_copy_under_another_name_is_the_same_configuration(home):
    write_json(config_path(home, "tiny/stage1/twin"), read_json(config_path(home, A)) | {"notes": "a copy"})
    with pytest.raises(UserError, match=f"{A} and tiny/stage1/twin: are the same configuration"):
        compare(home, A, "tiny/stage1/twin")


def test_seeds_are_shared_or_of_each_models_own():
    assert replicate_seeds(3, 5, shared=True) == [(5, 5), (6, 6), (7, 7)]
    assert replicate_seeds(2, 5, shared=False) == [(5, 6), (7, 8)]


def test_names_are_as_short_as_they_differ():
    assert short_names("x/stage1/a", "x/stage1/b") == ("a", "b")
    assert short_names("x/stage1/a", "x/stage2/a") == ("stage1/a", "stage2/a")
    assert str(default_folder((A, TREES))) == "compare/tiny-stage1-a_tiny-stage2-trees"


def comparison_of(first, second, shared, names=("x/stage1/vivit", "x/stage1/convnext"), auc=(None, None)):
    """A comparison with these counts; 57 patients trained on, 25 tested on."""
    patients = {"training": 48, "validation": 9, "test": 25}
    outcomes = tuple(
        tuple(
            Outcome(k if shared else 2 * k + model, patients, counts, auc[model], 0.5, unit, f"{model}{k}")
            for k, counts in enumerate(runs)
        )
        for model, (runs, unit) in enumerate(zip((first, second), ("study", "image"), strict=True))
    )
    division = Division(find_targets("presence"), "presence", stratified=shared)
    return Comparison(names, division, shared, False, "0" * 16, outcomes)


def test_published_counts_give_the_published_numbers():
    result = comparison_of(VIVIT, CONVNEXT, shared=False).to_json()
    for metric, (first, _) in SUMMARIES.items():
        assert printed(result["metrics"][metric]["a"]["mean"], first[1]) == first[1]
        t = result["metrics"][metric]["published"]["t_test"]
        assert (t["test"], printed(t["statistic"], TESTS[metric][4])) == TESTS[metric][3:5]
    assert [one["a"]["counts"] for one in result["replicates"]] == list(map(list, VIVIT))
    assert result["splits"]["test_to_train"] == 25 / 48


def test_the_verdict_is_that_of_the_corrected_test_or_none():
    """The published chain rejects with p = .0005, yet says nothing of patients that the splits share."""
    result = comparison_of(VIVIT, CONVNEXT, shared=False).to_json()
    assert result["metrics"]["accuracy"]["published"]["t_test"]["p"] < 0.001
    assert result["verdict"] == (
        "No verdict on accuracy: vivit 0.716, convnext 0.596; the corrected resampled t test is not possible "
        "(the models were tested on splits of their own)."
    )
    better = [(tn + 1, fp - 1, fn, tp) if fp else (tn, fp, fn - 1, tp + 1) for tn, fp, fn, tp in VIVIT]
    always = comparison_of(better, VIVIT, shared=True).to_json()["metrics"]["accuracy"]
    assert always["paired"]["wilcoxon"]["p"] < 0.01
    assert always["verdict"].endswith("not possible (the difference is the same in every pair).")
    gain = [k % 3 for k in range(10)]  # cases more that are right
    some = [(tn, fp, fn - k, tp + k) for k, (tn, fp, fn, tp) in zip(gain, VIVIT, strict=True) if fn >= k]
    pairs = [run for k, run in zip(gain, VIVIT, strict=True) if run[2] >= k]
    found = comparison_of(some, pairs, shared=True).to_json()["metrics"]["accuracy"]
    assert found["paired"]["t_test"]["p"] < 0.05 < found["paired"]["corrected_t_test"]["p"]
    assert found["verdict"].startswith("No clear difference in accuracy: ")
    assert found["verdict"].endswith("by the corrected resampled t test.")


def test_a_test_part_of_one_kind_has_no_area():
    result = comparison_of(VIVIT, VIVIT[::-1], shared=False).to_json()["metrics"]["auc"]
    assert (result["a"]["n"], result["a"]["mean"]) == (0, None)
    assert result["verdict"].startswith("No verdict on AUC of studies: vivit has none, convnext has none; ")


LONG = {"epochs": 12, "checkpoint_steps": 1}


def test_stopped_killed_and_continued_gives_the_bytes_of_two_processes_at_once(tmp_path):
    def start(home, jobs):
        command = [
            sys.executable, "compare.py", str(config_path(home, A)), str(config_path(home, B)),
            "--replicates", "2", "--settings", str(home / "SETTINGS.json"), "--jobs", jobs, "--device", "cpu",
            "--out", str(home / "out"),
        ]  # fmt: skip
        return subprocess.Popen(
            command,
            cwd=ROOT,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    homes = [tmp_path / "stopped", tmp_path / "whole"]
    for home in homes:
        write_home(home)
        write_json(config_path(home, A), read_json(config_path(home, A)) | LONG)
    stopped, whole = homes
    straight = start(whole, "2")
    for number in (signal.SIGINT, signal.SIGKILL):
        process = start(stopped, "1")
        started, end = time.time(), time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            found = (stopped / "checkpoint").rglob("checkpoint.pt")
            if any(file.stat().st_mtime > started for file in found):
                break
            time.sleep(0.01)
        assert process.poll() is None
        os.killpg(process.pid, number)
        assert process.wait(60) == (130 if number == signal.SIGINT else -signal.SIGKILL)
        assert not (stopped / "out").exists()
    last = start(stopped, "1")
    output, error = last.communicate(timeout=120)
    assert last.returncode == 0, error
    assert straight.wait(120) == 0
    for name in ("compare.json", "splits.csv", "compare.html"):
        assert (stopped / "out" / name).read_bytes() == (whole / "out" / name).read_bytes()
    result = read_json(stopped / "out" / "compare.json")
    assert f"verdict: {result['verdict']}\n" in output
    logs = "".join(path.read_text() for path in (stopped / "logs").rglob("fold0.log"))
    assert "resumed at step" in logs
    assert len(pd.read_csv(stopped / "out" / "splits.csv")) == 15
    assert np.sum([one["a"]["counts"] for one in result["replicates"]]) == 12
