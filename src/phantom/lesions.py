"""Draw the bleeds of a study: number, place, size, age and density for each label of a recipe.

What a label's bleeds are like is its `Habit`, which a preset states: the size as a quantile function, the
number of bleeds, and the mix of ages. All presets share the drawing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import erf, sqrt

import numpy as np

from .bleeds import Bleed, Epidural, Intraparenchymal, Intraventricular, Subarachnoid, Subdural
from .head import Head

Knots = tuple[tuple[float, float], ...]  # a distribution as (share below, value), linear in between

# Density of blood by its age, HU. Clotted blood is 60-80, up to 90, as water leaves the clot; unclotted blood
# of hematocrit .45 is 56, of an anaemic patient 40-50 (New and Aronow, Radiology 1976;121:635-640). A clot
# loses .7 to 1.5 HU a day, so after one to three weeks it is as dense as brain, later less (Bergström et al.,
# J Comput Assist Tomogr 1977;1:57-63; for subdurals Lee et al., J Korean Med Sci 1997;12:353-359; Parizel et
# al., Eur Radiol 2001;11:1770-1783).
AGES: dict[str, tuple[float, float]] = {
    "hyperacute": (44.0, 58.0),
    "acute": (60.0, 84.0),
    "subacute": (32.0, 46.0),
    "chronic": (12.0, 25.0),
}


@dataclass(frozen=True)
class Habit:
    """What the bleeds of one label are like."""

    size: Knots  # of the label's own measure, see its drawing function
    ages: tuple[tuple[str, float], ...]  # of AGES, shares
    counts: tuple[float, ...] = (1.0,)  # shares of studies with 1, 2, 3 ... bleeds of the label
    thickness: Knots = ()  # mm, where the size does not give it (subdural)
    layered: float = 0.0  # share of chronic bleeds whose dependent part is acute (acute on chronic)

    def scaled(self, size: float, ages: Mapping[str, float]) -> "Habit":
        """The same with sizes times `size` and other weights of ages."""
        weights = tuple((age, share * ages.get(age, 1.0)) for age, share in self.ages)
        return replace(
            self,
            size=tuple((at, value * size) for at, value in self.size),
            thickness=tuple((at, value * size) for at, value in self.thickness),
            ages=weights,
        )


@dataclass(frozen=True)
class Case:
    """One bleed to be drawn."""

    habit: Habit
    rank: float  # of its size, 0 to 1
    hu: float
    further: bool  # not the first of its label
    recipe: Sequence[str]

    @property
    def size(self) -> float:
        return _value(self.habit.size, self.rank)


# Deep, lobar, cerebellar and pontine hematomas: |x|, y, z in mm, spread, largest radius, weight.
PARENCHYMAL_SITES = (
    ((25, -3, 4), (3, 6, 4), 25.0, 0.34),
    ((11, 12, 7), (2, 3, 3), 14.0, 0.14),
    ((32, -38, 28), (7, 9, 9), 26.0, 0.15),
    ((34, 38, 30), (7, 9, 9), 26.0, 0.14),
    ((44, 0, -14), (4, 8, 5), 16.0, 0.10),
    ((20, 56, -28), (6, 5, 4), 15.0, 0.09),
    ((0, 15, -26), (2, 1, 3), 8.0, 0.04),
)
# Centres and branches of subarachnoid blood: name -> points with x > 0 on the bleed's side.
SUBARACHNOID_SITES = {
    "basal": (
        ((0, -11, -20), (16, -14, -18), (-16, -14, -18), (0, -44, -6), (0, 27, 0), (34, -16, -6)),
        26.0,
        0.36,
    ),
    "sylvian": (((38, -16, -5), (50, -13, 0), (37, 2, 6), (54, 8, 8)), 21.0, 0.25),
    "interhemispheric": (((0, -55, 12), (0, -62, 30), (0, -40, 50)), 22.0, 0.04),
}
# Where clots hang in the ventricles: frontal horn, body, atrium, occipital horn, third ventricle; x > 0.
CLOT_SITES = ((9, -28, 10), (6, 2, 15), (20, 32, 12), (22, 50, 5), (0, 4, -2))


def sample_bleeds(
    rng: np.random.Generator,
    head: Head,
    recipe: Sequence[str],
    habits: Mapping[str, Habit],
    severity: float = 0.0,
) -> list[Bleed]:
    """The bleeds of a recipe's labels, at least one of each.

    `severity`: correlation of the ranks of size within the study, 0 to 1 (a Gaussian copula). A label's
    further bleeds are smaller than its first and, under the skull, may lie anywhere.
    """
    bleeds: list[Bleed] = []
    common = rng.standard_normal()
    for label in recipe:
        habit = habits[label]
        own = severity * common + sqrt(1.0 - severity**2) * rng.standard_normal()
        rank = 0.5 * (1.0 + erf(own / sqrt(2.0)))
        for number in range(1 + int(rng.choice(len(habit.counts), p=_shares(habit.counts)))):
            age = habit.ages[rng.choice(len(habit.ages), p=_shares([share for _, share in habit.ages]))][0]
            case = Case(habit, rank, float(rng.uniform(*AGES[age])), number > 0, recipe)
            bleeds.append(DRAW[label](rng, head, case))
            rank *= 0.6 * rng.random() ** 2  # mostly small
    return bleeds


def _shares(weights: Sequence[float]) -> np.ndarray:
    return np.array(weights) / np.sum(weights)


def _value(knots: Knots, rank: float) -> float:
    return float(np.interp(rank, *zip(*knots, strict=True)))


def _on_vault(
    rng: np.random.Generator, head: Head, angles: tuple[float, float], up: tuple[float, float]
) -> np.ndarray:
    """A point of the inner table; degrees from the front towards either side, `up` as tan(elevation)."""
    angle, side = np.deg2rad(rng.uniform(*angles)), rng.choice([-1.0, 1.0])
    return head.inner_surface(np.array([side * np.sin(angle), -np.cos(angle), rng.uniform(*up)]))


def _epidural(rng: np.random.Generator, head: Head, case: Case) -> Bleed:
    """Size: radius, mm; 0.45 to 0.65 of it thick."""
    radius = case.size
    site = _on_vault(rng, head, (45, 140), (-0.2, 2.0) if case.further else (-0.05, 0.7))
    return Epidural(site, case.hu, thickness=radius * rng.uniform(0.45, 0.65), radius=radius)


def _subdural(rng: np.random.Generator, head: Head, case: Case) -> Bleed:
    """Size: reach along the skull, mm. Half of the bleeds have the thickness of the same rank, half any."""
    angles, up = ((30, 150), (-0.2, 3.0)) if case.further else ((60, 125), (0.15, 0.75))
    site = _on_vault(rng, head, angles, up)
    radius = case.size
    thickness = _value(case.habit.thickness, case.rank if rng.random() < 0.5 else rng.random())
    falx = rng.uniform(3.0, 6.0) if radius > 40.0 and rng.random() < 0.35 else 0.0
    tentorium = rng.uniform(3.0, 5.0) if radius > 40.0 and rng.random() < 0.25 else 0.0
    layered = case.hu <= AGES["chronic"][1] and rng.random() < case.habit.layered
    sediment = rng.uniform(25, 45) if layered else 0.0
    return Subdural(site, case.hu, thickness, radius, falx, tentorium, sediment)


def _subarachnoid(rng: np.random.Generator, head: Head, case: Case) -> Bleed:
    """Size: factor on the radius of a site; a small bleed keeps to some branches and swells them less."""
    size = case.size
    side = rng.choice([-1.0, 1.0])
    swelling = float(np.clip(2.9 * size - 1.3, 0.9, 2.4) + rng.uniform(-0.4, 0.4))
    choice = rng.random()
    for points, radius, share in SUBARACHNOID_SITES.values():
        if choice < share:
            reached = max(1, round(len(points) * min(size + 0.1, 1.0)))
            sites = np.array(points[:reached], float) * [side, 1, 1]
            return Subarachnoid(sites[0], case.hu, sites[1:], radius * size, swelling)
        choice -= share
    site = _on_vault(rng, head, (30, 150), (0.2, 2.5) if case.further else (0.2, 1.2)) * 0.93
    return Subarachnoid(site, case.hu, np.empty((0, 3)), 35.0 * size, swelling)


def _intraparenchymal(rng: np.random.Generator, head: Head, case: Case) -> Bleed:
    """Size: radius, mm, as far as the place allows."""
    ruptured = "intraventricular" in case.recipe and not case.further  # deep bleeds break into the ventricles
    weights = _shares(
        [share * (3.0 if ruptured and k < 2 else 1.0) for k, (*_, share) in enumerate(PARENCHYMAL_SITES)]
    )
    center, spread, largest, _ = PARENCHYMAL_SITES[rng.choice(len(weights), p=weights)]
    site = rng.normal(center, spread) * [rng.choice([-1.0, 1.0]), 1, 1]
    radii = min(case.size, largest) * rng.uniform([0.75, 0.8, 0.9], [1.1, 1.15, 1.3])
    return Intraparenchymal(site, case.hu, radii, rim=rng.uniform(2.5, 6.0))


def _intraventricular(rng: np.random.Generator, head: Head, case: Case) -> Bleed:
    """Size: 0, a clot or traces in the occipital horns, to 1, levels up to the frontal horns and casts."""
    size = case.size
    if rng.random() < 1.0 - 1.7 * size:
        site = rng.normal(CLOT_SITES[rng.integers(len(CLOT_SITES))], 3.0) * [rng.choice([-1.0, 1.0]), 1, 1]
        clot = 2.9 + 14.0 * size + rng.uniform(0, 2)
        return Intraventricular(site, case.hu, (-60.0, -60.0), True, True, clot)
    levels = [float(63.0 - 43.0 * size + rng.uniform(-4, 4)) for _ in range(2)]
    if rng.random() < 0.8 * size**2:  # a cast of one side or of both
        side = int(rng.integers(2))
        levels[side] = -60.0
        levels[1 - side] = -60.0 if rng.random() < 0.4 * size else levels[1 - side]
    elif rng.random() < 0.6 - 0.5 * size:  # one side only
        levels[int(rng.integers(2))] = 200.0
    third = rng.random() < 0.75 * size
    fourth = rng.random() < (0.8 if third else 0.1)
    site = np.array([0.0, 40.0, 5.0])
    return Intraventricular(site, case.hu, (levels[0], levels[1]), bool(third), bool(fourth))


DRAW: dict[str, Callable[[np.random.Generator, Head, Case], Bleed]] = {
    "epidural": _epidural,
    "intraparenchymal": _intraparenchymal,
    "intraventricular": _intraventricular,
    "subarachnoid": _subarachnoid,
    "subdural": _subdural,
}
