"""The page of one study: its slices to look through, what was answered for each, and what is doubtful.

One HTML file that asks for nothing else. It names nobody unless it is told to.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd

from ...data.prepared import Prepared
from ...data.windows import WINDOWS
from ...files import write_text
from ...labels import LABELS, SUBTYPES
from ..maps.cam_pictures import HEAT, heat_gradient, normalise
from ..pages import render_page
from .hu_packing import PackedSlices, pack_slices, said_of

SHOWN = ("any", *SUBTYPES)  # from above
SHOWN_WINDOWS = ("brain", "subdural", "stroke", "soft_tissue", "bone")
MEANING = {
    "epidural": "between the skull and the dura",
    "intraparenchymal": "within the brain's tissue",
    "intraventricular": "in the ventricles",
    "subarachnoid": "in the fluid around the brain",
    "subdural": "between the dura and the brain's surface",
    "any": "bleeding of any kind",
}
DIRECTIONS = (("R", "L"), ("A", "P"), ("F", "H"))  # ends of the axes of LPS: x, y, z
MAP_PIXELS = 64  # side of a map on the page, finer than the layers maps are made of
SCALE_MM = 50
SHORTEST_SECRET = 3  # anything shorter may stand in any text
WITHHELD = "[withheld]"
POINT = "specificity_90"  # of operating_points.json: nine in ten slices without bleeding are below it


class Point(NamedTuple):
    """The probability from which on a slice counts as positive, and the rates found with it."""

    threshold: float
    sensitivity: float
    specificity: float


@dataclass(frozen=True)
class ShownStudy:
    """What the page shows.

    hu            (slices, h, w) int16, from below upwards
    slices        probabilities: LABELS, index image_id in the order of `hu`
    spread        of the folds about `slices`, NaN where one fold answered: same columns and index
    study         probability of every label for the study;  study_spread  of the folds about it
    positions_mm  (slices,) along the normal, NaN where unknown
    spacing_mm    height and width of a pixel
    axes          directions along a row and down a column, patient coordinates (LPS)
    points        by label
    maps          (image_id, label) -> (h', w') float that covers the slice, as `grad_cam` gives it
    labels        what is known of the slices: LABELS, 0 or 1, index as of `slices`; None of a new study
    series        columns series, description, slices, step_mm, length_mm, against, chosen; with the identity
                  goes the description, a free text
    left_out      columns name, cause: a row a file
    identity      what names the patient or the study, by its meaning; with the image and series ids and file
                  names it is kept off the page, out of every text, unless that is asked for
    back          address and name of the page that leads here
    synthetic     whether what answered was trained on synthetic images
    """

    hu: np.ndarray
    slices: pd.DataFrame
    study: pd.Series
    spread: pd.DataFrame | None = None
    study_spread: pd.Series | None = None
    positions_mm: np.ndarray | None = None
    spacing_mm: tuple[float, float] | None = None
    axes: tuple[Sequence[float], Sequence[float]] | None = None
    points: Mapping[str, Point] = field(default_factory=dict)
    maps: Mapping[tuple[str, str], np.ndarray] = field(default_factory=dict)
    series: pd.DataFrame | None = None
    left_out: pd.DataFrame | None = None
    warnings: Sequence[str] = ()
    title: str = "Head CT"
    answered_by: str = ""
    identity: Mapping[str, str] = field(default_factory=dict)
    labels: pd.DataFrame | None = None
    back: tuple[str, str] | None = None
    synthetic: bool = False

    def __post_init__(self) -> None:
        if self.hu.ndim != 3 or len(self.hu) != len(self.slices) or not len(self.hu):
            raise ValueError(f"volume {self.hu.shape} of {len(self.slices)} slices with probabilities")
        if self.slices[list(LABELS)].isna().any(axis=None) or self.study[list(LABELS)].isna().any():
            raise ValueError("a slice or the study has no probability")
        if self.spread is not None and not self.spread.index.equals(self.slices.index):
            raise ValueError("spreads and probabilities are of different slices")
        if self.labels is not None and not self.labels.index.equals(self.slices.index):
            raise ValueError("labels and probabilities are of different slices")
        if unknown := {image for image, _ in self.maps} - set(self.slices.index):
            raise ValueError(f"map of {min(unknown)!r}, which is no slice of this study")


def points_of(operating_points: Mapping[str, Any]) -> dict[str, Point]:
    """By label, from `labels` of operating_points.json; none where a class was missing, or where no score
    reaches the rate.
    """
    found = {}
    for label, values in operating_points.items():
        point = values.get(POINT)
        if point and point["threshold"] is not None:
            found[label] = Point(point["threshold"], point["sensitivity"][0], point["specificity"][0])
    return found


def pixel_mm(prepared: Prepared, image_id: str) -> tuple[float, float] | None:
    """Height and width of a stored pixel; None where a header does not tell."""
    slices = prepared.slices
    row = slices[slices["image_id"] == image_id].iloc[0]
    side = row["pixel_spacing_mm"] * row["square_side"] / prepared.size
    return (float(side), float(side)) if np.isfinite(side) else None


def write_study_page(path: Path | str, result: ShownStudy, identified: bool = False) -> None:
    write_text(path, render_study_page(result, identified))


def render_study_page(result: ShownStudy, identified: bool = False) -> str:
    """HTML. identified: with the identity, ids and file names."""
    packed = pack_slices(result.hu)
    said = (lambda text: text) if identified else _Withholder(_secrets(result))
    return render_page(
        "study_page.html",
        title=said(result.title),
        answered_by=said(result.answered_by),
        synthetic=result.synthetic,
        labelled=result.labels is not None,
        back=result.back,
        identity=result.identity if identified else {},
        facts=_facts(result, packed),
        warnings=[said(warning) for warning in result.warnings],
        count=len(result.hu),
        size=result.hu.shape[1:],
        aspect=_aspect(result),
        first=_strongest(result, "any"),
        marks=_marks(result.axes),
        scale={"mm": SCALE_MM, "share": _scale_share(result)},
        windows=[_window(name) for name in SHOWN_WINDOWS],
        labels=[_label_row(result, label) for label in SHOWN],
        has_points=bool(result.points),
        ticks=_ticks(len(result.hu)),
        map_labels=[label for label in SHOWN if any(label == of for _, of in result.maps)],
        gradient=heat_gradient(),
        series=_series_rows(result.series, said, identified),
        left_out=_left_out_rows(result.left_out, said, identified),
        rows=_slice_rows(result, identified),
        identified=identified,
        slices=packed.texts,
        data=_data(result, packed),
    )


def _window(name: str) -> dict[str, Any]:
    center, width = WINDOWS[name]
    return {"name": name.replace("_", " "), "center": center, "width": width}


def _secrets(result: ShownStudy) -> set[str]:
    """The identity, its words, ids of images and series, and files with and without their folders."""
    known = list(map(str, result.identity.values()))
    known += [word for value in known for word in re.split(r"[\s^=,]+", value)]
    known += map(str, result.slices.index)
    for table, column in ((result.series, "series"), (result.left_out, "name")):
        known += [] if table is None or not len(table) else [str(value) for value in table[column].dropna()]
    known += [re.split(r"[/\\]", value)[-1] for value in known]
    return {secret for secret in known if len(secret) >= SHORTEST_SECRET}


class _Withholder:
    """Texts without the secrets; longest first, so that no end of one is left."""

    def __init__(self, secrets: set[str]):
        choices = "|".join(map(re.escape, sorted(secrets, key=len, reverse=True)))
        self.pattern = re.compile(rf"(?<!\w)(?:{choices})(?!\w)" if secrets else "(?!)", re.IGNORECASE)

    def __call__(self, text: str) -> str:
        return self.pattern.sub(WITHHELD, text)


def _facts(result: ShownStudy, packed: PackedSlices) -> dict[str, str]:
    count, height, width = result.hu.shape
    facts = {"slices": str(count), "pixels": f"{width} x {height}"}
    if result.spacing_mm is not None:
        facts["pixel size"] = "{:.2f} x {:.2f} mm".format(*result.spacing_mm[::-1])
    places = _positions(result)
    if count > 1 and np.isfinite(places).all():
        facts["from lowest to highest"] = f"{places[-1] - places[0]:.0f} mm"
        facts["step"] = f"{np.median(np.diff(places)):.1f} mm"
    facts["values"] = said_of(packed)
    if result.answered_by:
        facts["answered by"] = result.answered_by
    return facts


def _positions(result: ShownStudy) -> np.ndarray:
    return np.full(len(result.hu), np.nan) if result.positions_mm is None else result.positions_mm


def _aspect(result: ShownStudy) -> float:
    """Width of the picture divided by its height."""
    height, width = np.array(result.hu.shape[1:]) * (result.spacing_mm or (1, 1))
    return round(float(width / height), 4)


def _scale_share(result: ShownStudy) -> float | None:
    """Length of the scale divided by the width of the picture."""
    if result.spacing_mm is None:
        return None
    return round(SCALE_MM / (result.hu.shape[2] * result.spacing_mm[1]), 4)


def _marks(axes: tuple[Sequence[float], Sequence[float]] | None) -> dict[str, str]:
    """Side of the picture -> where it points to in the patient: R, L, A, P, H or F."""
    if axes is None:
        return {}
    (left, right), (top, bottom) = map(_ends, axes)
    return {"left": left, "right": right, "top": top, "bottom": bottom}


def _ends(direction: Sequence[float]) -> tuple[str, str]:
    """Letters of where an axis comes from and where it goes to."""
    axis = int(np.argmax(np.abs(direction)))
    low, high = DIRECTIONS[axis]
    return (low, high) if direction[axis] > 0 else (high, low)


def _label_row(result: ShownStudy, label: str) -> dict[str, Any]:
    """A label's place in the chart and in the table of the study."""
    values, point = result.slices[label].to_numpy(), result.points.get(label)
    above = values >= point.threshold if point else np.zeros(len(values), bool)
    spread = None if result.spread is None else result.spread[label].to_numpy()
    return {
        "name": label,
        "meaning": MEANING[label],
        "probability": _share(result.study[label]),
        "spread": _spread(result.study_spread, label),
        "point": None if point is None else point._asdict(),
        "words": _words(above) if point else "",
        "positive": bool(above.any()),
        "strongest": _strongest(result, label),
        "highest": _share(values.max()),
        "bars": _bars(values, ~above),
        "strong_bars": _bars(values, above),
        "whiskers": "" if spread is None else _whiskers(values, spread),
        "labelled": "" if result.labels is None else _stretches(result.labels[label].to_numpy() == 1),
        "labelled_on": "" if result.labels is None else _labelled_on(result.labels[label].to_numpy() == 1),
    }


