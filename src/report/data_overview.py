"""A look at a prepared data set: counts, prevalence, defects, a histogram of HU, pictures.

    python -m src.report.data_overview data/clean --out looks

Writes counts.csv, prevalence.csv, defects.csv, histogram.png, montage.png (examples of every label) and
study.png (one study from below to above), and prints the tables; where no image is usable, no pictures. The
functions serve the run report too.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..command_line import argument_parser, run
from ..data.prepared import Prepared
from ..data.volumes import Volumes
from ..data.windows import BRAIN, GRAY, SUBDURAL
from ..files import atomic_path, write_csv
from ..labels import LABELS, SUBTYPES

COLUMNS = 4
SAMPLE = 400  # slices in the histogram
EDGES = np.arange(-1040, 3100, 20)


def counts(slices: pd.DataFrame) -> pd.DataFrame:
    """Usable images, studies, patients and quarantined images, a row a split, the training part first."""
    usable = slices[slices["status"] == "ok"]
    table = usable.groupby("split")[["image_id", "study_id", "patient_id"]].nunique()
    table = table.reindex(sorted(slices["split"].unique(), reverse=True), fill_value=0)
    table.columns = ["images", "studies", "patients"]
    table["quarantined"] = (slices["status"] != "ok").groupby(slices["split"]).sum()
    table["slices_per_study"] = (table["images"] / table["studies"]).round(1)
    return table.reset_index()


def prevalence(slices: pd.DataFrame, studies: pd.DataFrame) -> pd.DataFrame:
    """Of every label the positive images, studies and patients, and their shares of those that have the
    label.
    """
    rows = []
    usable = slices[slices["status"] == "ok"]
    for label in LABELS:
        labelled = usable[usable[label].notna()]
        row: dict[str, Any] = {"label": label}
        if len(labelled):
            row |= _share("images", labelled[label])
            row |= _share("studies", labelled.groupby("study_id")[label].max())
            row |= _share("patients", labelled.groupby("patient_id")[label].max())
        elif label in studies:
            row |= _share("studies", studies[label].dropna())
            row |= _share("patients", studies.dropna(subset=[label]).groupby("patient_id")[label].max())
        rows.append(row)
    return pd.DataFrame(rows)


def defects(manifest: dict[str, Any]) -> pd.DataFrame:
    """Every class of defect with its count, and whether the images were kept."""
    rows = [(name, count, "quarantined") for name, count in manifest["quarantined"].items()]
    rows += [(name, count, "kept") for name, count in manifest["kept_defects"].items()]
    return pd.DataFrame(rows, columns=["defect", "count", "what_happened"])


def hu_histogram(volumes: Volumes, image_ids: Sequence[str], sample: int = SAMPLE) -> np.ndarray:
    """(len(EDGES) - 1,) pixels per bin of 20 HU in evenly chosen slices."""
    total = np.zeros(len(EDGES) - 1, dtype=np.int64)
    for image_id in _evenly(list(image_ids), sample):
        total += np.histogram(volumes.slice(image_id), EDGES)[0]
    return total


def histogram_figure(total: np.ndarray, gray: bool = False) -> Figure:
    """Pixels by value, on a logarithmic scale."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    draw_histogram(figure.subplots(), total, gray, "#4c72b0")
    return figure


def draw_histogram(axes: Axes, total: np.ndarray, gray: bool, color: str) -> None:
    axes.stairs(total, EDGES, fill=True, color=color)
    axes.set(yscale="log", xlabel="gray value" if gray else "Hounsfield units", ylabel="pixels")
    axes.set_ylim(bottom=1)


