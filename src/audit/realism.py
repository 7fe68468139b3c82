"""How far a synthetic data set is from a real one, in numbers.

    python -m src.audit.realism --synthetic data/demo/raw --real data/raw --out realism.json

Both folders hold DICOM head CTs (any depth; RSNA's layout or another). Compared are at most --slices of each,
spread evenly over the studies; slices without a head (blank, above the vertex) are only counted.

* histogram: of HU inside the head, a slice a vote. Wasserstein distance in HU between -20 and 100 HU (how
  far values must be moved), total variation over all HU in bins of 8 (0: the same, 1: disjoint). `floor`: the
  same between random halves of the real patients; a distance below its upper value means nothing.
* statistics: every number of `slice_statistics.py` by itself, 10th, 50th and 90th percentile in both sets,
  and the AUC with which it tells a synthetic from a real slice (.5: cannot, above: larger when synthetic).
* critics: classifiers scored on patients they were not fitted on: logistic regression on all statistics; a
  small network on whole heads of 64 pixels, brain window (anatomy, layout); the same network on patches of 64
  stored pixels inside the skull (noise, fine structure). An AUC near 1 means that the images are easily told
  apart; with few real patients an AUC near .5 does not prove that they cannot be.
* gives_away: the statistics with the largest weight, and the regions whose mean differs most.

Intervals: 95 %, bootstrap of patients. The same files, sample size and seed give the same numbers.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..command_line import argument_parser, positive, run
from ..data.dicom import decode, scan_headers
from ..data.geometry import positions
from ..data.source import DICOM_SUFFIXES, list_files, read_bytes
from ..errors import UserError
from ..evaluation.bootstrap import PatientBootstrap
from ..evaluation.roc import auc, weighted_auc
from ..files import write_json
from ..progress import parallel
from .slice_statistics import BRAIN_HU, Regions, find_regions, slice_statistics

TISSUE = np.arange(-20, 101)  # bins of 1 HU
ALL = np.arange(-1024, 3080, 8)
SIDE = 64  # of the network's images
FIELD_MM = 230.0  # of a whole head
FOLDS, EPOCHS, BATCH = 5, 12, 32
COARSE = ("left", "middle", "right"), ("front", "centre", "back")
KINDS = ("real", "synthetic")
LEVELS = ("lower", "central", "upper")
LEAST_SLICES = 10  # of a study whose slices have a level
REPLICATES = 400


def compare(
    synthetic: Path | str, real: Path | str, slices: int = 400, seed: int = 0, jobs: int = 1
) -> dict[str, Any]:
    """Everything the command reports, as strict JSON. Raises UserError where a folder has too little."""
    sets = [Sample(Path(folder), slices, jobs) for folder in (synthetic, real)]
    if (sizes := [sample.side for sample in sets])[0] != sizes[1]:
        raise UserError(
            f"{synthetic}: slices of {sizes[0]} pixels, {real}: of {sizes[1]}; "
            "generate the synthetic set at the real one's size (--size)"
        )
    table = pd.concat([sample.table for sample in sets], keys=[True, False], names=["synthetic"])
    table = table.reset_index("synthetic").reset_index(drop=True)
    y = table.pop("synthetic").to_numpy(bool)
    meta = {name: table.pop(name) for name in ("patient_id", "level")}
    patients = pd.Series(np.where(y, "s", "r")).str.cat(meta["patient_id"].astype(str)).to_numpy()
    heads, patches = (np.concatenate([getattr(s, name) for s in sets]) for name in ("heads", "patches"))
    some = ~np.isnan(patches).all(axis=(1, 2))
    critics = {
        "statistics": critic(y, patients, seed, lambda fit: fit_linear(table.to_numpy(), y, fit)),
        "heads_64px": critic(y, patients, seed, lambda fit: fit_network(heads, y, fit, seed)),
        "patches_64px": critic(
            y[some], patients[some], seed, lambda fit: fit_network(patches[some], y[some], fit, seed)
        ),
    }
    return {
        "synthetic": sets[0].summary,
        "real": sets[1].summary,
        "histogram": histogram_distances(sets[0], sets[1], seed),
        "statistics": statistics_table(table, y, patients),
        "critics": critics,
        "gives_away": {
            "statistics": linear_weights(table, y),
            "regions": region_differences(heads, y, meta["level"].to_numpy(float), patients),
        },
    }


class Sample:
    """Slices of one folder: `table` (statistics, patient_id, level), `histograms` in TISSUE and ALL bins,
    `heads` and `patches` (n, 64, 64) float32 brain-windowed HU, patches NaN where there is no room.
    """

    def __init__(self, folder: Path, most: int, jobs: int) -> None:
        headers, unreadable = _headers(folder, jobs)
        chosen = headers.iloc[np.unique(np.linspace(0, len(headers) - 1, most).round().astype(int))]
        tasks = [(path, pixel) for path, pixel in zip(chosen["path"], chosen["pixel_mm"], strict=True)]
        found = parallel(_measure, tasks, jobs, "slices")
        damaged = sum(isinstance(one, str) for one in found)
        kept = [place for place, one in enumerate(found) if isinstance(one, tuple)]
        statistics, tissue, everything, heads, patches = zip(*(found[place] for place in kept), strict=True)
        rows = chosen.iloc[kept][["patient_id", "level"]].reset_index(drop=True)
        self.table = pd.concat([pd.DataFrame(statistics), rows], axis=1)
        self.tissue, self.everything = np.stack(tissue), np.stack(everything)
        self.heads, self.patches = np.stack(heads), np.stack(patches)
        self.side = int(chosen["rows"].median())
        if rows["patient_id"].nunique() < FOLDS:
            raise UserError(
                f"{folder}: {rows['patient_id'].nunique()} patients with a head; "
                f"the comparison needs {FOLDS} in each set"
            )
        self.summary = {
            "studies": int(headers["study_id"].nunique()),
            "patients": int(headers["patient_id"].nunique()),
            "images": len(headers) + unreadable,
            "slices_compared": len(kept),
            "without_head": len(found) - len(kept) - damaged,
            "unreadable": unreadable + damaged,
        }


def _headers(folder: Path, jobs: int) -> tuple[pd.DataFrame, int]:
    """By study and position: path, study_id, patient_id, rows, pixel_mm, level; and how many are damaged."""
    paths = [entry.path for entry in list_files(folder, DICOM_SUFFIXES)]
    table = scan_headers(paths, jobs)
    whole = table["error"].isna() & table["pixel_spacing_row"].notna() & table["study_id"].notna()
    usable = table[whole].reset_index(drop=True)
    if usable.empty:
        raise UserError(f"{folder}: no readable DICOM slices there; give a folder with .dcm files")
    usable["position_mm"] = positions(usable)
    usable = usable.sort_values(["study_id", "position_mm", "path"], ignore_index=True)
    in_study = usable.groupby("study_id")["position_mm"]
    count = in_study.transform("size")
    level = (in_study.rank(method="first") - 0.5) / count
    usable["level"] = level.where(count >= LEAST_SLICES)
    usable["pixel_mm"] = usable["pixel_spacing_row"]
    return usable, int((~whole).sum())


def _measure(path: str, pixel_mm: float) -> tuple | str | None:
    """One slice; the fault of a damaged one, None without a head."""
    cv2.setNumThreads(1)
    try:
        hu = decode(read_bytes(path)).values
    except (OSError, ValueError) as error:
        return str(error)
    regions = find_regions(hu, pixel_mm)
    if regions is None:
        return None
    in_head = hu[regions.head]
    tissue, _ = np.histogram(in_head, TISSUE)
    everything, _ = np.histogram(np.clip(in_head, ALL[0], ALL[-1] - 1), ALL)
    return (
        slice_statistics(hu, pixel_mm, regions),
        tissue / max(tissue.sum(), 1),
        everything / everything.sum(),
        head_image(hu, pixel_mm, regions),
        patch_image(hu, regions),
    )


def head_image(hu: np.ndarray, pixel_mm: float, regions: Regions) -> np.ndarray:
    """(64, 64) float32 HU in the brain window: a square of 230 mm around the head, averaged, then cut off."""
    left, top, width, height = regions.box
    scale = SIDE * pixel_mm / FIELD_MM
    blurred = cv2.blur(np.clip(hu, -1024, 3071).astype(np.float32), (max(round(1 / scale), 1),) * 2)
    matrix = np.array(
        [
            [scale, 0, SIDE / 2 - scale * (left + width / 2)],
            [0, scale, SIDE / 2 - scale * (top + height / 2)],
        ]
    )
    air = (-1000.0,) * 3
    image = cv2.warpAffine(
        blurred, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=air
    )
    return np.clip(image, *BRAIN_HU)


def patch_image(hu: np.ndarray, regions: Regions) -> np.ndarray:
    """(64, 64) float32 HU in the brain window at the stored resolution around the middle of the largest disc
    that fits into the inside of the skull; NaN where a square of 64 pixels does not.
    """
    distance = cv2.distanceTransform(np.pad(regions.inside.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(int(distance.argmax()), distance.shape)
    half = SIDE // 2
    if distance[row, column] < half or not half <= row <= hu.shape[0] - half:
        return np.full((SIDE, SIDE), np.nan, np.float32)
    patch = hu[row - half : row + half, column - half : column + half]
    return np.clip(patch, *BRAIN_HU).astype(np.float32)


def histogram_distances(synthetic: Sample, real: Sample, seed: int) -> dict[str, Any]:
    """Distances of the mean histograms, and those between random halves of the real patients."""
    rng = np.random.default_rng(seed)
    patients = real.table["patient_id"].to_numpy(str)
    names = np.unique(patients)
    floors = []
    for _ in range(50):
        half = np.isin(patients, rng.permutation(names)[: len(names) // 2])
        floors.append([_distances(real, half, real, ~half)])
    low, high = np.quantile(np.array(floors)[:, 0], [0.5, 0.95], axis=0)
    found = _distances(synthetic, np.s_[:], real, np.s_[:])
    keys = ("wasserstein_hu", "total_variation")
    return {
        key: {"distance": found[k], "floor_median": float(low[k]), "floor_95": float(high[k])}
        for k, key in enumerate(keys)
    }


def _distances(a: Sample, some: Any, b: Sample, others: Any) -> tuple[float, float]:
    tissue = a.tissue[some].mean(axis=0) - b.tissue[others].mean(axis=0)
    everything = a.everything[some].mean(axis=0) - b.everything[others].mean(axis=0)
    return float(np.abs(np.cumsum(tissue)).sum()), float(np.abs(everything).sum() / 2)


def statistics_table(table: pd.DataFrame, y: np.ndarray, patients: np.ndarray) -> dict[str, Any]:
    """Percentiles of every statistic in both sets and its AUC, the most telling first."""
    rows = {}
    for name, values in table.items():
        there = values.notna().to_numpy()
        row: dict[str, Any] = {}
        for kind, mine in (("real", ~y), ("synthetic", y)):
            part = values[there & mine]
            row[kind] = [round(float(v), 4) for v in part.quantile([0.1, 0.5, 0.9])] if len(part) else None
            row[f"{kind}_measured"] = round(float(there[mine].mean()), 3)
        rows[name] = row | area(y[there], values[there].to_numpy(float), patients[there])
    return dict(sorted(rows.items(), key=lambda item: -abs((item[1]["auc"] or 0.5) - 0.5)))


def area(y: np.ndarray, score: np.ndarray, patients: np.ndarray) -> dict[str, float | None]:
    """AUC and its 95 % interval over patients; None where one of the sets has no value."""
    if y.all() or not y.any():
        return dict.fromkeys(("auc", "low", "high"))
    bootstrap = PatientBootstrap(patients, REPLICATES)
    area_of = weighted_auc(y, score, bootstrap.code)
    replicates = np.array([area_of(draw) for draw in bootstrap.draws()])
    (interval,) = bootstrap.summarise(np.array([auc(y, score)]), replicates[:, None])
    return {key: round(value, 4) for key, value in zip(("auc", "low", "high"), interval, strict=True)}


Predict = Callable[[np.ndarray], np.ndarray]


def critic(
    y: np.ndarray, patients: np.ndarray, seed: int, fit: Callable[[np.ndarray], Predict]
) -> dict[str, float | None]:
    """The area of a classifier's held-out scores; None where a set has fewer patients than folds."""
    if min(len(np.unique(patients[y])), len(np.unique(patients[~y]))) < FOLDS:
        return dict.fromkeys(("auc", "low", "high"))
    return area(y, held_out(y, patients, seed, fit), patients)


