"""What trained systems reach on data they were not trained on: several transfer.json in one table.

    python -m src.audit.transfer "data, in words=DIR/transfer.json" ... --out results/transfer.json

Each file is written by `predict.py EXPERIMENT --settings OTHER --labelled --out DIR`; results/transfer.md is
made from the result, with the words for the data as given. What --out holds of other experiments or data
stays.
"""

import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from ..command_line import argument_parser, run
from ..errors import UserError
from ..files import read_json, write_text
from ..report.tables import markdown_table
from ..report.transfer_page import area_cell, difference_cells, loss_cell, references


def collect(named: Sequence[str]) -> list[dict[str, Any]]:
    """The content of every file, with `what` its data are in words."""
    found = []
    for text in named:
        what, separator, file = text.partition("=")
        if not separator or not Path(file).is_file():
            raise UserError(
                f"{text}: expected WORDS=FILE, with FILE a transfer.json of predict.py --labelled"
            )
        values = json.loads(Path(file).read_text(encoding="utf-8"), parse_float=_short)
        found.append({"what": what, **values})
    return found


def merged(before: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results so far, those that were made again in their places, new ones behind."""
    key = itemgetter("experiment", "what")
    again = {key(one): one for one in found}
    kept = [again.pop(key(one), one) for one in before]
    return [*kept, *again.values()]


def _short(number: str) -> float:
    """Six digits are enough for a table, and half the file."""
    return float(f"{float(number):.6g}")


def lines_of(results: Sequence[Mapping[str, Any]]) -> str:
    """JSON with a line for each set of data and experiment: half the size of an indented file."""
    return "[\n" + ",\n".join(json.dumps(result, allow_nan=False) for result in results) + "\n]\n"


def page(results: Sequence[Mapping[str, Any]]) -> str:
    """results/transfer.md: a short table for each set of data; every label is in the JSON file."""
    lines = [
        "# Trained systems on data they were not trained on",
        "",
        "Generated from results/transfer.json by `python -m src.audit.transfer`. The networks of real_slices "
        "learned from the contest's own pictures; all others are the small ones of [systems.md](systems.md), "
        "trained on synthetic images of the demo, one of which is compared with them: cnn_lstm_small_2d, "
        "asked about the same studies in HU. `mean` is the mean of an experiment's members. Where the images "
        "are synthetic, this says nothing about patients. Weighted log "
        "loss by image with an interval by drawing patients; area under the ROC curve of any bleeding in a "
        "study, the maximum over its slices, with DeLong's; differences are on the same images and studies, "
        "below 0 a loss and above 0 an area is better. The other labels are in the JSON file, and on the "
        "page that every run of `predict.py --labelled` writes.",
    ]
    for result in results:
        kind = "SYNTHETIC images" if result["data"]["synthetic"] else "real images"
        lines += [
            "",
            f"## {result['experiment']}: {result['what']} ({kind})",
            "",
            _counts(result),
            "",
            _table(result),
        ]
    return "\n".join(lines) + "\n"


def _table(result: Mapping[str, Any]) -> str:
    """A row a member."""
    compared = {(one["first"], one["second"]): one for one in result["comparisons"]}
    header = ["run", "log loss by image", "study AUC any"]
    seconds = references(result["comparisons"])
    for second in seconds:
        header += [f"log loss minus {second}", "AUC minus its"]
    rows = []
    for name, found in result["members"].items():
        area = found["studies"] and found["studies"]["labels"]["any"]
        row = [name, loss_cell(found["weighted_log_loss"], ".4f"), area_cell(area) if area else ""]
        for second in seconds:
            one = compared.get((name, second))
            row += ["", ""] if one is None else difference_cells(one)
        rows.append(row)
    return markdown_table(header, rows, "l" + "r" * (len(header) - 1))


def _counts(result: Mapping[str, Any]) -> str:
    """What was scored."""
    first, baseline = next(iter(result["members"].values())), result["baseline"]["images"]
    parts = []
    if first["labels"]:
        parts.append(f"{first['images']:,} labelled images of {first['patients']:,} patients")
    if first["studies"]:
        parts.append(f"{first['studies']['studies']:,} labelled studies")
    if baseline is not None:
        parts.append(f"prevalence baseline by image {baseline:.4f}")
    return "; ".join(parts) + "."


def main() -> None:
    arguments = parse_arguments()
    before = read_json(arguments.out) if arguments.out.exists() else []
    results = merged(before, collect(arguments.results))
    write_text(arguments.out, lines_of(results))
    write_text(arguments.out.with_suffix(".md"), page(results))
    print(f"{arguments.out}, {arguments.out.with_suffix('.md')}")


def parse_arguments() -> Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument(
        "results", nargs="+", metavar="WORDS=FILE", help="what the data are, and their scores"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="results/transfer.json")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
