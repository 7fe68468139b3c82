"""The report and the table of an experiment of other targets than the six labels."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ... import files
from ...ensemble.target_experiment import TargetExperiment, TargetMember
from ...evaluation.metrics import SCORING_EPS, study_maximum
from ...evaluation.roc import auc, average_precision
from ...evaluation.target_scores import LOCATION
from ...evaluation.triage import Triage, triage
from ...targets import WHOLE
from ...training.split import SLICE
from ..curve_figures import pr_figure, roc_figure, triage_figure
from ..figures import fold_figure
from ..pages import render_page
from ..score_table import SYNTHETIC, aligned
from .fold_section import run_loss_rows
from .run_report import FILTERS, RECALLS_IN_WORDS
from .run_section import learning_figures, provenance, run_rows

SHARES = ("accuracy", "precision", "recall", "f1", "specificity", "auc")
UNITS = {"image": "slices", "study": "studies"}


def write_target_report(path: Path | str, experiment: TargetExperiment, commands: Sequence[str] = ()) -> None:
    """Write the HTML file atomically; like every page it needs nothing but a browser."""
    members = experiment.members
    runs = [row | {"name": shown(row["name"], members[row["name"]])} for row in run_rows(experiment.runs)]
    rows, losses = list(head_rows(members)), run_loss_rows(runs)
    triages = {name: found for name in members if (found := member_triage(experiment, name))}
    contents = {
        "experiment": experiment,
        "synthetic": SYNTHETIC if experiment.synthetic else None,
        "eps": f"{SCORING_EPS:g}",
        "units": UNITS,
        "shares": SHARES,
        "heads": rows,
        "matrices": [row for row in rows if "cells" in row],
        "runs": runs,
        "fold_numbers": sorted({run.fold for run in experiment.runs}),
        "curves": list(_curves(members)),
        "triages": triages,
        "triage_figures": {name: triage_figure(name, found) for name, found in triages.items()},
        "triage_score": "of a run on slices the maximum over those of a study",
        "triage_recalls": RECALLS_IN_WORDS,
        "part_names": {name: shown(name, members[name]) for name in triages},
        "losses": losses,
        "fold_figure": fold_figure(losses, f"{experiment.name}/", "log loss"),
        "commands": commands,
        "step_seconds": {},
        "seconds": sum(sum(row["seconds"].values()) for row in runs),
        "learning": learning_figures(runs),
        "provenance": provenance(experiment.runs),
    }
    files.write_text(path, render_page("target_report.html", FILTERS, **contents))


def shown(name: str, member: TargetMember) -> str:
    """The name of a run beside a score of it."""
    return f"{name} (leaky)" if member.leak else name


def member_triage(experiment: TargetExperiment, name: str) -> Triage | None:
    """Studies in the order of what a run says of any bleeding, on held-out data; None where it says nothing
    of it, where no study bleeds, or where slices were split, so that no whole study was held out.
    """
    member = experiment.members[name]
    column = next((column for column in experiment.targets.columns if column in WHOLE), None)
    if column is None or member.split == SLICE:
        return None
    tables, groups = [member.labels[[column]], member.oof[[column]]], member.groups
    if member.unit == "image":
        tables = [study_maximum(table, experiment.studies) for table in tables]
        groups = groups.groupby(experiment.studies.loc[groups.index]).first()
    labels, oof = (table[column] for table in tables)
    ids, options = labels.index, {"replicates": experiment.config.replicates, "seed": experiment.config.seed}
    return triage(labels.to_numpy() == 1, oof.loc[ids].to_numpy(), groups.loc[ids].to_numpy(), **options)


def _curves(members: dict[str, TargetMember]) -> Iterator[dict[str, Any]]:
    """One picture a run and column that is a question of its own, where both answers occur."""
    for run, member in members.items():
        columns = [column for head in member.targets.heads if not head.exclusive for column in head.columns]
        for column in columns:
            y, p = member.labels[column].to_numpy() == 1, member.oof[column].to_numpy(np.float64)
            name, models = f"{run} {column}", {"stage1": p}
            if (roc := roc_figure(name, y, models)) is not None:
                yield {
                    "run": shown(run, member), "column": column,
                    "positives": int(y.sum()), "share": float(y.mean()),
                    "roc": roc, "pr": pr_figure(name, y, models), "auc": auc(y, p),
                    "average_precision": average_precision(y, p),
                }  # fmt: skip


def head_rows(members: dict[str, TargetMember]) -> Iterator[dict[str, Any]]:
    """One row a column with its shares and its confusion matrix; one for all classes of an exclusive head."""
    for run, member in members.items():
        for head in member.found["heads"]:
            row = {"run": shown(run, member), "rows": head["rows"], "spans": member.shares}
            row |= dict.fromkeys(SHARES)
            if "confusion" in head:
                cells = {"classes": head["columns"], "cells": head["confusion"]}
                yield row | {"column": LOCATION} | cells | {key: head.get(key) for key in SHARES}
                continue
            for column in head["columns"] if head["rows"] else ():
                tn, fp, fn, tp = head[column]["counts"]
                cells = {"classes": [f"no {column}", column], "cells": [[tn, fp], [fn, tp]]}
                yield row | {"column": column} | cells | {key: head[column][key] for key in SHARES}


def target_table(experiment: TargetExperiment) -> str:
    """Aligned plain text for the terminal."""
    rows = [["", "held out", "log loss", "of baseline", "95 % interval"]]
    for name, member in experiment.members.items():
        score = member.score
        rows.append(
            [shown(name, member), f"{len(member.oof):,} {UNITS[member.unit]}", f"{score.estimate:.4f}",
             f"{score.estimate / member.found['baseline']:.0%}", f"[{score.low:.4f}, {score.high:.4f}]"]
        )  # fmt: skip
    title = (
        f"{experiment.name}: log loss of {', '.join(experiment.targets.columns)}, eps {SCORING_EPS:g}, "
        "95 % patient-cluster bootstrap interval"
    )
    leaks = {member.leak for member in experiment.members.values() if member.leak}
    remarks = [*([SYNTHETIC] if experiment.synthetic else []), *sorted(leaks)]
    return "\n".join([title, *remarks, *aligned(rows)])
