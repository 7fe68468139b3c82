"""The tables of results/real_*.json, which `python -m src.audit.held_out` writes of real data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import read_json
from ..labels import LABELS
from .tables import markdown_table

MAKER = "`python -m src.audit.held_out`"


def real_block(root: Path, name: str) -> str:
    """Every number of results/<name>.json with its interval."""
    path = root / "results" / f"{name}.json"
    if not path.is_file():
        return f"No results/{name}.json yet: {MAKER} fills in these tables."
    found = read_json(path)
    rows, first = found["rows"], found["rows"][0]
    parts = [
        "Weighted log loss, eps 1e-15, beside that of the training slices' prevalence; 95 %, patients drawn.",
        markdown_table(
            ("run", "folds", "slices (patients)", "weighted log loss", "prevalence", "difference"),
            [_loss_cells(row) for row in rows],
            "llrrrr",
        ),
    ]
    if any(row["studies"] for row in rows):
        header = ("run", "studies (bleeding)", "study AUC any, DeLong", "study log loss")
        parts.append(markdown_table(header, [_study_cells(row) for row in rows], "lrrr"))
    if found["comparisons"]:
        header = ("run", "against", "log loss by slice", "by study", "study AUC any")
        parts.append(markdown_table(header, [_compared(one) for one in found["comparisons"]], "llrrr"))
    parts += [
        f"By label, {first['run']}; Brier score and calibration error (15 bins; a replicate's is biased "
        "upwards, so the interval may lie above):",
        markdown_table(
            ("label", "positives", "AUC", "Brier", "Brier of the prevalence", "calibration error"),
            [_label_cells(label, first["labels"][label]) for label in LABELS],
            "lrrrrr",
        ),
    ]
    if first["any"]:
        parts += [
            "Operating points of `any`, each threshold from the other half of the patients:",
            markdown_table(
                ("asked for", "sensitivity", "specificity"),
                [_point(asked, rates) for asked, rates in first["any"].items()],
                "lrr",
            ),
        ]
    return "\n\n".join(parts)


def real_line(root: Path) -> str:
    """One sentence for the first screen of README: results/real_slices.json."""
    path = root / "results" / "real_slices.json"
    if not path.is_file():
        return f"**Real slices**: no results/real_slices.json yet; {MAKER} makes it."
    row = read_json(path)["rows"][0]
    folds, area = row["folds"], row["labels"]["any"]
    held = f"fold {folds[0]}" if len(folds) == 1 else f"{len(folds)} folds"
    return (
        f"**Real slices**: 2,947 of the contest as PNG pictures, one small network, {held}, on a CPU: "
        f"weighted log loss {span(row['weighted_log_loss'])} on {row['slices']:,} held-out slices of "
        f"{row['patients']:,} patients, where the prevalence gives {span(row['baseline'])}; AUC of any "
        f"bleeding {span(area['auc'])}, {area['positives']} positives."
    )


def span(values: Sequence[float | None], form: str = ".3f") -> str:
    """`0.123 [0.100, 0.150]`; the estimate alone where it has no interval."""
    estimate, low, high = values
    if estimate is None:
        return ""
    return f"{estimate:{form}}" if low is None else f"{estimate:{form}} [{low:{form}}, {high:{form}}]"


def _loss_cells(row: Mapping[str, Any]) -> list[str]:
    return [
        row["run"],
        ", ".join(map(str, row["folds"])),
        f"{row['slices']:,} ({row['patients']:,})",
        *(span(row[key], ".4f") for key in ("weighted_log_loss", "baseline")),
        span(row["minus_baseline"], "+.4f"),
    ]


def _study_cells(row: Mapping[str, Any]) -> list[str]:
    studies = row["studies"]
    return [
        row["run"],
        f"{studies['studies']} ({studies['positives']})",
        span(studies["auc_any"]),
        _value(studies["weighted_log_loss"], ".3f"),
    ]


def _compared(one: Mapping[str, Any]) -> list[str]:
    studies = one["studies"] or {"weighted_log_loss": None, "auc_any": None}
    area = studies["auc_any"]
    return [
        one["first"],
        one["second"],
        span(one["difference"], "+.4f"),
        _value(studies["weighted_log_loss"], "+.3f"),
        "" if area is None else span([area[key] for key in ("difference", "low", "high")], "+.3f"),
    ]


def _value(found: Mapping[str, Any] | None, form: str) -> str:
    return "" if found is None else span([found["value"], *(found["interval"] or (None, None))], form)


def _label_cells(label: str, found: Mapping[str, Any]) -> list[str]:
    numbers = (found[key] for key in ("auc", "brier", "brier_of_baseline", "ece"))
    return [label, str(found["positives"]), *map(span, numbers)]


def _point(asked: str, rates: Mapping[str, Any]) -> list[str]:
    name, rate = asked.split("_")
    return [f"{name} .{rate}", span(rates["sensitivity"]), span(rates["specificity"])]
