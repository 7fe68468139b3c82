"""Public slices with masks of bleeding as pictures and a table, for `src.audit.map_check`.

    python -m src.audit.masked_pictures bhsd FOLDER --out PICTURES
    python -m src.audit.masked_pictures ctich FOLDER --out PICTURES

bhsd: images/ (gray levels are HU), masks_index/ and table.csv, slices of BHSD (Wu et al., MLMI 2023) and of
MBH-Seg25; ctich: hemo_subset/, Masks_subset/ and labels.csv, slices of PhysioNet ct-ich in HU.

Writes NAME.png through the window 40 / 80 HU that most of the contest's pictures show, masks/NAME.png (0
nothing, 1 to 5 the subtypes in the order of SUBTYPES, 255 bleeding of a kind that is not told) and table.csv
with the labels and the patient, of BHSD the volume. The pictures are as private as what they are made from.
"""

from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd

from ..command_line import argument_parser, run
from ..data.formats.images import decode_mask, decode_source
from ..data.source import BareDicom
from ..data.windows import BRAIN
from ..errors import UserError
from ..files import write_csv
from ..labels import LABELS, SUBTYPES

UNTOLD = 255


class Masked(NamedTuple):
    """A slice, upright."""

    name: str
    patient: str
    hu: np.ndarray  # (h, w)
    classes: np.ndarray  # (h, w) uint8
    labels: dict[str, int]


def bhsd(folder: Path) -> Iterator[Masked]:
    for row in pd.read_csv(folder / "table.csv").to_dict("records"):
        hu, classes = (_gray(folder / kind / f"{row['name']}.png") for kind in ("images", "masks_index"))
        if row["source"] != "bhsd":  # MBH-Seg25 lies upside down
            hu, classes = hu[::-1], classes[::-1]
        yield Masked(row["name"], row["volume"], hu, classes, {label: row[label] for label in LABELS})


def ctich(folder: Path) -> Iterator[Masked]:
    for row in pd.read_csv(folder / "labels.csv").to_dict("records"):
        images = [BareDicom(str(folder / kind / row["file"])) for kind in ("hemo_subset", "Masks_subset")]
        hu, blood = decode_source(images[0]).values, decode_mask(images[1])
        labels = {label: int(row[label.capitalize()]) for label in SUBTYPES}
        classes = np.where(blood > 0, UNTOLD, 0).astype(np.uint8)
        name = row["file"].removesuffix(".dcm")
        yield Masked(name, f"{row['PatientNumber']:03d}", hu, classes, labels | {"any": max(labels.values())})


SETS: dict[str, Callable[[Path], Iterator[Masked]]] = {"bhsd": bhsd, "ctich": ctich}


def _gray(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise UserError(f"{path}: missing or no picture; unpack the data set again")
    return image


def write_pictures(slices: Iterator[Masked], out: Path) -> int:
    """Gives their number."""
    (out / "masks").mkdir(parents=True, exist_ok=True)
    center, width = BRAIN
    rows = []
    for one in slices:
        gray = np.clip((one.hu.astype(np.float64) - center) / width + 0.5, 0, 1) * 255
        cv2.imwrite(str(out / f"{one.name}.png"), gray.astype(np.uint8))
        cv2.imwrite(str(out / "masks" / f"{one.name}.png"), one.classes)
        rows.append({"path": f"{one.name}.png", "patient_id": one.patient, **one.labels})
    write_csv(out / "table.csv", pd.DataFrame(rows))
    return len(rows)


def main() -> None:
    arguments = parse_arguments()
    count = write_pictures(SETS[arguments.set](arguments.folder), arguments.out)
    print(f"{arguments.out}: {count} pictures with masks")


def parse_arguments() -> Namespace:
    parser = argument_parser(__doc__.split("\n")[0])
    parser.add_argument("set", choices=SETS)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of the data set, unpacked")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="of the pictures")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
