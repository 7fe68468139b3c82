"""What each ingredient brings, one on the other: from the plainest network to the calibrated blend.

    python -m src.audit.ladder --settings experiments/demo/SETTINGS.json --out results/ladder.json
    python -m src.audit.ladder real_slices --settings experiments/real_slices/SETTINGS.json --out FILE.json

Trains what is not complete of the ladder's steps, fold 0 (every fold where a stacker reads it; the last of
the real slices and two of the demo's networks are those experiments' own), and compares each with the step it
stands on, on the same slices, patients drawn. Then come the nested blend of all runs of the last stage and
its calibration. Beside the file stand a table (.md) and a picture (.svg), the demo's with the published
ladder of the contest's 2nd place. `--trained` takes what is complete and names the rest.
"""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..command_line import command_line, run, start_logging
from ..data.prepared import Prepared
from ..data.synthetic_truth import is_synthetic
from ..errors import UserError
from ..evaluation.blend import fit_blend
from ..evaluation.bootstrap import bootstrap_weighted_log_loss, bootstrap_weighted_log_loss_difference
from ..evaluation.metrics import weighted_log_loss
from ..files import atomic_path, read_json, write_json, write_text
from ..report.real_scores import span
from ..report.svg import COLOURS, STYLE
from ..report.tables import markdown_table
from ..settings import Settings, load_settings
from ..training.runs import Run
from .held_out import HeldOut
from .systems import ROOT, several, train_all

CALIBRATIONS = ("temperature", "platt", "raise_any", "meet_any")
Steps = tuple[tuple[str, str, str], ...]  # a run, the one it stands on, what is new
DEMO = (
    ("ladder/stage1/plain", "", "one window, 64 px, one rate, nothing else"),
    ("ladder/stage1/windows", "ladder/stage1/plain", "three windows"),
    ("ladder/stage1/size", "ladder/stage1/windows", "96 px"),
    ("ladder/stage1/schedule", "ladder/stage1/size", "warm-up, cosine, weight decay, the metric as loss"),
    ("ladder/stage1/augmentation", "ladder/stage1/schedule", "mirror, rotation, scale and shift"),
    ("ladder/stage1/average", "ladder/stage1/augmentation", "moving average of the weights"),
    ("ladder/stage1/views", "ladder/stage1/average", "prediction also looks at the mirror image"),
    ("ladder/stage1/neighbours", "ladder/stage1/average", "slices before and after as channels"),
    ("demo/stage1/resnet", "ladder/stage1/average", "eight epochs instead of four, one slice"),
    ("demo/stage1/efficientnet", "demo/stage1/resnet", "another backbone instead"),
    ("ladder/stage2/context", "demo/stage1/resnet", "an LSTM over the study, on logits"),
    ("ladder/stage2/deltas", "ladder/stage2/context", "minus the slices before and after"),
    ("ladder/stage2/two_backbones", "ladder/stage2/context", "two backbones, without these deltas"),
    ("ladder/stage2/differences", "ladder/stage2/two_backbones", "their mean and difference"),
    ("ladder/stage2/two_branch", "ladder/stage2/two_backbones", "network of the 1st place, embeddings too"),
)
REAL = (
    ("ladder/stage1/real_plain", "", "random weights, 96 px, one rate, nothing else"),
    ("ladder/stage1/real_imagenet", "ladder/stage1/real_plain", "weights of ImageNet"),
    (
        "ladder/stage1/real_schedule",
        "ladder/stage1/real_imagenet",
        "warm-up, cosine, weight decay, the metric as loss",
    ),
    (
        "ladder/stage1/real_augmentation",
        "ladder/stage1/real_schedule",
        "mirror, rotation, scale, shift, jitter of the window",
    ),
    ("ladder/stage1/real_average", "ladder/stage1/real_augmentation", "moving average of the weights"),
    ("ladder/stage1/real_views", "ladder/stage1/real_average", "prediction also looks at the mirror image"),
    ("ladder/stage1/real_size", "ladder/stage1/real_average", "128 px"),
    (
        "real_slices/stage1/lite0",
        "ladder/stage1/real_imagenet",
        "all of these, 192 px, five epochs instead of two, dropout",
    ),
)
# darraghdog/rsna, weighted log loss of fold 0, what is new at each step.
PUBLISHED = (
    ("EfficientNet-B0, 224 px", 0.08047),
    ("256 px, mean over 3 slices", 0.07416),
    ("ResNeXt101 WSL instead", 0.06874),
    ("seven epochs instead of four", 0.06582),
    ("other weights of the 3 slices", 0.06489),
    ("384 px", 0.06336),
    ("LSTM-64 on embeddings, 256 px", 0.06217),
    ("two LSTM-256", 0.06119),
    ("384 px, three epochs averaged", 0.05844),
    ("five epochs averaged", 0.05811),
    ("two LSTM-1024", 0.05780),
    ("480 px", 0.05758),
    ("minus slice before and after", 0.0574),
    ("nine epochs averaged, mirror", 0.05730),
    ("2,048 units, twelve epochs", 0.05705),
    ("with and without crop", 0.05622),
)


