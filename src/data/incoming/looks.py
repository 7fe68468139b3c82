"""Does a series look like a head CT in HU, without contrast, by a soft kernel, whole? Numbers, then words.

The thresholds stand between what 12 real series without contrast and by soft kernels show, 406 slices, and
what the same series show sharpened, with bright vessels drawn in, or cut in half (docs/log.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import cv2
import numpy as np

TISSUE_HU, BONE_HU = -300, 250
MOST_SLICES = 24  # evenly spaced ones say enough

# Of a head; beyond them a series is refused.
LARGEST_SECTION_CM2 = (40.0, 450.0)  # real: 186 to 326, the vertex alone 73
LEAST_BONE = 0.03  # of the head, real: .12 to .26, the vertex alone .07
# Beyond these there is a doubt.
BRAIN_HU = (5.0, 55.0)  # real: 12 to 39
LEAST_BRAIN_CM2 = 60.0  # largest section, real: 121 to 184
FEWEST_JUDGED = 3  # slices; one alone may show the vertex, or the skull's base, which is bright
MOST_BRIGHT = 0.01  # share of the brain of 100 to 400 HU, real: 0 to .001
LEAST_SMOOTHNESS = 0.15  # correlation of noise two pixels apart, real: .23 to .90
REACH_MM = 10.0  # what any filter here reaches beyond a head
COARSE_MM = 0.7  # larger pixels are means, whose noise tells nothing of the kernel
WIDTH_TO_LENGTH = (0.62, 1.15)
MOST_AT_BORDER = 0.08  # of the image's outline, real: 0 to .02


@dataclass(frozen=True)
class Look:
    """Numbers of a series; NaN where no slice shows what they are about."""

    slices: int  # looked at
    outside: float  # HU of the images' border, median
    section_cm2: float  # largest
    bone: float  # share of the head, median of the slices that show enough
    brain_cm2: float  # largest, inside the skull
    brain_hu: float  # median
    bright: float  # share of the brain
    smoothness: float
    width_to_length: float  # of the largest section
    at_border: float  # share of the image's outline that is head, largest

    def numbers(self) -> dict[str, float | None]:
        """For JSON."""
        values = {field.name: float(getattr(self, field.name)) for field in fields(self)}
        return {name: round(value, 4) if np.isfinite(value) else None for name, value in values.items()}


def look_at(slices: Sequence[np.ndarray], pixel_mm: Sequence[float]) -> Look:
    """slices: (rows, columns) int16 HU, as decoded; pixel_mm: side of a pixel of each."""
    sections = [_section(values, side) for values, side in zip(slices, pixel_mm, strict=True)]
    largest = max(sections, key=lambda section: section["area"])
    brains = [section for section in sections if section["brain"] >= LEAST_BRAIN_CM2]
    judged = brains if len(brains) >= FEWEST_JUDGED else []
    heads = [section for section in sections if section["area"] >= LARGEST_SECTION_CM2[0] / 2]

    def middle(of: list[dict[str, float]], name: str) -> float:
        values = [section[name] for section in of if np.isfinite(section[name])]
        return float(np.median(values)) if values else np.nan

    return Look(
        slices=len(slices),
        outside=middle(sections, "outside"),
        section_cm2=largest["area"],
        bone=middle(heads, "bone"),
        brain_cm2=max(section["brain"] for section in sections),
        brain_hu=middle(brains, "brain_hu"),
        bright=middle(judged, "bright"),
        smoothness=middle(judged, "smoothness"),
        width_to_length=largest["width_to_length"],
        at_border=max(section["at_border"] for section in sections),
    )


def refusal(look: Look) -> str | None:
    """Why a series cannot be a head CT in HU."""
    low, high = LARGEST_SECTION_CM2
    if look.section_cm2 > high or (look.section_cm2 < low and look.slices >= FEWEST_JUDGED):
        return (
            f"not a head: its largest section is {look.section_cm2:.0f} cm2, that of a head between "
            f"{low:.0f} and {high:.0f}"
        )
    if not look.bone >= LEAST_BONE and look.slices >= FEWEST_JUDGED:
        return f"not a head: {100 * np.nan_to_num(look.bone):.0f} % of it are bone, of a head 12 to 26 %"
    if look.outside > TISSUE_HU and not BRAIN_HU[0] <= look.brain_hu <= BRAIN_HU[1]:
        return f"not HU: around the head are {look.outside:.0f} HU, where there is air (-1000)"
    return None


def doubts(look: Look) -> list[str]:
    """What a person should know before believing the predictions."""
    said = []
    if look.outside > TISSUE_HU:
        said.append(f"no air around the head: outside it is {look.outside:.0f} HU; images were changed")
    if look.brain_cm2 < LEAST_BRAIN_CM2 and look.slices >= FEWEST_JUDGED:
        said.append(
            f"hardly any brain: its largest section inside a closed skull is {look.brain_cm2:.0f} cm2, usual "
            "are 120 to 180; part of the head may be missing"
        )
    elif np.isfinite(look.brain_hu) and not BRAIN_HU[0] <= look.brain_hu <= BRAIN_HU[1]:
        said.append(f"perhaps not HU: the brain's median is {look.brain_hu:.0f} HU, usual are 12 to 39")
    if look.bright > MOST_BRIGHT:
        said.append(
            f"perhaps with contrast, though nothing says so: {100 * look.bright:.1f} % of the brain are "
            f"between 100 and 400 HU, without contrast at most .1 %"
        )
    if look.smoothness < LEAST_SMOOTHNESS:
        said.append(
            f"perhaps a bone kernel: the noise of pixels two apart correlates with {look.smoothness:.2f}, by "
            "a soft kernel with .23 to .90"
        )
    if not WIDTH_TO_LENGTH[0] <= look.width_to_length <= WIDTH_TO_LENGTH[1]:
        said.append(
            f"half of the head may be missing: its largest section is {look.width_to_length:.2f} times as "
            "wide as long, usual are .7 to 1"
        )
    if look.at_border > MOST_AT_BORDER:
        said.append(
            f"cut off: {100 * look.at_border:.0f} % of the image's border are head, which goes on outside it"
        )
    return said


def _section(values: np.ndarray, side: float) -> dict[str, float]:
    border = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    outside = float(np.median(border))
    tissue = cv2.inRange(values, TISSUE_HU, 32767)
    if outside > TISSUE_HU and (border == outside).mean() > 0.75:  # a background of another value
        tissue &= ~cv2.inRange(values, int(outside), int(outside))
    head = _largest(tissue)
    area = np.count_nonzero(head) * side**2 / 100
    found = dict.fromkeys(("bone", "brain_hu", "bright", "smoothness"), np.nan)
    found |= {"area": area, "brain": 0.0, "width_to_length": np.nan, "at_border": _share_at_border(head)}
    found["outside"] = outside
    if area < 5:
        return found
    box = cv2.boundingRect(head)
    found |= {"width_to_length": box[2] / box[3]}
    values, head = (_around(image, box, REACH_MM / side) for image in (values, head))
    bone = cv2.inRange(values, BONE_HU, 32767) & head
    found["bone"] = np.count_nonzero(bone) / np.count_nonzero(head)
    brain = _inside(bone, side)
    found["brain"] = np.count_nonzero(brain) * side**2 / 100
    if found["brain"] >= 5:
        found |= _of_brain(values, brain > 0, side)
    return found


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest piece of a mask without thin bridges, its holes filled; uint8 0 or 255."""
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    outlines, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(mask)
    if outlines:
        cv2.drawContours(filled, [max(outlines, key=cv2.contourArea)], -1, 255, -1)
    return filled


