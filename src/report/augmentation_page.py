"""What a stage-1 configuration shows its network: augmented samples and views, on one page to look at.

    python -m src.report.augmentation_page experiments/baseline/stage1/seresnext50.json --out page.html

Reads CLEAN_DATA_DIR; `--set` changes keys as in training. A slice of every kind, each channel a row: as
predicted, then some draws with their numbers, then the views of prediction. Mixed samples (CutMix, mixup)
find their partners among the slices of the page. The page shows pixels of the data set: publish it only if
those may be published.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib.style
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from ..command_line import argument_parser, positive, run
from ..config import load_config
from ..data.prepared import Prepared
from ..errors import UserError
from ..files import write_text
from ..labels import LABELS, SUBTYPES
from ..models.slice_classifier import SliceClassifier, build_slice_classifier
from ..settings import load_settings
from ..training.slices.draws import Draw
from ..training.slices.masks import open_mask_source
from ..training.slices.slice_batches import Batch, SliceBatches, plain_batches
from ..training.slices.slice_config import SliceConfig
from ..training.slices.views import VIEWS
from ..training.split import labelled_slices
from .pages import render_page
from .run.data_pictures import PIXELS_PER_INCH, data_uri

PIXELS, GAP, LINE = 170, 4, 14  # side of a picture on the page, space between two, height of a line of text
EDGE = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class Look:
    """One picture column: (channels, h, w) as the network gets it, and what stands above each channel."""

    images: np.ndarray
    title: str
    notes: list[str]
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class Sample:
    """A slice of the page, as data URIs of its pictures."""

    image_id: str
    labels: str
    draws: str
    views: str


def samples(
    batches: SliceBatches, slices: pd.DataFrame, config: SliceConfig, rows: Sequence[int], draws: int
) -> list[Sample]:
    """The pictures of some rows of `slices`, which is what `batches` was made from."""
    rows, ids = np.asarray(rows), list(slices["image_id"].iloc[list(rows)])
    torch.manual_seed(config.seed)
    model = build_slice_classifier(config, pretrained=False)
    plain = next(iter(plain_batches(batches.reader.prepared, ids, config, len(ids))))
    seeds = [(config.seed, number, 0) for number in range(draws)]  # the first batch of as many epochs
    drawn = [(batches.drawn(rows, seed), batches.batch(rows, seed)) for seed in seeds]
    names = channel_names(config)
    found = []
    for place, image_id in enumerate(ids):
        unchanged = Look(_images(model, plain, place), "as predicted", names)
        augmented = [
            Look(
                _images(model, batch, place), describe(numbers, place, config, batches.reader.side, ids),
                _effective_windows(numbers, place, config), _mask(batch, place),
            )
            for numbers, batch in drawn
        ]  # fmt: skip
        views = [Look(_images(model, _seen(plain, name), place), name, names) for name in config.tta]
        labels = slices.iloc[rows[place]]
        positive_labels = [label for label in LABELS if labels[label]] or ["no bleeding"]
        found.append(
            Sample(
                image_id, ", ".join(positive_labels), _uri([unchanged, *augmented], config),
                _uri(views, config),
            )
        )  # fmt: skip
    return found


def choose(slices: pd.DataFrame, count: int, seed: int = 0) -> list[int]:
    """Row numbers of `count` slices: in turn one without bleeding and one of every subtype that occurs."""
    kinds = [slices["any"] == 0, *(slices[label] == 1 for label in SUBTYPES)]
    pools = [np.flatnonzero(kind.to_numpy(bool)) for kind in kinds]
    pools = [np.random.default_rng(seed).permutation(pool) for pool in pools if len(pool)]
    turns = [pool[turn] for turn in range(count) for pool in pools if turn < len(pool)]
    return list(dict.fromkeys(int(row) for row in turns))[:count]


def channel_names(config: SliceConfig) -> list[str]:
    """`slice +1, 40 / 80` for every channel, in the order in which the network gets them."""
    windows = [window if window == "file" else "{:g} / {:g}".format(*window) for window in config.windows]
    pairs = [(k, window) for k in config.neighbours for window in windows]
    return [window if len(config.neighbours) == 1 else f"slice {k:+d}, {window}" for k, window in pairs]


def describe(numbers: Draw, place: int, config: SliceConfig, stored: int, ids: Sequence[str]) -> str:
    """The numbers of one draw in words; what changes nothing is left out."""
    size = config.image_size
    linear, offset = numbers.matrices[place, :, :2], numbers.matrices[place, :, 2]
    mirrored = np.linalg.det(linear) < 0
    turned = linear @ np.diag([-1, 1]) if mirrored else linear
    angle = np.rad2deg(np.arctan2(turned[1, 0], turned[0, 0]))  # of the content, anticlockwise
    zoom = config.middle * stored / size / np.sqrt(abs(np.linalg.det(linear)))
    center = np.full(2, (size - 1) / 2)
    moved = -(linear @ center + offset - (stored - 1) / 2) / stored * 100
    holes = int((np.prod(numbers.holes[place][:, 2:] - numbers.holes[place][:, :2], axis=1) > 0).sum())
    kept, paste = numbers.kept[place], numbers.pastes[place]
    parts = [
        (mirrored, "mirrored"),
        (abs(angle) > 0.05, f"turned {angle:+.0f}°"),
        (abs(zoom - 1) > 0.005, f"zoom {zoom:.2f}"),
        (np.abs(moved).max() > 0.5, f"moved {round(moved[0]):+d}, {round(moved[1]):+d} %"),
        (numbers.moves[place].any(), f"bent {np.abs(numbers.moves[place]).max(initial=0):.0f} px"),
        (numbers.hu_scale[place] != 1, f"HU x {numbers.hu_scale[place]:.2f}"),
        (numbers.hu_shift[place] != 0, f"HU {numbers.hu_shift[place]:+.1f}"),
        (numbers.noise[place] > 0, f"noise {numbers.noise[place]:.0f} HU"),
        (numbers.blur[place] > 0, f"blur {numbers.blur[place]:.1f} px"),
        (holes > 0, "1 hole" if holes == 1 else f"{holes} holes"),
        (numbers.reverse[place], "neighbours swapped"),
        (kept < 1, f"{'CutMix' if paste.any() else 'mixup'} {1 - kept:.0%} of"),
        (kept < 1, ids[numbers.partners[place]]),
    ]
    return "\n".join(text for said, text in parts if said) or "unchanged"


def _effective_windows(numbers: Draw, place: int, config: SliceConfig) -> list[str]:
    windows = numbers.windows if config.learn_windows else numbers.shifted_windows
    texts = [f"{center:.0f} / {width:.0f}" for center, width in windows[place]]
    return texts * len(config.neighbours)


def _images(model: SliceClassifier, batch: Batch, place: int) -> np.ndarray:
    windows = batch["windows"]
    with torch.inference_mode():
        one = model.images(
            batch["hu"][place : place + 1], windows[place : place + 1] if len(windows) > 1 else windows
        )
    return one[0].float().numpy()


def _seen(plain: Batch, view: str) -> Batch:
    return plain | {"hu": VIEWS[view](plain["hu"])}


def _mask(batch: Batch, place: int) -> np.ndarray | None:
    return batch["masks"][place, 0].numpy() if "masks" in batch and batch["known"][place] else None


def _limits(config: SliceConfig, channel: int) -> tuple[float, float] | None:
    """The values of black and white: 0 and 1 before normalisation; None where that is learned."""
    if config.normalisation == "instance":
        return None
    mean, std = (values[channel % len(values)] for values in (config.mean, config.std))
    return (0 - mean) / std, (1 - mean) / std


def _uri(looks: Sequence[Look], config: SliceConfig) -> str:
    """One picture: a column a look, a row a channel, on black; text above each."""
    lines = max(look.title.count("\n") for look in looks) + 1
    top, row, column = LINE * (lines + 2), PIXELS + LINE + GAP, PIXELS + GAP
    canvas = np.zeros((top + config.channels * row - LINE, len(looks) * column), np.float32)
    texts = []
    for number, look in enumerate(looks):
        left, middle = number * column, (number + 0.5) * column
        texts.append((middle, top - LINE - 3, look.title))
        for channel, image in enumerate(look.images):
            low, high = _limits(config, channel) or (image.min(), image.max())
            gray = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
            if look.mask is not None:
                gray[cv2.morphologyEx(look.mask.astype(np.uint8), cv2.MORPH_GRADIENT, EDGE) > 0] = 1
            above = top + channel * row
            small = cv2.resize(gray, (PIXELS, PIXELS), interpolation=cv2.INTER_AREA)
            canvas[above : above + PIXELS, left : left + PIXELS] = small
            texts.append((middle, above - 3, look.notes[channel]))
    height, width = canvas.shape
    with matplotlib.style.context(["default", {"text.parse_math": False}]):  # ids are text
        figure = Figure(figsize=(width / PIXELS_PER_INCH, height / PIXELS_PER_INCH), facecolor="black")
        figure.figimage(canvas, cmap="gray", vmin=0, vmax=1)
        for across, down, text in texts:
            place = (across / width, 1 - down / height)
            figure.text(*place, text, color="white", fontsize=7, ha="center", va="bottom")
        return data_uri(figure)


def render(found: Sequence[Sample], config: SliceConfig, name: str) -> str:
    settings = config.augmentation.model_dump_json(exclude_defaults=True)
    return render_page("augmentation.html", samples=found, config=config, name=name, settings=settings)


def main() -> None:
    arguments = parse_arguments()
    settings = load_settings(arguments.settings)
    config = load_config(SliceConfig, arguments.config, arguments.overrides)
    prepared = Prepared(settings.clean)
    slices, masks = labelled_slices(prepared), None
    if config.segmentation is not None:
        masks = open_mask_source(config.segmentation.masks, settings.raw, prepared)
    rows = choose(slices, arguments.slices, config.seed)
    if arguments.images:
        rows = [_row(slices, image_id) for image_id in arguments.images]
    batches = SliceBatches(prepared, slices, config, masks=masks)
    found = samples(batches, slices, config, rows, arguments.draws)
    write_text(arguments.out, render(found, config, arguments.config))
    print(f"{arguments.out}: {len(found)} slices, {arguments.draws} draws of each")


def _row(slices: pd.DataFrame, image_id: str) -> int:
    rows = np.flatnonzero(slices["image_id"] == image_id)
    if not len(rows):
        raise UserError(f"--images {image_id}: no usable labelled slice of that name; see slices.parquet")
    return int(rows[0])


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    add = parser.add_argument
    add("config", metavar="CONFIG.json", help="a stage-1 configuration")
    add("--out", type=Path, required=True, metavar="FILE.html")
    add("--settings", default="SETTINGS.json", metavar="FILE", help="folders (default: SETTINGS.json)")
    add("--slices", type=positive, default=6, metavar="N", help="slices on the page (default: 6)")
    add("--images", nargs="+", metavar="ID", help="these slices instead")
    add("--draws", type=positive, default=6, metavar="N", help="augmented samples of each (default: 6)")
    add("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="as in training")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
