"""Stage 2 as a whole on made-up stage-1 runs: leaks, resume, averaging, missing slices, run folders."""

import json
import logging
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit

from src.data.prepared import Prepared
from src.errors import UserError
from src.evaluation.metrics import prevalence_baseline, weighted_log_loss
from src.files import write_csv, write_json, write_parquet
from src.labels import LABELS
from src.models.studies.sequence_model import StackerOutput
from src.training.runs import Run
from src.training.slices.slice_config import SliceConfig
from src.training.split import unlabelled_part
from src.training.studies import stacker_networks
from src.training.studies import study_fold as stage2
from src.training.studies.stacker_config import StackerConfig
from tests.conftest import ROOT
from tests.training.finished import finish, predict
from tests.training.prepared import rewrite, sign
from tests.training.stage2_tables import config, settings_below

CPU, LOG = torch.device("cpu"), logging.getLogger("test")
MEMBERS = ("x/stage1/a", "x/stage1/b")
SMALL = {
    "embedding_space": "aligned",
    "members": list(MEMBERS),
    "epochs": 2,
    "batch_size": 8,
    "width": 16,
    "hidden": 8,
    "heads": 4,
    "lr": 5e-3,
}
LONGER = {"epochs": 12, "batch_size": 4, "lr": 0.02}
TREES = {
    "stacker": "boosting", "inputs": ["logits"], "embedding_space": "pooled",
    "boosting": {"rounds": 20, "slices_in_leaf": 5},
}  # fmt: skip
FOLDS, VIEWS = 3, ["identity", "hflip"]


def make_slices(rng, studies, split, first=0):
    """Studies of 4 to 12 slices; each has a run of positive slices or none."""
    rows = []
    for study in range(first, first + studies):
        length = int(rng.integers(4, 13))
        positive = np.zeros((length, 6), int)
        if study % 2:
            start, kind = rng.integers(length - 2), rng.integers(5)
            positive[start : start + 3, [kind, 5]] = 1
        for order in range(length):
            rows.append(
                {
                    "image_id": f"{study}-{order}", "study_id": f"s{study:03d}",
                    "patient_id": f"p{study:03d}", "split": split, "status": "ok", "cause": None,
                    "order": order, "position_mm": 5.0 * order, "units": "hu", "conflicting_copy": False,
                    "window_center": 40.0, "window_width": 80.0,
                    "pixel_hash": f"{study}-{order}", **dict(zip(LABELS, positive[order], strict=True)),
                }
            )  # fmt: skip
    return rows


@pytest.fixture
def home(tmp_path):
    """A prepared folder and two complete stage-1 runs; their embeddings show the labels, each fold's in a
    space of its own.
    """
    rng = np.random.default_rng(0)
    settings = settings_below(tmp_path)
    slices = pd.DataFrame(make_slices(rng, 60, "train") + make_slices(rng, 8, "test", first=60))
    write_tables(settings.clean, slices)
    for m, name in enumerate(MEMBERS):
        for fold in range(FOLDS):
            write_stage1(Run(name, fold, settings), slices, np.random.default_rng((m, fold)))
    return settings


def write_tables(clean, slices):
    write_parquet(clean / "slices.parquet", slices)
    patients = slices.loc[slices["split"] == "train", "patient_id"].unique()
    folds = pd.DataFrame({"patient_id": patients, "fold": np.arange(len(patients)) % FOLDS})
    write_csv(clean / "folds.csv", folds)
    sign(clean, size=256)


def write_stage1(run, slices, rng):
    signal = 3 * slices[list(LABELS)].to_numpy(float) + np.random.default_rng(9).normal(
        0, 0.5, (len(slices), 6)
    )
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    embeddings = signal @ rotation
    probabilities = pd.DataFrame(1 / (1 + np.exp(3 - 2 * signal)), slices["image_id"], list(LABELS))
    number = slices["patient_id"].str[1:].astype(int).to_numpy()
    train = (slices["split"] == "train").to_numpy()
    own = number % FOLDS == run.fold
    parts = {}
    for part, rows in {"oof": train & own, "train": train & ~own, "test": ~train}.items():
        parts[part] = probabilities[rows], embeddings[rows]
        for k, view in enumerate(VIEWS):
            parts[f"{part}_{view}"] = probabilities[rows] * 0.9**k, embeddings[rows] + 0.1 * k
    write_parts(run, parts)


def write_parts(run, parts):
    prepared = Prepared(run.settings.clean)
    run.save_predictions("oof", *parts["oof"])
    finish(run, SliceConfig(backbone="test_resnet"), prepared)
    for part in parts.keys() - {"oof"}:
        predict(run, prepared, part, *parts[part])


