"""The table of the systems with other targets: rows, paired claims and page, by hand."""

import numpy as np
import pandas as pd
import pytest

from src.audit import systems
from src.audit.system_tables.targets import score_targets, target_claims, target_page, target_rows
from src.data.prepared import Prepared
from src.data.target_labels import target_labels
from src.settings import load_settings
from src.targets import SITES, find_targets
from src.training.runs import Run
from src.training.slices.slice_config import SliceConfig
from tests.training.finished import finish
from tests.training.prepared import rewrite, write_clean, write_settings

TARGETS = find_targets("presence_and_location")
COST = {"parameters": 1234, "multiply_adds": 5_600_000}


@pytest.fixture
def settings(tmp_path):
    settings = load_settings(write_settings(tmp_path))
    write_clean(settings.clean, studies=16)

    def located(slices):
        bleeds = slices["any"].fillna(0).eq(1).to_numpy()
        place = np.cumsum(bleeds) % 3
        return slices.assign(**{site: (bleeds & (place == k)).astype(int) for k, site in enumerate(SITES)})

    rewrite(settings.clean, "slices.parquet", located)
    return settings


def write_run(settings, name, found, located, **options):
    """Fold 0 of a run that calls the first `found` of its 12 bleeding slices, and locates so many of them."""
    prepared = Prepared(settings.clean)
    folds = prepared.folds.set_index("patient_id")["fold"]
    patients = prepared.slices.set_index("image_id")["patient_id"]
    labels = target_labels(prepared, TARGETS, "image")
    own = labels[(patients.loc[labels.index].map(folds) == 0).to_numpy()]
    number = np.where(own["presence"] == 1, own["presence"].cumsum() - 1, np.inf)
    p = pd.DataFrame({"presence": np.where(number < found, 0.8, 0.2)}, own.index)
    for place, site in enumerate(SITES):
        called = np.where(number < located, own[site] == 1, own[SITES[place - 1]] == 1)
        p[site] = np.where(called, 0.6, 0.2)
    run = Run(name, 0, settings)
    run.save_predictions("oof", p)
    finish(run, SliceConfig(backbone="resnet18", targets="presence_and_location", **options), prepared)


def test_rows_claims_and_page(settings):
    write_run(settings, "dtvit/stage1/small_resnet", found=12, located=12)
    write_run(settings, "dtvit/stage1/small_presence", found=9, located=6)
    write_run(settings, "dtvit/stage1/small_leak_paper", found=12, located=12, split="slice")
    names = [f"dtvit/stage1/small_{name}" for name in ("resnet", "presence", "leak_paper")]
    members = score_targets(names, settings, Prepared(settings.clean), [0])
    rows = target_rows(members, settings, [0], lambda run: COST)
    first, second, leak = rows
    assert (first["rows"], first["patients"], first["training_seconds"]) == (30, 6, 1.0)
    assert second["shares"]["presence"]["recall"][0] == 9 / 12
    assert second["shares"]["presence"]["accuracy"][0] == 27 / 30
    assert second["shares"]["location"]["accuracy"][0] == 6 / 12
    assert leak["leak"].startswith("leaky: split by slice") and first["leak"] is None
    (claim,) = target_claims(members)  # of which both runs are there
    assert claim["claim"] == "two tasks find bleeding better than one" and claim["head"] == "presence"
    assert claim["recall"][0] == 3 / 12 and claim["accuracy"][0] == pytest.approx(3 / 30)
    assert claim["log_loss"][0] == pytest.approx(3 / 30 * (np.log(0.2) - np.log(0.8)))
    assert claim["recall"][1] >= 0
    page = "\n".join(target_page(rows, [claim]))
    assert "| dtvit/stage1/small_leak_paper (leaky) | 1,234 | 5.6 M | 1 | 30 | 6 |" in page
    assert "| dtvit/stage1/small_presence | 30 | 60.0% | 0.900 [" in page and "[[18, 0], [3, 9]]" in page
    assert "+0.250 [" in page


def test_a_head_that_a_run_did_not_learn_is_not_judged(settings):
    write_run(settings, "dtvit/stage1/small_location", found=3, located=9, presence_weight=0.0)
    members = score_targets(["dtvit/stage1/small_location"], settings, Prepared(settings.clean), [0])
    (row,) = target_rows(members, settings, [0], lambda run: COST)
    assert row["learned"] == ["location"]
    page = "\n".join(target_page([row], []))
    assert "| location | asked |" in page and "| presence | asked |" not in page


def test_a_paired_difference_of_a_run_with_itself_is_nothing(settings):
    for name in ("resnet", "presence", "location"):
        write_run(settings, f"dtvit/stage1/small_{name}", found=7, located=5)
    names = [f"dtvit/stage1/small_{name}" for name in ("resnet", "presence", "location")]
    for claim in target_claims(score_targets(names, settings, Prepared(settings.clean), [0])):
        assert claim["log_loss"] == claim["recall"] == claim["accuracy"] == [0, 0, 0]


def test_the_page_has_only_the_tables_there_are_runs_for():
    keys = ("rows", "claims", "study_rows", "study_claims", "target_rows", "target_claims")
    empty = {"synthetic": True, "folds": [0], "seeds": {"0": {key: [] for key in keys}}, "over_seeds": []}
    page = systems.page(empty)
    assert "SYNTHETIC" in page and "six labels" not in page and "Presence" not in page
