"""Who is in the synthetic data set: patients, studies, their bleeds, their faults and their names.

The plan is cheap, complete and deterministic, so that studies can be painted in any order by any number of
processes. Everything about a study follows from two seeds, its patient's and its own.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import UserError
from . import contest
from .lesions import Habit
from .scanner import SITES, Site

Recipe = tuple[str, ...]


@dataclass(frozen=True)
class Preset:
    """The statistics of a data set."""

    name: str
    slices: tuple[int, int]  # least and most slices a study
    recipes: tuple[tuple[Recipe, float], ...]  # labels that occur together, share of studies
    habits: Mapping[str, Habit]  # what the bleeds of each label are like
    severity: float  # how alike in size the bleeds of a study are, see lesions.sample_bleeds
    sites: tuple[Site, ...]  # scanners
    padded: tuple[float, float]  # share of studies from padding scanners, train and test
    padded_bleeds: float  # share of bleeding studies among the padded, as a multiple of the others'
    mimics: float  # frequency of mimics, 1 as in the elderly
    noise: tuple[float, float]  # standard deviation in HU
    streaks: float  # strength of beam hardening between the petrous bones, HU
    label_ml: float  # a label is true when the slice holds at least this volume of that blood
    test: float  # share of studies
    studies_per_patient: tuple[Mapping[int, float], Mapping[int, float]]  # train, test; shares of patients
    shared: float  # share of test patients who are in train too
    follow_up: float  # share of further studies that bleed, or not, as the patient's first study
    duplicates: int  # images whose label rows occur twice
    blank: int  # images without content
    zero_step: float  # share of training studies with repeated positions, at least one
    wrap: int  # training studies with the 12-bit wrap, intercept 0 and 1 in turn
    metal: float = 0.1  # share of studies with dental metal
    motion: float = 0.02  # share of studies in which the head moves
    head_age: tuple[float, float] = (0.0, 1.0)  # least and most atrophy of the heads


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

_DEMO_AGES = (("acute", 0.97), ("hyperacute", 0.03))

# The sizes are fitted: drawn with them, lengths and numbers of positive runs are those of the contest.
_REALISTIC_HABITS = {
    "epidural": Habit(
        size=((0, 8), (0.05, 9), (0.1, 12), (0.25, 18), (0.5, 27), (0.75, 36), (0.9, 44), (1, 50)),
        ages=(("hyperacute", 0.17), ("acute", 0.78), ("subacute", 0.05)),
        counts=(0.6, 0.25, 0.15),
    ),
    "intraparenchymal": Habit(
        size=((0, 3.5), (0.1, 3.7), (0.3, 4.9), (0.5, 10), (0.75, 20), (0.9, 28), (1, 35)),
        ages=(("hyperacute", 0.12), ("acute", 0.73), ("subacute", 0.15)),
        counts=(0.42, 0.28, 0.18, 0.12),
    ),
    "intraventricular": Habit(
        size=((0, 0.02), (0.1, 0.04), (0.25, 0.1), (0.5, 0.33), (0.75, 0.75), (0.9, 1.2), (1, 1.3)),
        ages=(("hyperacute", 0.2), ("acute", 0.62), ("subacute", 0.18)),
        counts=(0.8, 0.2),
    ),
    "subarachnoid": Habit(
        size=((0, 0.21), (0.1, 0.23), (0.25, 0.32), (0.5, 0.5), (0.75, 1.4), (0.9, 2.5), (1, 3)),
        ages=(("hyperacute", 0.3), ("acute", 0.55), ("subacute", 0.15)),
        counts=(0.2, 0.3, 0.3, 0.2),
    ),
    "subdural": Habit(
        size=((0, 5), (0.05, 6), (0.1, 9), (0.25, 16), (0.5, 31), (0.75, 46), (0.9, 63), (1, 80)),
        thickness=((0, 2.5), (0.25, 4), (0.5, 6), (0.75, 9), (0.9, 14), (1, 22)),
        ages=(("hyperacute", 0.1), ("acute", 0.55), ("subacute", 0.2), ("chronic", 0.15)),
        counts=(0.42, 0.14, 0.12, 0.16, 0.16),
        layered=0.5,
    ),
}

PRESETS = {
    # Enriched: half of the studies bleed, epidural as often as the others; most bleeds are conspicuous.
    "demo": Preset(
        name="demo",
        slices=(20, 34),
        recipes=_DEMO_RECIPES,
        habits={
            "epidural": Habit(((0, 14), (0.03, 20), (0.03, 27), (1, 40)), _DEMO_AGES),
            "intraparenchymal": Habit(((0, 3.5), (0.03, 5.5), (0.03, 12), (1, 25)), _DEMO_AGES),
            "intraventricular": Habit(((0, 0.15), (0.03, 0.25), (0.03, 0.5), (1, 1)), _DEMO_AGES),
            "subarachnoid": Habit(((0, 0.6), (0.03, 0.8), (0.03, 1.0), (1, 1.35)), _DEMO_AGES),
            "subdural": Habit(
                ((0, 32), (0.03, 42), (1, 62)), _DEMO_AGES, thickness=((0, 3), (0.03, 5), (0.03, 8), (1, 15))
            ),
        },
        severity=0.0,
        sites=SITES,
        padded=(0.48, 0.48),
        padded_bleeds=1.0,
        mimics=1.0,
        noise=(3.0, 4.5),
        streaks=9.0,
        label_ml=0.2,
        test=0.22,
        studies_per_patient=({1: 0.93, 2: 0.07}, {1: 1.0}),
        shared=0.12,
        follow_up=0.0,
        duplicates=4,
        blank=3,
        zero_step=0.015,
        wrap=2,
    ),
    # As the contest's set, see contest.py; counts of faulty images are those of the whole contest.
    "realistic": Preset(
        name="realistic",
        slices=(20, 60),
        recipes=contest.RECIPES,
        habits=_REALISTIC_HABITS,
        severity=0.5,
        sites=contest.SITES,
        padded=contest.PADDED,
        padded_bleeds=contest.PADDED_BLEEDS,
        mimics=1.0,
        noise=(1.6, 4.1),
        streaks=12.0,
        metal=0.25,
        motion=0.08,
        label_ml=0.1,
        test=3528 / 25272,
        studies_per_patient=contest.STUDIES_PER_PATIENT,
        shared=contest.SHARED_PATIENTS,
        follow_up=contest.FOLLOW_UP,
        duplicates=4,
        blank=5,
        zero_step=0.021,
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
    site: Site
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
    sites = [
        *_deal_sites(rng, preset, preset.padded[0], recipes[:trains]),
        *_deal_sites(rng, preset, preset.padded[1], recipes[trains:]),
    ]
    kinds = [(bool(recipe), site.padded) for recipe, site in zip(recipes, sites, strict=True)]
    patients = _share_patients(rng, preset, kinds, trains)
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
            site=sites[i],
            size=size,
            slices=slices,
            faults=faults.get(i, {}),
        )
        for i in range(studies)
    ]


def epidural_share(preset: Preset) -> float:
    """Share of studies with an epidural bleed."""
    shares = [share for _, share in preset.recipes]
    return sum(share for recipe, share in preset.recipes if "epidural" in recipe) / sum(shares)


def with_epidural(preset: Preset, share: float) -> Preset:
    """The preset with another share of studies with an epidural bleed; the rest keep their proportions."""
    if not 0.0 <= share < 1.0:
        raise UserError(f"--epidural {share:g}: give a share of studies from 0 to below 1")
    now = epidural_share(preset)
    factors = {True: share / now, False: (1.0 - share) / (1.0 - now)}
    recipes = tuple((recipe, part * factors["epidural" in recipe]) for recipe, part in preset.recipes)
    return replace(preset, recipes=tuple((recipe, part) for recipe, part in recipes if part > 0))


def with_studies_per_patient(preset: Preset, number: int) -> Preset:
    """The preset with as many studies of every training patient, one at most with the rest."""
    if number < 2:
        raise UserError(f"--studies-per-patient {number}: give 2 or more, or leave it out")
    return replace(preset, studies_per_patient=({number: 1.0}, preset.studies_per_patient[1]))


def _deal(rng: np.random.Generator, cards: Sequence[tuple[object, float]], count: int) -> list:
    """`count` cards (card, share) in random order, their shares exact to within one card."""
    edges = np.cumsum([share for _, share in cards])
    at = (np.arange(count) + rng.random()) / max(count, 1) * edges[-1]
    dealt = [cards[k][0] for k in np.searchsorted(edges, at, side="right")]
    return [dealt[k] for k in rng.permutation(count)]


def _deal_sites(
    rng: np.random.Generator, preset: Preset, padded: float, recipes: Sequence[Recipe]
) -> list[Site]:
    """A scanner for each study: a share `padded` of them pads, and those bleed less as the preset says."""
    bleeding = sum(bool(recipe) for recipe in recipes) / len(recipes)
    share = padded * preset.padded_bleeds / (padded * preset.padded_bleeds + 1.0 - padded)  # of the bleeding
    rest = (padded - bleeding * share) / max(1.0 - bleeding, 1e-9)
    kinds: dict[int, bool] = {}
    for bleeds, pads in ((True, share), (False, min(max(rest, 0.0), 1.0))):
        found = [i for i, recipe in enumerate(recipes) if bool(recipe) == bleeds]
        kinds |= dict(zip(found, _deal(rng, ((True, pads), (False, 1.0 - pads)), len(found)), strict=True))
    sites: dict[int, Site] = {}
    for kind in (True, False):
        found = [i for i, pads in kinds.items() if pads == kind]
        cards = [(site, site.weight) for site in preset.sites if site.padded == kind]
        sites |= dict(zip(found, _deal(rng, cards, len(found)), strict=True))
    return [sites[i] for i in range(len(recipes))]


def _share_patients(
    rng: np.random.Generator, preset: Preset, kinds: Sequence[tuple[bool, bool]], trains: int
) -> list[int]:
    """Patient number of each study. `kinds`: (bleeds, padded) of each study, the first `trains` in train.

    A patient's further studies are of the same kind as the first as often as the preset says; a share of the
    test patients is in train. At least one patient has two training studies, and one is in both parts.
    """
    patients = list(range(len(kinds)))
    for part, (first, last) in enumerate(((0, trains), (trains, len(kinds)))):
        cards = tuple(preset.studies_per_patient[part].items())
        mean = sum(size * share for size, share in cards) / sum(share for _, share in cards)
        sizes = sorted(_deal(rng, cards, round((last - first) / mean)), reverse=True)
        if part == 0 and sizes[0] < 2:
            sizes[0] = 2
        free, left = _by_kind(kinds, rng.permutation(np.arange(first, last))), last - first
        for size in sizes:
            size = min(size, left)
            if size < 2:
                break
            host, left = _draw(rng, free, None), left - size
            for _ in range(size - 1):
                wanted = kinds[host] if rng.random() < preset.follow_up else None
                patients[_draw(rng, free, wanted)] = host
    hosts = {}
    known = [i for i in range(trains, len(kinds)) if patients[i] == i]
    for i in rng.permutation(known)[: max(1, round(preset.shared * len(known)))].tolist():
        pool = _by_kind(kinds, rng.choice(trains, 8))
        wanted = kinds[i] if rng.random() < preset.follow_up else None
        hosts[i] = patients[_draw(rng, pool, wanted)]
    return [hosts.get(patient, patient) for patient in patients]


def _by_kind(kinds: Sequence[tuple[bool, bool]], studies: np.ndarray) -> dict[tuple[bool, bool], list[int]]:
    found: dict[tuple[bool, bool], list[int]] = defaultdict(list)
    for i in studies.tolist():
        found[kinds[i]].append(i)
    return found


def _draw(
    rng: np.random.Generator, free: dict[tuple[bool, bool], list[int]], wanted: tuple[bool, bool] | None
) -> int:
    """Take a study out of `free`: one of the wanted kind where there is one, else any."""
    if wanted is None or not free[wanted]:
        kinds = sorted(kind for kind in free if free[kind])
        counts = np.array([len(free[kind]) for kind in kinds])
        wanted = kinds[rng.choice(len(kinds), p=counts / counts.sum())]
    return free[wanted].pop()


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
