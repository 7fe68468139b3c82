"""The five bleeds as geometry: where each lies, how it displaces tissue, and how much of a pixel it fills.

epidural          a biconvex lens between skull and dura, bounded all round
subdural          a crescent along one convexity, thin and wide; also sheets along falx and tentorium
subarachnoid      blood in the CSF of sulci, fissures and cisterns of a region
intraparenchymal  a lumpy ball with an oedematous rim, pushing its surroundings
intraventricular  a level in the dependent (posterior) horns of a supine patient, or a cast

Each class answers four questions about a slab: `layer` (mm of blood under the skull), `pushes` (mass
effect), `widen` (mm by which CSF spaces swell), `coverage` (share of each pixel that is blood); `density` is
its HU. Ages of blood and their HU stand in lesions.py.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from .head import Fields, Head, Push
from .shapes import column, coverage, level, radius, total
from .tissue import Brain

OEDEMA = 13.0  # HU; vasogenic oedema takes 5-12 HU from white matter


@dataclass(frozen=True)
class Bleed(ABC):
    """One bleed: `site` (3,) in head coordinates, mm; `hu` of its blood."""

    site: np.ndarray
    hu: float

    label = ""

    def layer(self, fields: Fields) -> np.ndarray | None:
        """Thickness of blood between skull and brain, (planes, rows, columns) mm, or None without any."""
        return None

    def pushes(self) -> list[Push]:
        return []

    def widen(self, fields: Fields) -> np.ndarray | None:
        return None

    @abstractmethod
    def coverage(self, head: Head, fields: Fields, brain: Brain) -> np.ndarray:
        """Share of each pixel filled with this blood, (planes, rows, columns) in [0, 1]."""

    def density(self, fields: Fields, share: np.ndarray) -> np.ndarray | float:
        """HU of the blood at each pixel, or one for all."""
        return self.hu

    def stain(self, head: Head, fields: Fields, brain: Brain) -> None:
        """Change the tissue around the bleed in place; most bleeds leave it alone."""
        return


def _beside(fields: Fields, site: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared distance along the skull from `site`, and distance into the head from it, mm."""
    away = fields.xyz - column(site)
    along = total(away * column(_inward(site, 1.0)))
    away *= away
    return total(away) - along * along, along


def _on_vault(fields: Fields) -> np.ndarray:
    """1 along the vault, fading to 0 where the base of the skull is nearer."""
    return np.clip(1.3 + (fields.vault + fields.depth) * 0.12, 0.0, 1.0)


def _filled(depth: np.ndarray, layer: np.ndarray, soften: np.ndarray) -> np.ndarray:
    """Share of a layer of blood in each pixel; where the layer thins out below a pixel, so does the blood."""
    return coverage(depth - layer, soften) * np.clip(layer - 0.2, 0.0, 1.0)


def _inward(site: np.ndarray, amount: float) -> np.ndarray:
    return -site / np.linalg.norm(site) * amount


@dataclass(frozen=True)
class Epidural(Bleed):
    """Thickest at `site`, thinning as a parabola to nothing at `radius`."""

    thickness: float
    radius: float

    label = "epidural"

    def layer(self, fields: Fields) -> np.ndarray | None:
        if fields.slab.box(self.site, self.radius * 1.5) is None:
            return None
        aside, along = _beside(fields, self.site)
        lens = np.maximum(1.0 - aside / self.radius**2, 0.0)
        return self.thickness * lens * _on_vault(fields) * (along < 60.0)

    def pushes(self) -> list[Push]:
        return [Push(self.site * 0.75, _inward(self.site, 0.4 * self.thickness), 1.3 * self.radius)]

    def coverage(self, head: Head, fields: Fields, brain: Brain) -> np.ndarray:
        layer = self.layer(fields)
        if layer is None:
            return np.zeros_like(fields.x)
        return _filled(fields.depth, layer, fields.soften) * brain.inside


@dataclass(frozen=True)
class Subdural(Bleed):
    """A crescent that thins out towards `radius`, never across the midline; `falx`, `tentorium` in mm.

    `sediment`: HU by which the dependent part is denser, as in acute on chronic bleeding (Lee et al., J
    Korean Med Sci 1997;12:353-359); 0 in uniform blood.
    """

    thickness: float
    radius: float
    falx: float
    tentorium: float
    sediment: float = 0.0

    label = "subdural"

    def density(self, fields: Fields, share: np.ndarray) -> np.ndarray | float:
        if self.sediment == 0:
            return self.hu
        return self.hu + self.sediment * np.clip((fields.y - float(self.site[1])) * 0.15 + 0.5, 0.0, 1.0)

    def layer(self, fields: Fields) -> np.ndarray:
        side = float(np.sign(self.site[0]))
        aside, along = _beside(fields, self.site)
        even = np.maximum(1.0 - (aside / self.radius**2) ** 2, 0.0)
        supratentorial = np.clip((fields.z - 8.0 + 0.40 * np.abs(fields.x)) * 0.3, 0.0, 1.0)
        supratentorial = np.maximum(supratentorial, np.clip((12.0 - fields.y) * 0.3, 0.0, 1.0))
        same_side = np.clip((fields.x * side - 1.0) * 0.12, 0.0, 1.0)
        return self.thickness * even**0.6 * same_side * supratentorial * _on_vault(fields) * (along < 80.0)

    def pushes(self) -> list[Push]:
        return [Push(self.site * 0.7, _inward(self.site, 0.45 * self.thickness), 45.0)]

    def coverage(self, head: Head, fields: Fields, brain: Brain) -> np.ndarray:
        side, pixel = float(np.sign(self.site[0])), fields.slab.pixel
        layer = self.layer(fields)
        blood = _filled(fields.depth, layer, fields.soften)
        if self.falx > 0:
            beside = fields.x * side
            reach = np.clip((42.0 - np.abs(fields.y - float(self.site[1]))) * 0.1, 0.0, 1.0)
            sheet = coverage(np.abs(beside - 0.5 * self.falx) - 0.5 * self.falx * reach, pixel)
            blood = np.maximum(blood, sheet * (brain.falx > 0.5) * (reach > 0))
        if self.tentorium > 0:
            width = max(pixel, fields.slab.z_step)
            sheet = coverage(np.abs(brain.tentorium - 0.5 * self.tentorium) - 0.5 * self.tentorium, width)
            open_ring = (radius(fields.x, fields.y - 10.0) > 25.0) & (fields.x * side > 1.0)
            leaf = open_ring & (fields.y > 8.0 + 0.42 * np.abs(fields.x))
            blood = np.maximum(blood, sheet * leaf)
        return blood * brain.inside


