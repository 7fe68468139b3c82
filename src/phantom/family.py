"""Families of synthetic data: the same preset from another population and other scanners.

A model trained on one family and tested on another is tested for robustness to a shift that its training
set does not show. `standard` (or 0) is the preset as it stands, `elderly` a named shift; every other whole
number draws its own shifts from the ranges in `find_family`, so that nobody need have looked at a hidden one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import UserError
from .plan import Preset


@dataclass(frozen=True)
class Family:
    """Shifts of a preset; factors are 1 where nothing changes."""

    head_age: tuple[float, float] = (0.0, 1.0)  # least and most atrophy, see head.sample_head
    size: float = 1.0  # of bleeds
    ages: Mapping[str, float] = field(default_factory=dict)  # weights of the bleeds' ages
    mimics: float = 1.0
    noise: float = 1.0
    streaks: float = 1.0
    motion: float = 1.0
    padded: float = 1.0
    scanners: int | None = None  # seed of other weights of the scanners

    def adapt(self, preset: Preset) -> Preset:
        """The preset with this family's shifts."""
        weights = np.ones(len(preset.sites))
        if self.scanners is not None:
            weights = np.exp(np.random.default_rng((self.scanners, 7)).standard_normal(len(weights)))
        sites = [
            replace(site, weight=site.weight * float(weight))
            for site, weight in zip(preset.sites, weights, strict=True)
        ]
        low, high = preset.noise
        return replace(
            preset,
            head_age=self.head_age,
            habits={label: habit.scaled(self.size, self.ages) for label, habit in preset.habits.items()},
            mimics=preset.mimics * self.mimics,
            noise=(low * self.noise, high * self.noise),
            streaks=preset.streaks * self.streaks,
            motion=min(preset.motion * self.motion, 1.0),
            padded=tuple(min(share * self.padded, 0.95) for share in preset.padded),
            sites=tuple(sites),
        )


FAMILIES = {
    "standard": Family(),
    "elderly": Family(  # atrophic heads, smaller and older bleeds, more calcification, other scanners
        head_age=(0.55, 1.1),
        size=0.8,
        ages={"subacute": 2.0, "chronic": 2.5},
        mimics=1.35,
        noise=1.15,
        motion=2.0,
        padded=0.6,
        scanners=0,
    ),
}


def find_family(name: str | int) -> Family:
    """A family by its name or number. UserError for an unknown one."""
    if name in FAMILIES:
        return FAMILIES[str(name)]
    try:
        number = int(name)
    except ValueError:
        number = -1
    if number < 0:
        raise UserError(
            f"--family {name}: unknown; give {', '.join(FAMILIES)} or a number from 0 (standard) upwards"
        )
    if number == 0:
        return FAMILIES["standard"]
    rng = np.random.default_rng((number, 6))
    youngest = float(rng.uniform(0.0, 0.6))
    return Family(
        head_age=(youngest, youngest + float(rng.uniform(0.4, 0.6))),
        size=float(rng.uniform(0.7, 1.2)),
        ages={age: float(rng.uniform(0.5, 2.5)) for age in ("hyperacute", "subacute", "chronic")},
        mimics=float(rng.uniform(0.7, 1.4)),
        noise=float(rng.uniform(0.8, 1.35)),
        streaks=float(rng.uniform(0.7, 1.5)),
        motion=float(rng.uniform(0.5, 3.0)),
        padded=float(rng.uniform(0.4, 1.6)),
        scanners=number,
    )
