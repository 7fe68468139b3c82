"""Every kind that reads pixels trains, predicts and comes back from its run folder, for its targets."""

import logging

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from src.config import parse_config
from src.data.prepared import Prepared
from src.errors import UserError
from src.files import write_parquet
from src.labels import LABELS
from src.models.heads import logits_of, probabilities
from src.targets import HEMORRHAGE, find_targets
from src.training.engine.state import TrainingState
from src.training.kinds import load_kind
from src.training.losses import LossOptions, build_loss, head_losses
from src.training.provenance import is_done
from src.training.runs import Run
from src.training.slices.kind import training_batches
from src.training.split import split_fold, unlabelled_part
from src.training.videos.kind import training_batches as video_batches
from tests.training.prepared import image_name, rewrite

CPU, LOG = torch.device("cpu"), logging.getLogger("ich.test")
SMALL = {"backbone": "test_resnet", "pretrained": False, "image_size": 32, "epochs": 1}
SITES = ["deep", "lobar", "subtentorial"]


def train(settings, kind, name="x", **values):
    run = Run(f"tiny/stage1/{name}", 0, settings)
    loaded = load_kind(kind)
    values = {**SMALL, "kind": kind, **values}
    if isinstance(values["backbone"], dict):  # which says itself where its weights are from
        del values["pretrained"]
    config = parse_config(loaded.config, values, name)
    loaded.train(run, Prepared(settings.clean), config, CPU, LOG, False)
    loaded.predict(run, unlabelled_part(Prepared(settings.clean)), CPU, LOG)
    return run, config


@pytest.mark.parametrize(("stored", "width"), [("encoder", 96), ("context", 16), ("both", 112)])
def test_a_sequence_predicts_slices_and_stores_what_is_asked(settings, stored, width):
    run, config = train(settings, "sequence", context={"hidden": 8}, embeddings=stored, batch_size=2)
    oof, test = run.predictions("oof"), run.predictions("test")
    assert oof.index.name == "image_id" and tuple(oof.columns) == LABELS and (len(oof), len(test)) == (15, 10)
    assert run.embeddings("oof").shape == (15, width) and run.embeddings("test").shape == (10, width)
    assert is_done(run, config, Prepared(settings.clean))
    few = list(oof.index[[7, 2]])  # whichever slices are asked for, their whole study is read
    again, _ = load_kind("sequence").outputs(run, Prepared(settings.clean), few, CPU)
    np.testing.assert_allclose(again, oof.loc[few], rtol=1e-5)


def test_limited_to_the_first_slices_in_training_all_are_predicted(settings):
    run, config = train(settings, "slice", batch_size=2, first_slices=2)
    assert len(run.predictions("oof")) == 15 and len(run.predictions("test")) == 10
    prepared = Prepared(settings.clean)
    training, _ = split_fold(prepared, 0)
    batches = training_batches(run, prepared, training, config, CPU)
    assert set(batches.ids) == {i for i in training["image_id"] if i.endswith(("_0", "_1"))}


@pytest.mark.parametrize("choice", ["evenly", "first"])
def test_a_video_predicts_studies(settings, choice):
    run, _ = train(settings, "video", targets="presence", frames=3, frame_choice=choice, batch_size=2)
    oof, test = run.predictions("oof"), run.predictions("test")
    assert oof.index.name == "study_id" and list(oof.columns) == ["presence"]
    assert (len(oof), len(test)) == (3, 2) and run.embeddings("oof").shape == (3, 96)
    metrics = run.metrics()
    assert metrics["targets"] == "presence" and metrics["heads"][0]["rows"] == 3


@pytest.mark.parametrize(("choice", "orders"), [("evenly", "024"), ("first", "012")])
def test_a_video_has_frames_of_its_own_study(settings, choice, orders):
    values = {**SMALL, "kind": "video", "targets": "presence", "frames": 3, "frame_choice": choice}
    config = parse_config(load_kind("video").config, values, "x")
    prepared = Prepared(settings.clean)
    training = split_fold(prepared, 0, config.predicted)[0].drop_duplicates("study_id")
    batches = video_batches(None, prepared, training, config, CPU)
    frames = [list(batches.ids[batches.pick(study, None)]) for study in range(batches.samples)]
    numbers = [int(study.removeprefix("study")) for study in training["study_id"]]
    assert frames == [[image_name(number, order) for order in orders] for number in numbers]


VIVIT = {
    "tubelet": [2, 16, 16], "pretrained": False, "hidden_size": 24, "layers": 2, "attention_heads": 3,
}  # fmt: skip


