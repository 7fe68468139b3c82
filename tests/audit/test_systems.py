"""The command behind `make systems`: what it trains in which order, and what several seeds are."""

import subprocess
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from src.audit import systems
from src.audit.system_tables import labels as label_tables
from src.audit.system_tables.labels import CLAIMS, PUBLISHED, _cells, label_claims, label_page, label_row
from src.audit.system_tables.seeds import over_seeds, seeds_page, settings_of
from src.audit.systems import SYSTEMS, configurations, name_of, page, train_all
from src.config import read_values
from src.data.prepared import Prepared
from src.errors import UserError
from src.evaluation.metrics import weighted_log_loss
from src.files import write_json
from src.labels import LABELS
from src.settings import load_settings
from src.training.runs import Run, runs_read
from tests.training.prepared import write_clean, write_settings

FIRST, SECOND = "x/stage1/small_a", "x/stage1/small_b"
LEAK = "leaky: split by series; a patient may be in training and held-out"
INTERVAL = [0.1, 0.05, 0.2]
ROW = {
    "run": "kaggle_12th/stage2/small_conv", "leak": None, "parameters": 1234, "training_seconds": 8.4,
    "accuracy": 0.9567, "accuracy_all_negative": 0.9, "slices": 1218, "studies": 41, "patients": 40,
    "baseline": 0.2992, "weighted_log_loss": INTERVAL, "auc_any": INTERVAL, "auc_macro": INTERVAL,
    "study_auc_any": INTERVAL,
}  # fmt: skip


@pytest.fixture
def settings(tmp_path):
    settings = load_settings(write_settings(tmp_path))
    write_clean(settings.clean, studies=8)
    return settings


@pytest.fixture
def trained(monkeypatch):
    """The commands that were run."""
    commands = []

    def note(command, **_):
        commands.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(systems.subprocess, "run", note)
    return commands


def trained_name(command):
    return name_of(Path(command[2]))


def flags(command, name):
    return [command[k + 1] for k, flag in enumerate(command) if flag == name]


def arguments(**values):
    return Namespace(**{"folds": [0], "jobs": 1, "overrides": [], **values})


def test_every_claim_is_about_runs_that_are_trained_each_after_what_it_reads():
    paths = configurations(SYSTEMS)
    names = [name_of(path) for path in paths]
    assert {name for better, reference, _ in CLAIMS for name in (better, reference)} <= set(names)
    for place, path in enumerate(paths):
        assert set(runs_read(read_values(path))) <= set(names[:place]), path
    assert {name.split("/")[0] for name in names} == set(SYSTEMS) > set(PUBLISHED)


def test_a_member_of_a_stacker_is_trained_on_every_fold_and_all_else_on_those_asked_for(settings, trained):
    train_all(configurations(["resnext_pca_bilstm"]), settings, 0, arguments())
    names = [trained_name(command) for command in trained]
    known = Prepared(settings.clean).folds["fold"].nunique()
    assert names.count("resnext_pca_bilstm/stage1/small_half") == known > 1
    assert names.count("resnext_pca_bilstm/stage1/small_full") == 1
    assert not any("--set" in command for command in trained)


def test_each_run_that_ends_is_told(settings, trained, caplog):
    caplog.set_level("INFO", "ich")
    train_all(configurations(["cnn_lstm"]), settings, 0, arguments())
    assert [message.split(":")[0] for message in caplog.messages] == ["1 of 3", "2 of 3", "3 of 3"]
    assert any(message.endswith(": cnn_lstm/stage1/small_lstm fold 0") for message in caplog.messages)


def test_a_seed_is_added_to_that_of_the_configuration_and_pixels_options_go_to_stage_1(settings, trained):
    own = settings_of(settings, 2)
    paths = configurations(["scopeformer", "resnext_pca_bilstm"])
    train_all(paths, own, 2, arguments(overrides=['windows=["gray"]']))
    by_name = {trained_name(command): flags(command, "--set") for command in trained}
    assert by_name["scopeformer/stage1/small_trunk_resnet"] == ['windows=["gray"]', "seed=200"]
    assert by_name["scopeformer/stage1/small_trunk_resnet_seed1"] == ['windows=["gray"]', "seed=201"]
    assert by_name["resnext_pca_bilstm/stage2/small_pca"] == ["seed=200"]
    assert {*flags(trained[0], "--settings")} == {str(own.file)}


def test_seeds_have_folders_of_their_own_that_a_settings_file_names(settings):
    assert settings_of(settings, 0) == settings
    own = settings_of(settings, 3)
    assert load_settings(own.file) == own and own.clean == settings.clean
    assert own.models == settings.models / "seeds" / "3"


def test_a_failure_starts_nothing_more_and_is_named(settings, monkeypatch):
    started = []

    def fail(command, **_):
        started.append(command)
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(systems.subprocess, "run", fail)
    with pytest.raises(UserError, match=r"cnn_lstm/stage1/small_2d fold 0.*the reason stands above"):
        train_all(configurations(["cnn_lstm"]), settings, 0, arguments())
    assert len(started) <= 2  # one may have begun before the first was seen to fail


