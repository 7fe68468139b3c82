"""What a run was made from: whatever changed is named, and an old result is never taken for a new one."""

import shutil

import pandas as pd
import pytest
from torch import nn

from src.data.prepared import Prepared
from src.errors import UserError
from src.files import read_json, write_json
from src.labels import LABELS
from src.training.provenance import check_alike, check_geometry, check_unchanged, is_done
from src.training.runs import Run
from src.training.slices.slice_config import SliceConfig
from src.training.studies.stacker_config import StackerConfig
from tests.training.finished import finish
from tests.training.prepared import rewrite, write_clean

CONFIG = SliceConfig(backbone="test_resnet")
TABLE = pd.DataFrame(0.5, ["a", "b"], list(LABELS))


@pytest.fixture
def run(settings):
    """A complete fold of a slice classifier."""
    return trained(Run("tiny/stage1/a", 0, settings))


def trained(run, config=CONFIG, **made_from):
    run.save_predictions("oof", TABLE)
    run.save_weights(nn.Linear(2, 2))
    finish(run, config, Prepared(run.settings.clean), **made_from)
    return run


def refused(run, config=CONFIG):
    """The message of `is_done`."""
    with pytest.raises(UserError) as error:
        is_done(run, config, Prepared(run.settings.clean))
    return str(error.value)


def test_metrics_json_marks_a_fold_complete(run):
    prepared = Prepared(run.settings.clean)
    assert is_done(run, CONFIG, prepared)
    (run.folder / "metrics.json").unlink()
    assert not is_done(run, CONFIG, prepared)


def test_a_complete_fold_of_another_configuration_is_not_taken_for_this_one(run):
    message = refused(run, CONFIG.model_copy(update={"lr": 1.0, "epochs": 9}))
    assert "another configuration (epochs: 4, asked 9; lr: 0.0003, asked 1.0)" in message
    same = CONFIG.model_copy(update={"notes": "a remark", "checkpoint_steps": 7})
    assert is_done(run, same, Prepared(run.settings.clean))


def test_a_key_that_a_run_does_not_know_has_its_default(run):
    """A run trained before the key was added stays complete."""
    path = run.folder / "config.json"
    values = read_json(path)
    del values["drop_path"]
    write_json(path, values)
    assert is_done(run, CONFIG, Prepared(run.settings.clean))
    assert "drop_path: 0.0, asked 0.5" in refused(run, CONFIG.model_copy(update={"drop_path": 0.5}))


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("slices.parquet", lambda slices: slices.assign(subdural=slices["subdural"] * 0)),
        ("slices.parquet", lambda slices: slices.replace({"pixel_hash": {"0-0": "other"}})),
        ("slices.parquet", lambda slices: slices.drop(index=0)),
        ("folds.csv", lambda folds: folds.assign(fold=1 - folds["fold"])),
    ],
)
def test_a_complete_fold_of_other_data_is_refused_and_not_to_be_deleted(run, file, change):
    """Labels, pixels, images and folds are what training depends on."""
    rewrite(run.settings.clean, file, change)
    message = refused(run)
    assert "was trained on other prepared data than" in message and "under a new name" in message
    assert "delete" not in message


def test_what_training_does_not_read_leaves_a_run_valid(run):
    def grown(slices):
        slices.loc[slices["image_id"] == "image07_4", "status"] = "quarantined"  # of the test part
        new = slices[slices["study_id"] == "study06"].assign(study_id="new", patient_id="new")
        moved = slices.assign(volume="other.pack", volume_index=slices["volume_index"] + 5)
        return pd.concat([moved, new.assign(image_id=[f"new_{n}" for n in range(len(new))])])

    rewrite(run.settings.clean, "slices.parquet", grown)
    assert is_done(run, CONFIG, Prepared(run.settings.clean))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": 32}, "size 64, here 32"),
        ({"crop": True}, "crop False, here True"),
        ({"remove_holder": True, "correct_tilt": True}, "remove_holder False, here True; correct_tilt False"),
    ],
)
def test_slices_of_another_geometry_are_refused_with_the_remedy(run, tmp_path, change, said):
    write_clean(tmp_path / "other")
    path = tmp_path / "other/manifest.json"
    manifest = read_json(path)
    write_json(path, manifest | {"settings": manifest["settings"] | change})
    with pytest.raises(UserError) as error:
        check_geometry(run, Prepared(tmp_path / "other"))
    assert f"prepared with {said}" in str(error.value) and "delete" not in str(error.value)
    assert "prepare these data the same way in a folder of their own" in str(error.value)


