"""The `realistic` preset has the numbers of the contest; families and `--epidural` do what they say."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from src.audit.phantom_statistics import (
    compare,
    label_statistics,
    run_statistics,
    sample_slices,
    scan_statistics,
)
from src.audit.statistic_targets import TARGETS
from src.data.phantom import generate, prepare_preset
from src.errors import UserError
from src.files import read_json
from src.labels import LABELS, SUBTYPES
from src.phantom import contest
from src.phantom.family import FAMILIES, find_family
from src.phantom.plan import PRESETS, epidural_share, make_plan
from src.phantom.study import draw_study, label_study, paint_study

REALISTIC = PRESETS["realistic"]
STUDIES = 150
SMALL_SET = 2.5  # a set of 150 studies may stray from the tolerances for 2,000 by this factor


@pytest.fixture(scope="module")
def slices() -> pd.DataFrame:
    return sample_slices(REALISTIC, STUDIES, seed=3)


@pytest.fixture(scope="module")
def plans() -> list:
    return make_plan(REALISTIC, 4000, seed=2, size=64, slices=None)


def outside(table: pd.DataFrame) -> pd.DataFrame:
    return table[(table["generated"] - table["contest"]).abs() > SMALL_SET * table["tolerance"]]


# labels


def test_labels_and_scans_of_a_small_realistic_set_are_near_the_contest(slices):
    table = compare(slices)
    common = table[~table.index.str.contains("epidural")]  # two or three studies of 150
    assert len(outside(common)) <= 0.04 * len(common), outside(common).to_string()


def test_the_demo_preset_would_not_pass_for_the_contest():
    table = compare(sample_slices(PRESETS["demo"], 40, seed=3).fillna(0))
    assert len(outside(table)) > 0.2 * len(table)


def test_every_planned_label_occurs_in_nearly_every_study(slices):
    found = slices.groupby("study_id")[list(SUBTYPES)].max()
    planned = pd.DataFrame(
        {
            plan.study_id: [label in plan.recipe for label in SUBTYPES]
            for plan in make_plan(REALISTIC, STUDIES, 3, 128, None)
        },
        index=SUBTYPES,
    ).T.loc[found.index]
    assert not (found.astype(bool) & ~planned).any().any()
    assert found.to_numpy().sum() > 0.93 * planned.to_numpy().sum()


def test_a_study_is_labelled_without_its_images_as_with_them():
    plan = next(plan for plan in make_plan(REALISTIC, 40, 1, 64, None) if len(plan.recipe) > 1)
    pd.testing.assert_frame_equal(
        label_study(plan, REALISTIC, draw_study(plan, REALISTIC)), paint_study(plan, REALISTIC).slices
    )


def test_runs_are_counted_by_hand():
    studies = {"a": [0, 1, 1, 0, 1], "b": [1, 0, 0], "c": [0, 0], "d": [1, 1, 1, 1]}
    rows = [(study, value) for study, values in studies.items() for value in values]
    found = run_statistics(pd.DataFrame(rows, columns=["study_id", "any"]), "any")
    assert found["any: runs a positive study"] == pytest.approx(4 / 3)  # lengths 2, 1 | 1 | 4
    assert found["any: positive studies with one run"] == pytest.approx(2 / 3)
    assert found["any: mean length of a run"] == 2
    assert found["any: runs of one slice"] == 0.5
    assert found["any: slices a positive study"] == pytest.approx(8 / 3)


# plan


def test_sets_of_subtypes_have_the_shares_of_the_contest(plans):
    found, shares = Counter(plan.recipe for plan in plans), dict(contest.RECIPES)
    for recipe, count in shares.items():
        assert found[recipe] / len(plans) == pytest.approx(count / sum(shares.values()), abs=2 / len(plans))


def test_padded_scanners_bleed_less_and_test_has_fewer_of_them(plans):
    table = pd.DataFrame(
        {"padded": plan.site.padded, "any": bool(plan.recipe), "split": plan.split} for plan in plans
    )
    share = table.groupby("split")["padded"].mean()
    assert share["train"] == pytest.approx(0.40, abs=0.005) and share["test"] == pytest.approx(
        0.306, abs=0.005
    )
    bleeds = table[table["split"] == "train"].groupby("padded")["any"].mean()
    assert bleeds[True] / bleeds[False] == pytest.approx(0.0795 / 0.186, abs=0.01)
    assert table["any"].mean() == pytest.approx(0.41, abs=0.005)


def test_scanners_have_the_shares_of_the_contest(plans):
    sites = [plan.site for plan in plans if plan.split == "train"]
    found = pd.Series([(s.bits, s.signed, s.intercept) for s in sites]).value_counts(normalize=True)
    for triple, share in (
        ((16, True, -1024), 0.550),
        ((12, False, -1024), 0.434),
        ((12, False, -1000), 0.009),
    ):
        assert found[triple] == pytest.approx(share, abs=0.01)
    assert {(16, True, 0), (12, True, 0)} <= set(found.index)


def test_patients_have_as_many_studies_as_in_the_contest(plans):
    table = pd.DataFrame(
        {"patient": plan.patient_id, "split": plan.split, "any": bool(plan.recipe)} for plan in plans
    )
    train, test = table[table["split"] == "train"], table[table["split"] == "test"]
    sizes = train.groupby("patient").size()
    assert (sizes > 1).mean() == pytest.approx(0.0899, abs=0.01) and sizes.max() <= 15
    assert test["patient"].drop_duplicates().isin(sizes.index).mean() == pytest.approx(0.133, abs=0.01)
    pairs = train[train["patient"].map(sizes) == 2].groupby("patient")["any"].sum()
    assert (pairs == 1).mean() == pytest.approx(0.1025, abs=0.06)  # by chance: .48


def test_planning_takes_time_in_proportion_to_the_studies():
    """No step looks at all studies for each study: names, dealing and sharing are single passes."""
    plans = make_plan(REALISTIC, 25272, seed=1, size=64, slices=None)
    assert len({plan.study_id for plan in plans}) == 25272


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_small_sets_of_any_kind_can_be_planned(preset):
    for studies in range(4, 24):
        for epidural in (None, 0.95):
            plans = make_plan(prepare_preset(preset, studies, epidural), studies, studies, 64, None)
            patients = Counter(plan.patient_id for plan in plans if plan.split == "train")
            assert len(plans) == studies and max(patients.values()) > 1


# scans


def test_thin_slices_at_the_base_have_their_own_thickness():
    for plan in make_plan(REALISTIC, 40, 1, 64, None):
        acquisition = draw_study(plan, REALISTIC).acquisition
        steps = np.diff(acquisition.heights)
        if "zero_step" not in plan.faults and steps.min() < 4.0:
            break
    base = int((steps < 4.0).sum())
    assert base >= 8 and (steps[:base] == 2.5).all() and (steps[base:] == 5.0).all()
    assert (acquisition.thickness[1:] == steps).all() and acquisition.thickness[0] == 2.5


def test_no_study_exceeds_sixty_slices_even_with_repeated_positions():
    for number, plan in enumerate(make_plan(REALISTIC, 60, 1, 64, None)):
        longest = replace(plan.site, protocols=((32, 27, 1),)) if number % 2 else plan.site
        acquisition = draw_study(replace(plan, site=longest, faults={"zero_step": 0}), REALISTIC).acquisition
        assert 20 <= acquisition.slices <= 60
        assert 4 <= (np.diff(acquisition.heights) == 0).sum() <= 12
        assert (acquisition.thickness > 0).all()


# flags


def test_epidural_raises_its_share_and_leaves_the_others_their_proportions():
    raised = prepare_preset("realistic", epidural=0.2)
    assert epidural_share(REALISTIC) == pytest.approx(0.016, abs=1e-3)
    assert epidural_share(raised) == pytest.approx(0.2)
    before, after = dict(REALISTIC.recipes), dict(raised.recipes)
    assert after["subdural",] / after["intraparenchymal",] == pytest.approx(1371 / 1086)
    assert after["epidural",] / after["epidural", "subdural"] == pytest.approx(82 / 32)
    assert set(before) == set(after)
    none = [plan.recipe for plan in make_plan(prepare_preset("demo", epidural=0.0), 50, 1, 64, None)]
    assert not any("epidural" in recipe for recipe in none)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_an_impossible_share_is_refused(share):
    with pytest.raises(UserError, match="--epidural"):
        prepare_preset("demo", epidural=share)


def test_every_training_patient_can_have_several_studies():
    plans = make_plan(prepare_preset("demo", studies_per_patient=4), 40, 1, 64, None)
    patients = Counter(plan.patient_id for plan in plans if plan.split == "train")
    assert sorted(patients.values()) == [3, *[4] * 7] and len(plans) == 40
    with pytest.raises(UserError, match="--studies-per-patient 1: give 2 or more"):
        prepare_preset("demo", studies_per_patient=1)


def test_standard_and_zero_are_the_preset_itself():
    assert prepare_preset("realistic", "standard") == prepare_preset("realistic", 0) == REALISTIC


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_the_elderly_have_wider_ventricles_and_smaller_bleeds(preset):
    ventricles, sizes = {}, {}
    for family in ("standard", "elderly"):
        statistics = prepare_preset(preset, family)
        studies = [
            draw_study(replace(plan, recipe=("intraparenchymal",)), statistics)
            for plan in make_plan(statistics, 60, 1, 64, 10)
        ]
        ventricles[family] = np.mean([study.head.ventricle for study in studies])
        sizes[family] = np.median([study.bleeds[0].radii.max() for study in studies])
    assert ventricles["elderly"] > 1.1 * ventricles["standard"]
    assert sizes["elderly"] < 0.95 * sizes["standard"]


def test_a_numbered_family_is_its_own_and_always_the_same():
    assert find_family("7") == find_family(7)
    assert len({repr(find_family(number)) for number in range(1, 20)}) == 19
    for number in range(1, 20):
        preset = find_family(number).adapt(REALISTIC)
        assert all(0 < share <= 0.95 for share in preset.padded)
        make_plan(preset, 20, 1, 64, None)


@pytest.mark.parametrize("name", ["martians", "-1", "1.5"])
def test_an_unknown_family_is_refused_with_those_that_exist(name):
    with pytest.raises(UserError, match=", ".join(FAMILIES)):
        find_family(name)


def test_the_manifest_says_which_family_and_how_much_epidural(tmp_path):
    generate(
        tmp_path / "raw",
        studies=4,
        seed=1,
        preset="realistic",
        size=64,
        slices=8,
        family="elderly",
        epidural=0.25,
    )
    manifest = read_json(tmp_path / "raw" / "phantom.json")
    assert manifest["asked"]["family"] == "elderly" and manifest["asked"]["epidural"] == 0.25
    assert "25.0% of the studies (RSNA: 1.6%)" in manifest["remark"]
    with pytest.raises(UserError, match="holds another"):
        generate(tmp_path / "raw", studies=4, seed=1, preset="realistic", size=64, slices=8, epidural=0.25)


# the contest's tables


def test_targets_are_those_of_the_contests_tables(realdata):
    found = contest_statistics(realdata / "rsna2019_tables")
    for name, value in found.items():
        assert TARGETS[name][0] == pytest.approx(value, abs=1e-3 * max(1, abs(value))), name
    assert len(found) > 0.85 * len(TARGETS)


def test_sets_of_subtypes_are_those_of_the_contests_table(realdata):
    table = pd.read_csv(realdata / "rsna2019_tables" / "stage1_train_studies_folds_labels.csv.xz")
    counts = table.groupby(list(SUBTYPES)).size()
    recipes = {
        tuple(label for label, has in zip(SUBTYPES, key, strict=True) if has): n for key, n in counts.items()
    }
    assert recipes == dict(contest.RECIPES)
    sizes = table.groupby("PatientID").size().value_counts().to_dict()
    assert sizes == contest.STUDIES_PER_PATIENT[0]


def contest_statistics(folder) -> dict[str, float]:
    """What the tables at hand say of TARGETS: all but the scanners' shares."""
    images = pd.read_csv(folder / "stage2_train_labels_wide.csv.xz")
    studies = pd.read_csv(folder / "stage1_train_studies_folds_labels.csv.xz")
    scans = pd.read_csv(folder / "stage1_test_slices_meta_labels.csv.xz")
    names = {"StudyInstanceUID": "study_id"}
    scans = scans[scans["cos_tilt"] > 0.5].rename(columns=names)  # one study lies on its side
    scans["height_mm"] = scans["z"] * scans["cos_tilt"]
    scans["tilt_deg"] = np.rad2deg(np.arccos(scans["cos_tilt"].clip(-1, 1)))
    window = scans["WindowCenter"].astype(str) + "/" + scans["WindowWidth"].astype(str)
    scans["padded"] = window.isin(["30/80", "35/100"])
    scans = scans.sort_values(["study_id", "height_mm", "Image"], ignore_index=True)
    found = label_statistics(images, "slices") | label_statistics(studies, "studies")
    for label in LABELS:
        found |= run_statistics(scans, label)
    found |= scan_statistics(scans)
    count = pd.read_csv(folder / "stage2_test_image_to_series.csv.xz").groupby("SeriesInstanceUID").size()
    found["slices a study, mean"] = count.mean()
    for percent in (5, 50, 95, 99, 100):
        found[f"slices a study, {percent} %"] = count.quantile(percent / 100)
    patients = studies.groupby("PatientID").size()
    found["train patients with several studies"] = (patients > 1).mean()
    found["train patients with three studies or more"] = (patients > 2).mean()
    pairs = studies[studies["PatientID"].map(patients) == 2].groupby("PatientID")["any"].sum()
    found["train pairs of studies of which one bleeds"] = (pairs == 1).mean()
    return found
