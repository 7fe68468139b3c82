"""Where a trained slice classifier finds its evidence: Grad-CAM maps of one fold, on one page to look at.

    python -m src.report.cam_page experiments/demo/stage1/resnet.json --fold 0 --out maps.html

Reads CLEAN_DATA_DIR and the fold's folder below MODEL_DIR. On the page: held-out slices, of each subtype in
turn the one given the highest probability, and maps of their most probable labels. With `--masks` also the
outline of the bleeding, and how well the maps of all positive held-out slices point at it. The page shows
pixels of the data set: publish it only if those may be published.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from matplotlib.colors import to_hex
from scipy.special import expit

from ..command_line import DEVICES, positive, run
from ..data.prepared import read_slices
from ..data.volumes import Volumes, open_volumes
from ..data.windows import BRAIN
from ..errors import UserError
from ..evaluation.localisation import TOLERANCE, Localisation, score_map, summarise
from ..files import write_text
from ..labels import LABELS, SUBTYPES
from ..models.cam_targets import find_cam_targets
from ..models.slice_classifier import SliceClassifier
from ..settings import load_settings
from ..training.runs import Run, choose_device, run_name
from ..training.slices.masks import Masks, open_mask_source
from ..training.slices.slice_batches import SliceReader, middle, plain_batches
from ..training.slices.slice_config import SliceConfig
from ..training.slices.slice_fold import build_from_config
from .cam_pictures import OUTLINE, gray_picture, heat_gradient, picture_uri, with_map, with_outline
from .data_overview import is_gray
from .gradcam import grad_cam, normalise, shuffled_head_correlation
from .pages import render_page

GRAY_LEVELS = (127.5, 255.0)  # the window of data that are pictures


@dataclass(frozen=True)
class Explained:
    """A slice as it is shown, and its maps."""

    image_id: str
    hu: np.ndarray  # (h, w) int16, the part the network sees, at the stored resolution
    maps: np.ndarray  # (labels, h, w) float32, not normalised
    probabilities: np.ndarray  # (labels,)
    mask: np.ndarray | None  # (h, w) bool


class Explainer:
    """A fold's network on prepared data."""

    def __init__(
        self,
        model: SliceClassifier,
        volumes: Volumes,
        config: SliceConfig,
        device: torch.device,
        masks: Masks | None = None,
    ):
        self.model, self.volumes, self.config, self.masks = model.to(device), volumes, config, masks
        self.device = device
        # what the network sees of a slice, as sharp as it is stored
        self.shown = config.model_copy(
            update={"image_size": volumes.size, "neighbours": (0,), "windows": (BRAIN,)}
        )
        self.reader = SliceReader(volumes, self.shown)

    def slices(self, image_ids: Sequence[str]) -> Iterator[Explained]:
        """In their order, a batch at a time."""
        for ids, inputs in self._batches(image_ids):
            maps, logits = grad_cam(self.model, inputs, LABELS)
            pictures = self._as_shown(self.reader.hu(ids))
            for place, image_id in enumerate(ids):
                large = [cv2.resize(cam, pictures[place].shape) for cam in maps[:, place]]
                yield Explained(
                    image_id, pictures[place], np.stack(large), expit(logits[:, place]), self._mask(image_id)
                )

    def with_shuffled_head(self, image_ids: Sequence[str], label: str = "any") -> np.ndarray:
        """Rank correlation of each map with that of the network whose head was shuffled; no flat maps."""
        found = [
            shuffled_head_correlation(self.model, "head", inputs, label, seed=self.config.seed)
            for _, inputs in self._batches(image_ids)
        ]
        found = np.concatenate(found)
        return found[~np.isnan(found)]

    def _batches(self, image_ids: Sequence[str]) -> Iterator[tuple[list[str], list[torch.Tensor]]]:
        for batch in plain_batches(self.volumes, list(image_ids), self.config, self.config.batch_size):
            yield batch["ids"], [batch[name].to(self.device) for name in ("hu", "windows")]

    def _mask(self, image_id: str) -> np.ndarray | None:
        if self.masks is None or image_id not in self.masks:
            return None
        return self._as_shown(self.reader.mask(image_id, self.masks)[None, None])[0] > 127

    def _as_shown(self, images: np.ndarray) -> np.ndarray:
        """(n, 1, side, side) -> (n, h, w)"""
        return middle(images, self.shown.image_size, self.shown.middle)[:, 0]


def choose(predicted: pd.DataFrame, study: pd.Series, count: int) -> list[str]:
    """Image ids: of every subtype in turn the most probable slice, no two of a study for one subtype.

    predicted: probabilities, index image_id, columns LABELS; study: of every image.
    """
    pools = []
    for label in SUBTYPES:
        ranked = predicted[label].sort_values(ascending=False, kind="stable").index
        pools.append(ranked[~study[ranked].duplicated()])
    turns = [pool[turn] for turn in range(max(map(len, pools))) for pool in pools if turn < len(pool)]
    return list(dict.fromkeys(turns))[:count]


