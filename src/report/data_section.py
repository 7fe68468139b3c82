"""What the report says about the data: counts, prevalence, folds, quarantined images."""

from typing import Any

import pandas as pd

from ..evaluation.experiment import Experiment
from ..labels import LABELS


def part_counts(slices: pd.DataFrame) -> list[dict[str, Any]]:
    """One row a split of slices.parquet: usable and quarantined images, studies, patients, slices a study."""
    rows = []
    for split in ("train", "test"):
        own = slices[slices["split"] == split]
        usable = own[own["status"] == "ok"]
        sizes = usable.groupby("study_id").size()
        rows.append(
            {
                "split": split,
                "images": len(own),
                "quarantined": len(own) - len(usable),
                "studies": len(sizes),
                "patients": usable["patient_id"].nunique(),
                "slices_a_study": None if sizes.empty else (sizes.min(), int(sizes.median()), sizes.max()),
                "padded": _share(usable["padded"]),
                "tilted": _share(usable["tilt_deg"].abs() > 0.5),
            }
        )
    return rows


def prevalence_rows(experiment: Experiment) -> list[dict[str, Any]]:
    """One row a label: positives and their share, by slice and by study, of each labelled part."""
    studies = experiment.slices.set_index("image_id")["study_id"]
    parts = {"oof": experiment.labels, "test": experiment.test_labels}
    rows = [{"label": label} for label in LABELS]
    for part, labels in parts.items():
        if labels is None:
            continue
        by_study = labels.groupby(studies.loc[labels.index].to_numpy()).max()
        for row in rows:
            row[part] = [
                (int(t[row["label"]].sum()), float(t[row["label"]].mean())) for t in (labels, by_study)
            ]
    return rows


def fold_rows(experiment: Experiment) -> list[dict[str, Any]]:
    """One row a fold: what it held out, read from the first run's predictions of that fold."""
    slices = experiment.slices.set_index("image_id")
    first = experiment.runs[0].name
    rows = []
    for run in (run for run in experiment.runs if run.name == first):
        ids = run.predictions("oof").index
        own = slices.loc[ids]
        positives = experiment.labels.loc[ids].sum()
        rows.append(
            {
                "fold": run.fold,
                "slices": len(ids),
                "studies": own["study_id"].nunique(),
                "patients": own["patient_id"].nunique(),
                "positives": [int(positives[label]) for label in LABELS],
            }
        )
    return rows


def quarantine_rows(slices: pd.DataFrame) -> list[dict[str, Any]]:
    """One row a cause: how many images, and the first of them."""
    bad = slices[slices["status"] == "quarantined"]
    kinds = bad["cause"].str.split(":").str[0].rename("kind")
    return [
        {"cause": cause, "images": len(own), "example": own["image_id"].min(), "detail": own["cause"].iloc[0]}
        for cause, own in bad.sort_values("image_id").groupby(kinds, sort=True)
    ]


def shared_patients(slices: pd.DataFrame) -> int:
    """Patients with usable slices in both parts."""
    usable = slices[slices["status"] == "ok"]
    train, test = (set(usable.loc[usable["split"] == split, "patient_id"]) for split in ("train", "test"))
    return len(train & test)


def _share(flags: pd.Series) -> float | None:
    return float(flags.mean()) if len(flags) else None