def held_out(
    y: np.ndarray, patients: np.ndarray, seed: int, fit: Callable[[np.ndarray], Predict]
) -> np.ndarray:
    """Score of every slice by a classifier that saw nothing of its patient: `fit` maps row numbers to a
    function from row numbers to scores.
    """
    scores = np.empty(len(y))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(y, y, patients):
        scores[test] = fit(train)(test)
    return scores


def _linear() -> Any:
    # a statistic that cannot be measured on a slice is a trait of the slice too
    return make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True),
        StandardScaler(),
        LogisticRegression(C=0.1, max_iter=2000),
    )


def fit_linear(values: np.ndarray, y: np.ndarray, train: np.ndarray) -> Predict:
    model = _linear().fit(values[train], y[train])
    return lambda rows: model.decision_function(values[rows])


def linear_weights(table: pd.DataFrame, y: np.ndarray, most: int = 6) -> dict[str, float]:
    """The largest weights of the logistic regression on standardised statistics; above 0: synthetic."""
    model = _linear().set_output(transform="pandas").fit(table, y)
    weights = pd.Series(model[-1].coef_[0], model[:-1].get_feature_names_out())
    largest = weights.abs().nlargest(most).index
    return weights[largest].round(2).to_dict()


def fit_network(images: np.ndarray, y: np.ndarray, train: np.ndarray, seed: int) -> Predict:
    """Three convolutions (20,000 weights), trained on flips and shifts; images (n, 64, 64) float32 in HU."""
    torch.manual_seed(seed)
    scaled = torch.from_numpy(images)[:, None] / BRAIN_HU[1] - 0.5
    target = torch.from_numpy(y.astype(np.float32))
    layers: list[torch.nn.Module] = []
    for inputs, outputs in ((1, 16), (16, 32), (32, 48)):
        layers += [
            torch.nn.Conv2d(inputs, outputs, 3, stride=2 if inputs == 1 else 1, padding=1),
            torch.nn.BatchNorm2d(outputs),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
        ]
    network = torch.nn.Sequential(
        *layers,
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Dropout(0.3),
        torch.nn.Linear(48, 1),
    )
    weight = (~y[train]).sum() / max(y[train].sum(), 1)
    loss = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(float(weight)))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.05)
    steps = EPOCHS * -(-len(train) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    rng = np.random.default_rng(seed)
    for _ in range(EPOCHS):
        for rows in np.array_split(rng.permutation(train), -(-len(train) // BATCH)):
            batch = scaled[rows].roll(tuple(rng.integers(-3, 4, 2).tolist()), (2, 3))
            batch = batch.flip(3) if rng.random() < 0.5 else batch
            optimizer.zero_grad()
            loss(network(batch)[:, 0], target[rows]).backward()
            optimizer.step()
            schedule.step()
    network.eval()

    def predict(rows: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(scaled[rows])[:, 0].numpy().astype(float)

    return predict


def region_differences(
    heads: np.ndarray, y: np.ndarray, level: np.ndarray, patients: np.ndarray, most: int = 6
) -> list[dict[str, Any]]:
    """Where the brain-windowed heads differ: a third of the levels, a ninth of the head. Differences of the
    mean of patients' means in HU (synthetic minus real), in standard deviations of real patients.
    """
    rows = []
    third = SIDE * 0.75 / 3  # heads fill about three quarters of the square
    edges = np.round(SIDE / 2 + third * np.array([-1.5, -0.5, 0.5, 1.5])).astype(int)
    for number, name in enumerate(LEVELS):
        at = (level >= number / 3) & (level < (number + 1) / 3)
        for i, depth in enumerate(COARSE[1]):
            for j, side in enumerate(COARSE[0]):
                part = heads[at, edges[i] : edges[i + 1], edges[j] : edges[j + 1]].mean(axis=(1, 2))
                mean = pd.Series(part).groupby([y[at], patients[at]]).mean()
                if set(mean.index.get_level_values(0)) != {True, False} or len(mean[False]) < 3:
                    continue
                difference, spread = mean[True].mean() - mean[False].mean(), mean[False].std()
                rows.append(
                    {
                        "region": f"{name} third, {depth} {side} (image)",
                        "difference_hu": round(float(difference), 2),
                        "in_real_sd": round(float(difference / spread), 2),
                    }
                )
    return sorted(rows, key=lambda row: -abs(row["in_real_sd"]))[:most]


def as_text(result: dict[str, Any]) -> str:
    """The report for a terminal."""
    lines = [
        f"{kind}: {result[kind]['slices_compared']} slices with a head of {result[kind]['images']} images, "
        f"{result[kind]['studies']} studies, {result[kind]['patients']} patients"
        for kind in ("synthetic", "real")
    ]
    for key, row in result["histogram"].items():
        lines.append(
            f"histogram in the head, {key}: {row['distance']:.3f} "
            f"(real halves: median {row['floor_median']:.3f}, 95 % {row['floor_95']:.3f})"
        )
    lines += [f"critic {name}: AUC {_interval(row)}" for name, row in result["critics"].items()]
    lines.append(f"{'statistic':24} {'real 10/50/90 %':>28} {'synthetic 10/50/90 %':>28}  AUC")
    for name, row in result["statistics"].items():
        cells = ["-" if row[kind] is None else " ".join(f"{v:8.3f}" for v in row[kind]) for kind in KINDS]
        lines.append(f"{name:24} {cells[0]:>28} {cells[1]:>28}  {_interval(row)}")
    away = result["gives_away"]
    lines.append(
        "weights (above 0: synthetic): " + ", ".join(f"{n} {w}" for n, w in away["statistics"].items())
    )
    lines += [
        f"{row['region']}: {row['difference_hu']:+.1f} HU, {row['in_real_sd']:+.1f} real standard deviations"
        for row in away["regions"]
    ]
    return "\n".join(lines)


def _interval(row: dict[str, Any]) -> str:
    return "-" if row["auc"] is None else f"{row['auc']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def main() -> None:
    parser = argument_parser(__doc__)
    add = parser.add_argument
    add("--synthetic", type=Path, required=True, help="folder of the synthetic DICOM files")
    add("--real", type=Path, required=True, help="folder of real DICOM files")
    add("--out", type=Path, metavar="FILE.json", help="also write everything to this file")
    add("--slices", type=positive, default=400, help="compared at most, of each set (default: 400)")
    add("--seed", type=int, default=0, help="of folds, networks and halves (default: 0)")
    add("--jobs", type=positive, default=1, help="processes; results never depend on it (default: 1)")
    flags = parser.parse_args()
    result = compare(flags.synthetic, flags.real, flags.slices, flags.seed, flags.jobs)
    if flags.out is not None:
        write_json(flags.out, result)
    print(as_text(result))


if __name__ == "__main__":
    run(main)
