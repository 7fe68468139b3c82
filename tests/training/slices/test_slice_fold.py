"""A fold of stage 1 from prepared data to its run folder."""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from src.config import parse_config
from src.data.prepared import Prepared
from src.errors import UserError
from src.evaluation.metrics import weighted_log_loss
from src.labels import LABELS
from src.models.backbones import create_backbone
from src.models.slice_classifier import build_slice_classifier
from src.settings import load_settings
from src.training.provenance import is_done
from src.training.runs import Run
from src.training.slices.kind import KIND, SLICES, predict_slices
from src.training.slices.slice_config import SliceConfig
from src.training.slices.views import VIEWS
from src.training.split import unlabelled_part
from tests.training.prepared import image_name, rewrite, write_clean, write_settings

CPU, LOG = torch.device("cpu"), logging.getLogger("ich.test")
SMALL = {"backbone": "test_resnet", "pretrained": False, "image_size": 32, "epochs": 1, "batch_size": 8}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    settings = load_settings(write_settings(home))
    write_clean(settings.clean, masks=True)
    return settings


def fold(settings, name, **values):
    run = Run(f"tiny/stage1/{name}", 0, settings)
    config = parse_config(SliceConfig, {**SMALL, **values}, name)
    KIND.train(run, Prepared(run.settings.clean), config, CPU, LOG, show_progress=False)
    return run, config


EVERYTHING = {
    "stack": {
        "neighbours": [-2, 0, 2],
        "edge": "air",
        "tta": ["identity", "reverse"],
    },
    "own window": {"windows": ["file", [80, 200]], "normalisation": "minmax", "sampling": "mid_slices"},
    "learned windows": {
        "learn_windows": True,
        "normalisation": "instance",
        "augmentation": {"hu_shift": 15.0},
    },
    "decoder": {"segmentation": {"masks": "prepared", "channels": 16}, "augmentation": {"elastic": 0.5}},
    "head": {
        "pooling": "gem",
        "dropout": 0.5,
        "dropout_samples": 3,
        "loss": "focal",
    },
    "optimiser": {
        "optimizer": "sgd",
        "layer_decay": 0.8,
        "schedule": "one_cycle",
        "ema_decay": 0.9,
        "accumulation": 2,
    },
    "accumulation": {"accumulation": 2, "epochs": 3, "optimizer": "adam", "schedule": "restarts"},
    "mixing": {"augmentation": {"cutmix": 0.3, "mixup": 0.3, "noise": 0.5, "blur": 0.5, "erase": 0.5}},
    "balanced": {"sampling": "balanced", "crop": 0.8, "tensorboard": True},
    "bfloat16": {"precision": "bf16", "channels_last": False, "min_brain_range": 20.0},
}


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_option_trains_predicts_and_comes_back_from_the_run_folder(settings, name):
    run, config = fold(settings, name.replace(" ", "_"), **EVERYTHING[name])
    KIND.predict(run, unlabelled_part(Prepared(run.settings.clean)), CPU, LOG)
    oof, test = run.predictions("oof"), run.predictions("test")
    assert len(oof) == 15 and len(test) == 10 and oof.index.intersection(test.index).empty
    assert np.isfinite(oof.to_numpy()).all() and oof.to_numpy().min() >= 0 and oof.to_numpy().max() <= 1
    model = run.load_weights(build_slice_classifier(run.read_config(SliceConfig), pretrained=False))
    logits, embeddings = predict_slices(model, Prepared(settings.clean), list(oof.index), config, CPU)
    torch.testing.assert_close(
        torch.from_numpy(logits).double().sigmoid(), torch.from_numpy(oof.to_numpy(copy=True))
    )
    np.testing.assert_array_equal(run.embeddings("oof"), embeddings.astype(np.float16))
    assert run.embeddings("oof").dtype == np.float16 and isinstance(run.embeddings("oof"), np.memmap)
    assert run.metrics()["pretrained"] == {"source": "random"}
    history = run.metrics()["history"]
    assert len(history) == config.epochs
    assert set(history[0]) == {"epoch", "step", "lr", "train_loss", "valid_loss"}
    assert history[-1]["valid_loss"] == pytest.approx(run.metrics()["score"], rel=1e-5)
    assert list(run.log_file.with_suffix("").glob("events*")) if config.tensorboard else True


def test_predictions_are_the_mean_over_the_views(settings):
    config = parse_config(SliceConfig, {**SMALL, "tta": list(VIEWS)}, "views")
    prepared = Prepared(settings.clean)
    ids = prepared.volumes.image_ids[:9]
    torch.manual_seed(0)
    model = build_slice_classifier(config)
    single = [
        predict_slices(model, prepared, ids, config.model_copy(update={"tta": (view,)}), CPU)
        for view in config.tta
    ]
    logits, embeddings = predict_slices(model, prepared, ids, config, CPU)
    mean = np.mean([1 / (1 + np.exp(-one.astype(np.float64))) for one, _ in single], axis=0)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits.astype(np.float64))), mean, rtol=1e-5)
    np.testing.assert_allclose(embeddings, np.mean([e for _, e in single], axis=0), rtol=1e-4, atol=1e-5)


