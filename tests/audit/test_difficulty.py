"""Training sets of several sizes: nested, apart from the test part, scored against one baseline."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.audit import difficulty
from src.audit.difficulty import choose_patients, link_set, read_set, score
from src.data.phantom import generate
from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.prepared import Prepared
from src.errors import UserError
from src.evaluation.metrics import prevalence
from src.files import write_json, write_parquet
from src.labels import LABELS
from src.settings import load_settings


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("difficulty") / "raw"
    generate(folder, studies=16, seed=3, size=64, slices=8)
    return folder


def test_choices_are_nested_and_leave_out_patients_of_the_test_part(raw):
    headers, _ = read_set(raw)
    test = set(headers.loc[headers["split"] == "test", "patient_id"])
    train = headers[headers["split"] == "train"]
    assert test & set(train["patient_id"])  # as in the contest, some patients are in both parts
    chosen = {studies: set(choose_patients(headers, studies)) for studies in (3, 5, 8)}
    assert chosen[3] < chosen[5] < chosen[8] and not chosen[8] & test
    for studies, patients in chosen.items():
        found = train.loc[train["patient_id"].isin(patients), "study_id"].nunique()
        assert studies <= found <= studies + 3  # a patient stays whole
    with pytest.raises(UserError, match=r"--studies 400: 1[0-9] training studies are there"):
        choose_patients(headers, 400)


def test_a_part_of_links_is_prepared_like_any_data_set(raw, tmp_path):
    headers, labels = read_set(raw)
    chosen = headers["patient_id"].isin(choose_patients(headers, 5)) & (headers["split"] == "train")
    test = headers[headers["split"] == "test"]
    link_set(tmp_path / "raw", {"train": headers[chosen], "test": test}, labels["train"])
    prepare(tmp_path / "raw", tmp_path / "clean", Options(size=256, folds=2))
    slices = Prepared(tmp_path / "clean").slices.set_index("image_id")
    assert set(slices.index[slices["split"] == "train"]) == set(headers.index[chosen])
    assert set(slices.index[slices["split"] == "test"]) == set(test.index)
    found = slices[slices["split"] == "train"][list(LABELS)].astype(int).sort_index()
    assert found.equals(labels["train"].loc[found.index].astype(int))


def test_a_set_without_hidden_labels_is_refused(tmp_path):
    (tmp_path / "stage_2_train.csv").write_text("ID,Label\n")
    with pytest.raises(UserError, match=r"demo_test_labels\.csv: missing; generate"):
        read_set(tmp_path)


def test_scores_are_ratios_to_the_given_prevalence(tmp_path):
    names = ("RAW_DATA_DIR", "CLEAN_DATA_DIR", "MODEL_DIR", "CHECKPOINT_DIR", "LOGS_DIR", "SUBMISSION_DIR")
    write_json(tmp_path / "S.json", {name: name for name in names})
    settings = load_settings(tmp_path / "S.json")
    ids = pd.Index([f"i{k}" for k in range(40)], name="image_id")
    positive = np.arange(40)[:, None] % 4 == 0
    labels = pd.DataFrame(np.repeat(positive, 6, axis=1), ids, list(LABELS)).astype(int)
    patients = pd.Series(np.repeat(np.arange(20), 2).astype(str), ids)
    base = prevalence(labels)
    tables = {"stage1/a": labels * 0.0 + base, "stage2/b": labels * 0.4 + 0.3}  # prevalence; .7 and .3
    for name, table in tables.items():
        for fold in (0, 1):
            folder = settings.models / "exp" / name / f"fold{fold}"
            write_parquet(
                folder / "test.parquet", table.astype("float32").rename_axis("image_id").reset_index()
            )
            write_json(folder / "metrics.json", {})
    first, second = score(settings, "exp", labels, patients, base)
    assert first["run"] == "exp/stage1/a" and first["ratio"] == pytest.approx([1, 1, 1])
    assert first["labels"]["any"] == {"positives": 10, "ratio": pytest.approx(1), "auc": [0.5, 0.5, 0.5]}
    expected = np.log(0.7) / (0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert second["ratio"][0] == second["of_stage1"][0] == pytest.approx(expected)
    assert second["labels"]["epidural"]["auc"][0] == 1


def test_two_sets_with_an_image_in_common_are_refused(raw, tmp_path, monkeypatch):
    file = tmp_path / "S.json"
    keys = ("RAW_DATA_DIR", "CLEAN_DATA_DIR", "MODEL_DIR", "CHECKPOINT_DIR", "LOGS_DIR", "SUBMISSION_DIR")
    write_json(file, {key: str(raw) for key in keys})
    arguments = ["experiments/realistic/stage1/efficientnet.json", "--settings", str(file), "--studies", "4"]
    arguments += ["--also", str(raw), "--out", str(tmp_path / "out.json")]
    monkeypatch.setattr(sys, "argv", ["difficulty", *arguments])
    with pytest.raises(UserError, match="is in another set too"):
        difficulty.main()