def test_gray_levels_are_no_hounsfield_units(run, tmp_path):
    write_clean(tmp_path / "gray")
    rewrite(tmp_path / "gray", "slices.parquet", lambda slices: slices.assign(units="gray"))
    with pytest.raises(UserError, match="units hu, here gray"):
        check_geometry(run, Prepared(tmp_path / "gray"))


def test_data_prepared_elsewhere_in_the_same_way_have_the_same_geometry(run, tmp_path):
    write_clean(tmp_path / "elsewhere", studies=5, slices=3)
    check_geometry(run, Prepared(tmp_path / "elsewhere"))


def test_a_folder_copied_under_another_name_is_told(run):
    for name, fold in (("tiny/stage1/b", 0), ("tiny/stage1/a", 1)):
        copy = Run(name, fold, run.settings)
        shutil.copytree(run.folder, copy.folder)
        with pytest.raises(UserError, match=f"fold{fold}: is a copy of tiny/stage1/a/fold0; delete it"):
            check_unchanged(copy)


def test_a_complete_fold_that_lost_a_file_names_it_and_the_command(run):
    (run.folder / "model.safetensors").unlink()
    command = f"python train_stage1.py experiments/tiny/stage1/a.json --fold 0{run.settings.flag}"
    assert refused(run) == (
        f"{run.folder / 'model.safetensors'}: missing, though the fold is complete; delete {run.folder} and "
        f"run: {command}"
    )


def test_a_weights_file_that_changed_is_named(settings, tmp_path):
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"one")
    run = trained(Run("tiny/stage1/w", 0, settings), weights=[weights])
    assert is_done(run, CONFIG, Prepared(settings.clean))
    weights.write_bytes(b"two")
    assert f"what it was trained from has changed since ({weights}); delete that folder" in refused(run)
    weights.unlink()  # it was read, and is needed no more
    assert is_done(run, CONFIG, Prepared(settings.clean))


@pytest.mark.parametrize("how", ["trained again", "gone"])
def test_an_input_run_that_is_another_or_gone_is_named(run, settings, how):
    stacker = StackerConfig(stacker="lstm", members=("tiny/stage1/a",))
    stacked = trained(Run("tiny/stage2/s", 0, settings), stacker, inputs=[run])
    assert is_done(stacked, stacker, Prepared(settings.clean))
    if how == "gone":
        shutil.rmtree(run.folder)
    else:
        trained(run, CONFIG.model_copy(update={"epochs": 9}))
    message = refused(stacked, stacker)
    assert "s/fold0: what it was trained from has changed since (tiny/stage1/a/fold0); delete" in message


def test_the_same_training_again_changes_nothing_for_what_reads_it(run, settings):
    stacker = StackerConfig(stacker="lstm", members=("tiny/stage1/a",))
    stacked = trained(Run("tiny/stage2/s", 0, settings), stacker, inputs=[run])
    weights = (run.folder / "model.safetensors").read_bytes()
    shutil.rmtree(run.folder)
    run.save_predictions("oof", TABLE)
    (run.folder / "model.safetensors").write_bytes(weights)
    finish(run, CONFIG, Prepared(settings.clean))
    assert is_done(stacked, stacker, Prepared(settings.clean))


def test_folds_of_one_run_with_different_configurations_are_refused_by_key(run, settings):
    other = trained(Run("tiny/stage1/a", 1, settings), CONFIG.model_copy(update={"notes": "later"}))
    check_alike([run, other])
    trained(other, CONFIG.model_copy(update={"epochs": 1, "checkpoint_steps": 7}))
    with pytest.raises(UserError) as error:
        check_alike([run, other])
    said = "tiny/stage1/a: folds 0 and 1 were trained with different configurations (epochs 4, 1); delete one"
    assert str(error.value).startswith(said)


def test_a_run_of_an_older_version_says_so(run):
    path = run.folder / "metrics.json"
    values = read_json(path)
    del values["made_from"]
    write_json(path, values)
    assert "metrics.json: of an older version of this program" in refused(run)
