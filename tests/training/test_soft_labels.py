"""Soft labels of a table join training; nothing that is held out, linked to it or scored changes."""

import logging

import numpy as np
import pandas as pd
import pytest
import torch

from src.config import parse_config
from src.data.prepared import Prepared
from src.data.probabilities import read_probabilities
from src.errors import UserError
from src.labels import LABELS
from src.training.kinds import load_kind
from src.training.losses import LOSSES, LossOptions, build_loss
from src.training.provenance import is_done
from src.training.runs import Run
from src.training.sequences.sequence_config import SequenceConfig
from src.training.slices.kind import training_loss
from src.training.slices.sampling import balanced_weights
from src.training.slices.slice_batches import SliceBatches
from src.training.slices.slice_config import SliceConfig
from src.training.soft_labels import SoftLabelOptions, with_soft_labels
from src.training.split import split_fold
from src.training.studies.stacker_config import StackerConfig
from src.training.videos.video_config import VideoConfig
from tests.training.prepared import image_name, rewrite

CPU, LOG = torch.device("cpu"), logging.getLogger("ich.soft")
TEST = [image_name(study, order) for study in (6, 7) for order in range(5)]  # of patient06 and patient07
SMALL = {"backbone": "test_resnet", "pretrained": False, "image_size": 32, "epochs": 1, "batch_size": 8}


@pytest.fixture
def table(tmp_path):
    """Probabilities of the ten test images, each cell its own."""
    values = np.arange(60).reshape(10, 6) / 100
    frame = pd.DataFrame(values, columns=list(LABELS)).assign(image_id=TEST)
    frame.to_csv(tmp_path / "soft.csv", index=False)
    return tmp_path / "soft.csv"


def joined(settings, path, fold=0, **options):
    training, held_out = split_fold(Prepared(settings.clean), fold)
    given = SoftLabelOptions(soft_labels=str(path), **options)
    return with_soft_labels(training, held_out, Prepared(settings.clean), given, fold, LOG)


def test_soft_labels_join_beside_the_labelled_slices(settings, table):
    training, _ = split_fold(Prepared(settings.clean), 0)
    found = joined(settings, table, soft_label_weight=0.5)
    assert list(found["image_id"]) == [*training["image_id"], *TEST]  # studies 1, 3, 5, then 6 and 7
    np.testing.assert_array_equal(found[list(LABELS)][15:], np.arange(60).reshape(10, 6) / 100)
    np.testing.assert_array_equal(found[list(LABELS)][:15], training[list(LABELS)])
    assert list(found["sample_weight"]) == [1.0] * 15 + [0.5] * 10


def test_no_image_of_a_held_out_patient_joins(settings, table):
    """patient06 is patient00, whom fold 0 holds out, and an image of patient07 is one of patient01."""

    def change(slices):
        slices["patient_id"] = slices["patient_id"].replace({"patient06": "patient00"})
        return slices.replace({"pixel_hash": {"7-3": "1-3"}})

    rewrite(settings.clean, "slices.parquet", change)
    assert set(joined(settings, table, 0)["study_id"]) == {"study01", "study03", "study05", "study07"}
    assert set(joined(settings, table, 1)["study_id"]) == {"study00", "study02", "study04", "study06"}


def test_where_every_soft_label_is_of_a_held_out_patient_it_is_an_error(settings, table):
    rewrite(settings.clean, "slices.parquet", lambda s: s.replace({"patient_id": {"patient06": "patient00"}}))
    pd.read_csv(table)[:5].to_csv(table, index=False)
    with pytest.raises(UserError, match=r"soft\.csv: no image is left .* whose patient is not held out"):
        joined(settings, table, 0)


def test_images_that_could_not_be_read_stay_out(settings, table, caplog):
    def change(slices):
        slices.loc[slices["image_id"] == TEST[0], ["status", "cause"]] = ["quarantined", "truncated: x"]
        return slices

    rewrite(settings.clean, "slices.parquet", change)
    with caplog.at_level(logging.INFO, logger="ich"):
        assert list(joined(settings, table)["image_id"][15:]) == TEST[1:]
    assert "9 slices" in caplog.text and "1 that could not be read, 0 of held-out patients" in caplog.text