def change_slices(home, change):
    """Other slices.parquet, of which the stage-1 runs say the same as before."""
    rewrite(home.clean, "slices.parquet", change)
    for run in (Run(name, fold, home) for name in MEMBERS for fold in range(FOLDS)):
        names = [path.stem for path in run.folder.glob("*.parquet")]
        write_parts(run, {name: (run.predictions(name), np.array(run.embeddings(name))) for name in names})


def permute_labels(slices, rows):
    labels = slices[list(LABELS)].to_numpy(copy=True)
    labels[rows] = labels[np.random.default_rng(0).permutation(rows)]
    return slices.assign(**dict(zip(LABELS, labels.T, strict=True)))


def fit(home, name="x/stage2/s", fold=0, **options):
    run = Run(name, fold, home)
    stage2.train_stacker_fold(run, Prepared(home.clean), config(**{**SMALL, **options}), CPU, LOG, False)
    return run


def shuffle_training_labels(slices):
    number = slices["patient_id"].str[1:].astype(int)
    return permute_labels(slices, np.flatnonzero((slices["split"] == "train") & (number % FOLDS != 0)))


@pytest.mark.parametrize(
    "options",
    [
        {"stacker": "lstm", "inputs": ["embeddings", "position"], **LONGER},
        {"stacker": "mlp", "inputs": ["embeddings", "probabilities"], **LONGER},
        {"stacker": "lstm", "inputs": ["embeddings"], "views": VIEWS, "view_use": "draw", **LONGER},
        TREES,
    ],
)
def test_with_shuffled_training_labels_a_stacker_falls_to_the_baseline(home, options):
    honest = fit(home, "x/stage2/honest", **options).metrics()
    change_slices(home, shuffle_training_labels)  # the held-out fold keeps its own
    shuffled = fit(home, "x/stage2/shuffled", **options).metrics()
    assert honest["score"] < 0.5 * honest["baseline"]
    assert shuffled["score"] > 0.95 * shuffled["baseline"]


@pytest.mark.parametrize("options", [{"selector": "kbest", "components": 4}, TREES])
def test_labels_of_held_out_studies_change_no_prediction(home, options):
    before = fit(home, "x/stage2/before", **options).predictions("oof")
    change_slices(
        home, lambda slices: permute_labels(slices, np.flatnonzero(slices["image_id"].isin(before.index)))
    )
    pd.testing.assert_frame_equal(fit(home, "x/stage2/after", **options).predictions("oof"), before)


def test_a_patient_planted_in_two_folds_is_refused(home):
    rewrite(home.clean, "folds.csv", lambda folds: pd.concat([folds, folds.iloc[[0]].assign(fold=2)]))
    with pytest.raises(UserError, match="patient p000 has two rows"):
        fit(home)


def test_one_patient_under_two_names_in_two_folds_is_refused(home):
    same_slice = {"1-0": "0-0"}  # as patient p000's
    rewrite(home.clean, "slices.parquet", lambda slices: slices.replace({"pixel_hash": same_slice}))
    with pytest.raises(UserError, match=r"are spread over folds, such as p000, p001"):
        fit(home)


def test_a_run_folder_holds_what_prediction_needs(home):
    run = fit(home, embedding_space="aligned", selector="pca", components=5)
    assert {p.name for p in run.folder.iterdir()} == {
        "config.json", "metrics.json", "model.safetensors", "embedding_map.safetensors", "oof.parquet",
    }  # fmt: skip
    stage2.predict_test_studies(run, unlabelled_part(Prepared(home.clean)), CPU, LOG)
    slices = pd.read_parquet(home.clean / "slices.parquet")
    assert sorted(run.predictions("test").index) == sorted(slices.loc[slices["split"] == "test", "image_id"])
    assert not list(run.checkpoint.parent.glob("*.pt"))


def test_predictions_of_the_test_part_are_the_mean_over_stage_1_folds(home):
    run = fit(home, embedding_space="pooled")
    stage2.predict_test_studies(run, unlabelled_part(Prepared(home.clean)), CPU, LOG)
    settings, logits = run.read_config(stage2.StackerConfig), []
    slices = unlabelled_part(Prepared(home.clean)).slices
    for fold in range(FOLDS):
        inputs = stage2.StudyInputs(slices, {m: [Run(m, fold, home)] for m in MEMBERS}, "test", settings)
        logits.append(stage2.load_predictor(run, settings, inputs, CPU)(inputs).slices)
    expected = np.mean([1 / (1 + np.exp(-x.astype(float))) for x in logits], 0)
    np.testing.assert_allclose(run.predictions("test").to_numpy(), expected, atol=1e-12)
    assert np.abs(logits[0] - logits[1]).max() > 1e-3


