"""Is the `realistic` preset like the contest in numbers? Labels, slices, scanners and patients are counted.

    python -m src.audit.phantom_statistics --studies 2000 --seed 1

prints every statistic of `targets.TARGETS` beside its value in a generated set. No image is written, and what
no label depends on is hardly drawn; labels are counted on a grid of 128 pixels, where 2 to 3 of 100 positive
labels differ from those of 512.
"""

import sys
from collections.abc import Callable

import joblib
import numpy as np
import pandas as pd

from ..command_line import argument_parser
from ..labels import LABELS, SUBTYPES
from ..phantom import contest
from ..phantom.plan import PRESETS, Preset, StudyPlan, make_plan
from ..phantom.scanner import Site
from ..phantom.study import draw_study, label_study
from .statistic_targets import TARGETS

SIZE = 128
PAIRS = tuple((a, b) for a in SUBTYPES[1:] for b in SUBTYPES[1:] if a != b)


def sample_slices(preset: Preset, studies: int, seed: int, jobs: int = 1) -> pd.DataFrame:
    """Labels and acquisition of a generated set, one row a slice, without painting its images.

    -> patient_id, study_id, split, order, LABELS, height_mm (along the normal), tilt_deg, padded, triple
    (bits, representation, intercept)
    """
    plans = make_plan(preset, studies, seed, SIZE, None)
    tables = joblib.Parallel(n_jobs=jobs)(joblib.delayed(_study_slices)(plan, preset) for plan in plans)
    return pd.concat(tables, ignore_index=True)


def _study_slices(plan: StudyPlan, preset: Preset) -> pd.DataFrame:
    study = draw_study(plan, preset)
    acquisition, site = study.acquisition, study.acquisition.site
    table = label_study(plan, preset, study)[["patient_id", "study_id", "split", "order", *LABELS]]
    return table.assign(
        height_mm=acquisition.heights,
        tilt_deg=float(np.rad2deg(acquisition.tilt)),
        padded=site.padded,
        triple=_triple(site),
    )


def _triple(site: Site) -> str:
    return f"{site.bits},{int(site.signed)},{site.intercept}"


def label_statistics(table: pd.DataFrame, unit: str) -> dict[str, float]:
    """Prevalence and co-occurrence. table: LABELS, one row a slice or a study; unit: what a row is called."""
    found = {f"{unit} with {label}": float(table[label].mean()) for label in LABELS}
    positive = table[table["any"] == 1]
    number = positive[list(SUBTYPES)].sum(axis=1)
    found |= {f"positive {unit} with {k} subtypes": float((number == k).mean()) for k in (1, 2, 3)}
    for a, b in PAIRS:
        found[f"{unit} with {b} of those with {a}"] = float(positive.loc[positive[a] == 1, b].mean())
    return found


def run_statistics(slices: pd.DataFrame, label: str) -> dict[str, float]:
    """Runs of adjoining positive slices. slices: study_id and labels, a study's slices upwards."""
    change = (slices["study_id"] != slices["study_id"].shift()) | (slices[label] != slices[label].shift())
    groups = slices.assign(run=change.cumsum())[slices[label] == 1].groupby("run")
    lengths = groups.size()
    runs = groups["study_id"].first().value_counts()
    total = slices.loc[slices[label] == 1].groupby("study_id").size()
    values: dict[str, Callable[[], float]] = {
        "runs a positive study": runs.mean,
        "positive studies with one run": lambda: (runs == 1).mean(),
        "mean length of a run": lengths.mean,
        "median length of a run": lengths.median,
        "90th percentile of a run": lambda: lengths.quantile(0.9),
        "runs of one slice": lambda: (lengths == 1).mean(),
        "slices a positive study": total.mean,
    }
    return {f"{label}: {name}": float(value()) for name, value in values.items()}


def scan_statistics(slices: pd.DataFrame) -> dict[str, float]:
    """Slices a study, steps and tilt. slices: as of `sample_slices`, a study's slices upwards."""
    found: dict[str, float] = {}
    studies = slices.groupby("study_id")
    count, padded = studies.size(), studies["padded"].first()
    for name, counts in (("", count), ("padded: ", count[padded])):
        found[f"{name}slices a study, mean"] = float(counts.mean())
        for percent in (5, 50, 95, 99, 100):
            found[f"{name}slices a study, {percent} %"] = float(counts.quantile(percent / 100))
    step = studies["height_mm"].diff()
    found["studies with zero steps"] = float((step < 0.01).groupby(slices["study_id"]).any().mean())
    found["slices with a zero step"] = float((step < 0.01).mean())
    part, step = slices[slices["padded"]], step[slices["padded"]]
    found["padded: steps below 4 mm"] = float((step < 4.0).sum() / step.notna().sum())
    uneven = step[step > 0.01].groupby(part["study_id"]).agg(lambda steps: np.ptp(steps) > 1.0)
    found["padded: studies with uneven steps"] = float(uneven.mean())
    tilt = part.groupby("study_id")["tilt_deg"].first()
    found["padded: studies with tilt"] = float((tilt > 0.1).mean())
    for percent in (25, 50, 75):
        found[f"padded: tilt where there is, {percent} %"] = float(tilt[tilt > 0.1].quantile(percent / 100))
    return found


def patient_statistics(slices: pd.DataFrame) -> dict[str, float]:
    """Scanners, and patients with several studies. slices: as of `sample_slices`."""
    train, test = (slices[slices["split"] == split] for split in ("train", "test"))
    found = {f"{part['split'].iloc[0]} slices padded": float(part["padded"].mean()) for part in (train, test)}
    found["train slices with any, padded"] = float(train.loc[train["padded"], "any"].mean())
    found["train slices with any, others"] = float(train.loc[~train["padded"], "any"].mean())
    for triple in sorted({_triple(site) for site in contest.SITES}):
        found[f"train slices of ({triple})"] = float((train["triple"] == triple).mean())
    studies = train.groupby("study_id").agg(patient_id=("patient_id", "first"), any=("any", "max"))
    patients = studies.groupby("patient_id").size()
    found["train patients with several studies"] = float((patients > 1).mean())
    found["train patients with three studies or more"] = float((patients > 2).mean())
    found["test patients known from train"] = float(
        test["patient_id"].drop_duplicates().isin(patients.index).mean()
    )
    pairs = studies[studies["patient_id"].map(patients) == 2].groupby("patient_id")["any"].sum()
    found["train pairs of studies of which one bleeds"] = float((pairs == 1).mean())
    return found


def compare(slices: pd.DataFrame) -> pd.DataFrame:
    """Every target beside its value. -> index statistic; contest, tolerance, generated, within"""
    studies = slices.groupby("study_id", sort=False)[list(LABELS)].max()
    found = label_statistics(slices, "slices") | label_statistics(studies, "studies")
    for label in LABELS:
        found |= run_statistics(slices, label)
    found |= scan_statistics(slices) | patient_statistics(slices)
    table = pd.DataFrame.from_dict(TARGETS, orient="index", columns=["contest", "tolerance"])
    table["generated"] = [found[name] for name in table.index]
    table["within"] = (table["generated"] - table["contest"]).abs() <= table["tolerance"]
    return table


def main() -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="realistic")
    parser.add_argument("--jobs", type=int, default=1)
    flags = parser.parse_args()
    table = compare(sample_slices(PRESETS[flags.preset], flags.studies, flags.seed, flags.jobs))
    print(table.to_string(float_format="{:.4g}".format))
    print(f"{int(table['within'].sum())} of {len(table)} within the tolerance ({flags.studies} studies)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
