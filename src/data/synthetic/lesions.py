"""Draw the bleeds of a study: place, size and density for each label of a recipe."""

from collections.abc import Callable, Sequence

import numpy as np

from .bleeds import Bleed, Epidural, Intraparenchymal, Intraventricular, Subarachnoid, Subdural
from .head import Head

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


def sample_bleeds(rng: np.random.Generator, head: Head, recipe: Sequence[str], hard: float) -> list[Bleed]:
    """One bleed for each label of `recipe`; a share `hard` of them is either small or faint."""
    bleeds = []
    for label in recipe:
        kind = rng.choice(["small", "faint"]) if rng.random() < hard else "plain"
        hu = float(rng.uniform(46, 56) if kind == "faint" else rng.uniform(62, 80))
        bleeds.append(DRAW[label](rng, head, hu, kind == "small"))
    return bleeds


def _on_vault(
    rng: np.random.Generator, head: Head, angles: tuple[float, float], up: tuple[float, float]
) -> np.ndarray:
    """A point of the inner table; degrees from the front towards either side, `up` as tan(elevation)."""
    angle, side = np.deg2rad(rng.uniform(*angles)), rng.choice([-1.0, 1.0])
    return head.inner_surface(np.array([side * np.sin(angle), -np.cos(angle), rng.uniform(*up)]))


def _epidural(rng: np.random.Generator, head: Head, hu: float, small: bool) -> Bleed:
    radius = rng.uniform(14, 20) if small else rng.uniform(27, 40)
    site = _on_vault(rng, head, (45, 140), (-0.05, 0.7))
    return Epidural(site, hu, thickness=radius * rng.uniform(0.45, 0.65), radius=radius)


def _subdural(rng: np.random.Generator, head: Head, hu: float, small: bool) -> Bleed:
    site = _on_vault(rng, head, (60, 125), (0.15, 0.75))
    thickness, radius = (rng.uniform(3, 5), rng.uniform(32, 42)) if small else rng.uniform((8, 42), (15, 62))
    falx = rng.uniform(3.0, 6.0) if not small and rng.random() < 0.35 else 0.0
    tentorium = rng.uniform(3.0, 5.0) if not small and rng.random() < 0.25 else 0.0
    return Subdural(site, hu, float(thickness), float(radius), falx, tentorium)


def _subarachnoid(rng: np.random.Generator, head: Head, hu: float, small: bool) -> Bleed:
    side, swelling = rng.choice([-1.0, 1.0]), rng.uniform(0.3, 0.7) if small else rng.uniform(1.7, 3.0)
    choice = rng.random()
    for points, radius, share in SUBARACHNOID_SITES.values():
        if choice < share:
            sites = np.array(points, float) * [side, 1, 1]
            scale = rng.uniform(0.6, 0.8) if small else rng.uniform(1.0, 1.35)
            return Subarachnoid(sites[0], hu, sites[1:], radius * scale, swelling)
        choice -= share
    site = _on_vault(rng, head, (30, 150), (0.2, 1.2)) * 0.93
    radius = rng.uniform(16, 22) if small else rng.uniform(32, 48)
    return Subarachnoid(site, hu, np.empty((0, 3)), radius, swelling)


def _intraparenchymal(rng: np.random.Generator, head: Head, hu: float, small: bool) -> Bleed:
    weights = np.array([site[3] for site in PARENCHYMAL_SITES])
    center, spread, largest, _ = PARENCHYMAL_SITES[rng.choice(len(weights), p=weights / weights.sum())]
    site = rng.normal(center, spread) * [rng.choice([-1.0, 1.0]), 1, 1]
    radius = rng.uniform(3.5, 5.5) if small else rng.uniform(min(12.0, 0.8 * largest), largest)
    radii = radius * rng.uniform([0.75, 0.8, 0.9], [1.1, 1.15, 1.3])
    return Intraparenchymal(site, hu, radii, rim=rng.uniform(2.5, 6.0))


def _intraventricular(rng: np.random.Generator, head: Head, hu: float, small: bool) -> Bleed:
    levels = [float(rng.uniform(48, 56) if small else rng.uniform(18, 40)) for _ in range(2)]
    kind = rng.random()
    if not small and kind < 0.4:  # a cast of one side
        levels[int(rng.integers(2))] = -60.0
    elif kind < 0.5:  # one side only
        levels[int(rng.integers(2))] = 200.0
    third = not small and rng.random() < 0.45
    fourth = third and rng.random() < 0.7
    return Intraventricular(np.array([0.0, 40.0, 5.0]), hu, (levels[0], levels[1]), bool(third), bool(fourth))


DRAW: dict[str, Callable[[np.random.Generator, Head, float, bool], Bleed]] = {
    "epidural": _epidural,
    "intraparenchymal": _intraparenchymal,
    "intraventricular": _intraventricular,
    "subarachnoid": _subarachnoid,
    "subdural": _subdural,
}