def test_a_vivit_predicts_studies_and_goes_on_where_it_stopped(settings, monkeypatch):
    pytest.importorskip("transformers", reason="transformers is not installed")
    values = {
        "backbone": VIVIT | {"hidden_dropout": 0.1}, "targets": "presence", "frames": 4, "batch_size": 1,
        "epochs": 2, "ema_decay": 0.9,
    }  # fmt: skip
    run, _ = train(settings, "video", "whole", **values)
    oof, test = run.predictions("oof"), run.predictions("test")
    assert oof.index.name == "study_id" and list(oof.columns) == ["presence"]
    assert (len(oof), len(test)) == (3, 2) and run.embeddings("oof").shape == (3, 24)
    assert run.metrics()["pretrained"] == {"source": "random"}

    step = TrainingState.step

    def killed(state, batch, number):
        if number == 4:
            raise KeyboardInterrupt
        return step(state, batch, number)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "step", killed)
        with pytest.raises(KeyboardInterrupt):
            train(settings, "video", "stopped", **values)
    stopped = Run("tiny/stage1/stopped", 0, settings)
    assert stopped.checkpoint.exists() and not stopped.complete
    train(settings, "video", "stopped", **values)
    train(settings, "video", "again", **values)
    for name in ("stopped", "again"):
        other = Run(f"tiny/stage1/{name}", 0, settings)
        for file in ("model.safetensors", "oof.parquet", "embeddings.npy"):
            assert (other.folder / file).read_bytes() == (run.folder / file).read_bytes(), (name, file)


def test_a_vivit_starts_as_the_image_transformer_of_the_same_fold(settings):
    pytest.importorskip("transformers", reason="transformers is not installed")
    transformer = {"trunks": [], "embed_dim": 24, "depth": 2, "heads": 3}
    source, _ = train(settings, "slice", "vit", backbone=transformer, targets="presence", batch_size=8)
    values = {"targets": "presence", "frames": 4, "batch_size": 2, "trainable": "head"}
    backbone = VIVIT | {"pretrained": "run:tiny/stage1/vit"}
    run, config = train(settings, "video", "vivit", backbone=backbone, **values)
    assert run.made_from["inputs"] == {"tiny/stage1/vit/fold0": source.fingerprint}
    network = run.load_weights(load_kind("video").build(config, pretrained=False)).backbone.network
    given = load_file(source.folder / "model.safetensors")
    assert torch.equal(
        network.layers[1].mlp.fc1.weight, given["backbone.transformer.blocks.1.mlp.fc1.weight"]
    )
    assert torch.equal(network.layernorm.bias, given["backbone.transformer.norm.bias"])


def test_with_the_head_alone_trainable_nothing_of_the_encoder_moves(settings):
    config = parse_config(load_kind("slice").config, {**SMALL, "kind": "slice", "trainable": "head"}, "x")
    torch.manual_seed(config.seed)
    before = load_kind("slice").build(config).state_dict()
    run, config = train(settings, "slice", trainable="head", batch_size=8)
    after = run.load_weights(load_kind("slice").build(config, pretrained=False)).state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"head.weight", "head.bias"}
    with pytest.raises(UserError, match="an encoder that stays as it is has no rate"):
        train(settings, "slice", "y", trainable="head", encoder_rate=0.1)


def test_studies_with_labels_of_their_own_alone_can_be_trained_on(settings):
    labels = dict.fromkeys(LABELS)
    rewrite(settings.clean, "slices.parquet", lambda slices: slices.assign(**labels))
    studies = pd.read_parquet(settings.clean / "studies.parquet")
    with pytest.raises(UserError, match="no label presence for these studies"):
        train(settings, "video", targets="presence", frames=2, batch_size=2)
    from src.files import file_sha256, read_json, write_json, write_parquet

    write_parquet(settings.clean / "studies.parquet", studies.assign(any=[0, 1] * 4))
    manifest = read_json(settings.clean / "manifest.json")
    manifest["tables"]["studies.parquet"] = file_sha256(settings.clean / "studies.parquet")
    write_json(settings.clean / "manifest.json", manifest)
    run, _ = train(settings, "video", "own", targets="presence", frames=2, batch_size=2)
    assert len(run.predictions("oof")) == 3


def test_two_heads_are_trained_and_the_location_is_asked_only_where_there_is_one(settings):
    def located(slices):
        sites = pd.DataFrame(0, slices.index, SITES)
        bleeds = slices["any"].fillna(0) == 1
        for row, image in enumerate(slices.index[bleeds]):
            sites.loc[image, SITES[row % 3]] = 1
        return slices.assign(**sites)

    rewrite(settings.clean, "slices.parquet", located)
    run, _ = train(settings, "slice", targets="presence_and_location", batch_size=8, location_weight=0.5)
    oof = run.predictions("oof")
    assert list(oof.columns) == ["presence", *SITES] and len(oof) == 15
    np.testing.assert_allclose(oof[SITES].sum(axis=1), 1)
    first, second = run.metrics()["heads"]
    assert first["rows"] == 15 and second["rows"] == 6 and np.sum(second["confusion"]) == 6
    slices = Prepared(settings.clean).slices.set_index("image_id").loc[oof.index]
    y, p = slices["any"].to_numpy(float), oof["presence"].to_numpy()
    assert first["log_loss"] == pytest.approx(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))
    given = slices[slices["any"] == 1].index
    own = (oof.loc[given, SITES].to_numpy() * slices.loc[given, SITES].to_numpy()).sum(1)
    assert second["log_loss"] == pytest.approx(-np.log(own).mean())