def test_no_slice_to_predict_gives_empty_tables(settings):
    config = parse_config(SliceConfig, SMALL, "x")
    logits, embeddings = predict_slices(
        build_slice_classifier(config), Prepared(settings.clean), [], config, CPU
    )
    assert logits.shape == (0, 6) and embeddings.shape == (0, 96)


def test_of_a_grown_test_part_only_new_and_changed_studies_are_predicted(tmp_path):
    settings = load_settings(write_settings(tmp_path))
    write_clean(settings.clean)
    run, config = fold(settings, "grown")
    given = []

    def counted(model, prepared, ids, *more):
        given.append(list(ids))
        return predict_slices(model, prepared, ids, *more)

    counting = replace(SLICES, predict=counted).as_kind()
    names = {study: [image_name(study, order) for order in range(5)] for study in (6, 7)}

    def predicted():
        counting.predict(run, unlabelled_part(Prepared(settings.clean)), CPU, LOG)
        return run.predictions("test"), pd.DataFrame(
            np.array(run.embeddings("test")), run.predictions("test").index
        )

    before = predicted()
    assert given == [[*names[6], *names[7]]]

    def grown(slices):
        new = slices[slices["study_id"] == "study07"].assign(study_id="study99")
        new = new.assign(image_id=[f"new_{order}" for order in range(5)])
        return pd.concat([slices.replace({"pixel_hash": {"6-3": "mended"}}), new])

    rewrite(settings.clean, "slices.parquet", grown)
    after = predicted()
    assert given[1:] == [[*names[6], *(f"new_{order}" for order in range(5))]]
    assert list(after[0].index) == [*names[6], *names[7], *given[1][5:]]
    for old, new in zip(before, after, strict=True):
        pd.testing.assert_frame_equal(new.loc[names[7]], old.loc[names[7]])
        np.testing.assert_array_equal(new.loc[given[1][5:]], old.loc[names[7]])  # the same pixels
    predicted()
    assert len(given) == 2
    counting.train(run, Prepared(settings.clean), config.model_copy(update={"seed": 1}), CPU, LOG, False)
    predicted()
    assert len(given[-1]) == 15 and len(given) == 4  # the held-out slices, and the whole test part


def test_a_weights_file_that_changed_since_training_is_named(settings, tmp_path):
    file = tmp_path / "weights.pth"
    torch.save(create_backbone("test_resnet", 3, False).state_dict(), file)
    run, config = fold(settings, "from_file", pretrained=str(file))
    assert is_done(run, config, Prepared(settings.clean))
    torch.manual_seed(99)  # other random numbers
    torch.save(create_backbone("test_resnet", 3, False).state_dict(), file)
    with pytest.raises(
        UserError, match=r"from has changed since \(.*weights.pth\); delete that folder and run"
    ):
        is_done(run, config, Prepared(settings.clean))


def test_a_label_without_a_positive_works_and_is_said(settings, caplog):
    logger = logging.getLogger("ich.rare")
    config = parse_config(SliceConfig, SMALL, "x")
    with caplog.at_level(logging.WARNING):
        KIND.train(Run("tiny/stage1/rare", 0, settings), Prepared(settings.clean), config, CPU, logger, False)
    absent = [record.args[1] for record in caplog.records if "no training row" in record.msg]
    assert absent == ["intraventricular", "subdural"]  # the studies of fold 1 have the other three


def test_a_fold_that_is_not_prepared_and_a_cache_that_is_gone_say_what_to_run(settings, tmp_path):
    config = parse_config(SliceConfig, SMALL, "x")
    with pytest.raises(UserError, match=r"fold 7: folds.csv has the folds 0, 1"):
        KIND.train(Run("tiny/stage1/x", 7, settings), Prepared(settings.clean), config, CPU, LOG, False)
    empty = load_settings(write_settings(tmp_path))
    with pytest.raises(UserError, match=r"no .*prepared data; run: python prepare_data\.py"):
        KIND.train(Run("tiny/stage1/x", 0, empty), Prepared(empty.clean), config, CPU, LOG, False)
    write_clean(empty.clean)
    (empty.clean / "volumes/all.pack").unlink()
    with pytest.raises(UserError, match=r"all.pack: unusable volume file.*run prepare_data.py again"):
        KIND.train(Run("tiny/stage1/x", 0, empty), Prepared(empty.clean), config, CPU, LOG, False)


def test_a_network_learns_the_bright_square(settings):
    values = {"epochs": 60, "lr": 3e-3, "augmentation": {"affine": 0.0}, "windows": [[60, 60]]}
    run, _ = fold(settings, "learns", **values)
    slices = pd.read_parquet(settings.clean / "slices.parquet").set_index("image_id")
    oof = run.predictions("oof")
    labels = slices.loc[oof.index, list(LABELS)].astype(int)
    assert run.metrics()["score"] == pytest.approx(weighted_log_loss(labels, oof))
    bleeding = labels["any"] == 1
    assert oof.loc[bleeding, "any"].mean() > oof.loc[~bleeding, "any"].mean() + 0.2
