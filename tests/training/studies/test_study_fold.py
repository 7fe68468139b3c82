"""Stage 2 as a whole on made-up stage-1 runs: leaks, resume, averaging, missing slices, run folders."""

import json
import logging

import numpy as np
import pandas as pd
import pytest
import torch

from src.errors import UserError
from src.evaluation.metrics import held_out_scores, prevalence_baseline, weighted_log_loss
from src.files import write_csv, write_json, write_parquet
from src.labels import LABELS
from src.models.sequence_model import StackerOutput
from src.training.runs import Run
from src.training.studies import stacker_networks
from src.training.studies import study_fold as stage2
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
                    "order": order, "position_mm": 5.0 * order,
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
    write_tables(settings, slices)
    for m, name in enumerate(MEMBERS):
        for fold in range(FOLDS):
            write_stage1(Run(name, fold, settings), slices, np.random.default_rng((m, fold)))
    return settings


def write_tables(settings, slices):
    clean = settings.clean
    write_parquet(clean / "slices.parquet", slices)
    patients = slices.loc[slices["split"] == "train", "patient_id"].unique()
    write_csv(
        clean / "folds.csv", pd.DataFrame({"patient_id": patients, "fold": np.arange(len(patients)) % FOLDS})
    )
    write_json(clean / "manifest.json", {"fingerprint": "f", "settings": {"size": 256}})


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
    parts = {"oof": train & own, "train": train & ~own, "test": ~train}
    for part, rows in parts.items():
        run.save_predictions(part, probabilities[rows], embeddings[rows])
        for k, view in enumerate(VIEWS):
            run.save_predictions(f"{part}_{view}", probabilities[rows] * 0.9**k, embeddings[rows] + 0.1 * k)
    write_json(run.folder / "metrics.json", {"data_fingerprint": "f"})


def fit(home, name="x/stage2/s", fold=0, **options):
    run = Run(name, fold, home)
    stage2.train_stacker_fold(run, config(**{**SMALL, **options}), CPU, held_out_scores, LOG, False)
    return run


def shuffle_training_labels(home):
    path = home.clean / "slices.parquet"
    slices = pd.read_parquet(path)
    number = slices["patient_id"].str[1:].astype(int)
    rows = np.flatnonzero((slices["split"] == "train") & (number % FOLDS != 0))
    labels = slices[list(LABELS)].to_numpy(copy=True)
    labels[rows] = labels[np.random.default_rng(0).permutation(rows)]
    write_parquet(path, slices.assign(**dict(zip(LABELS, labels.T, strict=True))))


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
    shuffle_training_labels(home)  # the held-out fold keeps its own
    shuffled = fit(home, "x/stage2/shuffled", **options).metrics()
    assert honest["score"] < 0.5 * honest["baseline"]
    assert shuffled["score"] > 0.95 * shuffled["baseline"]


@pytest.mark.parametrize("options", [{"selector": "kbest", "components": 4}, TREES])
def test_labels_of_held_out_studies_change_no_prediction(home, options):
    before = fit(home, "x/stage2/before", **options).predictions("oof")
    path = home.clean / "slices.parquet"
    slices = pd.read_parquet(path)
    rows = np.flatnonzero(slices["image_id"].isin(before.index))
    labels = slices[list(LABELS)].to_numpy(copy=True)
    labels[rows] = labels[np.random.default_rng(0).permutation(rows)]
    write_parquet(path, slices.assign(**dict(zip(LABELS, labels.T, strict=True))))
    pd.testing.assert_frame_equal(fit(home, "x/stage2/after", **options).predictions("oof"), before)


def test_a_patient_planted_in_two_folds_is_refused(home):
    path = home.clean / "folds.csv"
    folds = pd.read_csv(path)
    twice = pd.concat([folds, folds.iloc[[0]].assign(fold=2)])
    write_csv(path, twice)
    with pytest.raises(UserError, match="patient p000 has two rows"):
        fit(home)