def test_labelled_and_unknown_images_are_refused(settings, table):
    frame = pd.read_csv(table)
    frame.replace({"image_id": {TEST[3]: image_name(2, 1)}}).to_csv(table, index=False)
    with pytest.raises(UserError, match=r"soft\.csv: 1 images have labels, such as image02_1; .*strike"):
        joined(settings, table)
    frame.replace({"image_id": {TEST[3]: "elsewhere"}}).to_csv(table, index=False)
    with pytest.raises(UserError, match=r"1 images are not in .*clean_data, such as elsewhere; prepare them"):
        joined(settings, table)


def test_a_table_a_fold_is_named_by_its_number(settings, table, caplog):
    table.rename(table.with_name("soft0.csv"))
    with caplog.at_level(logging.INFO, logger="ich"):
        assert len(joined(settings, table.with_name("soft{fold}.csv"), 0)) == 25
    assert "optimistic" not in caplog.text
    with pytest.raises(UserError, match=r"soft1\.csv: no such file"):
        joined(settings, table.with_name("soft{fold}.csv"), 1)


def test_the_three_forms_of_a_table_say_the_same(table, tmp_path):
    frame = pd.read_csv(table)
    frame.assign(fold=3).to_parquet(tmp_path / "soft.parquet")
    long = frame.melt("image_id", list(LABELS), value_name="Label")
    long["ID"] = long["image_id"] + "_" + long["variable"]
    long[["ID", "Label"]].to_csv(tmp_path / "submission.csv", index=False)
    expected = frame.set_index("image_id")[list(LABELS)]
    for name in ("soft.csv", "soft.parquet", "submission.csv"):
        found = read_probabilities(tmp_path / name)
        pd.testing.assert_frame_equal(found.loc[expected.index], expected, check_names=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.assign(any=1.5), r"any of image06_0 is 1\.5 \(10 such values\); expected a number in"),
        (lambda f: f.assign(any=np.nan), r"any of image06_0 is .*\(10 such values\)"),
        (lambda f: f.assign(any="high"), r"any of image06_0 is high"),
        (lambda f: f.drop(columns="any"), r"has no column any, but .*; give a submission \(ID,Label\)"),
        (lambda f: f.assign(image_id="a"), r"a stands twice; keep one row"),
        (lambda f: f.assign(image_id=""), r"data row 1 names no image"),
        (lambda f: f[:0], r"has a header and no rows"),
    ],
)
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_what_is_no_probability_is_refused(table, change, message, form):
    frame, path = change(pd.read_csv(table)), table.with_suffix(f".{form}")
    getattr(frame, f"to_{form}")(path, index=False)
    with pytest.raises(UserError, match=rf"soft\.{form}: {message}"):
        read_probabilities(path)


@pytest.mark.parametrize("name", LOSSES)
def test_a_weight_is_what_a_slice_counts(name):
    """Twice as much is as good as twice the slice; a soft label lies between those of 0 and of 1."""
    loss = build_loss(LossOptions(loss=name))
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(3, 6, generator=generator), torch.rand(3, 6, generator=generator)
    doubled = loss(logits, labels, weights=torch.tensor([[1.0], [2.0], [0.0]])) * 3
    rows = [0, 1, 1]
    torch.testing.assert_close(doubled, loss(logits[rows], labels[rows]) * 3)


def test_a_batch_carries_the_weights_of_its_slices(settings, table):
    config = parse_config(SliceConfig, SMALL | {"soft_labels": str(table), "soft_label_weight": 0.25}, "x")
    training = joined(settings, table, soft_label_weight=0.25)
    batches = SliceBatches(Prepared(settings.clean), training, config, CPU)
    seen = [batch for batch in batches.epoch(0)]
    for batch in seen:
        expected = [[0.25 if image_id in TEST else 1.0] for image_id in batch["ids"]]
        assert batch["sample_weights"].tolist() == expected
    logits = torch.zeros(8, 6)
    found = training_loss(config)(lambda hu, windows: (logits, None), seen[0])
    expected = np.log(2) * seen[0]["sample_weights"].mean().item()
    assert found.item() == pytest.approx(expected, rel=1e-6)  # logit 0 costs log 2 whatever the label


