"""The report and the table of an experiment of other targets than the six labels."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ... import files
from ...ensemble.target_experiment import TargetExperiment, TargetMember
from ...evaluation.metrics import SCORING_EPS
from ...evaluation.target_scores import LOCATION
from ..pages import render_page
from ..score_table import SYNTHETIC, aligned
from .run_report import FILTERS
from .run_section import learning_figures, provenance, run_rows

SHARES = ("accuracy", "precision", "recall", "f1", "specificity", "auc")
UNITS = {"image": "slices", "study": "studies"}


def write_target_report(path: Path | str, experiment: TargetExperiment) -> None:
    """Write the HTML file atomically; like every page it needs nothing but a browser."""
    runs = run_rows(experiment.runs)
    rows = list(head_rows(experiment.members))
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
        "seconds": sum(row["seconds"] for row in runs),
        "learning": learning_figures(runs),
        "provenance": provenance(experiment.runs),
    }
    files.write_text(path, render_page("target_report.html", FILTERS, **contents))


def head_rows(members: dict[str, TargetMember]) -> Iterator[dict[str, Any]]:
    """One row a column with its shares and its confusion matrix; one for all classes of an exclusive head."""
    for run, member in members.items():
        for head in member.found["heads"]:
            row = {"run": run, "rows": head["rows"], "spans": member.shares, **dict.fromkeys(SHARES)}
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
            [name, f"{len(member.oof):,} {UNITS[member.unit]}", f"{score.estimate:.4f}",
             f"{score.estimate / member.found['baseline']:.0%}", f"[{score.low:.4f}, {score.high:.4f}]"]
        )  # fmt: skip
    title = (
        f"{experiment.name}: log loss of {', '.join(experiment.targets.columns)}, eps {SCORING_EPS:g}, "
        "95 % patient-cluster bootstrap interval"
    )
    return "\n".join([title, *([SYNTHETIC] if experiment.synthetic else []), *aligned(rows)])
