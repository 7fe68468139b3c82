"""What looks like blood on one slice and is not, and what else ails an old brain.

Dense falx and sinuses are part of the head (head.py), partial volume at the skull base follows from the
slices. Physiological calcification is 60-400 HU, but small, and symmetric or in the midline; over 5 mm it
averages down into the range of blood (Kiroglu et al., Diagn Interv Radiol 2010;16:263-269; frequencies:
Daghighi et al., Folia Morphol 2007;66:115-119).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from .head import Fields, Head
from .shapes import capsule, coverage, level
from .tissue import Brain


@dataclass(frozen=True)
class Mimic(ABC):
    """Something at `site` (3,) in head coordinates, mm, of `hu`."""

    name: str
    site: np.ndarray
    hu: float

    @abstractmethod
    def paint(self, head: Head, fields: Fields, brain: Brain) -> None:
        """Lay it on the brain in place; it moves with displaced tissue."""


@dataclass(frozen=True)
class Vessel(Mimic):
    """A dense artery: a straight tube from `site` to `stop` (3,) of `radius` mm.

    Thrombus and haemoconcentration reach 43-70 HU (Koo et al., Cerebrovasc Dis 2000;10:419-423), plaque more.
    """

    stop: np.ndarray
    radius: float

    def paint(self, head: Head, fields: Fields, brain: Brain) -> None:
        box = fields.slab.tube_box(self.site, self.stop, self.radius + 1.0)
        if box is None:
            return
        tube = capsule(brain.xyz[box], self.site, self.stop, self.radius, self.radius)
        brain.hu[box] += coverage(tube, fields.slab.pixel) * (self.hu - brain.hu[box])


@dataclass(frozen=True)
class Infarct(Mimic):
    """A dark area of `radii` (3,) mm with a ragged border; old ones approach CSF, subacute ones 20-26 HU."""

    radii: np.ndarray

    def paint(self, head: Head, fields: Fields, brain: Brain) -> None:
        box = fields.slab.box(self.site, 1.5 * self.radii)
        if box is None:
            return
        xyz = brain.xyz[box]
        ragged = 0.25 * head.lumps.sample(xyz[0], xyz[1], fields.slab.z, 1.8)
        inside = coverage((level(xyz, self.site, self.radii) - 1.0 + ragged) * 4.0, 1.0)
        brain.hu[box] += inside * np.minimum(self.hu - brain.hu[box], 0.0)


@dataclass(frozen=True)
class Calcification(Mimic):
    """An ellipsoid at `site` with `radii` (3,) mm and `hu`; `speckle` (0-1) breaks it into grains."""

    radii: np.ndarray
    speckle: float

    def paint(self, head: Head, fields: Fields, brain: Brain) -> None:
        box = fields.slab.box(self.site, self.radii, 2.0)
        if box is None:
            return
        xyz = brain.xyz[box]
        distance = (level(xyz, self.site, self.radii) - 1.0) * float(self.radii.min())
        share = coverage(distance, fields.slab.pixel)
        if self.speckle > 0:
            grains = head.lumps.sample(xyz[0], xyz[1], fields.slab.z * 0.5, 4.0)
            share *= np.clip(0.55 + self.speckle * grains, 0.0, 1.0)
        brain.hu[box] += share * (self.hu - brain.hu[box])


def sample_mimics(rng: np.random.Generator, head: Head, rate: float) -> list[Mimic]:
    """A patient's mimics; `rate` scales how often each occurs (1: as often as in an elderly population)."""
    found: list[Mimic] = []

    def add(name: str, site, radii, hu: float, speckle: float = 0.0) -> None:
        found.append(Calcification(name, np.array(site, float), hu, np.array(radii, float), speckle))

    if rng.random() < 0.65 * rate:  # choroid plexus of the atria, unequal on the two sides
        hu = rng.uniform(60, 220)
        for side in (-1, 1):
            if rng.random() < 0.85:
                radius = rng.uniform(2.0, 5.0)
                site = (side * 22 + rng.normal(0, 1), 38 + rng.normal(0, 3), 9 + rng.normal(0, 2))
                add("choroid plexus", site, (radius, 1.5 * radius, rng.uniform(2, 6)), hu, 0.3)
    if rng.random() < 0.55 * rate:
        radius = rng.uniform(1.6, 4.0)
        add(
            "pineal",
            (rng.normal(0, 0.7), 26 + rng.normal(0, 1), rng.normal(1, 1)),
            [radius] * 3,
            rng.uniform(60, 250),
        )
    if rng.random() < 0.45 * rate:
        size, hu, height = rng.uniform(3.5, 8), rng.uniform(50, 100), rng.normal(2, 1)
        for side in (-1, 1):
            radii = np.array([0.7, 1.2, rng.uniform(0.4, 0.8)]) * size * rng.uniform(0.8, 1.2)
            add("basal ganglia", (side * 21, -6 + rng.normal(0, 1), height), radii, hu, 0.35)
    if rng.random() < 0.4 * rate:  # dura-based: on the vault or on the falx
        radius = rng.uniform(5, 13)
        angle, up = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.9)
        surface = head.inner_surface(np.array([np.cos(angle), np.sin(angle), up]))
        falcine = np.array([rng.choice([-1, 1]) * 0.6 * radius, -48 + rng.normal(0, 8), rng.uniform(18, 45)])
        site = falcine if rng.random() < 0.3 else surface * (1.0 - 0.5 * radius / np.linalg.norm(surface))
        add("meningioma", site, radius * rng.uniform(0.8, 1.1, 3), rng.uniform(48, 95), 0.15)
    for _ in range(rng.binomial(2, min(0.4 * rate, 1.0))):  # plaques in the falx
        site = (rng.normal(0, 0.5), rng.choice([-1, 1]) * rng.uniform(38, 66), rng.uniform(20, 52))
        add(
            "falx", site, (rng.uniform(1.2, 2.5), rng.uniform(5, 16), rng.uniform(2, 8)), rng.uniform(55, 160)
        )
    return found + sample_vessels(rng, rate) + sample_infarcts(rng, head, rate)