@pytest.mark.parametrize(
    "options",
    [
        {"bag_epochs": 2, "ema_decay": 0.9},
        {"seeds": 2, "bag_epochs": 2},
        {"views": VIEWS, "view_use": "draw", "slice_dropout": 0.2, "reverse": 0.5, "noise": 0.1},
    ],
)
def test_killed_and_continued_equals_uninterrupted_with_bags_and_seeds(home, options, monkeypatch):
    expected = fit(home, "x/stage2/whole", **options)
    calls, deadly = [], [3, 6, 8]
    real = stacker_networks.stacker_loss

    def mortal(*arguments):
        calls.append(1)
        if len(calls) in deadly:
            raise MemoryError
        return real(*arguments)

    monkeypatch.setattr(stacker_networks, "stacker_loss", mortal)
    for _ in deadly:
        with pytest.raises(MemoryError):
            fit(home, "x/stage2/cut", checkpoint_steps=2, **options)
    run = fit(home, "x/stage2/cut", checkpoint_steps=2, **options)
    pd.testing.assert_frame_equal(run.predictions("oof"), expected.predictions("oof"))
    assert not [p for p in run.checkpoint.parent.iterdir() if p.name != "lock"]


def test_seeds_and_epochs_are_averaged_as_probabilities(home):
    """Two seeds together are the mean of the two alone."""
    both = fit(home, "x/stage2/both", seeds=2).predictions("oof")
    alone = [fit(home, f"x/stage2/{seed}", seed=seed).predictions("oof") for seed in (0, 1)]
    np.testing.assert_allclose(both, (alone[0] + alone[1]) / 2, atol=1e-6)


def test_the_networks_of_the_last_epochs_are_averaged_as_probabilities(home):
    """At a constant rate the first epoch of two is a run of one."""
    constant = {"schedule": "constant", "warmup": 0.0}
    bag = fit(home, "x/stage2/bag", bag_epochs=2, **constant).predictions("oof")
    alone = [fit(home, f"x/stage2/{k}", epochs=k, **constant).predictions("oof") for k in (1, 2)]
    np.testing.assert_allclose(bag, (alone[0] + alone[1]) / 2, atol=1e-6)
    assert np.abs(alone[0] - alone[1]).max().max() > 1e-3


def test_the_loss_is_the_metric_of_real_slices_and_what_the_other_heads_add():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (2, 3, 6))
    mask = np.array([[True, True, False], [True, True, True]])  # the last slice of the first is padding
    y[0, :2, 0], y[0, 2] = 0, 1
    shapes = {"slices": y.shape, "first": y.shape, "study": (2, 6), "instances": (2, 6)}
    x = {name: rng.normal(0, 2, shape) for name, shape in shapes.items()}
    tensors = {name: torch.from_numpy(values) for name, values in x.items()}
    batch = {"labels": torch.from_numpy(y), "mask": torch.from_numpy(mask), "weight": (0.8, 1.5)}

    def metric(logits, labels):
        return weighted_log_loss(*(pd.DataFrame(v, columns=list(LABELS)) for v in (labels, expit(logits))))

    of_study = np.stack([y[0, :2].max(0), y[1].max(0)])
    found = stacker_networks.stacker_loss(
        StackerOutput(**tensors | {"first": None}), batch, config(study_weight=0.25, instance_weight=0.1)
    )
    heads = 0.25 * metric(x["study"], of_study) + 0.1 * metric(x["instances"], of_study)
    assert found.item() == pytest.approx(0.8 * metric(x["slices"][mask], y[mask]) + 1.5 * heads, rel=1e-5)
    own = config(stacker="two_branch", inputs=["embeddings", "probabilities"], first_weight=0.5)
    found = stacker_networks.stacker_loss(
        StackerOutput(tensors["slices"], first=tensors["first"]), batch, own
    )
    branches = metric(x["slices"][mask], y[mask]) + 0.5 * metric(x["first"][mask], y[mask])
    assert found.item() == pytest.approx(0.8 * branches, rel=1e-5)