@dataclass(frozen=True)
class Ladder:
    """Its steps, what is trained, what the runs of its last stage are called, another ladder to put beside
    it.
    """

    steps: Steps
    about: str
    blended: str
    published: tuple[tuple[str, float], ...] = ()


LADDERS = {
    "demo": Ladder(DEMO, "tiny networks from random weights", "stackers", PUBLISHED),
    "real_slices": Ladder(REAL, "EfficientNet-Lite0 on the contest's own PNG pictures", "networks"),
}


def ladder(name: str, folds: Sequence[int], settings: Settings, prepared: Prepared) -> dict[str, Any]:
    """The content of the file, of the steps whose folds are complete."""
    known = LADDERS[name]
    complete = [run for run, _, _ in known.steps if all(Run(run, fold, settings).complete for fold in folds)]
    if not complete:
        raise UserError(f"{settings.models}: holds no step of the ladder {name}; run without --trained")
    runs = {run: held_out(run, folds, settings, prepared) for run in complete}
    truth = next(iter(runs.values()))
    tables = {run: one.p.loc[truth.p.index] for run, one in runs.items()}
    steps = [step for step in known.steps if step[0] in tables]
    last = {run: table for run, table in tables.items() if f"/{stage_of(known)}/" in run}
    if len(last) > 1:
        best = min(last, key=lambda run: weighted_log_loss(truth.labels, last[run]))
        tables |= {"blend": nested(truth, last, ()), "calibration": nested(truth, last, CALIBRATIONS)}
        steps.append(("blend", best, f"the blend of all {known.blended}"))
        steps.append(("calibration", "blend", "its calibration"))
    return {
        "ladder": name,
        "synthetic": is_synthetic(settings.raw),
        "folds": list(folds),
        "slices": len(truth.labels),
        "patients": int(truth.patients.nunique()),
        "baseline": list(bootstrap_weighted_log_loss(truth.labels, truth.constant, truth.patients)),
        "rows": [_row(*step, tables, truth) for step in steps],
        "missing": [run for run, _, _ in known.steps if run not in tables],
    }


def stage_of(known: Ladder) -> str:
    """The last stage of its steps."""
    return max(run.split("/")[1] for run, _, _ in known.steps)


def nested(truth: HeldOut, members: Mapping[str, pd.DataFrame], steps: Sequence[str]) -> pd.DataFrame:
    """What a blend that was chosen and fitted without the patient says of each slice."""
    blend = fit_blend(truth.labels, members, truth.patients, spaces=("probability", "logit"), steps=steps)
    return blend.nested_predictions


def held_out(name: str, folds: Sequence[int], settings: Settings, prepared: Prepared) -> HeldOut:
    """A run's predictions of the folds that every step has."""
    index = [Run(name, fold, settings).predictions("oof").index for fold in folds]
    return HeldOut.of(name, settings, prepared).part(index[0].append(index[1:]))


def _row(
    name: str, against: str, what: str, tables: Mapping[str, pd.DataFrame], truth: HeldOut
) -> dict[str, Any]:
    labels, p, patients = truth.labels, tables[name], truth.patients
    difference = None
    if against in tables:
        difference = list(bootstrap_weighted_log_loss_difference(labels, p, tables[against], patients))
    return {
        "step": name,
        "what": what,
        "against": against if difference else None,
        "weighted_log_loss": list(bootstrap_weighted_log_loss(labels, p, patients)),
        "difference": difference,
    }