def test_the_location_of_synthetic_bleeds_comes_from_the_truth_beside_the_raw_data(settings):
    slices, folder = Prepared(settings.clean).slices, settings.raw.parent / "truth"
    truth = slices[["image_id", "study_id"]].assign(any=slices["any"].fillna(0).astype(int))
    for subtype in LABELS[:-1]:
        truth[f"ml_{subtype}"] = truth["any"] * (subtype == "intraparenchymal")
    write_parquet(folder / "slices.parquet", truth)
    bleed = {"kind": "bleed", "name": "intraparenchymal", "x": 25.0, "y": -3.0, "z": 4.0}
    places = pd.DataFrame({"study_id": slices["study_id"].unique()}).assign(**bleed)
    places.loc[2, "y"] = -60.0
    write_parquet(folder / "sites.parquet", places)
    options = {"targets": "presence_and_location", "site_labels": "truth", "batch_size": 8}
    run, config = train(settings, "slice", **options)
    assert np.sum(run.metrics()["heads"][1]["confusion"], axis=1).tolist() == [4, 2, 0]
    assert is_done(run, config, Prepared(settings.clean))
    write_parquet(folder / "sites.parquet", places.assign(y=-60.0))
    with pytest.raises(UserError, match=r"has changed since \(.*sites.parquet\)"):
        is_done(run, config, Prepared(settings.clean))
    (folder / "sites.parquet").unlink()
    with pytest.raises(UserError, match=r"sites.parquet: missing; site_labels `truth` needs synthetic data"):
        train(settings, "slice", "b", **options)


def test_other_targets_than_the_data_have_say_what_there_is(settings):
    with pytest.raises(UserError, match=r"no label deep, lobar, subtentorial .*they have presence"):
        train(settings, "slice", targets="presence_and_location", batch_size=8)


def test_a_run_starts_from_the_same_fold_of_another_and_stands_on_it(settings):
    source, _ = train(settings, "slice", "a", batch_size=8)
    run, config = train(settings, "slice", "b", batch_size=8, pretrained="run:tiny/stage1/a", lr=1e-30)
    build = load_kind("slice").build
    networks = [one.load_weights(build(config, pretrained=False)) for one in (source, run)]
    first, second = (next(network.backbone.parameters()) for network in networks)
    torch.testing.assert_close(first, second)
    assert run.made_from["inputs"] == {"tiny/stage1/a/fold0": source.fingerprint}
    train(settings, "slice", "a", batch_size=8, seed=5)
    with pytest.raises(UserError, match=r"has changed since \(tiny/stage1/a/fold0\)"):
        is_done(run, config, Prepared(settings.clean))
    with pytest.raises(UserError, match=r"starts from tiny/stage1/gone fold 0, which is not complete; run"):
        train(settings, "slice", "c", batch_size=8, pretrained="run:tiny/stage1/gone")


def test_no_run_starts_from_one_that_leaks(settings):
    train(settings, "slice", "leaky", batch_size=8, targets="presence", split="slice")
    with pytest.raises(UserError, match=r"starts from tiny/stage1/leaky fold 0, which was split by slice"):
        train(settings, "slice", "b", batch_size=8, pretrained="run:tiny/stage1/leaky")


def test_logits_become_probabilities_and_come_back():
    targets = find_targets("presence_and_location")
    logits = torch.tensor([[0.3, 1.0, -1.0, 0.5]], dtype=torch.float64)
    p = probabilities(logits, targets)
    assert p[0, 0].item() == pytest.approx(1 / (1 + np.exp(-0.3)))
    np.testing.assert_allclose(p[0, 1:], np.exp([1, -1, 0.5]) / np.exp([1, -1, 0.5]).sum())
    torch.testing.assert_close(probabilities(logits_of(p, targets), targets), p)
    assert find_targets("hemorrhage") is HEMORRHAGE and HEMORRHAGE.columns == LABELS


@pytest.mark.parametrize(("presence", "location"), [(1.0, 1.0), (0.5, 2.0), (0.0, 1.0), (1.0, 0.0)])
def test_both_terms_of_the_loss_have_a_weight(presence, location):
    targets = find_targets("presence_and_location")
    logits, labels = torch.tensor([[2.0, 1.0, 0.0, 0.0]]), torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    options = LossOptions(presence_weight=presence, location_weight=location)
    expected = presence * np.log1p(np.exp(-2)) + location * np.log(1 + 2 * np.exp(-1))
    assert build_loss(options, targets)(logits, labels).item() == pytest.approx(expected)


def test_a_head_that_is_not_asked_has_no_loss():
    targets, nan = find_targets("presence_and_location"), float("nan")
    logits = torch.tensor([[2.0, 1.0, 0.0, 0.0], [-1.0, 5.0, 5.0, 5.0]])
    labels = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, nan, nan, nan]])
    presence, location = head_losses(logits, labels, targets)
    expected = (np.log1p(np.exp(-2)) + np.log1p(np.exp(-1))) / 2
    assert presence.item() == pytest.approx(expected, rel=1e-5)
    assert location.item() == pytest.approx(-1 + np.log(np.e + 2), rel=1e-5)
    _, none = head_losses(logits[1:], labels[1:], targets)
    assert none.item() == 0
