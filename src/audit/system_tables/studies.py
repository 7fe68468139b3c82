"""The published system that says of a whole study whether it bleeds: its rows, claims and table."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from ...data.prepared import Prepared
from ...data.target_labels import target_labels
from ...ensemble.study_predictions import study_predictions
from ...evaluation.confusion import binary_metrics, outcome_counts
from ...evaluation.roc import delong, delong_paired
from ...report.tables import markdown_table
from ...settings import Settings
from ...targets import PRESENCE, find_targets
from ...training.kinds import Kind, kind_of
from ...training.runs import Run

STUDY_SYSTEM = "vivit_vs_convnext/"
# What the paper claims, and what follows: a run, the run it is compared with, the claim.
CLAIMS = (
    (
        "vivit_vs_convnext/stage1/small_vivit",
        "vivit_vs_convnext/stage1/small_convnext",
        "a video beats any slice",
    ),
    (
        "vivit_vs_convnext/stage1/small_vivit_from_slices",
        "vivit_vs_convnext/stage1/small_vit",
        "a video beats any slice of the network it starts from",
    ),
    (
        "vivit_vs_convnext/stage1/small_vivit_from_slices",
        "vivit_vs_convnext/stage1/small_vivit",
        "a start from an image transformer helps",
    ),
)


def studies_of(
    names: Sequence[str], settings: Settings, prepared: Prepared, folds: Sequence[int]
) -> tuple[pd.Series, list[pd.Series]]:
    """Whether each held-out study bleeds (bool), and what the runs say of it; of slices the maximum."""
    truth = target_labels(prepared, find_targets(PRESENCE), "study")[PRESENCE] == 1
    said = [
        pd.concat([study_predictions(Run(name, fold, settings), "oof", prepared) for fold in folds])
        for name in names
    ]
    truth = truth.loc[said[0].index]
    return truth, [one.loc[truth.index] for one in said]


def study_rows(
    names: Sequence[str], settings: Settings, prepared: Prepared, folds: Sequence[int],
    seconds_a_study: Callable[[Run, Kind, Prepared], float],
) -> list[dict[str, Any]]:  # fmt: skip
    """What every run costs and reaches that says of a study, or of its slices, whether it bleeds."""
    return [_row(name, settings, prepared, folds, seconds_a_study) for name in names]


def _row(
    name: str, settings: Settings, prepared: Prepared, folds: Sequence[int],
    seconds_a_study: Callable[[Run, Kind, Prepared], float],
) -> dict[str, Any]:  # fmt: skip
    runs = [Run(name, fold, settings) for fold in folds]
    truth, (scores,) = studies_of([name], settings, prepared, folds)
    area = delong(truth.to_numpy(), scores.to_numpy())
    counts = outcome_counts(truth.to_numpy(), scores.to_numpy() >= 0.5)
    kind = kind_of(runs[0])
    model = kind.build(runs[0].read_config(kind.config), pretrained=False)
    return {
        "run": name,
        "studies": len(truth),
        "positive": int(truth.sum()),
        "parameters": sum(p.numel() for p in model.parameters()),
        "training_seconds": sum(one.metrics()["seconds"] for one in runs) / len(runs),
        "seconds_a_study": seconds_a_study(runs[0], kind, prepared),
        "study_auc": [area.auc, area.low, area.high],
        "counts": list(counts),
        **{key: None if value != value else float(value) for key, value in binary_metrics(counts).items()},
        "accuracy_all_negative": 1 - float(truth.mean()),
    }


def study_claims(
    settings: Settings, prepared: Prepared, folds: Sequence[int], done: set[str]
) -> list[dict[str, Any]]:
    """The paired difference of the AUC behind every claim on studies; above 0 the first is better."""
    found = []
    for better, reference, claim in CLAIMS:
        if not {better, reference} <= done:
            continue
        truth, (first, second) = studies_of([better, reference], settings, prepared, folds)
        gain = delong_paired(truth.to_numpy(), first.to_numpy(), second.to_numpy())
        answer = "yes" if gain.low > 0 else "no, the reverse" if gain.high < 0 else "inside the noise"
        difference = [gain.difference, gain.low, gain.high]
        found.append(
            {"claim": claim, "run": better, "reference": reference}
            | {"difference": difference, "answer": answer}
        )
    return found


def study_page(rows: Sequence[dict[str, Any]], claims: Sequence[dict[str, Any]]) -> list[str]:
    """The lines of results/systems.md on these runs."""
    first = rows[0]
    cells = [
        [row["run"], f"{row['parameters']:,}", f"{row['training_seconds']:.0f}",
         f"{row['seconds_a_study']:.2f}", _span(row["study_auc"], ".3f"),
         *("none called positive" if row[key] is None else f"{row[key]:.2f}"
           for key in ("accuracy", "recall", "precision"))]
        for row in rows
    ]  # fmt: skip
    return [
        "## Does a study bleed?",
        "",
        f"{first['studies']} held-out studies, {first['positive']} positive; accuracy of calling none "
        f"positive {first['accuracy_all_negative']:.2f}. A study has the highest probability of its slices, "
        "or its own; accuracy, recall and precision at .5, which is the any-slice rule; intervals: DeLong.",
        "",
        markdown_table(("run", "parameters", "training s", "prediction s a study", "study AUC", "accuracy",
                        "recall", "precision"), cells, "lrrrrrrr"),
        "",
        markdown_table(
            ("claim", "run", "against", "difference of the AUC", "answer here"),
            [[c["claim"], c["run"], c["reference"], _span(c["difference"], "+.3f"), c["answer"]]
             for c in claims], "lllrl",
        ),
        "",
    ]  # fmt: skip


def _span(values: Sequence[float], form: str) -> str:
    estimate, low, high = values
    return f"{estimate:{form}} [{low:{form}}, {high:{form}}]"
