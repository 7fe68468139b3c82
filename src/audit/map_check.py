"""Do maps point at bleeding? Grad-CAM of one network against masks, and against maps that know nothing.

    python -m src.audit.map_check demo experiments/demo/stage1/resnet.json --settings S.json --masks truth
    python -m src.audit.map_check bhsd experiments/real_slices/stage1/lite0.json --settings S.json \\
        --pictures FOLDER

Own data: every complete fold's held-out slices that bleed, with `--masks` prepared or truth, which tell
where and not which kind: a subtype is judged where it is a slice's only one. Pictures of
`src.audit.masked_pictures`: the first complete fold.

By label, each with an interval by drawing patients: how often the map's peak lies in the mask or within 15 of
512 pixels of it; how often a random point of the head, and the middle of the head, do; the share of the map's
sum in the mask, and that of an even map of the head, and of a central one. Then the correlation of the map of
`any` with that of the same network after its weights were shuffled, from the head downwards (Adebayo et al.,
NeurIPS 2018), 0 where it became flat: a map that stays shows the image, not what was learned. Results join
those in --out under the first word, with a table beside them.
"""

from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from torch import nn

from ..command_line import argument_parser, run
from ..data.prepared import Prepared
from ..data.square import Square, extract
from ..ensemble.answering.evaluate_table import prepare_table
from ..errors import UserError
from ..evaluation.bootstrap import PatientBootstrap
from ..evaluation.localisation import MapScore, central_map, score_map
from ..files import read_json, write_json, write_text
from ..labels import LABELS, SUBTYPES
from ..models.slice_classifier import build_slice_classifier
from ..report.generated import markdown_table
from ..report.maps.explainers import Explained, Explainer
from ..report.maps.gradcam import map_correlations, with_shuffled
from ..settings import load_settings
from ..training.runs import Run, run_name, runs_of
from ..training.slices.masks import INSIDE, SOURCES, Masks, open_mask_source
from ..training.slices.slice_config import SliceConfig
from ..training.split import labelled_slices
from .masked_pictures import UNTOLD

HEAD = {"hu": -200, "gray": 0}  # what is above it, with what it encloses, is head
CONTAINERS = ("blocks", "stages")  # of timm's networks: their children are the layers
COARSE = 32  # side of the maps that are correlated
LabelMask = Callable[[pd.Series, str], np.ndarray | None]  # (slice, label) -> (size, size) bool
MEASURES = ("hit", "by_chance", "by_the_middle", "energy", "area", "energy_of_the_middle")


def of_all(masks: Masks) -> LabelMask:
    """By masks that hold all bleeding of a slice."""

    def read(row: pd.Series, label: str) -> np.ndarray | None:
        alone = label == "any" or row[list(SUBTYPES)].sum() == 1
        return masks.read(row.name) > INSIDE / 2 if alone and row.name in masks else None

    return read


def of_pictures(folder: Path) -> LabelMask:
    """By the class of every pixel, see `src.audit.masked_pictures`."""

    def read(row: pd.Series, label: str) -> np.ndarray | None:
        path = folder / "masks" / f"{Path(row.name).stem}.png"
        classes = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if classes is None:
            raise UserError(f"{path}: missing or no picture; make it by src.audit.masked_pictures")
        own = classes > 0
        if label != "any" and not ((classes == UNTOLD).any() and row[list(SUBTYPES)].sum() == 1):
            own = classes == SUBTYPES.index(label) + 1
        square = Square(row["square_top"], row["square_left"], row["square_side"])
        return extract(own.astype(np.int16) * INSIDE, square, int(row["size"]), fill=0) > INSIDE / 2

    return read