def localise(explainer: Explainer, labels: pd.DataFrame) -> dict[str, Localisation]:
    """By label how well maps point at masks, over positive slices that have one.

    labels: index image_id, columns LABELS. A mask holds all bleeding of a slice: a subtype is judged on
    slices that show no other.
    """
    scores: dict[str, list] = {label: [] for label in LABELS}
    ids = [
        i for i in labels.index[labels["any"] == 1] if explainer.masks is not None and i in explainer.masks
    ]
    for slice_ in explainer.slices(ids):
        if not slice_.mask.any():  # lies outside what the network sees
            continue
        subtypes = [label for label in SUBTYPES if labels.at[slice_.image_id, label]]
        for label in ["any", *(subtypes if len(subtypes) == 1 else [])]:
            scores[label].append(score_map(slice_.maps[LABELS.index(label)], slice_.mask))
    return {label: summarise(found) for label, found in scores.items() if found}


def pictures(explained: Explained, window: tuple[float, float], count: int) -> dict[str, Any]:
    """The gray slice and the maps of its `count` most probable labels, as the page shows them."""
    gray = gray_picture(explained.hu, window)
    scaled, empty = normalise(explained.maps)

    def uri(picture: np.ndarray) -> str:
        return picture_uri(picture if explained.mask is None else with_outline(picture, explained.mask))

    maps = [
        {
            "label": LABELS[k],
            "probability": explained.probabilities[k],
            "highest": explained.maps[k].max(),
            "empty": empty[k],
            "uri": uri(with_map(gray, scaled[k])),
        }
        for k in np.argsort(-explained.probabilities, kind="stable")[:count]
    ]
    return {"image_id": explained.image_id, "gray": uri(gray), "maps": maps}


def remarks(row: Mapping[str, Any], held_out: bool) -> dict[str, str]:
    """What a slice is to the fold, and its labels where it has any; row: of slices.parquet."""
    part = "held out" if held_out else "trained on" if row["split"] == "train" else "test part"
    if pd.isna(row["any"]):
        return {"part": part, "labels": "unknown"}
    return {"part": part, "labels": ", ".join(label for label in LABELS if row[label]) or "no bleeding"}


def facts(explainer: Explainer, gray: bool) -> dict[str, str]:
    """What stands above the pictures."""
    config = explainer.config
    windows = [w if w == "file" else "{:g} / {:g}".format(*w) for w in config.windows]
    size = f"{config.channels} channels of {config.image_size} x {config.image_size}"
    neighbours = (
        "" if config.neighbours == (0,) else f", slices {', '.join(map('{:+d}'.format, config.neighbours))}"
    )
    return {
        "network": config.backbone,
        "layer of the maps": next(iter(find_cam_targets(explainer.model))),
        "input": size + neighbours,
        "its windows, center / width": ", ".join(windows),
        "pictures": "gray levels 0 to 255"
        if gray
        else "brain window, center {:g} HU, width {:g} HU".format(*BRAIN),
    }


def main() -> None:
    arguments = parse_arguments()
    settings = load_settings(arguments.settings)
    trained = Run(run_name(arguments.config), arguments.fold, settings)
    if trained.stage != "stage1":
        raise UserError(f"{arguments.config}: sees no pixels; give a configuration of stage 1")
    trained.require("metrics.json")
    config, predicted = trained.read_config(SliceConfig), trained.predictions("oof")
    volumes, slices = open_volumes(settings.clean), read_slices(settings.clean).set_index("image_id")
    if len(gone := predicted.index.difference(slices.index)):
        raise UserError(
            f"{trained.folder}: holds out {gone[0]}, which {settings.clean} has not; "
            "give the settings it was trained with"
        )
    masks = None
    if arguments.masks is not None:
        masks = open_mask_source(arguments.masks, settings.raw, settings.clean, volumes.size)
    model = trained.load_weights(build_from_config(config, pretrained=False))
    explainer = Explainer(model, volumes, config, choose_device(arguments.device), masks)
    image_ids = arguments.images or choose(predicted, slices["study_id"], arguments.slices)
    gray = is_gray(slices)
    shown = [
        pictures(explained, GRAY_LEVELS if gray else BRAIN, arguments.maps)
        | remarks(slices.loc[explained.image_id], explained.image_id in predicted.index)
        for explained in explainer.slices(image_ids)
    ]
    page = render_page(
        "cam_page.html",
        run=str(trained),
        synthetic=(settings.raw / "demo_test_labels.csv").exists(),
        facts=facts(explainer, gray),
        gradient=heat_gradient(),
        line=to_hex(OUTLINE),
        masks=masks is not None,
        shuffled=explainer.with_shuffled_head(image_ids),
        found=localise(explainer, slices.loc[predicted.index, list(LABELS)]),
        tolerance=TOLERANCE,
        slices=shown,
    )
    write_text(arguments.out, page)
    print(f"{arguments.out}: {len(shown)} slices, {arguments.maps} maps of each")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("config", metavar="CONFIG.json", help="of stage 1; its path names the run")
    add("--fold", type=int, required=True, metavar="K", help="the fold whose network is explained")
    add("--out", type=Path, required=True, metavar="FILE.html")
    add("--settings", default="SETTINGS.json", metavar="FILE", help="folders (default: SETTINGS.json)")
    add("--slices", type=positive, default=10, metavar="N", help="slices on the page (default: 10)")
    add("--images", nargs="+", metavar="ID", help="these slices instead")
    add("--maps", type=positive, default=2, metavar="N", help="labels of each slice (default: 2)")
    text = "bleeding to compare with: the data set's own masks, or those of synthetic data"
    add("--masks", choices=("prepared", "truth"), help=text)
    add("--device", choices=DEVICES, default="auto", help="where the network runs (default: auto)")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
