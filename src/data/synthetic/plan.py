"""Who is in the synthetic data set: patients, studies, their bleeds, their faults and their names.

The plan is cheap, complete and deterministic, so that studies can be painted in any order by any number of
processes. Everything about a study follows from two seeds, its patient's and its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...errors import UserError

Recipe = tuple[str, ...]


@dataclass(frozen=True)
class Preset:
    """The statistics of a data set."""

    name: str
    slices: tuple[int, int]  # least and most slices a study
    recipes: tuple[tuple[Recipe, float], ...]  # labels that occur together, share of studies
    hard: float  # share of bleeds that are either small or faint
    mimics: float  # frequency of mimics, 1 as in the elderly
    noise: tuple[float, float]  # standard deviation in HU
    streaks: float  # strength of beam hardening between the petrous bones, HU
    label_ml: float  # a label is true when the slice holds at least this volume of that blood
    test: float  # share of studies
    repeat: float  # share of studies that are a further study of another one's patient
    duplicates: int  # images whose label rows occur twice
    blank: int  # images without content
    zero_step: float  # share of training studies with repeated positions, at least one
    wrap: int  # training studies with the 12-bit wrap, intercept 0 and 1 in turn


_DEMO_RECIPES = (
    ((), 0.49),
    (("epidural",), 0.095),
    (("epidural", "subarachnoid"), 0.01),
    (("epidural", "subdural"), 0.01),
    (("subdural",), 0.05),
    (("subdural", "subarachnoid"), 0.02),
    (("subdural", "intraparenchymal"), 0.015),
    (("intraparenchymal",), 0.085),
    (("intraparenchymal", "intraventricular"), 0.055),
    (("intraparenchymal", "intraventricular", "subarachnoid"), 0.015),
    (("intraventricular",), 0.055),
    (("intraventricular", "subarachnoid"), 0.02),
    (("subarachnoid",), 0.08),
)

PRESETS = {
    # Enriched: half of the studies bleed, epidural as often as the others; most bleeds are conspicuous.
    "demo": Preset(
        name="demo",
        slices=(20, 34),
        recipes=_DEMO_RECIPES,
        hard=0.06,
        mimics=1.0,
        noise=(3.0, 4.5),
        streaks=9.0,
        label_ml=0.2,
        test=0.22,
        repeat=0.09,
        duplicates=4,
        blank=3,
        zero_step=0.015,
        wrap=2,
    ),
}


@dataclass(frozen=True)
class StudyPlan:
    """One study before it is drawn."""

    index: int
    split: str  # train or test
    patient_id: str
    study_id: str
    series_id: str
    patient_seed: tuple[int, ...]
    study_seed: tuple[int, ...]
    recipe: Recipe
    size: int
    slices: int | None
    faults: dict[str, int] = field(default_factory=dict)  # fault -> its parameter

    def image_id(self, slice_index: int) -> str:
        """Unique by construction, unrelated to order and label."""
        return f"ID_{_mix(self.index * 64 + slice_index, 36, self.study_seed[0]):09x}"


def make_plan(preset: Preset, studies: int, seed: int, size: int, slices: int | None) -> list[StudyPlan]:
    """Plan a whole data set. Raises UserError for impossible numbers."""
    if studies < 4:
        raise UserError(
            f"--studies {studies}: too few for a train and a test part with every fault; give at least 4"
        )
    if seed < 0:
        raise UserError(f"--seed {seed}: give a number from 0 upwards")
    if slices is not None and not 8 <= slices <= 60:
        raise UserError(f"--slices {slices}: a head scan has 8 to 60 slices")
    if not 64 <= size <= 1024:
        raise UserError(f"--size {size}: give an image side of 64 to 1024 pixels")
    rng = np.random.default_rng((seed, 0))
    tests = max(1, round(preset.test * studies))
    trains = studies - tests
    split = ["train"] * trains + ["test"] * tests
    recipes = [*_deal(rng, preset.recipes, trains), *_deal(rng, preset.recipes, tests)]
    patients = _share_patients(rng, trains, tests, preset.repeat)
    faults = _place_faults(rng, preset, recipes[:trains])
    return [
        StudyPlan(
            index=i,
            split=split[i],
            patient_id=f"ID_{_mix(patients[i], 32, seed):08x}",
            study_id=f"ID_{_mix(i, 40, seed):010x}",
            series_id=f"ID_{_mix(i + (1 << 30), 40, seed):010x}",
            patient_seed=(seed, 1, patients[i]),
            study_seed=(seed, 2, i),
            recipe=recipes[i],
            size=size,
            slices=slices,
            faults=faults.get(i, {}),
        )
        for i in range(studies)
    ]


def _deal(rng: np.random.Generator, recipes: Sequence[tuple[Recipe, float]], count: int) -> list[Recipe]:
    """Recipes for `count` studies in random order, their shares exact to within one study."""
    edges = np.cumsum([share for _, share in recipes])
    at = (np.arange(count) + rng.random()) / count * edges[-1]
    dealt = [recipes[k][0] for k in np.searchsorted(edges, at, side="right")]
    return [dealt[k] for k in rng.permutation(count)]


def _share_patients(rng: np.random.Generator, trains: int, tests: int, repeat: float) -> list[int]:
    """Patient number of each study; some studies belong to the patient of a training study."""
    patients = list(range(trains + tests))
    extra = max(2, round(repeat * (trains + tests)))
    in_test = min(max(1, extra // 3), tests)
    in_train = min(extra - in_test, trains // 2)
    hosts = rng.permutation(trains)
    for guest in trains + rng.choice(tests, in_test, replace=False):
        patients[guest] = int(hosts[rng.integers(trains - in_train)])
    for guest in hosts[trains - in_train :]:
        patients[guest] = int(hosts[rng.integers(trains - in_train)])
    return patients


def _place_faults(
    rng: np.random.Generator, preset: Preset, recipes: list[Recipe]
) -> dict[int, dict[str, int]]:
    """Training study -> fault -> parameter. Studies with a blank image are free of bleeds."""
    faults: dict[int, dict[str, int]] = {}
    order = [int(i) for i in rng.permutation(len(recipes))]
    clean = [i for i in order if not recipes[i]] or order
    for k in range(preset.blank):
        study = faults.setdefault(clean[k % len(clean)], {})
        study["blank"] = study.get("blank", 0) + 1
    order.sort(key=lambda i: len(faults.get(i, {})))  # spread the rest over other studies
    jobs = [("truncated", 0)]
    jobs += [("zero_step", 0)] * max(1, round(preset.zero_step * len(recipes)))
    jobs += [("wrap", k % 2) for k in range(preset.wrap)]
    for k, (name, parameter) in enumerate(jobs):
        faults.setdefault(order[k % len(order)], {}).setdefault(name, parameter)
    return faults


def _mix(value: int, bits: int, key: int) -> int:
    """A bijection of [0, 2^bits) that looks random: distinct inputs give distinct identifiers."""
    mask, half = (1 << bits) - 1, bits // 2
    value = (value + 0x9E3779B97F4A7C15 * (2 * key + 1)) & mask
    for factor in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93):
        value = (value * factor) & mask
        value ^= value >> half
    return value