@dataclass(frozen=True)
class Subarachnoid(Bleed):
    """Blood in the CSF within about `radius` of the site and of its further `branches` (n, 3)."""

    branches: np.ndarray
    radius: float
    swelling: float

    label = "subarachnoid"

    def region(self, fields: Fields) -> np.ndarray:
        """1 in the midst of the bleed, falling to 0, (planes, rows, columns)."""
        sites = np.vstack([self.site[None], self.branches])
        nearest = np.minimum.reduce([fields.squared(site) for site in sites])
        return np.clip(2.2 * (1.0 - np.sqrt(nearest) / self.radius), 0.0, 1.0)

    def widen(self, fields: Fields) -> np.ndarray:
        return self.swelling * self.region(fields)

    def coverage(self, head: Head, fields: Fields, brain: Brain) -> np.ndarray:
        return brain.csf * self.region(fields) * brain.inside


@dataclass(frozen=True)
class Intraparenchymal(Bleed):
    """An ellipsoid of `radii` (3,) mm with a lumpy surface and a rim of oedema `rim` mm wide."""

    radii: np.ndarray
    rim: float

    label = "intraparenchymal"

    def distance(self, head: Head, fields: Fields) -> np.ndarray:
        """Signed distance to the surface, mm; far where it does not matter."""
        distance = np.full(fields.x.shape, 99.0, np.float32)
        box = fields.slab.box(self.site, 1.5 * self.radii, 3.0 * self.rim)
        if box is not None:
            xyz = fields.xyz[box]
            lumps = head.lumps.sample(xyz[0], xyz[1], fields.slab.z, 1.6)
            surface = level(xyz, self.site, self.radii) - 1.0 + 0.16 * lumps
            distance[box] = surface * float(self.radii.min())
        return distance

    def density(self, fields: Fields, share: np.ndarray) -> np.ndarray | float:
        """A clot is denser inside than where it meets serum and oedema."""
        return self.hu - 3.0 + 4.0 * share

    def pushes(self) -> list[Push]:
        side = float(np.sign(self.site[0])) or 1.0
        return [
            Push(
                self.site, np.array([-side * 0.3 * self.radii.min(), 0.0, 0.0]), 2.2 * float(self.radii.max())
            )
        ]

    def stain(self, head: Head, fields: Fields, brain: Brain) -> None:
        fade = np.exp(-((np.maximum(self.distance(head, fields), 0.0) / self.rim) ** 2))
        brain.hu += 0.9 * fade * (1.0 - brain.csf) * np.minimum(OEDEMA - brain.hu, 0.0)

    def coverage(self, head: Head, fields: Fields, brain: Brain) -> np.ndarray:
        free = 1.0 - coverage(brain.ventricle, fields.slab.pixel)
        within = np.clip(fields.depth * 0.5 - 0.5, 0.0, 1.0) * brain.inside
        return coverage(self.distance(head, fields), fields.slab.pixel) * free * within


@dataclass(frozen=True)
class Intraventricular(Bleed):
    """Blood behind a level: `levels` (right, left) give the y of the fluid level in each lateral ventricle.

    `third` and `fourth` tell whether those are filled. A `clot` keeps to within so many mm of `site`.
    """

    levels: tuple[float, float]
    third: bool
    fourth: bool
    clot: float = np.inf

    label = "intraventricular"

    def coverage(self, head: Head, fields: Fields, brain: Brain) -> np.ndarray:
        x, y, z = fields.xyz
        level = np.where(x < 0, np.float32(self.levels[0]), np.float32(self.levels[1]))
        middle = (np.abs(x) < 5.0) & (y > -16.0) & (y < 26.0) & (z < 9.0)
        fourth = (np.abs(x) < 16.0) & (y >= 26.0) & (z < -15.0)
        level = np.where(middle, np.float32(-50.0 if self.third else 200.0), level)
        level = np.where(fourth, np.float32(-50.0 if self.fourth else 200.0), level)
        pixel = fields.slab.pixel
        blood = coverage(brain.ventricle, pixel) * coverage(level - y, pixel) * brain.inside
        if np.isfinite(self.clot):
            blood *= coverage(np.sqrt(fields.squared(self.site)) - self.clot, pixel)
        return blood
