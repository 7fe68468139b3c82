"""Where a trained network finds its evidence: Grad-CAM maps of one fold, on one page to look at.

    python -m src.report.maps.cam_page experiments/demo/stage1/resnet.json --fold 0 --out maps.html

Reads CLEAN_DATA_DIR and the fold's folder below MODEL_DIR. On the page: held-out slices, or of kind video
held-out studies, of each label in turn the one given the highest probability, and maps of their most probable
labels; of a study the frames where the map of the first of these is highest. With `--masks` also the
outline of the bleeding, and how well the maps of all positive held-out slices point at it. The page shows
pixels of the data set: publish it only if those may be published.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from ...command_line import DEVICES, argument_parser, positive, run
from ...data.prepared import Prepared
from ...data.target_labels import with_locations
from ...data.windows import BRAIN, GRAY
from ...errors import UserError
from ...evaluation.localisation import TOLERANCE, Localisation, MapScore, score_map, summarise
from ...files import write_text
from ...models.cam_targets import find_cam_targets
from ...settings import load_settings
from ...targets import KEYS, WHOLE, Unit
from ...training.engine.devices import choose_device
from ...training.kinds import kind_of
from ...training.runs import Run, run_name
from ...training.slices.masks import SOURCES, open_mask_source
from ...training.split import labelled_slices, labelled_studies
from ...training.videos.video_config import VideoConfig
from ..data_overview import is_gray
from ..pages import render_page
from .cam_pictures import (
    OUTLINE,
    gray_picture,
    heat_gradient,
    normalise,
    picture_uri,
    with_map,
    with_outline,
)
from .explainers import EXPLAINERS, Explained, Explainer

FRAMES_SHOWN = 8  # of a study


def choose(predicted: pd.DataFrame, study: pd.Series, count: int) -> list[str]:
    """Keys: of every column in turn the most probable slice, no two of a study for one column.

    predicted: probabilities of images or of studies; study: of each of them.
    """
    pools = []
    for label in predicted.columns.drop("any", errors="ignore"):  # which its subtypes bring along
        ranked = predicted[label].sort_values(ascending=False, kind="stable").index
        pools.append(ranked[~study[ranked].duplicated()])
    turns = [pool[turn] for turn in range(max(map(len, pools))) for pool in pools if turn < len(pool)]
    return list(dict.fromkeys(turns))[:count]


def localise(explainer: Explainer, labels: pd.DataFrame) -> dict[str, Localisation]:
    """By column how well maps point at masks, over positive slices that have one.

    labels: of images or of studies, the columns of the targets. A mask holds all bleeding of a slice: the map
    of a subtype or a site is judged where the slice, or the study, shows no other.
    """
    whole = next(column for column in explainer.columns if column in WHOLE)
    scores: dict[str, list[MapScore]] = {column: [] for column in explainer.columns}
    masks = explainer.masks or ()
    positive = labels.index[labels[whole] == 1]
    keys = [key for key in positive if any(image_id in masks for image_id in explainer.images(key))]
    for key, group in explainer.groups(keys):
        true = [c for c in explainer.columns if c != whole and labels.at[key, c] == 1]
        for explained in group:
            if explained.mask is None or not explained.mask.any():  # lies outside what the network sees
                continue
            for column in [whole, *(true if len(true) == 1 else [])]:
                cam = explained.maps[explainer.columns.index(column)]
                scores[column].append(score_map(cam, explained.mask))
    return {column: summarise(found) for column, found in scores.items() if found}


def pictures(
    group: Sequence[Explained], columns: Sequence[str], window: tuple[float, float], count: int
) -> list[dict[str, Any]]:
    """A slice, or the frames of a study where the map of its most probable label is highest: in gray, and
    with the maps of the `count` most probable labels, scaled to their highest value in the group.
    """
    maps, ranked = np.stack([one.maps for one in group]), np.argsort(-group[0].probabilities, kind="stable")
    scaled, highest = normalise(maps, (0, 2, 3))[0], maps.max((2, 3))
    places = np.argsort(-highest[:, ranked[0]], kind="stable")[:FRAMES_SHOWN]
    return [
        _pictures(group[place], scaled[place], highest[place], columns, ranked[:count], window)
        for place in np.sort(places)
    ]


def _pictures(
    explained: Explained,
    scaled: np.ndarray,
    highest: np.ndarray,
    columns: Sequence[str],
    shown: np.ndarray,
    window: tuple[float, float],
) -> dict[str, Any]:
    gray = gray_picture(explained.hu, window)

    def uri(picture: np.ndarray) -> str:
        return picture_uri(picture if explained.mask is None else with_outline(picture, explained.mask))

    maps = [
        {
            "label": columns[k],
            "probability": explained.probabilities[k],
            "highest": highest[k],
            "empty": highest[k] <= 0,
            "uri": uri(with_map(gray, scaled[k])),
        }
        for k in shown
    ]
    return {"image_id": explained.image_id, "gray": uri(gray), "maps": maps}


def remarks(key: str, labels: pd.DataFrame, held_out: pd.Index) -> dict[str, str]:
    """What a slice or study is to the fold, and what is true of it; labels: of all labelled ones."""
    if key not in labels.index:
        return {"part": "not trained on", "labels": "unknown"}
    true = labels.columns[labels.loc[key] == 1]
    part = "held out" if key in held_out else "trained on"
    return {"part": part, "labels": ", ".join(true) or "no bleeding"}


def facts(explainer: Explainer, gray: bool) -> dict[str, str]:
    """What stands above the pictures."""
    config = explainer.config
    windows = [w if w == "file" else "{:g} / {:g}".format(*w) for w in config.windows]
    neighbours = ", ".join(map("{:+d}".format, config.neighbours))
    size = f"{config.channels} channels of {config.image_size} x {config.image_size}"
    brain = "brain window, center {:g} HU, width {:g} HU".format(*BRAIN)
    video = isinstance(config, VideoConfig)
    return {
        "network": config.encoder,
        "layer of the maps": next(iter(find_cam_targets(explainer.model))),
        "input": size if config.neighbours == (0,) else f"{size}, slices {neighbours}",
        **({"frames of a study": f"{config.frames}, {config.frame_choice}"} if video else {}),
        "its windows, center / width": ", ".join(windows),
        "pictures": "gray levels 0 to 255" if gray else brain,
    }


def main() -> None:
    arguments = parse_arguments()
    settings = load_settings(arguments.settings)
    trained = Run(run_name(arguments.config), arguments.fold, settings)
    trained.require("metrics.json")
    kind = kind_of(trained)
    if kind.config not in EXPLAINERS:
        raise UserError(f"{arguments.config}: its runs read no pixels; give one of stage 1")
    config, prepared = trained.read_config(kind.config), Prepared(settings.clean)
    columns, predicted = list(config.predicted.columns), trained.predictions("oof")
    located = with_locations(prepared, config.site_labels, settings.raw)
    unit: Unit = "study" if kind.config is VideoConfig else "image"
    rows = (labelled_slices if unit == "image" else labelled_studies)(located, config.predicted)
    labels = rows.set_index(KEYS[unit], drop=False)
    if len(gone := predicted.index.difference(labels.index)):
        raise UserError(
            f"{trained.folder}: holds out {gone[0]}, which {settings.clean} has not; "
            "give the settings it was trained with"
        )
    masks = None if arguments.masks is None else open_mask_source(arguments.masks, settings.raw, prepared)
    model = trained.load_weights(kind.build(config, pretrained=False))
    explainer = EXPLAINERS[kind.config](model, prepared, config, choose_device(arguments.device), masks)
    keys = arguments.images or choose(predicted, labels["study_id"], arguments.slices)
    gray = is_gray(prepared.slices)
    shown = [
        {"key": key, "slices": pictures(group, columns, GRAY if gray else BRAIN, arguments.maps)}
        | remarks(key, labels[columns], predicted.index)
        for key, group in explainer.groups(keys)
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
        shuffled=explainer.with_shuffled_head(keys, whole),
        found=localise(explainer, labels.loc[predicted.index, columns]),
        tolerance=TOLERANCE,
        studies=unit == "study",
        frames_shown=FRAMES_SHOWN,
        shown=shown,
    )
    write_text(arguments.out, page)
    what = "studies" if unit == "study" else "slices"
    print(f"{arguments.out}: {len(shown)} {what}, {arguments.maps} maps of each")


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    add = parser.add_argument
    add("config", metavar="CONFIG.json", help="of stage 1; its path names the run")
    add("--fold", type=int, required=True, metavar="K", help="the fold whose network is explained")
    add("--out", type=Path, required=True, metavar="FILE.html")
    add("--settings", default="SETTINGS.json", metavar="FILE", help="folders (default: SETTINGS.json)")
    text = "slices on the page, of kind video studies (default: 10)"
    add("--slices", type=positive, default=10, metavar="N", help=text)
    add("--images", nargs="+", metavar="ID", help="these slices or studies instead")
    add("--maps", type=positive, default=2, metavar="N", help="labels of each (default: 2)")
    text = "bleeding to compare with: the data set's own masks, or those of synthetic data"
    add("--masks", choices=SOURCES, help=text)
    add("--device", choices=DEVICES, default="auto", help="where the network runs (default: auto)")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