def _strongest(result: ShownStudy, label: str) -> int:
    """Number of a slice, from 1."""
    return int(result.slices[label].to_numpy().argmax()) + 1


def _share(probability: float) -> str:
    return "< 0.001" if probability < 0.0005 else f"{probability:.3f}"


def _spread(spreads: pd.Series | None, label: str) -> str:
    """Nothing where one fold alone answered."""
    return "" if spreads is None or pd.isna(spreads[label]) else _share(spreads[label])


def _words(above: np.ndarray) -> str:
    if not above.any():
        return "none"
    return f"{above.sum()} of {len(above)}: {_ranges(np.flatnonzero(above) + 1)}"


def _ranges(numbers: np.ndarray) -> str:
    """1, 2, 3, 7 -> `1-3, 7`"""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def _bars(values: np.ndarray, shown: np.ndarray) -> str:
    """An SVG path: slice i stands on [i, i + 1], probability 1 is at 0, probability 0 at 1."""
    return "".join(
        f"M{at + 0.1:.1f} 1V{1 - values[at]:.4g}h.8V1z" for at in np.flatnonzero(shown & (values >= 0.0005))
    )


def _whiskers(values: np.ndarray, spread: np.ndarray) -> str:
    """An SVG path from probability - spread to probability + spread."""
    low, high = np.clip(values - spread, 0, 1), np.clip(values + spread, 0, 1)
    return "".join(
        f"M{at + 0.5:.1f} {1 - low[at]:.4g}V{1 - high[at]:.4g}" for at in np.flatnonzero(high - low >= 0.01)
    )