def test_one_patient_under_two_names_in_two_folds_is_refused(home):
    path = home.clean / "slices.parquet"
    slices = pd.read_parquet(path)
    slices.loc[slices["image_id"] == "1-0", "pixel_hash"] = "0-0"  # the same slice as patient p000's
    write_parquet(path, slices)
    with pytest.raises(UserError, match=r"identical slices are spread over folds, such as p000, p001"):
        fit(home)


def test_a_run_folder_holds_what_prediction_needs(home):
    run = fit(home, embedding_space="aligned", selector="pca", components=5)
    assert {p.name for p in run.folder.iterdir()} == {
        "config.json", "metrics.json", "model.safetensors", "embedding_map.safetensors", "oof.parquet",
    }  # fmt: skip
    stage2.predict_test_studies(run, CPU, LOG)
    slices = pd.read_parquet(home.clean / "slices.parquet")
    assert sorted(run.predictions("test").index) == sorted(slices.loc[slices["split"] == "test", "image_id"])
    assert not list(run.checkpoint.parent.glob("*.pt"))


def test_predictions_of_the_test_part_are_the_mean_over_stage_1_folds(home):
    run = fit(home, embedding_space="pooled")
    stage2.predict_test_studies(run, CPU, LOG)
    settings, logits = run.read_config(stage2.StackerConfig), []
    slices = stage2.unlabelled_slices(home.clean)
    for fold in range(FOLDS):
        inputs = stage2.StudyInputs(slices, {m: [Run(m, fold, home)] for m in MEMBERS}, "test", settings)
        logits.append(stage2.load_predictor(run, settings, inputs, CPU)(inputs))
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
    calls, deadly = [], [4, 9, 14]
    real = stacker_networks.weighted_bce

    def mortal(*arguments):
        calls.append(1)
        if len(calls) in deadly:
            raise MemoryError
        return real(*arguments)

    monkeypatch.setattr(stacker_networks, "weighted_bce", mortal)
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


def test_the_loss_is_the_metric_and_what_the_other_heads_add():
    """Two slices and padding: slices at 0 cost log 2; the study shows the last label only."""
    logits, labels = torch.zeros(1, 3, 6), torch.zeros(1, 3, 6)
    labels[0, 1, 5] = labels[0, 2, 0] = 1  # the last slice is padding
    batch = {"labels": labels, "mask": torch.tensor([[True, True, False]])}
    sure = torch.full((1, 6), -1e3)
    sure[0, 5] = 1e3
    out = StackerOutput(logits, first=logits, study=sure, instances=torch.zeros(1, 6))
    weights = {"study_weight": 0.25, "instance_weight": 0.1}
    found = stacker_networks.stacker_loss(out, batch, config(**weights))
    assert found.item() == pytest.approx(1.1 * np.log(2))
    own = config(stacker="two_branch", inputs=["embeddings", "probabilities"], first_weight=0.5)
    found = stacker_networks.stacker_loss(StackerOutput(logits, first=logits), batch, own)
    assert found.item() == pytest.approx(1.5 * np.log(2))


def test_without_a_test_part_there_is_nothing_to_predict(home):
    path = home.clean / "slices.parquet"
    write_parquet(path, pd.read_parquet(path).query("split == 'train'"))
    for options in ({"embedding_space": "pooled", "slice_dropout": 0.1}, TREES):
        run = fit(home, f"x/stage2/{options.get('stacker')}", **options)
        stage2.predict_test_studies(run, CPU, LOG)
        assert run.predictions("test").empty


