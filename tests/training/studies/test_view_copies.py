"""Copies of stage 1's outputs through single views: out of fold; side by side, averaged or drawn."""

import logging

import numpy as np
import pytest
import torch

from src.config import parse_config
from src.data.prepared import Prepared
from src.errors import UserError
from src.labels import LABELS
from src.settings import load_settings
from src.training.runs import Run
from src.training.slices.kind import KIND
from src.training.slices.slice_config import SliceConfig
from src.training.split import unlabelled_part
from src.training.studies.member_outputs import predict_views
from src.training.studies.stacker_config import StackerConfig
from src.training.studies.study_batches import StudyBatches, collate
from src.training.studies.study_fold import predict_test_studies, train_stacker_fold
from src.training.studies.study_inputs import StudyInputs
from tests.training.finished import finish
from tests.training.prepared import write_clean, write_settings
from tests.training.stage2_tables import MEMBER, config, settings_below, table, write

CPU, LOG = torch.device("cpu"), logging.getLogger("ich.test")
VIEWS = ["identity", "hflip"]
EPIDURAL = LABELS.index("epidural")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Two folds of a tiny classifier that predicts through both views."""
    settings = load_settings(write_settings(tmp_path_factory.mktemp("home")))
    write_clean(settings.clean)
    values = {"backbone": "test_resnet", "pretrained": False, "image_size": 32, "epochs": 1, "tta": VIEWS}
    for fold in (0, 1):
        run = Run("tiny/stage1/a", fold, settings)
        own = parse_config(SliceConfig, values, "a")
        KIND.train(run, Prepared(settings.clean), own, CPU, LOG, False)
    return settings


def test_single_views_are_what_their_mean_is_made_of_and_are_predicted_once(home):
    run = Run("tiny/stage1/a", 0, home)
    predict_views(run, Prepared(home.clean), "oof", VIEWS, CPU, LOG)
    tables = [run.predictions(f"oof_{view}") for view in VIEWS]
    np.testing.assert_allclose(sum(tables) / 2, run.predictions("oof"), rtol=1e-5)
    assert tables[0].index.equals(run.predictions("oof").index)  # the held-out slices, no others
    embeddings = [run.embeddings(f"oof_{view}").astype(float) for view in VIEWS]
    np.testing.assert_allclose(sum(embeddings) / 2, run.embeddings("oof"), rtol=2e-3, atol=2e-3)
    assert np.abs(embeddings[0] - embeddings[1]).max() > 0.01
    written = (run.folder / "oof_hflip.parquet").stat().st_mtime_ns
    predict_views(run, Prepared(home.clean), "oof", VIEWS, CPU, LOG)
    assert (run.folder / "oof_hflip.parquet").stat().st_mtime_ns == written


def test_a_stacker_has_the_views_predicted_that_it_reads(home):
    run = Run("tiny/stage2/s", 0, home)
    values = {"members": ["tiny/stage1/a"], "stacker": "gru", "width": 8, "hidden": 8, "epochs": 1}
    own = parse_config(StackerConfig, values | {"views": ["vflip", "hflip"], "view_use": "draw"}, "s")
    train_stacker_fold(run, Prepared(home.clean), own, CPU, LOG, False)
    predict_test_studies(run, unlabelled_part(Prepared(home.clean)), CPU, LOG)
    for fold in (0, 1):
        member = Run("tiny/stage1/a", fold, home)
        for part in ("oof", "test"):
            for view in ("vflip", "hflip"):
                copy = member.predictions(f"{part}_{view}")
                assert copy.index.equals(member.predictions(part).index)
    assert len(run.predictions("test")) == 10


def test_a_view_that_the_network_cannot_take_is_refused(home):
    run, prepared = Run("tiny/stage1/stack", 0, home), Prepared(home.clean)
    write(run, ["0-0"])
    finish(run, SliceConfig(backbone="test_resnet", neighbours=(0, 1)), prepared)
    with pytest.raises(UserError, match=r"through the view reverse: .*needs the same neighbours on both"):
        predict_views(run, prepared, "oof", ["reverse"], CPU, LOG)


@pytest.fixture
def sources(tmp_path):
    """Studies 0 and 2 in fold 0, 1 and 3 in fold 1; the views are marked 1 and 3."""
    slices = table([3, 2, 4, 5])
    runs = [Run(MEMBER, fold, settings_below(tmp_path)) for fold in (0, 1)]
    for run in runs:
        own = [i for i in slices["image_id"] if int(i[0]) % 2 == run.fold]
        for view, mark in zip(VIEWS, (1.0, 3.0), strict=True):
            write(run, own, f"oof_{view}", mark=mark)
    return slices, {MEMBER: runs}


def test_side_by_side_views_are_like_members_each_out_of_fold(sources):
    slices, runs = sources
    inputs = StudyInputs(slices, runs, "oof", config(views=VIEWS))
    assert inputs.embedding_sizes == (4, 4) and len(inputs.copies) == 1
    for study in range(4):
        plain, flipped = inputs.study(study)["embeddings"]
        np.testing.assert_array_equal(plain[:, :2], flipped[:, :2])
        assert set(plain[:, 2]) == set(flipped[:, 2]) == {study % 2}  # the fold that held the study out
        assert set(plain[:, 3]) == {1} and set(flipped[:, 3]) == {3}
        logits = inputs.study(study)["logits"].reshape(-1, 2, 6)
        np.testing.assert_allclose(logits[:, 0, EPIDURAL], 0, atol=1e-6)
        np.testing.assert_allclose(logits[:, 1, EPIDURAL], 2, atol=1e-6)
    assert inputs.folds(np.arange(4)).tolist() == [[0, 0], [1, 1], [0, 0], [1, 1]]


def test_averaged_views_are_one_member(sources):
    slices, runs = sources
    inputs = StudyInputs(slices, runs, "oof", config(views=VIEWS, view_use="average"))
    (embeddings,) = inputs.study(2)["embeddings"]
    assert embeddings.dtype == np.float16
    assert embeddings.tolist() == [[2, i, 0, 2] for i in range(4)]
    mean = (0.5 + 1 / (1 + np.exp(-2))) / 2
    np.testing.assert_allclose(inputs.study(2)["logits"][:, EPIDURAL], np.log(mean / (1 - mean)), rtol=1e-5)


def test_averaged_views_must_be_of_the_same_slices(sources):
    slices, runs = sources
    write(runs[MEMBER][1], ["1-0", "1-1"], "oof_hflip")
    with pytest.raises(UserError, match=r"oof_hflip.parquet: holds other slices than oof_identity.parquet"):
        StudyInputs(slices, runs, "oof", config(views=VIEWS, view_use="average"))


def test_a_drawn_view_is_one_for_a_study_and_epoch_and_changes_between_epochs(sources):
    slices, runs = sources
    own = config(views=VIEWS, view_use="draw", batch_size=2, reverse=0.5)
    inputs = StudyInputs(slices, runs, "oof", own)
    assert inputs.embedding_sizes == (4,)
    batches, seen = StudyBatches(inputs, own), set()
    for epoch in range(20):
        for batch in batches.epoch(epoch):
            for row, mask in enumerate(batch["mask"].numpy()):
                (mark,) = set(batch["embeddings"][row, mask, 3].tolist())
                np.testing.assert_allclose(batch["logits"][row, mask, EPIDURAL], mark - 1, atol=1e-6)
                seen.add((batch["ids"][row], mark))
    assert len(seen) == 8  # four studies, two views
    again = [b["embeddings"] for b in StudyBatches(inputs, own).epoch(3, start=1)]
    assert torch.equal(again[0], list(batches.epoch(3))[1]["embeddings"])


def test_a_missing_slice_is_interpolated_in_every_copy(sources):
    slices, runs = sources
    slices = slices.assign(missing=slices["image_id"] == "2-2")
    inputs = StudyInputs(slices, runs, "oof", config(views=VIEWS, view_use="draw"))
    for copy, mark in enumerate((1, 3)):
        batch = collate(inputs, np.array([2]), copies=np.array([copy]))
        np.testing.assert_allclose(batch["logits"][0, :, EPIDURAL], mark - 1, atol=1e-6)
        np.testing.assert_allclose(batch["logits"][0, :, LABELS.index("any")], range(4), atol=1e-5)
        assert batch["embeddings"][0, :, 3].tolist() == [mark, mark, 0, mark]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"view_use": "draw", "views": ["hflip"]}, "draw: needs two views"),
        ({"view_use": "average"}, "average: needs two views"),
        ({"views": ["hflip", "hflip"]}, "one stands twice"),
        ({"views": VIEWS, "view_use": "draw", "stacker": "boosting", "inputs": ["logits"]}, "no effect"),
    ],
)
def test_views_that_would_do_nothing_are_refused(options, message):
    values = {"stacker": "lstm", "members": [MEMBER], **options}
    with pytest.raises(UserError, match=message):
        parse_config(StackerConfig, values, "s")
