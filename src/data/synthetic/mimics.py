"""What looks like blood on one slice and is not: calcifications and a small meningioma.

Dense falx and sinuses are part of the head (head.py), partial volume at the skull base follows from the
slices. Physiological calcification is 60-400 HU, but small, and symmetric or in the midline; over 5 mm it
averages down into the range of blood.
"""

from dataclasses import dataclass

import numpy as np

from .head import Fields, Head, coverage
from .tissue import Brain


@dataclass(frozen=True)
class Calcification:
    """An ellipsoid at `site` with `radii` (3,) mm and `hu`; `speckle` (0-1) breaks it into grains."""

    name: str
    site: np.ndarray
    radii: np.ndarray
    hu: float
    speckle: float

    def paint(self, head: Head, fields: Fields, brain: Brain) -> None:
        """Lay it on the brain in place; it moves with displaced tissue."""
        box = fields.plane.box(self.site, float(self.radii.max()))
        if box is None:
            return
        x, y, z = (c[box] for c in (brain.x, brain.y, brain.z))
        q = [(c - s) / r for c, s, r in zip((x, y, z), self.site.tolist(), self.radii.tolist(), strict=True)]
        distance = (np.sqrt(q[0] ** 2 + q[1] ** 2 + q[2] ** 2) - 1.0) * float(self.radii.min())
        share = coverage(distance, fields.plane.pixel)
        if self.speckle > 0:
            grains = head.lumps.sample(x * 4.0, y * 4.0, fields.plane.z * 2.0)
            share *= np.clip(0.55 + self.speckle * grains, 0.0, 1.0)
        brain.hu[box] += share * (self.hu - brain.hu[box])


def sample_mimics(rng: np.random.Generator, head: Head, rate: float) -> list[Calcification]:
    """A patient's mimics; `rate` scales how often each occurs (1: as often as in an elderly population)."""
    found: list[Calcification] = []

    def add(name: str, site, radii, hu: float, speckle: float = 0.0) -> None:
        found.append(Calcification(name, np.array(site, float), np.array(radii, float), hu, speckle))

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
    if rng.random() < 0.4 * rate:
        size, hu, height = rng.uniform(3.5, 8), rng.uniform(50, 100), rng.normal(2, 1)
        for side in (-1, 1):
            radii = np.array([0.7, 1.2, rng.uniform(0.4, 0.8)]) * size * rng.uniform(0.8, 1.2)
            add("basal ganglia", (side * 21, -6 + rng.normal(0, 1), height), radii, hu, 0.35)
    if rng.random() < 0.35 * rate:  # dura-based: on the vault or on the falx
        radius = rng.uniform(5, 13)
        angle, up = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.9)
        surface = head.inner_surface(np.array([np.cos(angle), np.sin(angle), up]))
        falcine = np.array([rng.choice([-1, 1]) * 0.6 * radius, -48 + rng.normal(0, 8), rng.uniform(18, 45)])
        site = falcine if rng.random() < 0.3 else surface * (1.0 - 0.5 * radius / np.linalg.norm(surface))
        add("meningioma", site, radius * rng.uniform(0.8, 1.1, 3), rng.uniform(48, 95), 0.15)
    for _ in range(rng.binomial(2, min(0.35 * rate, 1.0))):  # plaques in the falx
        site = (rng.normal(0, 0.5), rng.choice([-1, 1]) * rng.uniform(38, 66), rng.uniform(20, 52))
        add(
            "falx", site, (rng.uniform(1.2, 2.5), rng.uniform(5, 16), rng.uniform(2, 8)), rng.uniform(55, 160)
        )
    return found