def test_read_from_both_ends_a_mirrored_study_gets_the_mirrored_answer(home):
    run = fit(home, tta_reverse=True, inputs=["embeddings", "logits"], deltas="lag_lead", stacker="gru")
    settings = run.read_config(stage2.StackerConfig)
    slices = stage2.unlabelled_slices(home.clean)
    mirrored = slices.iloc[::-1].sort_values("study_id", kind="stable").reset_index(drop=True)
    answers = []
    for table in (slices, mirrored):
        inputs = stage2.StudyInputs(table, {m: [Run(m, 0, home)] for m in MEMBERS}, "test", settings)
        logits = stage2.load_predictor(run, settings, inputs, CPU)(inputs)
        answers.append(pd.DataFrame(logits, table["image_id"]))
    np.testing.assert_allclose(answers[0], answers[1].loc[answers[0].index], atol=1e-5)


@pytest.mark.parametrize("space", ["pooled", "aligned"])
def test_where_views_are_drawn_the_prediction_is_the_mean_over_them(home, space):
    run = fit(home, embedding_space=space, views=VIEWS, view_use="draw", tta_reverse=True)
    stage2.predict_test_studies(run, CPU, LOG)
    settings = run.read_config(stage2.StackerConfig)
    answers = []
    for view in VIEWS:
        single = settings.model_copy(update={"views": (view,), "view_use": "concatenate"})
        for fold in range(FOLDS):
            members = {m: [Run(m, fold, home)] for m in MEMBERS}
            inputs = stage2.StudyInputs(stage2.unlabelled_slices(home.clean), members, "test", single)
            answers.append(1 / (1 + np.exp(-stage2.load_predictor(run, single, inputs, CPU)(inputs))))
    np.testing.assert_allclose(run.predictions("test"), np.mean(answers, 0), atol=1e-6)
    assert np.abs(answers[0] - answers[FOLDS]).max() > 1e-3


@pytest.mark.parametrize("use", ["concatenate", "average"])
@pytest.mark.parametrize("stacker", ["lstm", "two_branch", "boosting"])
def test_every_stacker_reads_views(home, use, stacker):
    trees = {"selector": "pca", "components": 4, "boosting": {"rounds": 5}} if stacker == "boosting" else {}
    inputs = ["embeddings", "probabilities" if stacker == "two_branch" else "logits", "position"]
    run = fit(home, stacker=stacker, inputs=inputs, views=VIEWS, view_use=use, **trees)
    stage2.predict_test_studies(run, CPU, LOG)
    assert len(run.predictions("test")) > 0


def test_quarantined_slices_are_predicted_from_their_neighbours(home):
    path = home.clean / "slices.parquet"
    slices = pd.read_parquet(path)
    gone = slices["image_id"].isin(["61-1", "63-0"])
    lost = slices.loc[gone & (slices["image_id"] == "63-0")].index
    slices.loc[gone, ["status", "cause"]] = ["quarantined", "truncated"]
    slices.loc[lost, "position_mm"] = np.nan  # its place is unknown
    write_parquet(path, slices)
    run = fit(home, slice_dropout=0.1)
    stage2.predict_test_studies(run, CPU, LOG)
    missing = pd.read_parquet(run.folder / "missing.parquet")
    assert missing["image_id"].tolist() == ["61-1"]
    assert missing[list(LABELS)].to_numpy().max() < 1
    assert not run.predictions("test").index.isin(["61-1", "63-0"]).any()
    plain = fit(home, "x/stage2/plain")
    stage2.predict_test_studies(plain, CPU, LOG)
    assert not (plain.folder / "missing.parquet").exists()


def test_in_sample_inputs_are_what_each_fold_says_of_its_own_training_slices(home, caplog):
    with caplog.at_level(logging.WARNING):
        run = fit(home, embedding_space="per_fold")
    assert "in-sample: for comparison only" in caplog.text
    stage2.predict_test_studies(run, CPU, LOG)
    assert len(run.predictions("test")) > 0


def test_a_member_that_is_incomplete_names_its_command(home):
    (Run(MEMBERS[1], 2, home).folder / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"missing 1, run: python train_stage1.py .*/b.json --fold 2"):
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