def test_balanced_sampling_takes_a_soft_label_for_a_part_of_a_slice():
    """Two slices without bleeding, one half subdural: 1/1 + 1/1 + .5 of `none`, .5 of subdural."""
    frame = pd.DataFrame(0.0, range(3), list(LABELS))
    frame.loc[2, ["subdural", "any"]] = 0.5
    found = balanced_weights(frame)
    np.testing.assert_allclose(found, [0.5 / 2.5, 0.5 / 2.5, 0.5 * 0.5 / 2.5 + 0.5])


@pytest.mark.parametrize("values", [{}, {"sampling": "balanced"}, {"sampling": "per_study", "loss": "focal"}])
def test_a_fold_learns_from_soft_labels_and_is_scored_without_them(settings, table, values):
    plain = trained(settings, "plain", values)
    soft = trained(settings, "soft", values | {"soft_labels": str(table), "soft_label_weight": 0.5})
    held_out = list(split_fold(Prepared(settings.clean), 0)[1]["image_id"])
    assert list(soft.predictions("oof").index) == list(plain.predictions("oof").index) == held_out
    assert not np.array_equal(soft.predictions("oof"), plain.predictions("oof"))
    assert soft.metrics()["baseline"] == plain.metrics()["baseline"]


def test_sequences_learn_from_soft_labels_too(settings, table):
    values = {**SMALL, "kind": "sequence", "batch_size": 2, "length": 4, "context": {"hidden": 8}}
    run = trained(settings, "row", values | {"soft_labels": str(table)}, SequenceConfig)
    assert len(run.predictions("oof")) == 15 and list(run.made_from["weights"]) == [str(table)]


def trained(settings, name, values, model=SliceConfig):
    run = Run(f"tiny/stage1/{name}", 0, settings)
    config = parse_config(model, SMALL | values, name)
    load_kind(config.kind).train(run, Prepared(settings.clean), config, CPU, LOG, False)
    return run


def test_a_table_that_changed_refuses_a_complete_fold(settings, table):
    values = {"soft_labels": str(table)}
    run, config = trained(settings, "soft", values), parse_config(SliceConfig, SMALL | values, "soft")
    assert is_done(run, config, Prepared(settings.clean))
    table.write_text(table.read_text().replace("0.59", "0.58"))
    with pytest.raises(UserError, match=r"has changed since \(.*soft\.csv\); delete that folder and run"):
        is_done(run, config, Prepared(settings.clean))


def test_a_table_that_changed_refuses_a_checkpoint_and_says_so(settings, table, monkeypatch):
    def killed(batches, rows, seed):
        assert seed[2] < 2, "killed"
        return batch(batches, rows, seed)

    values, batch = {"soft_labels": str(table), "checkpoint_steps": 1}, SliceBatches.batch
    with monkeypatch.context() as patch:
        patch.setattr(SliceBatches, "batch", killed)
        with pytest.raises(AssertionError, match="killed"):
            trained(settings, "soft", values)
    table.write_text(table.read_text().replace("0.59", "0.58"))
    with pytest.raises(UserError, match=r'data set \(made_from weights .*soft\.csv "\w+, now "\w+\); delete'):
        trained(settings, "soft", values)


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        (SliceConfig, {"soft_label_weight": 0.5, "soft_labels": None}, "of slices that soft_labels names"),
        (SliceConfig, {"targets": "presence"}, "soft_labels: of the six labels, not of presence"),
        (SliceConfig, {"segmentation": {"masks": "truth"}}, "teach no masks; leave segmentation out"),
        (SliceConfig, {"augmentation": {"mixup": 0.5}, "soft_label_weight": 0.5}, "mixed samples have no"),
        (VideoConfig, {"kind": "video"}, "a video learns studies"),
    ],
)
def test_what_cannot_take_soft_labels_says_why(model, values, message):
    values = {"backbone": "test_resnet", "soft_labels": "a.csv"} | values
    with pytest.raises(UserError, match=message):
        parse_config(model, values, "x")


def test_a_stacker_says_why_it_takes_none():
    values = {"stacker": "lstm", "members": ["a/stage1/b"], "soft_labels": "a.csv"}
    with pytest.raises(UserError, match="x: soft_labels: of stage 1: a stacker learns"):
        parse_config(StackerConfig, values, "x")