def head_of(values: np.ndarray, units: str) -> np.ndarray:
    """(h, w) bool: the largest piece above the threshold and what it encloses; everything where none is."""
    above = cv2.inRange(values, HEAD[units] + 1, 32767)
    outlines, _ = cv2.findContours(above, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return np.ones(values.shape, bool)
    filled = np.zeros_like(above)
    return cv2.drawContours(filled, [max(outlines, key=cv2.contourArea)], -1, 1, -1) > 0


def score_slices(explainer: Explainer, rows: pd.DataFrame, mask_of: LabelMask) -> pd.DataFrame:
    """A row for every label that a slice shows and has a mask of: patient_id, label, MEASURES.

    rows: index image_id, columns of slices.parquet, `size` and the labels.
    """
    found, units = [], explainer.prepared.geometry["units"]
    for one in explainer.slices(list(rows.index)):
        row, maps = rows.loc[one.image_id], explainer.as_stored(one)
        head = head_of(explainer.prepared.volumes.slice(one.image_id), units)
        for column, label in enumerate(LABELS):
            mask = mask_of(row, label) if row[label] == 1 else None
            if mask is None or not mask.any():
                continue
            own, middle = (
                score_map(cam, mask, within=head | mask) for cam in (maps[column], central_map(head))
            )
            found.append((row["patient_id"], label, *_measures(own, middle)))
    return pd.DataFrame(found, columns=["patient_id", "label", *MEASURES])


def _measures(own: MapScore, middle: MapScore) -> tuple[float, ...]:
    """MEASURES."""
    return own.hit, own.chance_of_hit, middle.hit, own.energy, own.area, middle.energy


def summarise(scores: pd.DataFrame) -> dict[str, Any]:
    """By label the number of slices and patients, the mean of every measure, and what the map gains over
    chance and over the middle, each as [mean, low, high]; bounds are null for a single patient.
    """
    scores = scores.astype(dict.fromkeys(MEASURES, float))
    for name, other in (("chance", "by_chance"), ("the_middle", "by_the_middle")):
        scores[f"hit_minus_{name}"] = scores["hit"] - scores[other]
    for name, other in (("even", "area"), ("the_middle", "energy_of_the_middle")):
        scores[f"energy_minus_{name}"] = scores["energy"] - scores[other]
    names = list(scores.columns.drop(["patient_id", "label"]))
    return {
        label: {
            "slices": len(own),
            "patients": int(own["patient_id"].nunique()),
            **dict(zip(names, _intervals(own[names].to_numpy(), own["patient_id"]), strict=True)),
        }
        for label in LABELS
        if len(own := scores[scores["label"] == label])
    }


def _intervals(values: np.ndarray, patients: pd.Series) -> list[list[float | None]]:
    """[mean, low, high] of every column, patients drawn."""
    if patients.nunique() < 2:
        return [[round(float(value), 4), None, None] for value in values.mean(0)]
    rows = np.column_stack([values, np.ones(len(values))])
    found = PatientBootstrap(patients.to_numpy()).intervals(
        rows, lambda sums: sums[..., :-1] / sums[..., -1:]
    )
    return [[round(float(value), 4) for value in interval] for interval in found]


def stages(model: nn.Module) -> list[tuple[str, list[str]]]:
    """From the head downwards: the lowest part that is shuffled, and all that are."""
    children = [
        (f"{name}.{inner}", layer) if name in CONTAINERS else (name, part)
        for name, part in model.backbone.named_children()
        for inner, layer in (part.named_children() if name in CONTAINERS else [("", part)])
    ]
    learned = [f"backbone.{name}" for name, part in children if len(list(part.parameters()))]
    parts = ["head", *reversed(learned)]
    return [(part, parts[: place + 1]) for place, part in enumerate(parts)]


def shuffled_maps(explainer: Explainer, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Lowest shuffled part -> patient_id and the correlation of the maps of `any` before and after."""
    model, before = explainer.model, _coarse(explainer, rows)
    told = np.ptp(before, axis=(1, 2)) > 0  # a flat map cannot be compared
    before, rows, found = before[told], rows[told], {}
    for name, parts in stages(model):
        explainer.model = with_shuffled(model, parts, seed=0)
        values = np.nan_to_num(map_correlations(before, _coarse(explainer, rows)))
        found[name] = pd.DataFrame({"patient_id": rows["patient_id"].to_numpy(), "correlation": values})
    explainer.model = model
    return found


def _coarse(explainer: Explainer, rows: pd.DataFrame) -> np.ndarray:
    """(n, COARSE, COARSE) maps of `any`."""
    column, side = LABELS.index("any"), (COARSE, COARSE)

    def small(one: Explained) -> np.ndarray:
        return cv2.resize(one.maps[column], side, interpolation=cv2.INTER_AREA)

    return np.stack([small(one) for one in explainer.slices(list(rows.index))])


def check(explainers: Sequence[tuple[Explainer, pd.DataFrame]], mask_of: LabelMask) -> dict[str, Any]:
    """The numbers of several folds together, each on slices of its own."""
    scores = pd.concat([score_slices(*one, mask_of) for one in explainers])
    shuffled: dict[str, list[pd.DataFrame]] = {}
    for explainer, rows in explainers:
        for name, values in shuffled_maps(explainer, rows[rows["any"] == 1]).items():
            shuffled.setdefault(name, []).append(values)
    return {
        "labels": summarise(scores),
        "shuffled": {k: _correlation(pd.concat(v)) for k, v in shuffled.items()},
    }


def _correlation(values: pd.DataFrame) -> list[float | None]:
    return (
        _intervals(values[["correlation"]].to_numpy(), values["patient_id"])[0] if len(values) else [None] * 3
    )


def explainer_of(trained: Run, prepared: Prepared) -> Explainer:
    config = trained.read_config(SliceConfig)
    model = trained.load_weights(build_slice_classifier(config, pretrained=False)).eval()
    return Explainer(model, prepared, config, torch.device("cpu"))


def bleeding_rows(prepared: Prepared, images: Iterator[str] | Sequence[str]) -> pd.DataFrame:
    """The bleeding slices among some, as `score_slices` reads them."""
    rows = prepared.slices[prepared.slices["status"] == "ok"].set_index("image_id").loc[list(images)]
    return rows[rows["any"] == 1].assign(size=prepared.size)


def on_own_data(folds: Sequence[Run], prepared: Prepared, raw: Path, source: str) -> dict[str, Any]:
    mask_of = of_all(open_mask_source(source, raw, prepared))
    usable = labelled_slices(prepared)["image_id"]
    parts = [
        (
            explainer_of(fold, prepared),
            bleeding_rows(prepared, usable[usable.isin(fold.predictions("oof").index)]),
        )
        for fold in folds
    ]
    return check(parts, mask_of)


def on_pictures(fold: Run, folder: Path) -> dict[str, Any]:
    with TemporaryDirectory(prefix="ich_maps_") as temporary:
        prepared = prepare_table(fold, folder / "table.csv", folder, Path(temporary), jobs=1)
        usable = prepared.slices.loc[prepared.slices["status"] == "ok", "image_id"]
        return check([(explainer_of(fold, prepared), bleeding_rows(prepared, usable))], of_pictures(folder))


def page(results: Mapping[str, Mapping[str, Any]]) -> str:
    """results/maps.md."""
    lines = [
        "# Do the maps point at bleeding?",
        "",
        "Generated by `python -m src.audit.map_check`, whose first lines say what is measured; in brackets "
        "95 % by drawing patients. `hit`: peak in the mask or within 15 of 512 pixels of it; `energy`: share "
        "of the map's sum in the mask. Chance: a random point of the head, an even map of it. Middle: a map "
        "that knows where the middle of the head is and nothing else.",
    ]
    for name, found in results.items():
        lines += ["", f"## {name}: {found['what']}", "", found["remark"], "", _table(found["labels"]), ""]
        shown = [f"{part} {_cell(values)}" for part, values in found["shuffled"].items()]
        lines.append(
            f"Correlation of the map of any bleeding after shuffling, downwards: {', '.join(shown)}."
        )
    return "\n".join(lines) + "\n"


def _table(labels: Mapping[str, Any]) -> str:
    header = [
        "label",
        "slices",
        "patients",
        *(name.replace("_", " ") for name in MEASURES),
        "hit minus the middle",
    ]
    rows = [
        [
            label,
            found["slices"],
            found["patients"],
            *(_cell(found[name]) for name in (*MEASURES, "hit_minus_the_middle")),
        ]
        for label, found in labels.items()
    ]
    return markdown_table(
        header, [[str(cell) for cell in row] for row in rows], "l" + "r" * (len(header) - 1)
    )


def _cell(values: Sequence[float | None]) -> str:
    mean, low, high = values
    if mean is None:
        return "none"
    return f"{mean:.2f}" if low is None else f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    arguments = parse_arguments()
    settings = load_settings(arguments.settings)
    name = run_name(arguments.config)
    folds = [one for one in runs_of(settings, name.split("/")[0]) if one.name == name and one.complete]
    if not folds:
        raise UserError(f"{name}: no complete fold; run: {Run(name, 0, settings).command}")
    if arguments.pictures is None:
        found = on_own_data(folds, Prepared(settings.clean), settings.raw, arguments.masks)
    else:
        folds = folds[:1]
        found = on_pictures(folds[0], arguments.pictures)
    numbers = ", ".join(str(fold.fold) for fold in folds)
    about = {"what": f"{name}, fold {numbers}", "remark": arguments.remark}
    results = (read_json(arguments.out) if arguments.out.exists() else {}) | {arguments.name: about | found}
    write_json(arguments.out, results)
    write_text(arguments.out.with_suffix(".md"), page(results))
    print(page({arguments.name: about | found}))


def parse_arguments() -> Namespace:
    parser = argument_parser(__doc__.split("\n")[0])
    add = parser.add_argument
    add("name", help="of the result in --out")
    add("config", type=Path, metavar="CONFIG.json", help="of a slice classifier of the six labels")
    add("--settings", default="SETTINGS.json", metavar="FILE", help="folders (default: SETTINGS.json)")
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--masks", choices=SOURCES, help="of the data it was trained on")
    group.add_argument("--pictures", type=Path, metavar="DIR", help="made by src.audit.masked_pictures")
    add("--remark", default="", metavar="TEXT", help="what a reader must know of these data")
    add("--out", type=Path, required=True, metavar="FILE", help="results/maps.json")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