def _stretches(labelled: np.ndarray) -> str:
    """An SVG path along the upper edge, over every labelled slice."""
    return "".join(f"M{at} 0h1" for at in np.flatnonzero(labelled))


def _labelled_on(labelled: np.ndarray) -> str:
    return _ranges(np.flatnonzero(labelled) + 1) if labelled.any() else "none"


def _ticks(count: int) -> list[int]:
    """Numbers of slices for the axis: the first, the last, and round ones between."""
    step = next(step for step in (1, 5, 10, 20, 50, 100, 500) if count / step <= 8 or step == 500)
    round_ones = (tick for tick in range(max(step, 2), count, step) if count - tick > step / 2)
    return sorted({1, *round_ones, count})


def _series_rows(table: pd.DataFrame | None, said: Any, identified: bool) -> list[dict[str, Any]]:
    if table is None:
        return []
    return [
        {
            "description": _text(row["description"]) or "no description",
            "uid": _text(row["series"]) if identified else "",
            "slices": row["slices"],
            "step": _mm(row["step_mm"]),
            "length": _mm(row["length_mm"]),
            "against": said(_text(row["against"])),
            "chosen": bool(row["chosen"]),
        }
        for row in table.to_dict("records")
    ]


def _left_out_rows(table: pd.DataFrame | None, said: Any, identified: bool) -> list[dict[str, Any]]:
    """Cause, number of files, and their names for those who asked."""
    if table is None:
        return []
    groups = table.groupby(table["cause"].map(lambda cause: said(_text(cause))), sort=True)
    return [
        {"cause": cause, "files": len(rows), "names": list(rows["name"]) if identified else []}
        for cause, rows in groups
    ]


