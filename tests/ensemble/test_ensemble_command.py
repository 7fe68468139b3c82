"""ensemble.py as a command on made-up run folders: external members, ways to combine, quarantined images."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from src.data.contest_csv import read_long
from src.data.prepared import Prepared
from src.ensemble.ensemble_config import FILLINGS, EnsembleConfig
from src.ensemble.gather import gather
from src.ensemble.quarantined import GUESSES
from src.evaluation.blend import Blend
from src.evaluation.bootstrap import bootstrap_weighted_log_loss
from src.evaluation.metrics import weighted_log_loss
from src.files import read_json, write_csv, write_json, write_parquet
from src.labels import LABELS, SUBTYPES
from src.settings import load_settings
from src.training.runs import Run
from src.training.slices.slice_config import SliceConfig
from src.training.split import unlabelled_slices
from src.training.studies.stacker_config import StackerConfig
from tests.conftest import ROOT
from tests.training.finished import finish, predict
from tests.training.prepared import rewrite, sign, write_settings

STUDIES, TRAINING, SLICES, FOLDS = 160, 140, 6, 3
BETWEEN, LAST, LOST = "im150_2", "im151_5", "im152_0"  # quarantined; where LOST belongs nobody knows
NOISE = {"tiny/stage1/a": 1.5, "tiny/stage2/s": 1.0}


@pytest.fixture
def home(tmp_path):
    """A prepared folder of 160 studies and two complete runs that know the truth, one less well."""
    return build(tmp_path, lambda slices: slices)


def build(home, change):
    """`home` with changed slices, and runs trained on them."""
    settings = load_settings(write_settings(home))
    slices, logits = make_slices()
    slices = change(slices)
    write_parquet(settings.clean / "slices.parquet", slices)
    patients = slices.loc[slices["split"] == "train", "patient_id"].unique()
    folds = pd.DataFrame({"patient_id": patients, "fold": np.arange(len(patients)) % FOLDS})
    write_csv(settings.clean / "folds.csv", folds)
    sign(settings.clean, size=256)
    fold = slices["patient_id"].map(folds.set_index("patient_id")["fold"])
    for seed, (name, noise) in enumerate(NOISE.items()):
        p = probabilities(slices, logits, noise, seed)
        for k in range(FOLDS):
            own = (usable(slices, "train") & (fold == k)).to_numpy()
            write_run(Run(name, k, settings), p[own], p, shift=0.1 * (k - 1))
    asked = slices.loc[slices["split"] == "test", "image_id"]
    sample = pd.DataFrame({"ID": [f"{i}_{label}" for i in asked for label in LABELS]})
    write_csv(settings.raw / "stage_2_sample_submission.csv", sample.assign(Label=0.5))
    return home


def make_slices():
    """slices.parquet as prepare_data.py leaves it, and the (n, 6) logits its labels were drawn from."""
    rng = np.random.default_rng(0)
    study, order = np.divmod(np.arange(STUDIES * SLICES), SLICES)
    bleeding = rng.normal(-1, 2, (STUDIES, len(SUBTYPES)))[study] + rng.normal(0, 0.5, (len(study), 5))
    logits = np.column_stack([bleeding, bleeding.max(1)])
    positive = (rng.random(bleeding.shape) < expit(bleeding)).astype(int)
    table = pd.DataFrame(positive, columns=list(SUBTYPES)).assign(any=positive.max(1))
    table = table.assign(
        image_id=[f"im{s:03d}_{i}" for s, i in zip(study, order, strict=True)],
        study_id=[f"st{s:03d}" for s in study],
        series_id=[f"se{s:03d}" for s in study],
        patient_id=[f"pt{s:03d}" for s in study],
        pixel_hash=[f"{s}-{i}" for s, i in zip(study, order, strict=True)],
        split=np.where(study < TRAINING, "train", "test"),
        order=order,
        position_mm=5.0 * order,
        padded=False,
        tilt_deg=0.0,
        status="ok",
        cause=pd.Series([None] * len(study), dtype="str"),
        units="HU",
        volume="gone.pack",
        volume_index=0,
        window_center=40.0,
        window_width=80.0,
    )
    bad = table["image_id"].isin([BETWEEN, LAST, LOST])
    table.loc[bad, ["status", "cause"]] = ["quarantined", "truncated"]
    table.loc[table["image_id"] == LOST, "position_mm"] = np.nan
    return table, logits


def probabilities(slices, logits, noise, seed):
    noisy = logits + np.random.default_rng(seed).normal(0, noise, logits.shape)
    return pd.DataFrame(expit(noisy), slices["image_id"], list(LABELS))


def write_run(run, oof, p, shift=0.0):
    """A complete fold. Folds differ in what they say of the test part: their logits are `shift` apart."""
    prepared, config = Prepared(run.settings.clean), SliceConfig(backbone="test_resnet")
    inputs = []
    if run.stage == "stage2":
        config = StackerConfig(stacker="lstm", members=("tiny/stage1/a",))
        inputs = [Run("tiny/stage1/a", k, run.settings) for k in range(FOLDS)]
        write_parquet(run.folder / "missing.parquet", p.loc[[BETWEEN, LAST]].reset_index())
    run.save_predictions("oof", oof)
    finish(run, config, prepared, inputs=inputs)
    test = p.loc[unlabelled_slices(prepared)["image_id"]]
    predict(run, prepared, "test", expit(logit(test) + shift))


def usable(slices, split):
    return (slices["split"] == split) & (slices["status"] == "ok")


def configure(home, **ensemble):
    experiment = home / "experiments/tiny"
    write_json(experiment / "ensemble.json", {"replicates": 100, "steps": [], **ensemble})
    write_json(experiment / "stage1/a.json", {"backbone": "test_resnet"})
    write_json(experiment / "stage2/s.json", {"stacker": "lstm", "members": ["tiny/stage1/a"]})
    return ["ensemble.py", str(experiment), "--settings", str(home / "SETTINGS.json")]


def test_pages_of_studies_are_counted_in_the_command_that_makes_them(home, monkeypatch):
    for flags, said in ((["--study-pages", "9"], ""), (["--study-pages", "2"], " --study-pages 2"), ([], "")):
        monkeypatch.setattr(sys, "argv", [*configure(home), *flags])
        runpy.run_path(str(ROOT / "ensemble.py"), run_name="__main__")
        *_, last = (home / "submission/tiny/commands.txt").read_text().splitlines()
        assert last.endswith(f"SETTINGS.json{said}")
        assert f"SETTINGS.json{said}</code></pre>" in (home / "submission/tiny/report.html").read_text()
    monkeypatch.setattr(sys, "argv", [*configure(home), "--study-pages", "10"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "ensemble.py"), run_name="__main__")
    assert end.value.code == 2


def test_every_way_to_fill_in_is_one_that_the_configuration_names():
    assert set(GUESSES) == set(FILLINGS)


def call(home, monkeypatch, **ensemble):
    """Run the command in this process; the folder it wrote."""
    monkeypatch.setattr(sys, "argv", configure(home, **ensemble))
    runpy.run_path(str(ROOT / "ensemble.py"), run_name="__main__")
    return home / "submission/tiny"


def refused(home, monkeypatch, capsys, **ensemble):
    """The one line of an error of the command."""
    with pytest.raises(SystemExit) as end:
        call(home, monkeypatch, **ensemble)
    assert end.value.code == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    return line


def external(home, oof=None, test=None):
    """Files of another team, better than our runs: rows shuffled, quarantined images and all."""
    slices, logits = make_slices()
    p = probabilities(slices, logits, 0.3, 9)
    whole = {"oof": p[usable(slices, "train").to_numpy()], "test": p[(slices["split"] == "test").to_numpy()]}
    for part, change in (("oof", oof), ("test", test)):
        table = whole[part] if change is None else change(whole[part])
        rows = table.rename_axis(index="image_id", columns="label").stack().rename("Label").reset_index()
        rows = pd.DataFrame({"ID": rows["image_id"] + "_" + rows["label"], "Label": rows["Label"]})
        write_csv(home / f"experiments/tiny/team_{part}.csv", rows.sample(frac=1, random_state=0))
    return {"external": {"team": {"oof": "team_oof.csv", "test": "team_test.csv"}}}, whole


def test_another_team_s_files_are_blended_and_their_content_is_part_of_the_commands(home, monkeypatch):
    option, whole = external(home)
    folder = call(home, monkeypatch, **option)
    scores = json.loads((folder / "scores.json").read_text())
    labels = make_slices()[0].set_index("image_id").loc[whole["oof"].index, list(LABELS)]
    team = scores["members"]["external/team"]
    assert team["oof"] == pytest.approx(weighted_log_loss(labels, whole["oof"]))
    assert team["oof"] == min(member["oof"] for member in scores["members"].values())
    assert json.loads((folder / "blend.json").read_text())["weights"]["external/team"]["any"] > 0.5
    checks = [line for line in (folder / "commands.txt").read_text().splitlines() if "sha256sum" in line]
    assert len(checks) == 2
    assert all(subprocess.run(["bash", "-c", line], capture_output=True).returncode == 0 for line in checks)
    with open(home / "experiments/tiny/team_oof.csv", "a") as file:
        file.write("\n")
    codes = [subprocess.run(["bash", "-c", line], capture_output=True).returncode for line in checks]
    assert codes == [1, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"oof": lambda t: t.drop("im003_1")},
            r"external/team, held-out predictions: .* 1 missing \(im003_1\)",
        ),
        (
            {"oof": lambda t: t.rename({"im003_1": "im999_0"})},
            r"held-out predictions: .* 1 missing \(im003_1\) and 1 unknown \(im999_0\)",
        ),
        ({"test": lambda t: t.drop("im154_4")}, r"external/team, test predictions: .* 1 missing \(im154_4\)"),
        ({"oof": lambda t: pd.concat([t, t.loc[["im000_0"]]])}, "im000_0_.* has more than one value"),
        ({"test": lambda t: t + 0.5}, r"expected a number in \[0, 1\]"),
    ],
)
def test_another_team_s_files_of_other_images_are_refused_by_name(home, monkeypatch, capsys, change, message):
    option, _ = external(home, **change)
    line = refused(home, monkeypatch, capsys, **option)
    assert re.search(message, line), line
    assert not (home / "submission/tiny/submission.csv").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"alternatives": ["greedy", "boosting"], "spaces": ["logit"]}, "of 6 ways"),
        (
            {"steps": ["temperature", "platt", "isotonic", "raise_any", "meet_any"]},
            "raise_any: gain.*meet_any: gain",
        ),
    ],
)
def test_every_way_to_combine_ends_in_a_submission_of_the_saved_blend(home, monkeypatch, options, said):
    option, _ = external(home)
    folder = call(home, monkeypatch, **option, **options)
    saved = json.loads((folder / "blend.json").read_text())
    assert re.search(said, " ".join([saved["decision"], *saved["remarks"]]))
    blend, submitted = Blend.from_dict(saved), read_long(folder / "submission.csv", labels=False)
    settings = load_settings(home / "SETTINGS.json")
    members = {
        name: sum(Run(name, k, settings).predictions("test") for k in range(FOLDS)) / FOLDS for name in NOISE
    }
    theirs = read_long(home / "experiments/tiny/team_test.csv", labels=False)
    members["external/team"] = theirs.loc[members["tiny/stage1/a"].index]
    again = blend.apply({name: members[name] for name in blend.weights.index})
    pd.testing.assert_frame_equal(submitted.loc[again.index], again, atol=2e-6, check_names=False)


def test_a_run_says_of_a_test_slice_the_mean_of_its_folds_and_of_a_training_slice_its_own(home):
    settings = load_settings(home / "SETTINGS.json")
    gathered = gather(settings, "tiny", EnsembleConfig())
    for name in NOISE:
        oof, test = gathered.members[name]
        parts = [Run(name, k, settings).predictions("test") for k in range(FOLDS)]
        assert not np.allclose(parts[0], parts[1])
        pd.testing.assert_frame_equal(test, (parts[0] + parts[1] + parts[2]) / 3)
        for k in range(FOLDS):
            own = Run(name, k, settings).predictions("oof")
            pd.testing.assert_frame_equal(oof.loc[own.index], own)


def test_trees_stack_where_weights_cannot_say_it(home, monkeypatch):
    """Our second run says when the first is to be believed."""
    settings, (_, logits) = load_settings(home / "SETTINGS.json"), make_slices()
    trust = np.random.default_rng(3).normal(0, 3, logits.shape)
    tables = dict(zip(NOISE, (np.where(trust > 0, 3 * logits, -3 * logits), trust), strict=True))
    for name, x in tables.items():
        p = pd.DataFrame(expit(x), make_slices()[0]["image_id"], list(LABELS))
        for run in (Run(name, k, settings) for k in range(FOLDS)):
            write_run(run, p.loc[run.predictions("oof").index], p)
    folder = call(home, monkeypatch, alternatives=["boosting"])
    saved = json.loads((folder / "blend.json").read_text())
    assert saved["stacking"] is not None and saved["nested"]["boosting"] == saved["nested_score"]
    assert saved["optimistic_score"] < 0.9 * saved["nested_score"]  # trees know the rows they grew on
    blend = json.loads((folder / "scores.json").read_text())["blend"]
    assert blend["oof"] == pytest.approx(saved["nested_score"], rel=1e-12)
    assert "Members are stacked by boosted trees" in (folder / "report.html").read_text()


def test_the_held_out_score_of_the_blend_is_nested_and_compared_with_what_is_simpler(
    home, monkeypatch, capsys
):
    option, _ = external(home)
    folder = call(home, monkeypatch, **option)
    scores = json.loads((folder / "scores.json").read_text())
    blend, simple = scores["blend"], {"mean": scores["mean"], **scores["members"]}
    saved = json.loads((folder / "blend.json").read_text())
    assert blend["oof"] == pytest.approx(blend["nested"], rel=1e-12)
    assert saved["optimistic_score"] < blend["nested"] == saved["nested_score"]
    assert blend["interval"][0] < blend["oof"] < blend["interval"][1]
    assert [(gain["first"], gain["second"]) for gain in blend["gains"]] == [
        ("blend", "mean"), ("blend", "external/team")
    ]  # fmt: skip
    for gain in blend["gains"]:
        assert gain["difference"] == pytest.approx(blend["nested"] - simple[gain["second"]]["oof"])
        assert gain["interval"][0] <= gain["difference"] <= gain["interval"][1]
    low, high = blend["interval"]
    assert f"{blend['nested']:.4f}" in (line := table_row(capsys, "blend"))
    assert f"[{low:.4f}, {high:.4f}]" in line


def table_row(capsys, name):
    """The line of the printed score table that begins with a name."""
    return next(line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{name} "))


@pytest.mark.parametrize("how", [None, "neighbours", "prior"])
def test_an_image_that_could_not_be_read_gets_what_the_configuration_says(home, monkeypatch, capsys, how):
    folder = call(home, monkeypatch, **({} if how is None else {"quarantined": how}))
    how = how or "interpolated"  # the default, see docs/log.md
    p = read_long(folder / "submission.csv", labels=False)
    labels = make_slices()[0].query("split == 'train'")[list(LABELS)]
    expected = dict.fromkeys((BETWEEN, LAST, LOST), labels.mean())
    if how == "interpolated":
        expected |= {BETWEEN: p.loc[["im150_1", "im150_3"]].mean(), LAST: p.loc["im151_4"]}
    if how == "neighbours":
        run = Run("tiny/stage2/s", 0, load_settings(home / "SETTINGS.json"))
        said = pd.read_parquet(run.folder / "missing.parquet").set_index("image_id")
        expected |= {image: said.loc[image] for image in (BETWEEN, LAST)}
    for image, row in expected.items():
        np.testing.assert_allclose(p.loc[image], row[list(LABELS)], atol=2e-6)
    saved = json.loads((folder / "blend.json").read_text())["quarantined"]
    listed = {row["image_id"]: row["value"] for row in saved}
    assert listed == {BETWEEN: how, LAST: how, LOST: "prior"}
    assert f"{BETWEEN}: quarantined (truncated), got: {how}" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["metrics.json", "test.parquet"])
def test_a_member_without_a_fold_or_a_prediction_names_the_command(home, monkeypatch, capsys, part):
    settings = load_settings(home / "SETTINGS.json")
    (Run("tiny/stage2/s", 1, settings).folder / part).unlink()
    line = refused(home, monkeypatch, capsys)
    if part == "metrics.json":
        command = "python train_stage2.py experiments/tiny/stage2/s.json --fold 1"
        said = f"tiny/stage2/s fold 1: is missing, and others have this fold; run: {command}"
    else:
        said = "s/fold1: has no test.parquet of these data; run: python predict.py experiments/tiny"
    assert line.endswith(f"{said} --settings {settings.file}")


def test_neighbours_need_a_stacker_that_predicted_them(home, monkeypatch, capsys):
    for k in range(FOLDS):
        (Run("tiny/stage2/s", k, load_settings(home / "SETTINGS.json")).folder / "missing.parquet").unlink()
    line = refused(home, monkeypatch, capsys, quarantined="neighbours")
    assert "train one with slice_dropout, or set it to interpolated or prior" in line


def test_a_data_set_without_test_part_has_scores_and_no_submission(home, monkeypatch, capsys):
    settings = load_settings(home / "SETTINGS.json")
    rewrite(settings.clean, "slices.parquet", lambda slices: slices.query("split == 'train'"))
    for name in NOISE:
        for run in (Run(name, k, settings) for k in range(FOLDS)):
            predict(run, Prepared(settings.clean), "test", run.predictions("test")[:0])
            (run.folder / "missing.parquet").unlink(missing_ok=True)
    (settings.raw / "stage_2_sample_submission.csv").unlink()
    folder = call(home, monkeypatch)
    assert json.loads((folder / "scores.json").read_text())["slices"] == {"oof": TRAINING * SLICES, "test": 0}
    assert {path.name for path in folder.iterdir()} == {
        "blend.json", "commands.txt", "operating_points.json", "report.html", "scores.json"
    }  # fmt: skip
    assert "no test part, no submission" in capsys.readouterr().out


def test_of_limited_data_what_was_prepared_is_submitted_and_that_is_said(home, monkeypatch, caplog):
    settings = load_settings(home / "SETTINGS.json")
    sample = settings.raw / "stage_2_sample_submission.csv"
    whole = pd.read_csv(sample)
    left_out = pd.DataFrame({"ID": [f"left_out_{label}" for label in LABELS], "Label": 0.5})
    write_csv(sample, pd.concat([left_out, whole]))
    manifest = read_json(settings.clean / "manifest.json")
    manifest["settings"]["limit"] = 160
    write_json(settings.clean / "manifest.json", manifest)
    folder = call(home, monkeypatch)
    assert sorted(pd.read_csv(folder / "submission.csv")["ID"]) == sorted(whole["ID"])
    assert "prepared with --limit 160: its 120 test images are submitted, the contest asks" in caplog.text


def test_as_a_process_it_prints_the_table_and_ends_with_0(home):
    command = [sys.executable, *configure(home)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "tiny: weighted log loss" in answer.stdout and "the same again:" in answer.stdout


def test_linked_patients_are_one_in_the_blend_and_in_every_interval(home, monkeypatch):
    """Every second patient is the one before under another name: a slice of theirs is the same."""
    before = json.loads((call(home, monkeypatch) / "scores.json").read_text())
    slices, _ = make_slices()
    number = slices["study_id"].str[2:].astype(int)
    copies = (number % 2 == 1) & (slices["order"] == 0)
    hashes = slices["pixel_hash"].where(~copies, (number - 1).astype(str) + "-0")
    build(home, lambda table: table.assign(pixel_hash=hashes))
    folder = call(home, monkeypatch)
    assert json.loads((folder / "blend.json").read_text())["fitted_on"]["groups"] == TRAINING // 2
    after = json.loads((folder / "scores.json").read_text())
    training = slices[usable(slices, "train")].set_index("image_id").sort_index()
    pairs = (training["study_id"].str[2:].astype(int) // 2).to_numpy()
    settings = load_settings(home / "SETTINGS.json")
    for name in NOISE:
        oof = pd.concat([Run(name, k, settings).predictions("oof") for k in range(FOLDS)]).loc[training.index]
        y = training[list(LABELS)]
        expected = bootstrap_weighted_log_loss(y, oof, pd.Series(pairs, training.index), replicates=100)
        assert after["members"][name]["interval"] == pytest.approx(expected[1:])
        assert after["members"][name]["interval"] != pytest.approx(before["members"][name]["interval"])


def test_runs_of_another_experiment_may_be_members(home, monkeypatch, capsys):
    settings = load_settings(home / "SETTINGS.json")
    for k in range(FOLDS):
        oof, test = (Run("tiny/stage1/a", k, settings).predictions(part) for part in ("oof", "test"))
        run = Run("older/stage1/b", k, settings)
        run.save_predictions("oof", oof)
        finish(run, SliceConfig(backbone="test_resnet"), Prepared(settings.clean))
        predict(run, Prepared(settings.clean), "test", test)
    write_json(home / "experiments/older/stage1/b.json", {"backbone": "test_resnet"})
    members = ["older/stage1/b", "tiny/stage2/s"]
    folder = call(home, monkeypatch, members=members)
    assert list(json.loads((folder / "scores.json").read_text())["members"]) == members
    commands = (folder / "commands.txt").read_text()
    assert "older/stage1/b.json" in commands and f"predict.py {home}/experiments/older" in commands
    line = refused(home, monkeypatch, capsys, members=["older/stage1/c", "tiny/stage2/s"])
    assert "members older/stage1/c have no complete fold" in line
    assert "name runs that are complete (older/stage1/b, tiny/stage1/a, tiny/stage2/s)" in line


@pytest.mark.parametrize("name", NOISE)
def test_a_fold_that_one_member_lacks_is_named_with_its_command(home, monkeypatch, capsys, name):
    folder = Run(name, 1, load_settings(home / "SETTINGS.json")).folder
    (folder / "metrics.json").unlink()
    line = refused(home, monkeypatch, capsys)
    stage = Path(name).parent.name
    assert f"{name} fold 1: is missing, and others have this fold" in line
    assert f"python train_{stage}.py experiments/{name}.json --fold 1" in line


def test_a_fold_that_no_member_has_is_left_out_of_all(home, monkeypatch):
    settings = load_settings(home / "SETTINGS.json")
    shutil.rmtree(settings.models / "tiny/stage2")
    shutil.rmtree(Run("tiny/stage1/a", 2, settings).folder)
    scores = json.loads((call(home, monkeypatch) / "scores.json").read_text())
    assert scores["slices"]["oof"] == sum(SLICES for patient in range(TRAINING) if patient % FOLDS != 2)


def test_quarantined_training_images_of_another_team_are_left_out_and_counted(home, monkeypatch, caplog):
    option, _ = external(home)
    build(home, lambda t: t.assign(status=t["status"].where(t["image_id"] != "im000_3", "quarantined")))
    with caplog.at_level("INFO", "ich"):
        folder = call(home, monkeypatch, **option)
    assert json.loads((folder / "scores.json").read_text())["slices"]["oof"] == TRAINING * SLICES - 1
    said = [r.getMessage() for r in caplog.records if "left out" in r.getMessage()]
    assert [re.sub(r" of \S+ ", " of FILE ", line) for line in said] == [
        "external/team: 1 quarantined images of FILE are left out",
        "external/team: 3 quarantined images of FILE are left out",
    ]


def test_a_file_of_test_predictions_alone_joins_with_its_weight(home, monkeypatch, capsys):
    alone = read_long(call(home, monkeypatch) / "submission.csv", labels=False)
    capsys.readouterr()
    option, whole = external(home)
    friend = {"friend": {"test": option["external"]["team"]["test"], "weight": 0.25}}
    folder = call(home, monkeypatch, external=friend)
    submitted = read_long(folder / "submission.csv", labels=False)
    known = whole["test"].index.drop([BETWEEN, LAST, LOST])
    expected = 0.75 * alone.loc[known] + 0.25 * whole["test"].loc[known]
    pd.testing.assert_frame_equal(submitted.loc[known], expected, atol=2e-6, check_names=False)
    scores = json.loads((folder / "scores.json").read_text())
    assert set(scores["members"]) == set(NOISE)
    assert scores["blend"]["fixed"] == {"external/friend": 0.25}
    said = "include 0.25 x external/friend, which no held-out score covers"
    assert said in capsys.readouterr().out and said in (folder / "report.html").read_text()
    assert "team_test.csv" in (folder / "commands.txt").read_text()


@pytest.mark.parametrize("synthetic", [True, False])
@pytest.mark.parametrize("unlabelled_part", [True, False])
def test_the_generator_s_mark_says_what_is_synthetic(home, monkeypatch, capsys, synthetic, unlabelled_part):
    settings = load_settings(home / "SETTINGS.json")
    if synthetic:
        write_json(settings.raw / "phantom.json", {"finished": True})
    if not unlabelled_part:
        rewrite(settings.clean, "slices.parquet", lambda slices: slices.query("split == 'train'"))
        for run in (Run(name, k, settings) for name in NOISE for k in range(FOLDS)):
            predict(run, Prepared(settings.clean), "test", run.predictions("test")[:0])
    folder = call(home, monkeypatch)
    assert json.loads((folder / "scores.json").read_text())["data"] == ("synthetic" if synthetic else "real")
    for text in (capsys.readouterr().out, (folder / "report.html").read_text()):
        assert ("SYNTHETIC" in text) == synthetic


def test_pictures_without_hu_are_blended_and_reported(home, monkeypatch):
    unknown = {"padded": pd.array([pd.NA] * STUDIES * SLICES, "boolean"), "tilt_deg": np.nan, "units": "gray"}
    build(home, lambda slices: slices.assign(**unknown, series_id=None, position_mm=np.nan))
    page = (call(home, monkeypatch) / "report.html").read_text()
    assert "nobody can tell which are padded" in page
    assert "not padded" not in page


def test_nothing_here_needs_the_generator():
    imported = "import sys, src.ensemble.submit, src.report.run.run_report"
    code = f"{imported}; print([m for m in sys.modules if 'phantom' in m])"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert answer.stdout.strip() == "[]", answer.stderr
