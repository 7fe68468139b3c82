"""The page and the tables of transfer.json: an experiment on labelled data it was not trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..labels import SUBTYPES
from .pages import render_page

SHOWN = ("any", *SUBTYPES)
ON_SYNTHETIC = "SYNTHETIC images: nothing here says anything about patients"
BY_SYNTHETIC = "Answered by networks that were trained on SYNTHETIC images"
BY_STUDY = (
    "A study scores the maximum over its slices. Area under the ROC curve with DeLong's 95 % interval, in "
    "brackets the positives; with a single case of a class it has no interval. Log loss: patients drawn."
)
BY_IMAGE = "Weighted log loss and areas with 95 % intervals by drawing patients; in brackets the positives."
BY_GROUP = (
    "Groups differ in what they hold: compare a loss with that of the group's own prevalence. Intervals draw "
    "patients, those of studies' areas are DeLong's; in brackets the positives."
)
PAIRED = (
    "On the same images and studies. Log loss: first minus second, below 0 the first is better. Areas of "
    "studies: first minus second, above 0 the first is better, with DeLong's paired interval and p."
)


@dataclass(frozen=True)
class Table:
    """`rows`: the name of a member, then a cell for every further column."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str


def transfer_page(scores: Mapping[str, Any]) -> str:
    """The HTML of transfer.json's content."""
    data = scores["data"]
    first = next(iter(scores["members"].values()))
    facts = {
        "data set": data["dataset"],
        "pixels": f"{data['size']} px, {data['units']}",
        **_what_was_scored(first, scores["baseline"]),
        "left out": f"{scores['left_out']:,} images",
        "clipped at": f"{scores['eps']:g}",
    }
    return render_page(
        "transfer.html",
        experiment=scores["experiment"],
        notice=ON_SYNTHETIC if data["synthetic"] else "",
        facts=facts,
        tables=transfer_tables(scores),
    )


def evaluation_page(experiment: str, table: str, scores: Mapping[str, Any]) -> str:
    """The HTML of what predict.py --evaluate wrote into scores.json; table: its name."""
    facts = {"table": table, **_what_was_scored(scores, scores["baseline"])}
    tables = transfer_tables({"members": {experiment: scores}, "comparisons": scores["comparisons"]})
    if scores["subgroups"]:
        tables.append(subgroup_table(scores["subgroups"]))
    notice = BY_SYNTHETIC if scores["trained_on_synthetic"] else ""
    return render_page("transfer.html", experiment=experiment, notice=notice, facts=facts, tables=tables)


def _what_was_scored(found: Mapping[str, Any], baselines: Mapping[str, float | None]) -> dict[str, str]:
    """found: scores by image and by study, as `Answered.scores` gives them; baselines: by part."""
    facts = {}
    if found["labels"]:
        facts |= {"labelled images": f"{found['images']:,}", "patients": f"{found['patients']:,}"}
    if found["studies"]:
        studies = found["studies"]
        facts |= {"labelled studies": f"{studies['studies']:,}", "their images": f"{studies['images']:,}"}
    for part, baseline in baselines.items():
        if baseline is not None:
            facts[f"prevalence baseline, {part}"] = f"{baseline:.4f}"
    return facts


def subgroup_table(groups: Sequence[Mapping[str, Any]]) -> Table:
    """A row a group, with the loss of the group's own prevalence beside its loss."""
    unit = "images" if "images" in groups[0] else "studies"
    rows = [
        [
            f"{one['by']}: {one['group']}",
            f"{one[unit]:,} ({one['patients']:,})",
            loss_cell(one["weighted_log_loss"], ".4f"),
            "" if one["baseline"] is None else f"{one['baseline']:.4f}",
            area_cell(one["any"]),
        ]
        for one in groups
    ]
    header = ("", f"{unit} (patients)", "weighted log loss", "of the group's prevalence", _area("any"))
    return Table("By subgroup", header, rows, BY_GROUP)


def transfer_tables(scores: Mapping[str, Any]) -> list[Table]:
    """By study, by image, and what was compared; a table without anything to say is left out."""
    members = scores["members"]
    by_study = {name: found["studies"] for name, found in members.items() if found["studies"]}
    by_image = {name: found for name, found in members.items() if found["labels"]}
    tables = []
    for title, found, note in (("By study", by_study, BY_STUDY), ("By image", by_image, BY_IMAGE)):
        if found:
            rows = [_scores_row(name, one) for name, one in found.items()]
            tables.append(Table(title, ("", "weighted log loss", *map(_area, SHOWN)), rows, note))
    for second in references(scores["comparisons"]):
        header = ("", "log loss by image", "log loss by study", *map(_area, SHOWN))
        rows = [_difference_row(one) for one in scores["comparisons"] if one["second"] == second]
        tables.append(Table(f"Against {second}", header, rows, PAIRED))
    return tables


def references(comparisons: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was compared with, in order."""
    return list(dict.fromkeys(one["second"] for one in comparisons))


def _area(label: str) -> str:
    return f"AUC {label}"


def _scores_row(name: str, found: Mapping[str, Any]) -> list[str]:
    areas = [area_cell(found["labels"][label]) for label in SHOWN]
    return [name, loss_cell(found["weighted_log_loss"], ".4f"), *areas]


def area_cell(one: Mapping[str, Any]) -> str:
    """AUC with its interval and, in brackets, the positives."""
    return "" if one["auc"] is None else f"{_span(one['auc'], one['interval'], '.3f')} ({one['positives']})"


def _difference_row(one: Mapping[str, Any]) -> list[str]:
    by_study = loss_cell(one["studies"] and one["studies"]["weighted_log_loss"], "+.4f")
    by_image, any_area = difference_cells(one)
    areas = one["studies"]["auc"] if one["studies"] else {}
    return [one["first"], by_image, by_study, any_area, *(_paired(areas.get(label)) for label in SHOWN[1:])]


def difference_cells(one: Mapping[str, Any]) -> tuple[str, str]:
    """Of the log loss by image, and of the area of any bleeding in a study."""
    areas = one["studies"]["auc"] if one["studies"] else {}
    loss = one["images"] and one["images"]["weighted_log_loss"]
    return loss_cell(loss, "+.4f"), _paired(areas.get("any"))


def _paired(found: Mapping[str, float | None] | None) -> str:
    if found is None or found["low"] is None:
        return ""
    span = _span(found["difference"], (found["low"], found["high"]), "+.3f")
    return f"{span}, p {found['p']:.2g}"


def loss_cell(found: Mapping[str, Any] | None, how: str) -> str:
    """A loss or a difference of losses with its interval."""
    return "" if found is None else _span(found["value"], found["interval"], how)


def _span(value: float, interval: Sequence[float] | None, how: str) -> str:
    bounds = "" if interval is None else f" [{interval[0]:{how}}, {interval[1]:{how}}]"
    return f"{value:{how}}{bounds}"
