"""A page of synthetic head CTs for the eye: ten whole studies, one of each bleed, one of each mimic.

    python -m src.audit.gallery --preset realistic --seed 1 --out synthetic.png
    python -m src.audit.gallery --preset realistic --seed 1 --out data/beside.png --real data/raw

Studies are rows of slices from below to above, bleeds and mimics three neighbouring slices each, in the brain
window (epidural and subdural: 80, 200). The picture says on itself that it is synthetic. With --real, studies
and bleeds of a folder in RSNA's layout stand at the right; such a picture is refused inside the repository
(but for data/), since nothing made of the contest's pixels may be published.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from ..command_line import argument_parser, run
from ..data.contest_csv import read_labels
from ..data.dicom import decode, scan_headers
from ..data.geometry import positions
from ..data.phantom import TRAIN_CSV, prepare_preset
from ..data.source import DICOM_SUFFIXES, list_files, read_bytes
from ..data.windows import BRAIN, SUBDURAL
from ..errors import UserError
from ..files import atomic_path
from ..labels import SUBTYPES
from ..phantom.plan import Preset, StudyPlan, make_plan
from ..phantom.study import draw_study, paint_study

ROOT = Path(__file__).resolve().parents[2]
SEARCHED = 200  # studies among which bleeds and mimics are looked for
EPIDURAL = 0.1  # share of them, that there is one
SHOWN_ML = 2.0  # least volume of a bleed that is shown
STUDIES, COLUMNS, AROUND = 10, 9, 3  # studies, slices of each, slices of a finding
SIDE = 192  # pixels of a slice on the page
LINE = 20  # height of a title
LEAST_SLICES = 10  # of a real study that is shown whole


def synthetic_page(preset: str, seed: int, family: str = "standard", size: int = 512) -> np.ndarray:
    """(height, width) uint8."""
    statistics = prepare_preset(preset, family, EPIDURAL)
    plans = make_plan(statistics, SEARCHED, seed, size, None)
    strips = [
        strip(f"synthetic study {plan.study_id}", evenly(painted(plan, statistics)), BRAIN)
        for plan in plans[:STUDIES]
    ]
    return page([*strips, *bleed_strips(plans, statistics), *mimic_strips(plans, statistics)])


def painted(plan: StudyPlan, preset: Preset) -> list[np.ndarray]:
    """The readable slices of a study, from below to above, (size, size) int16 HU each."""
    images = []
    for data in paint_study(plan, preset).files:
        try:
            images.append(decode(data).values)
        except ValueError:  # the truncated file
            continue
    return images


def bleed_strips(plans: Sequence[StudyPlan], preset: Preset) -> Iterator[np.ndarray]:
    """For each subtype the first study with enough of it, around the slice with most."""
    for label in SUBTYPES:
        for plan in (plan for plan in plans if label in plan.recipe and not plan.faults):
            study = paint_study(plan, preset)
            volume = study.slices[f"ml_{label}"].to_numpy()
            if volume.max() >= SHOWN_ML:
                images = [decode(data).values for data in study.files]
                most = int(volume.argmax())
                title = f"synthetic {label}, {volume.max():.1f} ml in the middle slice"
                yield strip(title, around(images, most), window_of(label))
                break


def mimic_strips(plans: Sequence[StudyPlan], preset: Preset) -> Iterator[np.ndarray]:
    """For each kind of mimic the first study without bleeding that has it, around the slice nearest to it."""
    shown: set[str] = set()
    for plan in (plan for plan in plans if not plan.recipe and not plan.faults):
        study = draw_study(plan, preset)
        found = {mimic.name: mimic for mimic in study.mimics if mimic.name not in shown}
        images = painted(plan, preset) if found else []
        for name, mimic in found.items():
            sites = np.atleast_2d(mimic.site)
            places = np.stack([study.acquisition.image_position(sites, k)[0] for k in range(len(images))])
            nearest = int(np.abs(places[:, 2]).argmin())
            row, column = (places[nearest, :2] / study.acquisition.pixel).round().astype(int)
            if abs(places[nearest, 2]) < study.acquisition.step:
                shown.add(name)
                title = f"synthetic mimic: {name}, row {row}, column {column}"
                yield strip(title, around(images, nearest), BRAIN)


def real_page(folder: Path) -> np.ndarray:
    """(height, width) uint8: whole studies, and one of each bleed that the labels name."""
    headers = scan_headers([entry.path for entry in list_files(folder, DICOM_SUFFIXES)])
    whole = headers["file_size"] - headers["pixel_offset"] >= headers["pixel_length"]  # no truncated file
    headers = headers[headers["error"].isna() & whole].reset_index(drop=True)
    if headers.empty:
        raise UserError(f"{folder}: no readable DICOM slices there; give a folder in RSNA's layout")
    headers["position_mm"] = positions(headers)
    headers["image_id"] = [Path(path).stem for path in headers["path"]]
    headers = headers.sort_values(["study_id", "position_mm", "image_id"], ignore_index=True)
    studies = [study for _, study in headers.groupby("study_id") if len(study) >= LEAST_SLICES]
    strips = [
        strip(f"real study {k + 1}", evenly(read(study["path"])), BRAIN)
        for k, study in enumerate(studies[:STUDIES])
    ]
    labels = read_labels(folder / TRAIN_CSV).labels if (folder / TRAIN_CSV).is_file() else pd.DataFrame()
    for label in SUBTYPES if len(labels) else ():
        positive = headers[headers["image_id"].isin(labels.index[labels[label] == 1])]
        if len(positive):
            sizes = headers.groupby("study_id").size()
            first = positive.loc[positive["study_id"].map(sizes).idxmax()]
            study = headers[headers["study_id"] == first["study_id"]].reset_index(drop=True)
            places = study.index[study["image_id"].isin(positive["image_id"])]
            images = around(read(study["path"]), int(places[len(places) // 2]))
            strips.append(strip(f"real {label}", images, window_of(label)))
    return page(strips)


def read(paths: pd.Series) -> list[np.ndarray]:
    return [decode(read_bytes(path)).values for path in paths]


def window_of(label: str) -> tuple[float, float]:
    return SUBDURAL if label in ("epidural", "subdural") else BRAIN


def evenly(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [images[k] for k in np.linspace(0, len(images) - 1, COLUMNS).round().astype(int)]


def around(images: Sequence[np.ndarray], middle: int) -> list[np.ndarray]:
    """The slice and its neighbours; fewer at an end of the study."""
    return list(images[max(middle - 1, 0) : middle + 2])


def strip(title: str, images: Sequence[np.ndarray], window: tuple[float, float]) -> np.ndarray:
    """(LINE + SIDE, width) uint8: a title above a row of slices, room for a finding at least."""
    center, width = window
    found = np.zeros((LINE + SIDE, max(len(images), AROUND) * SIDE), np.uint8)
    cv2.putText(found, title, (4, LINE - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 255, 1, cv2.LINE_AA)
    for place, hu in enumerate(images):
        small = cv2.resize(hu.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        gray = np.clip((small - center) / width + 0.5, 0, 1) * 255
        found[LINE:, place * SIDE : (place + 1) * SIDE] = gray.astype(np.uint8)
    return found


def page(strips: Sequence[np.ndarray]) -> np.ndarray:
    """(height, COLUMNS * SIDE) uint8: strips in rows, as many to a row as there is room for."""
    rows = [np.zeros((LINE + SIDE, 0), np.uint8)]
    for one in strips:
        if rows[-1].shape[1] + one.shape[1] > COLUMNS * SIDE:
            rows.append(one)
        else:
            rows[-1] = np.hstack([rows[-1], one])
    return np.concatenate([np.pad(row, ((0, 0), (0, COLUMNS * SIDE - row.shape[1]))) for row in rows])


def beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Both pages on one, black below the shorter."""
    height = max(len(left), len(right))
    return np.hstack([np.pad(one, ((0, height - len(one)), (0, 0))) for one in (left, right)])


def main() -> None:
    parser = argument_parser(__doc__)
    add = parser.add_argument
    add("--preset", default="realistic", help="of src.data.phantom (default: realistic)")
    add("--family", default="standard", help="of src.data.phantom (default: standard)")
    add("--seed", type=int, default=1, help="of the patients (default: 1)")
    add("--size", type=int, default=512, help="image side in pixels (default: 512)")
    add("--real", type=Path, metavar="DIR", help="real studies in RSNA's layout, shown at the right")
    add("--out", type=Path, required=True, metavar="FILE.png")
    flags = parser.parse_args()
    out = flags.out.resolve()
    if flags.real is not None and out.is_relative_to(ROOT) and not out.is_relative_to(ROOT / "data"):
        raise UserError(
            f"{out}: shows real images and lies in the repository; write it elsewhere, or to data/"
        )
    picture = synthetic_page(flags.preset, flags.seed, flags.family, flags.size)
    if flags.real is not None:
        picture = beside(picture, real_page(flags.real))
    done, data = cv2.imencode(".png", picture)
    assert done
    with atomic_path(out) as temporary:
        temporary.write_bytes(data.tobytes())
    print(f"{out}: written")


if __name__ == "__main__":
    run(main)