def _text(value: Any) -> str:
    return "" if pd.isna(value) else str(value)


def _mm(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.1f} mm"


def _slice_rows(result: ShownStudy, identified: bool) -> list[dict[str, Any]]:
    """All numbers, as a table that reads without a picture."""
    table = result.slices[list(SHOWN)].to_numpy()
    thresholds = [result.points[label].threshold if label in result.points else np.inf for label in SHOWN]
    known = np.zeros(table.shape) if result.labels is None else result.labels[list(SHOWN)].to_numpy()
    return [
        {
            "position": "" if np.isnan(place) else f"{place:.1f}",
            "values": [
                {"text": _share(value), "positive": value >= threshold, "labelled": label == 1}
                for value, threshold, label in zip(values, thresholds, labels, strict=True)
            ],
            "id": str(image_id) if identified else "",
        }
        for image_id, place, values, labels in zip(
            result.slices.index, _positions(result), table, known, strict=True
        )
    ]


def _data(result: ShownStudy, packed: PackedSlices) -> dict[str, Any]:
    """What the programs of the page read, as JSON."""
    return {
        "height": result.hu.shape[1],
        "width": result.hu.shape[2],
        "levels": packed.levels.tolist(),
        "labels": list(SHOWN),
        "probabilities": result.slices[list(SHOWN)].round(4).to_numpy().tolist(),
        "positions": [None if np.isnan(place) else round(float(place), 1) for place in _positions(result)],
        "maps": _maps(result),
        "map_pixels": MAP_PIXELS,
        "heat": _base64(np.round(255 * HEAT(np.linspace(0, 1, 256))[:, :3])),
    }


def _maps(result: ShownStudy) -> dict[str, dict[int, str]]:
    """Label -> place of the slice -> the map scaled to its own highest value, 0 to 255."""
    place = {image_id: at for at, image_id in enumerate(result.slices.index)}
    found: dict[str, dict[int, str]] = {}
    for (image_id, label), cam in result.maps.items():
        scaled, _ = normalise(np.asarray(cam, np.float32))
        small = cv2.resize(scaled, (MAP_PIXELS, MAP_PIXELS), interpolation=cv2.INTER_AREA)
        found.setdefault(label, {})[place[image_id]] = _base64(np.round(255 * small))
    return found


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.astype(np.uint8).tobytes()).decode()