def sample_vessels(rng: np.random.Generator, rate: float) -> list[Mimic]:
    """Plaque in the carotid siphons, a dense middle cerebral or basilar artery."""
    found: list[Mimic] = []
    if rng.random() < 0.35 * rate:
        hu, radius = rng.uniform(90, 500), rng.uniform(0.8, 1.8)
        for side in (-1, 1):
            site, stop = np.array([side * 9.0, -10, -28]), np.array([side * 8.0, -17, -22])
            found.append(Vessel("carotid plaque", site, hu, stop, radius))
    if rng.random() < 0.3 * rate:
        side, hu, radius = rng.choice([-1, 1]), rng.uniform(46, 72), rng.uniform(1.2, 2.2)
        points = np.array([[side * 7.0, -16, -20], [side * 22.0, -19, -17], [side * 36.0, -15, -8]])
        found += [Vessel("middle cerebral artery", *part) for part in ((points[0], hu, points[1], radius),)]
        found += [Vessel("middle cerebral artery", points[1], hu, points[2], radius)]
    if rng.random() < 0.25 * rate:
        site, stop = np.array([rng.normal(0, 1.5), -4, -20]), np.array([rng.normal(0, 2), 3.0, -42])
        found.append(Vessel("basilar artery", site, rng.uniform(42, 66), stop, rng.uniform(1.4, 2.4)))
    return found


def sample_infarcts(rng: np.random.Generator, head: Head, rate: float) -> list[Mimic]:
    """Old and subacute infarcts and lacunes, the more the older the brain (its sulci tell)."""
    found: list[Mimic] = []
    if rng.random() < 0.16 * head.sulcus * rate:
        angle, up = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.8)
        site = head.inner_surface(np.array([np.cos(angle), np.sin(angle), up])) * rng.uniform(0.72, 0.92)
        hu = rng.uniform(8, 14) if rng.random() < 0.6 else rng.uniform(19, 25)
        found.append(Infarct("infarct", site, hu, rng.uniform(9, 26) * rng.uniform(0.7, 1.2, 3)))
    for _ in range(rng.poisson(0.5 * head.sulcus * rate)):
        site = np.array(
            [rng.choice([-1, 1]) * rng.uniform(12, 27), rng.uniform(-18, 16), rng.uniform(-2, 18)]
        )
        found.append(Infarct("lacune", site, rng.uniform(8, 18), rng.uniform(1.5, 4.5, 3)))
    return found


def sample_swelling(rng: np.random.Generator, head: Head, rate: float, bleeds: bool) -> np.ndarray:
    """Swelling of the scalp, see Head.swelling: common after trauma, with and without blood inside."""
    if rng.random() >= (0.3 if bleeds else 0.18) * rate:
        return np.zeros(5)
    angle, up = rng.uniform(0, 2 * np.pi), rng.uniform(-0.1, 0.8)
    site = head.inner_surface(np.array([np.cos(angle), np.sin(angle), up])) * 1.13
    return np.array([*site, rng.uniform(2.0, 9.0), rng.uniform(10.0, 24.0)])