def page(result: dict[str, Any], picture: str) -> str:
    """The table, below a picture of that name."""
    known = LADDERS[result["ladder"]]
    synthetic = "**SYNTHETIC data: these scores say nothing about patients.**"
    kind = synthetic if result["synthetic"] else "**Real data.**"
    missing = f" Not run: {', '.join(result['missing'])}." if result["missing"] else ""
    rows = [
        [
            row["step"],
            row["what"],
            span(row["weighted_log_loss"], ".4f"),
            row["against"] or "",
            "" if row["difference"] is None else span(row["difference"], "+.4f"),
        ]
        for row in result["rows"]
    ]
    return "\n".join(
        [
            "# What each ingredient brings" + ("" if result["synthetic"] else ": real data"),
            "",
            f"Generated by `python -m src.audit.ladder {result['ladder']}`. {kind} "
            f"{several('Fold', result['folds'])}, {result['slices']:,} held-out slices of "
            f"{result['patients']:,} patients, one seed, {known.about}; prevalence "
            f"{span(result['baseline'], '.4f')}. Intervals: 95 %, patients drawn, paired; below 0 the step "
            f"helps. Blend and calibration are nested: fitted without the patient.{missing}",
            "",
            f"![The ladder]({picture})",
            "",
            markdown_table(("step", "new", "weighted log loss", "against", "difference"), rows, "llrlr"),
            *(_published(known) if known.published else ()),
        ]
    ) + "\n"  # fmt: skip


def _published(known: Ladder) -> list[str]:
    rows = [[what, f"{loss:.5f}"] for what, loss in known.published]
    return [
        "",
        "## The 2nd place's own ladder",
        "",
        "Real data, fold 0, from its repository; without intervals: a difference below .002, the "
        "spread from fold to fold, says little.",
        "",
        markdown_table(("new", "weighted log loss"), rows, "lr"),
    ]


def picture(result: dict[str, Any], path: Path) -> None:
    """The ladder, beside the published one where it has one, as an SVG file; the same result gives the same
    bytes.
    """
    published, rows = LADDERS[result["ladder"]].published, result["rows"]
    panels = 1 + bool(published)
    with matplotlib.style.context(["default", {**STYLE, "svg.hashsalt": "ladder"}]):
        figure = Figure(figsize=(4 + 3.5 * panels, round(0.86 + 0.22 * len(rows), 2)), layout="constrained")
        left, *others = figure.subplots(1, panels, squeeze=False)[0]
        _rungs(left, [row["what"] for row in rows], [row["weighted_log_loss"] for row in rows], "stage1")
        kind = "synthetic" if result["synthetic"] else "real"
        left.set_title(f"here: {kind} data, {result['patients']:,} patients, 95 %", loc="right", fontsize=10)
        for right in others:
            _rungs(right, [what for what, _ in published], [[loss] * 3 for _, loss in published], "stage2")
            right.set_title("2nd place of the contest: real data, as published", loc="right", fontsize=10)
        with atomic_path(path) as temporary:
            nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            figure.savefig(temporary, format="svg", metadata=nothing, facecolor="white")


def _rungs(axes: Axes, names: Sequence[str], intervals: Sequence[Sequence[float]], colour: str) -> None:
    places = range(len(names), 0, -1)
    for place, (estimate, low, high) in zip(places, intervals, strict=True):
        axes.plot([low, high], [place] * 2, color=COLOURS[colour], linewidth=1.2)
        axes.plot(estimate, place, "o", color=COLOURS[colour], markersize=4)
    axes.set_yticks(list(places), names)
    axes.set_xlabel("weighted log loss")
    axes.grid(axis="x")


def main() -> None:
    arguments = parse_arguments()
    start_logging(arguments.quiet)
    settings = load_settings(arguments.settings)
    if not arguments.trained:
        steps = LADDERS[arguments.ladder].steps
        train_all([ROOT / "experiments" / f"{run}.json" for run, _, _ in steps], settings, 0, arguments)
    write_json(arguments.out, ladder(arguments.ladder, arguments.folds, settings, Prepared(settings.clean)))
    result, drawn = read_json(arguments.out), arguments.out.with_suffix(".svg")
    write_text(arguments.out.with_suffix(".md"), page(result, drawn.name))
    picture(result, drawn)
    print(f"wrote {arguments.out}, .md and .svg beside it")


def parse_arguments() -> Namespace:
    parser = command_line(__doc__)
    parser.set_defaults(overrides=[])  # a step with another value would be another step
    add = parser.add_argument
    add("ladder", nargs="?", choices=LADDERS, default="demo", help="whose steps (default: demo)")
    add("--folds", nargs="+", type=int, default=[0], metavar="K", help="held-out folds (default: 0)")
    add("--trained", action="store_true", help="train nothing")
    add("--out", type=Path, required=True, metavar="FILE.json", help="such as results/ladder.json")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