def test_rows_and_claims_are_of_the_held_out_slices(settings, monkeypatch):
    prepared = Prepared(settings.clean)
    held_out = prepared.folds.query("fold == 0")["patient_id"]
    slices = prepared.slices[prepared.slices["patient_id"].isin(held_out) & prepared.slices["any"].notna()]
    labels = slices.set_index("image_id")[list(LABELS)].astype("int8")
    near, far = (labels * (1 - 2 * p) + p for p in (0.1, 0.3))
    Run(FIRST, 0, settings).save_predictions("oof", near)
    write_json(Run(FIRST, 0, settings).folder / "config.json", {"split": "series"})
    Run(SECOND, 0, settings).save_predictions("oof", far.iloc[::-1])
    monkeypatch.setattr(label_tables, "CLAIMS", ((FIRST, SECOND, "near beats far"),))
    monkeypatch.setattr(label_tables, "cost", lambda run, prepared: {"parameters": 7})
    monkeypatch.setattr(Run, "metrics", lambda run: {"seconds": 3.0})
    row = label_row(FIRST, settings, prepared, [0])
    assert (
        row["weighted_log_loss"][0]
        == pytest.approx(weighted_log_loss(labels, near))
        == pytest.approx(-np.log(0.9))
    )
    assert (row["slices"], row["accuracy"], row["training_seconds"]) == (len(labels), 1.0, 3.0)
    assert row["leak"] == LEAK
    (claim,) = label_claims(settings, prepared, [0], {FIRST, SECOND})
    assert claim["difference"] == pytest.approx([np.log(0.7 / 0.9)] * 3) and claim["answer"] == "yes"
    assert label_claims(settings, prepared, [0], {FIRST}) == []


def result(*differences):
    claims = [
        {"claim": "c", "run": FIRST, "reference": SECOND, "difference": list(d), "answer": ""}
        for d in differences
    ]
    return {"claims": claims, "study_claims": [], "target_claims": []}


def test_claims_over_seeds_have_mean_range_and_counts():
    rows = over_seeds([result((-0.2, -0.3, -0.1)), result((0.1, -0.1, 0.3)), result((0.4, 0.1, 0.7))])
    (line,) = [text for text in "\n".join(seeds_page(rows, [0, 1, 2])).splitlines() if "| c |" in text]
    assert line == (
        f"| c | {FIRST} | {SECOND} | weighted log loss | +0.1000 | -0.2000 to +0.4000 | 1 of 3 | 1 of 3 |"
    )


def test_the_page_names_folds_and_seeds():
    empty = {
        key: [] for key in ("rows", "claims", "study_rows", "study_claims", "target_rows", "target_claims")
    }
    text = page({"synthetic": False, "folds": [0, 2], "seeds": {"0": empty, "1": empty}, "over_seeds": []})
    assert "Folds 0, 2, seeds 0, 1." in text and "SYNTHETIC" not in text


def test_a_row_ends_with_the_published_score_of_its_system():
    auc = "0.100 [0.050, 0.200]"
    loss = "0.1000 [0.0500, 0.2000]"
    assert _cells(ROW) == [ROW["run"], "1,234", "", "8", "", loss, auc, auc, auc, "95.67%", ".0473"]
    assert _cells(ROW | {"run": "dtvit/stage1/small_vit"})[-1] == ""


def test_a_leaky_row_says_so_and_of_what_its_score_is():
    leaky = ROW | {"run": "resnext_pca_bilstm/stage1/small_code", "leak": LEAK, "slices": 1300}
    lines = label_page([leaky, ROW], [])
    assert lines[2].startswith("1,218 held-out slices of 41 studies")  # of the others, in whatever order
    text = "\n".join(lines)
    assert "| resnext_pca_bilstm/stage1/small_code (leaky) |" in text and "small_conv (leaky)" not in text
    (said,) = [line for line in lines if line.startswith("resnext_pca_bilstm/stage1/small_code is leaky")]
    assert said == (
        f"resnext_pca_bilstm/stage1/small_code is {LEAK}. Its score is of 1,300 other held-out slices "
        "(prevalence baseline 0.2992): not to be compared with its neighbours."
    )
    assert not any("leaky" in line for line in label_page([ROW], []))


def test_the_size_of_trees_is_their_number_of_leaves(settings):
    run = Run("x/stage2/small_boosting", 0, settings)
    run.folder.mkdir(parents=True)
    trees = "Tree=0\nnum_leaves=28\n\nTree=1\nnum_leaves=29\n\nparameters:\n[num_leaves: 30]\n"
    (run.folder / "model.txt").write_text(trees)
    assert label_tables.cost(run, Prepared(settings.clean)) == {"parameters": 57}
