"""Answers scored apart by kind of image: how far its slices are apart, padding, the format of its scanner."""

from typing import Any

import pandas as pd

from ...data.prepared import Prepared
from ...evaluation.labelled_scores import Labelled
from .answers import Answer
from .transfer import Truth

THICKNESS_MM = (0.0, 2.5, 5.5, float("inf"))
THICKNESS = ("up to 2.5 mm", "2.5 to 5.5 mm", "above 5.5 mm")


def kinds_of(slices: pd.DataFrame) -> pd.DataFrame:
    """index image_id; columns `slice step`, `padding`, `scanner format`, each a text or missing.

    The step is the median of the study, for a gap in it does not make its slices thick; a format is what a
    scanner's software leaves in the file: bits, sign and intercept.
    """
    table = slices.set_index("image_id")
    step = table.groupby("study_id")["step_mm"].transform("median").abs() if "step_mm" in table else None
    found = pd.DataFrame(index=table.index)
    if step is not None:
        found["slice step"] = pd.cut(step, THICKNESS_MM, labels=THICKNESS).astype(object)
    if "padded" in table:
        found["padding"] = table["padded"].map({True: "padded", False: "not padded"})
    if {"bits_stored", "pixel_representation", "rescale_intercept"} <= set(table):
        found["scanner format"] = [
            None if pd.isna([bits, sign, intercept]).any()
            else f"{int(bits)} bits, {'signed' if sign else 'unsigned'}, intercept {intercept:g}"
            for bits, sign, intercept in zip(
                table["bits_stored"], table["pixel_representation"], table["rescale_intercept"], strict=True
            )
        ]  # fmt: skip
    return found


def subgroup_scores(prepared: Prepared, truth: Truth, answer: Answer) -> list[dict[str, Any]]:
    """A group each: size, loss, what its own prevalence gives, AUC of `any`. Only kinds that divide
    the labelled images in two groups or more; by study where only studies have labels.
    """
    rows, p = (truth.slices, answer.slices) if truth.slices is not None else (truth.studies, answer.studies)
    kinds = kinds_of(prepared.slices)
    if rows.by_study:
        kinds = kinds.groupby(prepared.slices.set_index("image_id")["study_id"]).first()
    found = []
    for name, kind in kinds.reindex(rows.labels.index).items():
        groups = sorted(kind.dropna().unique())
        if len(groups) > 1:
            found += [_group(name, group, rows, kind.index[kind == group], p) for group in groups]
    return found


def _group(name: str, group: str, rows: Labelled, index: pd.Index, p: pd.DataFrame) -> dict[str, Any]:
    part = Labelled(rows.labels.loc[index], rows.patients.loc[index], rows.by_study)
    scores = part.scores(p)
    area = scores["labels"]["any"]
    return {
        "by": name,
        "group": group,
        "studies" if rows.by_study else "images": len(index),
        "patients": scores["patients"],
        "baseline": part.baseline,
        "weighted_log_loss": scores["weighted_log_loss"],
        "any": {key: area[key] for key in ("positives", "auc", "interval")},
    }