def test_two_processes_train_what_one_trains(home, tmp_path):
    """Studies of unlike length, in batches that do not divide; hidden slices and heads of the study too."""
    values = {
        **SMALL, "stacker": "transformer", "batch_size": 7, "dropout": 0.0, "noise": 0.0, "accumulation": 2,
        "slice_dropout": 0.3, "study_weight": 0.3, "instance_weight": 0.1,
    }  # fmt: skip
    write_json(tmp_path / "experiments/x/stage2/together.json", values)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
        "train_stage2.py", str(tmp_path / "experiments/x/stage2/together.json"), "--fold", "0",
        "--settings", str(home.file), "--device", "cpu",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert answer.returncode == 0, answer.stderr
    together, alone = Run("x/stage2/together", 0, home), fit(home, "x/stage2/alone", **values)
    one, two = (run.predictions("oof") for run in (alone, together))
    assert list(one.index) == list(two.index)
    np.testing.assert_allclose(two.to_numpy(), one.to_numpy(), atol=1e-4)
    losses = [[entry["train_loss"] for entry in run.metrics()["history"]] for run in (alone, together)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_without_a_test_part_there_is_nothing_to_predict(home):
    rewrite(home.clean, "slices.parquet", lambda slices: slices.query("split == 'train'"))
    for options in ({"embedding_space": "pooled", "slice_dropout": 0.1}, TREES):
        run = fit(home, f"x/stage2/{options.get('stacker')}", **options)
        stage2.predict_test_studies(run, unlabelled_part(Prepared(home.clean)), CPU, LOG)
        assert run.predictions("test").empty


def test_read_from_both_ends_a_mirrored_study_gets_the_mirrored_answer(home):
    run = fit(home, tta_reverse=True, inputs=["embeddings", "logits"], deltas="lag_lead", stacker="gru")
    settings = run.read_config(stage2.StackerConfig)
    slices = unlabelled_part(Prepared(home.clean)).slices
    mirrored = slices.iloc[::-1].sort_values("study_id", kind="stable").reset_index(drop=True)
    answers = []
    for table in (slices, mirrored):
        inputs = stage2.StudyInputs(table, {m: [Run(m, 0, home)] for m in MEMBERS}, "test", settings)
        logits = stage2.load_predictor(run, settings, inputs, CPU)(inputs).slices
        answers.append(pd.DataFrame(logits, table["image_id"]))
    np.testing.assert_allclose(answers[0], answers[1].loc[answers[0].index], atol=1e-5)


def test_a_head_for_studies_is_asked_too(home):
    run = fit(home, study_weight=0.3, tta_reverse=True, inputs=["embeddings", "logits"])
    part = unlabelled_part(Prepared(home.clean))
    stage2.predict_test_studies(run, part, CPU, LOG)
    settings = run.read_config(StackerConfig)
    expected = {study: [] for study in part.slices["study_id"].unique()}
    for fold in range(FOLDS):
        members = {m: [Run(m, fold, home)] for m in MEMBERS}
        for study, rows in part.slices.groupby("study_id"):
            for table in (rows, rows.iloc[::-1]):  # alone, so that no batch and no padding is about
                inputs = stage2.StudyInputs(table.reset_index(drop=True), members, "test", settings)
                alone = settings.model_copy(update={"tta_reverse": False})
                said = stage2.load_predictor(run, alone, inputs, CPU)(inputs)
                expected[study].append(1 / (1 + np.exp(-said.studies[0])))
    found = run.study_head()
    np.testing.assert_allclose(found, [np.mean(expected[study], 0) for study in found.index], atol=1e-6)
    assert sorted(found.index) == sorted(expected) and np.ptp(found.to_numpy(), axis=0).min() > 0
    assert fit(home, "x/stage2/plain").study_head() is None


@pytest.mark.parametrize("space", ["pooled", "aligned"])
def test_where_views_are_drawn_the_prediction_is_the_mean_over_them(home, space):
    run = fit(home, embedding_space=space, views=VIEWS, view_use="draw", tta_reverse=True)
    stage2.predict_test_studies(run, unlabelled_part(Prepared(home.clean)), CPU, LOG)
    settings = run.read_config(stage2.StackerConfig)
    answers = []
    for view in VIEWS:
        single = settings.model_copy(update={"views": (view,), "view_use": "concatenate"})
        for fold in range(FOLDS):
            members = {m: [Run(m, fold, home)] for m in MEMBERS}
            inputs = stage2.StudyInputs(unlabelled_part(Prepared(home.clean)).slices, members, "test", single)
            logits = stage2.load_predictor(run, single, inputs, CPU)(inputs).slices
            answers.append(1 / (1 + np.exp(-logits)))
    np.testing.assert_allclose(run.predictions("test"), np.mean(answers, 0), atol=1e-6)
    assert np.abs(answers[0] - answers[FOLDS]).max() > 1e-3


@pytest.mark.parametrize("use", ["concatenate", "average"])
@pytest.mark.parametrize("stacker", ["lstm", "two_branch", "boosting"])
def test_every_stacker_reads_views(home, use, stacker):
    trees = {"selector": "pca", "components": 4, "boosting": {"rounds": 5}} if stacker == "boosting" else {}
    inputs = ["embeddings", "probabilities" if stacker == "two_branch" else "logits", "position"]
    run = fit(home, stacker=stacker, inputs=inputs, views=VIEWS, view_use=use, **trees)
    stage2.predict_test_studies(run, unlabelled_part(Prepared(home.clean)), CPU, LOG)
    assert len(run.predictions("test")) > 0


def test_quarantined_slices_are_predicted_from_their_neighbours(home):
    def change(slices):
        gone = slices["image_id"].isin(["61-1", "63-0"])
        slices.loc[gone, ["status", "cause"]] = ["quarantined", "truncated"]
        slices.loc[slices["image_id"] == "63-0", "position_mm"] = np.nan  # its place is unknown
        return slices

    change_slices(home, change)
    run = fit(home, slice_dropout=0.1)
    stage2.predict_test_studies(run, unlabelled_part(Prepared(home.clean)), CPU, LOG)
    missing = pd.read_parquet(run.folder / "missing.parquet")
    assert missing["image_id"].tolist() == ["61-1"]
    assert missing[list(LABELS)].to_numpy().max() < 1
    assert not run.predictions("test").index.isin(["61-1", "63-0"]).any()
    plain = fit(home, "x/stage2/plain")
    stage2.predict_test_studies(plain, unlabelled_part(Prepared(home.clean)), CPU, LOG)
    assert not (plain.folder / "missing.parquet").exists()


def test_an_in_fold_stacker_predicts_the_test_part_by_its_own_network(home):
    run, prepared = fit(home, embedding_space="in_fold"), Prepared(home.clean)
    stage2.predict_test_studies(run, unlabelled_part(prepared), CPU, LOG)
    own, stacker = {m: [Run(m, run.fold, home)] for m in MEMBERS}, run.read_config(StackerConfig)
    inputs = stage2.StudyInputs(unlabelled_part(prepared).slices, own, "test", stacker)
    answers = 1 / (1 + np.exp(-stage2.load_predictor(run, stacker, inputs, CPU)(inputs).slices))
    np.testing.assert_allclose(run.predictions("test"), answers, atol=1e-6)


def test_a_member_that_is_incomplete_names_its_command(home):
    (Run(MEMBERS[1], 2, home).folder / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"missing: x/stage1/b fold 2; run: python train_stage1.py .*/b.json"):
        fit(home)


def test_members_that_were_trained_on_other_data_are_refused(home):
    rewrite(home.clean, "slices.parquet", shuffle_training_labels)
    with pytest.raises(UserError, match=r"a/fold0: was trained on other prepared data than .*clean_data; tr"):
        fit(home)


def test_members_whose_folds_differ_or_that_were_copied_are_refused(home):
    outputs = Run(MEMBERS[1], 2, home)
    finish(outputs, SliceConfig(backbone="test_resnet", lr=0.5), Prepared(home.clean))
    with pytest.raises(
        UserError, match=r"b: folds 0 and 2 were trained with different .* \(lr 0.0003, 0.5\)"
    ):
        fit(home)
    shutil.copytree(Run(MEMBERS[0], 2, home).folder, outputs.folder, dirs_exist_ok=True)
    with pytest.raises(UserError, match="b/fold2: is a copy of x/stage1/a/fold2"):
        fit(home)


def test_every_stacker_beats_its_baseline_here(home):
    for kind in ("transformer", "conv", "gru"):
        metrics = fit(home, f"x/stage2/{kind}", stacker=kind, epochs=3).metrics()
        assert metrics["score"] < metrics["baseline"]


def test_the_score_is_that_of_the_held_out_slices(home):
    run = fit(home)
    slices = pd.read_parquet(home.clean / "slices.parquet").set_index("image_id")
    oof = run.predictions("oof")
    labels = slices.loc[oof.index, list(LABELS)]
    assert run.metrics()["score"] == pytest.approx(weighted_log_loss(labels, oof))
    assert run.metrics()["baseline"] == pytest.approx(prevalence_baseline(labels))
    assert json.loads((run.folder / "config.json").read_text())["stacker"] == "lstm"
