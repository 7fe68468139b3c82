"""The report of an experiment: one self-contained HTML file, the same bytes for the same experiment."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ... import files
from ...ensemble.experiment import Experiment
from ...ensemble.rungs import ladder
from ...evaluation.metrics import SCORING_EPS
from ...evaluation.reliability import expected_calibration_error
from ...evaluation.triage import RECALLS, Triage, triage
from ...labels import LABEL_WEIGHTS, LABELS
from .. import curve_figures, figures
from ..pages import render_page
from ..score_table import SYNTHETIC, fixed_members, score_rows
from . import data_section, label_tables
from .cases import study_cases
from .data_pictures import data_pictures
from .fold_section import loss_rows
from .hardest_section import hard_rows
from .ladder_section import rung_rows
from .operating_section import UNITS, point_blocks
from .outcome import Outcome
from .run_section import duration, learning_figures, provenance, run_rows

TIMES = re.compile("<!-- times -->.*?<!-- end of times -->", re.S)
RECALLS_IN_WORDS = ", ".join(f"{100 * recall:g}\N{NO-BREAK SPACE}%" for recall in RECALLS)
ABSENT = "–"
GUESSES = {  # what ensemble.json's `quarantined` gives an image that could not be read
    "interpolated": "the blend's probabilities between the slices beside them, the training prevalence where "
    "their place is unknown",
    "neighbours": "what stackers make of the slices beside them, the training prevalence where "
    "their place is unknown",
    "prior": "the training prevalence",
}


def write_report(path: Path | str, experiment: Experiment, outcome: Outcome) -> None:
    """Write the HTML file atomically. It needs a browser only: no network, no script, no other file.

    A page that would differ by the times of this step alone is left as it is.
    """
    page = render_report(experiment, outcome)
    written = Path(path).read_text(encoding="utf-8") if Path(path).exists() else ""
    if TIMES.sub("", written) != TIMES.sub("", page):
        files.write_text(path, page)


def render_report(experiment: Experiment, outcome: Outcome) -> str:
    """The page as text."""
    return render_page("run_report.html", FILTERS, **_contents(experiment, outcome))


def number(value: float | None, digits: int) -> str:
    """Fixed decimals, a dash for what does not exist."""
    return ABSENT if value is None or math.isnan(value) else f"{value:.{digits}f}"


def interval(bounds: tuple[float, float] | None, digits: int = 4) -> str:
    """`[0.1234, 0.1301]`, or nothing where there is none."""
    if bounds is None or any(math.isnan(bound) for bound in bounds):
        return ""
    return f"[{bounds[0]:.{digits}f}, {bounds[1]:.{digits}f}]"


def percent(share: float | None, digits: int = 1) -> str:
    return ABSENT if share is None else f"{100 * share:.{digits}f} %"


FILTERS = {
    "score": lambda value: number(value, 4),
    "decimals": number,
    "interval": interval,
    "percent": percent,
    "count": lambda value: f"{value:,}",
    "duration": duration,
}


def _contents(experiment: Experiment, outcome: Outcome) -> dict[str, Any]:
    parts = ["oof"] if experiment.test_labels is None else ["oof", "test"]
    rows = score_rows(experiment.scores())
    runs = run_rows(experiment.runs)
    rungs, folds = ladder(experiment), loss_rows(experiment)
    blocks = {part: label_tables.label_blocks(experiment, part) for part in parts}
    triages = {part: _triage(experiment, part) for part in parts}
    prefix = f"{experiment.name}/"
    return {
        "experiment": experiment,
        "synthetic": SYNTHETIC if experiment.synthetic else None,
        "eps": f"{SCORING_EPS:g}",
        "certain_miss": -math.log(SCORING_EPS),
        "labels": LABELS,
        "label_weights": LABEL_WEIGHTS,
        "parts": parts,
        "part_names": {"oof": "held out (leaky)" if experiment.leak else "held out", "test": "hidden test"},
        "scores": rows,
        "headline": {row.kind: row for row in rows},
        "rungs": rungs,
        "alone": any("oof" not in rung.scores for rung in rungs),
        "ladder_figures": {
            part: figures.score_figure(rung_rows(rungs), part, prefix, joined=True) for part in parts
        },
        "score_figures": {part: figures.score_figure(rows, part, prefix) for part in parts},
        "stage_scores": _stage_scores(experiment),
        "label_blocks": blocks,
        "shown_models": label_tables.shown_models(experiment),
        "curves": _curves(experiment, blocks["oof"]),
        "point_blocks": {
            unit: {part: point_blocks(experiment, outcome.points["labels"], part, unit) for part in parts}
            for unit in UNITS
        },
        "triages": triages,
        "triage_score": "the maximum over the slices of a study, by the blend",
        "triage_recalls": RECALLS_IN_WORDS,
        "triage_figures": {
            part: curve_figures.triage_figure(part, found) for part, found in triages.items() if found
        },
        "outcome": outcome,
        "hard_kinds": hard_rows(experiment, outcome),
        "linked": len(outcome.pages) == len(outcome.hardest.study_ids),
        "commands": outcome.commands,
        "step_seconds": outcome.seconds,
        "losses": folds,
        "fold_figure": figures.fold_figure(folds, prefix),
        "padding": label_tables.padding_tables(experiment, parts),
        "fixed": fixed_members(experiment.config.fixed) if experiment.config.fixed else None,
        "guesses": GUESSES,
        "runs": runs,
        "seconds": sum(sum(row["seconds"].values()) for row in runs),
        "learning": learning_figures(runs),
        "provenance": provenance(experiment.runs),
        "data": data_section.part_counts(experiment.slices),
        "shared_patients": data_section.shared_patients(experiment.slices),
        "prevalence": data_section.prevalence_rows(experiment),
        "folds": data_section.fold_rows(experiment),
        "fold_numbers": sorted({run.fold for run in experiment.runs}),
        "defects": data_section.defect_rows(experiment.slices, experiment.prepared.manifest),
        "pictures": data_pictures(experiment.prepared),
    }


def _stage_scores(experiment: Experiment) -> dict[str, float] | None:
    """Scores of the two runs compared, and how much lower the first is, as a share of the second."""
    if experiment.context is None:
        return None
    first, second = (
        experiment.members[n].oof_score for n in (experiment.context.first, experiment.context.second)
    )
    return {"first": first, "second": second, "gain": (second - first) / second}


def _curves(experiment: Experiment, blocks: Sequence[label_tables.LabelBlock]) -> list[dict[str, Any]]:
    """The pictures of each label, with the numbers of their captions (the blend's)."""
    return [
        {
            "label": label,
            "positives": int(y.sum()),
            "share": float(y.mean()),
            "roc": curve_figures.roc_figure(label, y, models),
            "pr": curve_figures.pr_figure(label, y, models),
            "blend": next(row for row in block.rows if row.kind == "blend"),
            "reliability": curve_figures.reliability_figure(label, y, models["blend"]),
            "ece": expected_calibration_error(y, models["blend"]),
        }
        for block, (label, (y, models)) in zip(blocks, label_tables.curves(experiment).items(), strict=True)
    ]


def _triage(experiment: Experiment, part: str) -> Triage | None:
    cases = study_cases(experiment, part)
    options = {"replicates": experiment.config.replicates, "seed": experiment.config.seed}
    y, scores = (table["any"].to_numpy() for table in (cases.labels == 1, cases.answers))
    return triage(y, scores, cases.groups.to_numpy(), **options)
