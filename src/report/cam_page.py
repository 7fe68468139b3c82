"""Where a trained slice classifier finds its evidence: Grad-CAM maps of one fold, on one page to look at.

    python -m src.report.cam_page experiments/demo/stage1/resnet.json --fold 0 --out maps.html

Reads CLEAN_DATA_DIR and the fold's folder below MODEL_DIR. On the page: held-out slices, of each label in
turn the one given the highest probability, and maps of their most probable labels. With `--masks` also the
outline of the bleeding, and how well the maps of all positive held-out slices point at it. The page shows
pixels of the data set: publish it only if those may be published.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from matplotlib.colors import to_hex

from ..command_line import DEVICES, positive, run
from ..data.prepared import Prepared
from ..data.target_labels import with_locations
from ..data.windows import BRAIN, GRAY
from ..errors import UserError
from ..evaluation.localisation import TOLERANCE, Localisation, MapScore, score_map, summarise
from ..files import write_text
from ..models.cam_targets import find_cam_targets
from ..models.heads import probabilities
from ..models.slice_classifier import SliceClassifier, build_slice_classifier
from ..settings import load_settings
from ..targets import WHOLE
from ..training.engine.devices import choose_device
from ..training.kinds import kind_of
from ..training.runs import Run, run_name
from ..training.slices.masks import SOURCES, Masks, open_mask_source
from ..training.slices.slice_batches import SliceReader, middle, plain_batches
from ..training.slices.slice_config import SliceConfig
from ..training.split import labelled_slices
from .cam_pictures import OUTLINE, gray_picture, heat_gradient, picture_uri, with_map, with_outline
from .data_overview import is_gray
from .gradcam import grad_cam, normalise, shuffled_head_correlation
from .pages import render_page


@dataclass(frozen=True)
class Explained:
    """A slice as it is shown, and its maps."""

    image_id: str
    hu: np.ndarray  # (h, w) int16, the part the network sees, at the stored resolution
    maps: np.ndarray  # (columns, h, w) float32, not normalised
    probabilities: np.ndarray  # (columns,)
    mask: np.ndarray | None  # (h, w) bool


class Explainer:
    """A slice classifier on prepared data."""

    def __init__(
        self,
        model: SliceClassifier,
        prepared: Prepared,
        config: SliceConfig,
        device: torch.device,
        masks: Masks | None = None,
    ):
        self.model, self.prepared, self.config, self.masks = model.to(device), prepared, config, masks
        self.device, self.columns = device, config.predicted.columns
        # what the network sees of a slice, as sharp as it is stored
        shown = {"image_size": prepared.size, "neighbours": (0,)}
        self.reader = SliceReader(prepared, config.model_copy(update=shown))

    def slices(self, image_ids: Sequence[str]) -> Iterator[Explained]:
        """In their order, a batch at a time."""
        for ids, inputs in self._batches(image_ids):
            maps, logits = grad_cam(self.model, inputs, self.columns, names=self.columns)
            shares = probabilities(torch.from_numpy(logits.T.copy()), self.config.predicted).numpy()
            pictures = self._as_shown(self.reader.hu(ids))
            for place, image_id in enumerate(ids):
                large = np.stack([cv2.resize(cam, pictures[place].shape) for cam in maps[:, place]])
                yield Explained(image_id, pictures[place], large, shares[place], self._mask(image_id))

    def with_shuffled_head(self, image_ids: Sequence[str], label: str) -> np.ndarray:
        """See `shuffled_head_correlation`; slices with a flat map are left out."""
        found = [
            shuffled_head_correlation(
                self.model, "head", inputs, label, names=self.columns, seed=self.config.seed
            )
            for _, inputs in self._batches(image_ids)
        ]
        together = np.concatenate(found)
        return together[~np.isnan(together)]

    def _batches(self, image_ids: Sequence[str]) -> Iterator[tuple[list[str], list[torch.Tensor]]]:
        for batch in plain_batches(self.prepared, list(image_ids), self.config, self.config.batch_size):
            yield batch["ids"], [batch[name].to(self.device) for name in ("hu", "windows")]

    def _mask(self, image_id: str) -> np.ndarray | None:
        if self.masks is None or image_id not in self.masks:
            return None
        return self._as_shown(self.reader.mask(image_id, self.masks)[None, None])[0] > 127

    def _as_shown(self, images: np.ndarray) -> np.ndarray:
        """(n, 1, side, side) -> (n, h, w)"""
        return middle(images, *self.reader.target)[:, 0]


def choose(predicted: pd.DataFrame, study: pd.Series, count: int) -> list[str]:
    """Image ids: of every column in turn the most probable slice, no two of a study for one column.

    predicted: probabilities, index image_id; study: of every image.
    """
    pools = []
    for label in predicted.columns.drop("any", errors="ignore"):  # which its subtypes bring along
        ranked = predicted[label].sort_values(ascending=False, kind="stable").index
        pools.append(ranked[~study[ranked].duplicated()])
    turns = [pool[turn] for turn in range(max(map(len, pools))) for pool in pools if turn < len(pool)]
    return list(dict.fromkeys(turns))[:count]


def localise(explainer: Explainer, labels: pd.DataFrame) -> dict[str, Localisation]:
    """By column how well maps point at masks, over positive slices that have one.

    labels: index image_id, the columns of the targets. A mask holds all bleeding of a slice: the map of a
    subtype or a site is judged where the slice shows no other.
    """
    whole = next(column for column in explainer.columns if column in WHOLE)
    scores: dict[str, list[MapScore]] = {column: [] for column in explainer.columns}
    masks = explainer.masks or ()
    ids = [image_id for image_id in labels.index[labels[whole] == 1] if image_id in masks]
    for explained in explainer.slices(ids):
        if not explained.mask.any():  # lies outside what the network sees
            continue
        true = [c for c in explainer.columns if c != whole and labels.at[explained.image_id, c] == 1]
        for column in [whole, *(true if len(true) == 1 else [])]:
            cam = explained.maps[explainer.columns.index(column)]
            scores[column].append(score_map(cam, explained.mask))
    return {column: summarise(found) for column, found in scores.items() if found}


def pictures(
    explained: Explained, columns: Sequence[str], window: tuple[float, float], count: int
) -> dict[str, Any]:
    """The gray slice and the maps of its `count` most probable labels, as the page shows them."""
    gray = gray_picture(explained.hu, window)
    scaled, empty = normalise(explained.maps)

    def uri(picture: np.ndarray) -> str:
        return picture_uri(picture if explained.mask is None else with_outline(picture, explained.mask))

    maps = [
        {
            "label": columns[k],
            "probability": explained.probabilities[k],
            "highest": explained.maps[k].max(),
            "empty": empty[k],
            "uri": uri(with_map(gray, scaled[k])),
        }
        for k in np.argsort(-explained.probabilities, kind="stable")[:count]
    ]
    return {"image_id": explained.image_id, "gray": uri(gray), "maps": maps}


def remarks(image_id: str, labels: pd.DataFrame, held_out: pd.Index) -> dict[str, str]:
    """What a slice is to the fold, and what is true of it; labels: of all labelled training slices."""
    if image_id not in labels.index:
        return {"part": "not trained on", "labels": "unknown"}
    true = labels.columns[labels.loc[image_id] == 1]
    part = "held out" if image_id in held_out else "trained on"
    return {"part": part, "labels": ", ".join(true) or "no bleeding"}


def facts(explainer: Explainer, gray: bool) -> dict[str, str]:
    """What stands above the pictures."""
    config = explainer.config
    windows = [w if w == "file" else "{:g} / {:g}".format(*w) for w in config.windows]
    neighbours = ", ".join(map("{:+d}".format, config.neighbours))
    size = f"{config.channels} channels of {config.image_size} x {config.image_size}"
    brain = "brain window, center {:g} HU, width {:g} HU".format(*BRAIN)
    return {
        "network": config.encoder,
        "layer of the maps": next(iter(find_cam_targets(explainer.model))),
        "input": size if config.neighbours == (0,) else f"{size}, slices {neighbours}",
        "its windows, center / width": ", ".join(windows),
        "pictures": "gray levels 0 to 255" if gray else brain,
    }


def main() -> None:
    arguments = parse_arguments()
    settings = load_settings(arguments.settings)
    trained = Run(run_name(arguments.config), arguments.fold, settings)
    trained.require("metrics.json")
    if kind_of(trained).config is not SliceConfig:
        raise UserError(f"{arguments.config}: its runs are no slice classifiers; give one of kind slice")
    config, prepared = trained.read_config(SliceConfig), Prepared(settings.clean)
    columns, predicted = list(config.predicted.columns), trained.predictions("oof")
    located = with_locations(prepared, config.site_labels, settings.raw)
    labels = labelled_slices(located, config.predicted).set_index("image_id")
    if len(gone := predicted.index.difference(labels.index)):
        raise UserError(
            f"{trained.folder}: holds out {gone[0]}, which {settings.clean} has not; "
            "give the settings it was trained with"
        )
    masks = None if arguments.masks is None else open_mask_source(arguments.masks, settings.raw, prepared)
    model = trained.load_weights(build_slice_classifier(config, pretrained=False))
    explainer = Explainer(model, prepared, config, choose_device(arguments.device), masks)
    image_ids = arguments.images or choose(predicted, labels["study_id"], arguments.slices)
    gray = is_gray(prepared.slices)
    shown = [
        pictures(explained, columns, GRAY if gray else BRAIN, arguments.maps)
        | remarks(explained.image_id, labels[columns], predicted.index)
        for explained in explainer.slices(image_ids)
    ]
    whole = next(column for column in columns if column in WHOLE)
    page = render_page(
        "cam_page.html",
        run=str(trained),
        synthetic=(settings.raw / "demo_test_labels.csv").exists(),
        facts=facts(explainer, gray),
        gradient=heat_gradient(),
        line=to_hex(OUTLINE),
        masks=masks is not None,
        whole=whole,
        shuffled=explainer.with_shuffled_head(image_ids, whole),
        found=localise(explainer, labels.loc[predicted.index, columns]),
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
    add("config", metavar="CONFIG.json", help="of a slice classifier; its path names the run")
    add("--fold", type=int, required=True, metavar="K", help="the fold whose network is explained")
    add("--out", type=Path, required=True, metavar="FILE.html")
    add("--settings", default="SETTINGS.json", metavar="FILE", help="folders (default: SETTINGS.json)")
    add("--slices", type=positive, default=10, metavar="N", help="slices on the page (default: 10)")
    add("--images", nargs="+", metavar="ID", help="these slices instead")
    add("--maps", type=positive, default=2, metavar="N", help="labels of each slice (default: 2)")
    text = "bleeding to compare with: the data set's own masks, or those of synthetic data"
    add("--masks", choices=SOURCES, help=text)
    add("--device", choices=DEVICES, default="auto", help="where the network runs (default: auto)")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
