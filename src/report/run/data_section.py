"""What the report says about the data: counts, prevalence, folds, defects."""

from typing import Any

import pandas as pd

from ...ensemble.experiment import Experiment
from ...labels import LABELS
from ..data_overview import counts, defects, prevalence
from .fold_section import fold_of


def part_counts(slices: pd.DataFrame) -> list[dict[str, Any]]:
    """One row a split: `counts` of slices.parquet, and the spread of the slices a study."""
    rows = counts(slices).to_dict("records")
    for row in rows:
        usable = slices[(slices["split"] == row["split"]) & (slices["status"] == "ok")]
        sizes = usable.groupby("study_id").size()
        row |= {
            "slices_a_study": None if sizes.empty else (sizes.min(), int(sizes.median()), sizes.max()),
            "padded": _share(usable["padded"].dropna()),
            "tilted": _share(usable["tilt_deg"].dropna().abs() > 0.5),
        }
    return rows


def prevalence_rows(experiment: Experiment) -> list[dict[str, Any]]:
    """One row a label: its row of `prevalence` for each labelled part."""
    owners = experiment.slices.set_index("image_id")[["study_id", "patient_id"]]
    rows: list[dict[str, Any]] = [{"label": label} for label in LABELS]
    for part, labels in {"oof": experiment.labels, "test": experiment.test_labels}.items():
        if labels is None:
            continue
        slices = owners.loc[labels.index].join(labels).assign(status="ok")
        table = prevalence(slices, studies=pd.DataFrame())
        for row, found in zip(rows, table.to_dict("records"), strict=True):
            row[part] = found
    return rows


def fold_rows(experiment: Experiment) -> list[dict[str, Any]]:
    """One row a fold: what it held out."""
    slices = experiment.slices.set_index("image_id")
    rows = []
    fold_by_image = fold_of(experiment)
    for fold, ids in fold_by_image.index.groupby(fold_by_image).items():
        own = slices.loc[ids]
        positives = experiment.labels.loc[ids].sum()
        rows.append(
            {
                "fold": fold,
                "slices": len(ids),
                "studies": own["study_id"].nunique(),
                "patients": own["patient_id"].nunique(),
                "positives": [int(positives[label]) for label in LABELS],
            }
        )
    return rows


def defect_rows(slices: pd.DataFrame, manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a class of `defects`; a cause of quarantine with the first image it met, and its full text."""
    bad = slices[slices["status"] == "quarantined"].sort_values("image_id")
    kinds = bad["cause"].str.split(":").str[0]
    first = bad[~kinds.duplicated()].set_index(kinds[~kinds.duplicated()])
    rows = defects(manifest).to_dict("records")
    for row in rows:
        known = row["what_happened"] == "quarantined" and row["defect"] in first.index
        row["example"] = first.loc[row["defect"], ["image_id", "cause"]].tolist() if known else None
    return rows


def shared_patients(slices: pd.DataFrame) -> int:
    """Patients with usable slices in both parts."""
    usable = slices[slices["status"] == "ok"]
    train, test = (set(usable.loc[usable["split"] == split, "patient_id"]) for split in ("train", "test"))
    return len(train & test)


def _share(flags: pd.Series) -> float | None:
    """None where nothing is known, as of pictures without HU."""
    return float(flags.mean()) if len(flags) else None