def _around(image: np.ndarray, box: tuple[int, int, int, int], margin: float) -> np.ndarray:
    """The part within a box (left, top, width, height) and so many pixels of it, C-contiguous: half of what a
    slice shows is air.
    """
    (left, top, width, height), margin = box, int(np.ceil(margin))
    part = image[max(top - margin, 0) : top + height + margin, max(left - margin, 0) : left + width + margin]
    return np.ascontiguousarray(part)


def _inside(bone: np.ndarray, side: float) -> np.ndarray:
    """What a skull encloses, without the 4 mm beside it; gaps of 12 mm are closed."""
    closed = cv2.morphologyEx(bone, cv2.MORPH_CLOSE, _disc(6 / side))
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(bone)
    cv2.drawContours(filled, outlines, -1, 255, -1)
    return cv2.erode(filled & ~closed, _disc(4 / side))


def _disc(radius: float) -> np.ndarray:
    size = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))


def _of_brain(values: np.ndarray, brain: np.ndarray, side: float) -> dict[str, float]:
    smoothed = cv2.medianBlur(values, 5)  # noise is no vessel
    tissue = brain & (values > -20) & (values < 90)
    exact = values.astype(np.float32)
    noise = exact - cv2.GaussianBlur(exact, (0, 0), 2 / side)
    return {
        "brain_hu": float(np.median(values[brain])),
        "bright": float(((smoothed > 100) & (smoothed < 400))[brain].mean()),
        "smoothness": _correlation(noise, tissue) if side < COARSE_MM else np.nan,
    }


def _correlation(noise: np.ndarray, tissue: np.ndarray) -> float:
    """Of the noise of pixels two columns apart, both in tissue."""
    both = tissue[:, 2:] & tissue[:, :-2]
    pairs = noise[:, 2:][both], noise[:, :-2][both]
    return (
        float(np.corrcoef(*pairs)[0, 1])
        if np.count_nonzero(both) > 100 and min(map(np.std, pairs)) > 0
        else np.nan
    )


def _share_at_border(head: np.ndarray) -> float:
    border = np.concatenate([head[0], head[-1], head[:, 0], head[:, -1]])
    return float((border > 0).mean())
