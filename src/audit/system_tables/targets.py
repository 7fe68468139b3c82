"""The published systems that predict other things than the six labels: their rows, claims and tables."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from ...data.folds import link_patients
from ...data.prepared import Prepared
from ...ensemble.target_experiment import TargetMember, score_member
from ...evaluation.target_scores import LOCATION, SHARES, head_differences
from ...report.tables import markdown_table
from ...settings import Settings
from ...targets import PRESENCE
from ...training.kinds import kind_of
from ...training.runs import Run

DTVIT = "dtvit/stage1/small_"
# What the paper claims: a run, the run it is compared with, the head that is asked, the claim.
CLAIMS = (
    (DTVIT + "resnet", DTVIT + "presence", PRESENCE, "two tasks find bleeding better than one"),
    (DTVIT + "resnet", DTVIT + "location", LOCATION, "two tasks locate better than one"),
    (DTVIT + "vit", DTVIT + "resnet", PRESENCE, "the transformer finds bleeding better than the CNN"),
    (DTVIT + "vit", DTVIT + "resnet", LOCATION, "the transformer locates better than the CNN"),
    (DTVIT + "replicated", DTVIT + "resnet", PRESENCE, "copies of rare classes help to find bleeding"),
    (DTVIT + "replicated", DTVIT + "resnet", LOCATION, "copies of rare classes help to locate"),
    (DTVIT + "informative", DTVIT + "resnet", PRESENCE, "informative slices alone teach as much"),
)
COMPARED = ("log_loss", "accuracy", "recall")


def score_targets(
    names: Sequence[str], settings: Settings, prepared: Prepared, folds: Sequence[int]
) -> dict[str, TargetMember]:
    """The held-out predictions of `folds` of every run."""
    groups = prepared.slices["patient_id"].map(link_patients(prepared.slices))
    found = {}
    for name in names:
        runs = [Run(name, fold, settings) for fold in folds]
        oof = pd.concat([run.predictions("oof") for run in runs])
        found[name] = score_member(runs[0], oof, settings, prepared, groups)
    return found


def target_rows(
    members: Mapping[str, TargetMember],
    settings: Settings,
    folds: Sequence[int],
    cost: Callable[[Run], dict[str, Any]],
) -> list[dict[str, Any]]:
    """What each run costs and reaches."""
    rows = []
    for name, member in members.items():
        runs = [Run(name, fold, settings) for fold in folds]
        seconds = sum(run.metrics()["seconds"] for run in runs) / len(runs)
        config = runs[0].read_config(kind_of(runs[0]).config)
        weights = {PRESENCE: config.presence_weight, LOCATION: config.location_weight}
        learned = {"learned": [head for head, weight in weights.items() if weight]}
        rows.append(
            {"run": name, **member.to_json(), "training_seconds": seconds, **learned, **cost(runs[0])}
        )
    return rows


def target_claims(members: Mapping[str, TargetMember]) -> list[dict[str, Any]]:
    """The paired differences behind every claim of which both runs are there."""
    found = []
    for better, reference, asked, claim in CLAIMS:
        if not {better, reference} <= members.keys():
            continue
        first, second = members[better], members[reference]
        heads = {PRESENCE: first.targets.heads[0], LOCATION: first.targets.heads[-1]}
        differences = head_differences(
            heads[asked], first.labels, first.oof, second.oof.loc[first.oof.index], first.groups
        )
        gaps = {name: list(differences[name]) for name in COMPARED}
        found.append({"claim": claim, "run": better, "reference": reference, "head": asked, **gaps})
    return found


def target_page(rows: Sequence[dict[str, Any]], claims: Sequence[dict[str, Any]]) -> list[str]:
    """The lines of results/systems.md on these runs."""
    return [
        "## Presence and location of bleeding",
        "",
        "Recall is TP / (TP + FN). Of the location all shares but accuracy are means over the sites that "
        "occur. A run that is called leaky was split by slice, and a patient may be in training and "
        "held-out: its numbers are to be seen through, not to be reached. The loss of a run that learned one "
        "head alone includes the other as it happens to be.",
        "",
        markdown_table(
            ("run", "parameters", "multiply-adds a slice", "training s", "rows", "patients", "log loss",
             "baseline"),
            [_costs(row) for row in rows], "lrrrrrrr",
        ),
        "",
        *_head_table(PRESENCE, rows),
        *_head_table(LOCATION, rows),
        "Differences are paired by patient; below 0 the first has the lower loss, above 0 the higher share.",
        "",
        markdown_table(
            ("claim", "run", "against", "head", "log loss", "accuracy", "recall"),
            [(c["claim"], _short(c["run"]), _short(c["reference"]), c["head"],
              *(_span(c[name], "+.3f") for name in COMPARED)) for c in claims], "llllrrr",
        ),
        "",
    ]  # fmt: skip


def _head_table(head: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    table = [
        (_named(row), f"{sum(map(sum, matrix)):,}", f"{commonest(matrix):.1%}",
         *(_span(row["shares"][head][name], ".3f") for name in SHARES), str(matrix))
        for row in rows if (matrix := confusion(row, head)) is not None
    ]  # fmt: skip
    title = (head, "asked", "commonest class", *SHARES, "confusion matrix, truth in rows")
    return [markdown_table(title, table, "l" + "r" * 7 + "l"), ""] if table else []


def confusion(row: Mapping[str, Any], head: str) -> list[list[int]] | None:
    """The matrix of one head of a row; None where nothing was asked, or the run did not learn it."""
    for scores in row["heads"] if head in row["learned"] else ():
        if scores["rows"] and "confusion" in scores and head == LOCATION:
            return scores["confusion"]
        if scores["rows"] and head in scores:
            tn, fp, fn, tp = scores[head]["counts"]
            return [[tn, fp], [fn, tp]]
    return None


def commonest(matrix: Sequence[Sequence[int]]) -> float:
    """Accuracy of always calling the commonest class."""
    return max(map(sum, matrix)) / sum(map(sum, matrix))


def _costs(row: Mapping[str, Any]) -> list[str]:
    return [
        _named(row), f"{row['parameters']:,}", f"{row['multiply_adds'] / 1e6:,.1f} M",
        f"{row['training_seconds']:.0f}", f"{row['rows']:,}", str(row["patients"]),
        _span([row["oof"], *row["interval"]], ".3f"), f"{row['baseline']:.3f}",
    ]  # fmt: skip


def _named(row: Mapping[str, Any]) -> str:
    return row["run"] + (" (leaky)" if row["leak"] else "")


def _short(run: str) -> str:
    return run.split("/")[-1]


def _span(values: Sequence[float | None], form: str) -> str:
    if values[0] is None:
        return "undefined"
    estimate, low, high = values
    return f"{estimate:{form}} [{low:{form}}, {high:{form}}]"