def montage_figure(volumes: Volumes, slices: pd.DataFrame, seed: int = 0) -> Figure:
    """Examples of every label that occurs, and of slices without bleeding, a row each, on black as on a
    reading screen.
    """
    rows = []
    for label in [*SUBTYPES, "no bleeding"]:
        chosen = slices["any"] == 0 if label == "no bleeding" else slices[label] == 1
        pool = slices[chosen.fillna(False).astype(bool) & (slices["status"] == "ok")]
        if len(pool):
            rows.append((label, pool.sample(min(COLUMNS, len(pool)), random_state=seed)["image_id"].tolist()))
    if not rows:
        ok = slices[slices["status"] == "ok"]
        rows = [("no labels", ok.sample(min(COLUMNS, len(ok)), random_state=seed)["image_id"].tolist())]
    gray = is_gray(slices)
    figure = Figure(figsize=(2.2 * COLUMNS, 2.3 * len(rows)), layout="constrained", facecolor="black")
    grid = figure.subplots(len(rows), COLUMNS, squeeze=False)
    for axes_row, (label, image_ids) in zip(grid, rows, strict=True):
        for axes in axes_row:
            axes.axis("off")
        for axes, image_id in zip(axes_row, image_ids, strict=False):
            window = SUBDURAL if label in ("epidural", "subdural") else BRAIN
            _show(axes, volumes.slice(image_id), window, gray)
            axes.set_title(f"{label}\n{image_id}", fontsize=7, color="white")
    return figure


def study_figure(volumes: Volumes, slices: pd.DataFrame, study_id: str, most: int = 40) -> Figure:
    """One study from below to above; a green frame marks slices with bleeding."""
    image_ids = _evenly(volumes.study_images(study_id), most)
    bleeding = set(slices.loc[(slices["any"] == 1).fillna(False), "image_id"])
    columns = 8
    rows = -(-len(image_ids) // columns)
    figure = Figure(figsize=(1.5 * columns, 1.5 * rows), layout="constrained")
    figure.suptitle(study_id, fontsize=8)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set(xticks=[], yticks=[], frame_on=False)
    for axes, image_id in zip(grid, image_ids, strict=False):
        _show(axes, volumes.slice(image_id), BRAIN, is_gray(slices))
        if image_id in bleeding:
            axes.set_frame_on(True)
            for side in axes.spines.values():
                side.set(color="#2ca02c", linewidth=3)
    return figure


def interesting_study(slices: pd.DataFrame) -> str:
    """The study with most bleeding slices; without labels, the one with most slices."""
    usable = slices[slices["status"] == "ok"]
    size = usable.groupby("study_id").size()
    bleeding = usable.groupby("study_id")["any"].sum().astype(float)
    return str((bleeding + size / (10 * size.max())).idxmax())


def figures(volumes: Volumes, slices: pd.DataFrame) -> dict[str, Figure]:
    """The pictures of a data set, by name; none where no image is usable."""
    if not volumes.image_ids:
        return {}
    return {
        "histogram": histogram_figure(hu_histogram(volumes, volumes.image_ids), is_gray(slices)),
        "montage": montage_figure(volumes, slices),
        "study": study_figure(volumes, slices, interesting_study(slices)),
    }


def _show(axes: Any, hu: np.ndarray, window: tuple[float, float], gray: bool) -> None:
    center, width = GRAY if gray else window
    axes.imshow(hu, cmap="gray", vmin=center - width / 2, vmax=center + width / 2)


def is_gray(slices: pd.DataFrame) -> bool:
    """Whether the values are gray levels of pictures instead of HU."""
    return bool((slices["units"] == "gray").any())


def _share(what: str, positive: pd.Series) -> dict[str, Any]:
    return {what: int(positive.sum()), f"{what}_percent": round(100 * float(positive.mean()), 3)}


def _evenly(items: list[str], most: int) -> list[str]:
    if len(items) <= most:
        return items
    return [items[round(place)] for place in np.linspace(0, len(items) - 1, most)]


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("clean", type=Path, help="a folder written by prepare_data.py")
    parser.add_argument("--out", type=Path, required=True, help="folder for tables and pictures")
    parser.add_argument("--verify", action="store_true", help="also check the checksum of every stored slice")
    arguments = parser.parse_args()
    prepared = Prepared(arguments.clean)
    slices, volumes = prepared.slices, prepared.volumes
    tables = {
        "counts": counts(slices),
        "prevalence": prevalence(slices, prepared.studies),
        "defects": defects(prepared.manifest),
    }
    for name, table in tables.items():
        write_csv(arguments.out / f"{name}.csv", table)
        print(f"{name}\n{table.to_string(index=False, na_rep='')}\n")
    for name, figure in figures(volumes, slices).items():
        with atomic_path(arguments.out / f"{name}.png") as path:
            figure.savefig(path, dpi=110, format="png")
    if arguments.verify:
        volumes.verify()
        print(f"every checksum of {len(volumes.image_ids)} slices agrees")
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    run(main)
