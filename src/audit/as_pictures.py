"""Images in HU as the pictures that networks trained on PNGs know: 8-bit gray levels of one window.

    python -m src.audit.as_pictures TABLE.csv --root FOLDER --out DIR [--window 40 80]

TABLE names DICOM files, NIfTI slices, or pictures whose window it gives, as `prepare_data.py --dataset table`
reads them. DIR gets a PNG an image, in its file's own window or the one given, and table.csv without windows,
for `predict.py --evaluate`. The level of a pixel is floor((HU - low) / width * 255), clipped to the window:
so the contest's PNGs in circulation were made.
"""

import sys
from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from ..command_line import argument_parser, run
from ..data.formats.images import decode_source
from ..data.preparation.options import Options
from ..data.readers.table import read
from ..errors import UserError
from ..files import write_csv
from ..labels import LABELS

KEPT = ("patient_id", "study_id", "series_id", "position_mm")


def levels(hu: np.ndarray, center: float, width: float) -> np.ndarray:
    """(rows, columns) int16 HU -> uint8"""
    shares = (hu - (center - width / 2)) / width
    return (shares.clip(0, 1) * 255).astype(np.uint8)


def write_pictures(table: Path, root: Path, out: Path, window: tuple[float, float] | None) -> list[str]:
    """A PNG an image and table.csv; gives the causes of the images that are left out.

    UserError for images that are pictures already, and where an image has no window of its own.
    """
    inventory = read(root, Options(dataset="table", table=str(table.absolute()), size=256), jobs=1)
    images = inventory.images.reset_index(drop=True)
    if (images["units"] == "gray").any():
        raise UserError(
            f"{table}: its images are gray levels already; evaluate it as it is, or give window_center and "
            "window_width"
        )
    rows = [row for row, source in enumerate(inventory.sources) if source is not None]
    own = inventory.headers[["window_center", "window_width"]].set_axis(rows).reindex(images.index)
    causes, kept = [], []
    for row, source in enumerate(inventory.sources):
        image_id, cause = images.loc[row, "image_id"], images.loc[row, "cause"]
        image = decode_source(source) if source is not None and pd.isna(cause) else str(cause)
        if isinstance(image, str):
            causes.append(f"{image_id}: {image}")
            continue
        shown = window or tuple(own.loc[row].astype(float))
        if not shown[1] > 0:
            raise UserError(f"{image_id}: its file has no window; give --window CENTER WIDTH")
        write_picture(out / f"{image_id}.png", levels(image.values, *shown))
        kept.append(row)
    columns = [column for column in (*KEPT, *LABELS) if column in images]
    named = images.loc[kept, ["image_id", *columns]]
    write_csv(out / "table.csv", named.assign(path=[f"{image_id}.png" for image_id in named["image_id"]]))
    return causes


def write_picture(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), values):
        raise UserError(f"{path}: could not be written; is the disk full, or the folder read-only?")


def main() -> None:
    arguments = parse_arguments()
    root = arguments.root or arguments.table.parent
    window = None if arguments.window is None else tuple(arguments.window)
    causes = write_pictures(arguments.table, root, arguments.out, window)
    for cause in causes:
        print(f"left out: {cause}", file=sys.stderr)
    print(f"{arguments.out / 'table.csv'}, for predict.py --evaluate")


def parse_arguments() -> Namespace:
    parser = argument_parser(__doc__.split("\n")[0])
    add = parser.add_argument
    add("table", type=Path, metavar="TABLE.csv", help="a row an image, see docs/data_card.md")
    add("--root", type=Path, metavar="FOLDER", help="of the images (default: where the table lies)")
    add("--window", type=float, nargs=2, metavar=("CENTER", "WIDTH"), help="in HU (default: each file's own)")
    add("--out", type=Path, required=True, metavar="DIR", help="a new folder for pictures and table")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
