"""What each ingredient brings, one on the other: from the plainest network to the calibrated blend.

    python -m src.audit.ladder --settings experiments/demo/SETTINGS.json --out results/ladder.json

Trains what is not complete of STEPS, fold 0 (every fold where a stacker reads it; two of the networks are the
demo's own), and compares each with the step it stands on, on the same slices, patients drawn. Then come the
nested blend of all stackers and its calibration. Beside the file stand a table (.md) and a picture (.svg),
with the published ladder of the contest's 2nd place. `--trained` takes what is complete and names the rest.
"""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..command_line import command_line, run, start_logging
from ..data.prepared import Prepared
from ..data.synthetic_truth import is_synthetic
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
from .systems import ROOT, train_all

FOLD = 0
CALIBRATIONS = ("temperature", "platt", "raise_any", "meet_any")
# A run, the one it stands on, what is new.
STEPS = (
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
BLENDS = (("blend", "", "the blend of all stackers"), ("calibration", "blend", "its calibration"))
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


def ladder(settings: Settings, prepared: Prepared) -> dict[str, Any]:
    """The content of the file, of the steps whose fold is complete."""
    complete = [name for name, _, _ in STEPS if Run(name, FOLD, settings).complete]
    runs = {name: held_out(name, settings, prepared) for name in complete}
    truth = next(iter(runs.values()))
    tables = {name: one.p.loc[truth.p.index] for name, one in runs.items()}
    stackers = {name: table for name, table in tables.items() if "/stage2/" in name}
    steps = [step for step in STEPS if step[0] in tables]
    if len(stackers) > 1:
        best = min(stackers, key=lambda name: weighted_log_loss(truth.labels, stackers[name]))
        tables |= {"blend": nested(truth, stackers, ()), "calibration": nested(truth, stackers, CALIBRATIONS)}
        steps += [(name, against or best, what) for name, against, what in BLENDS]
    return {
        "synthetic": is_synthetic(settings.raw),
        "slices": len(truth.labels),
        "patients": int(truth.patients.nunique()),
        "baseline": list(bootstrap_weighted_log_loss(truth.labels, truth.constant, truth.patients)),
        "rows": [_row(*step, tables, truth) for step in steps],
        "missing": [name for name, _, _ in STEPS if name not in tables],
    }


def nested(truth: HeldOut, members: Mapping[str, pd.DataFrame], steps: Sequence[str]) -> pd.DataFrame:
    """What a blend that was chosen and fitted without the patient says of each slice."""
    blend = fit_blend(truth.labels, members, truth.patients, spaces=("probability", "logit"), steps=steps)
    return blend.nested_predictions


def held_out(name: str, settings: Settings, prepared: Prepared) -> HeldOut:
    """A run's predictions of the one fold that every step has."""
    return HeldOut.of(name, settings, prepared).part(Run(name, FOLD, settings).predictions("oof").index)


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


def page(result: dict[str, Any]) -> str:
    """results/ladder.md."""
    kind = "**SYNTHETIC data: these scores say nothing about patients.** " if result["synthetic"] else ""
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
            "# What each ingredient brings",
            "",
            f"Generated from results/ladder.json by `python -m src.audit.ladder`. {kind}Fold {FOLD}, "
            f"{result['slices']:,} held-out slices of {result['patients']} patients, one seed, tiny networks "
            f"from random weights; prevalence {span(result['baseline'], '.4f')}. Intervals: 95 %, patients "
            "drawn, paired; below 0 the step helps. Blend and calibration are nested: fitted without the "
            f"patient.{missing}",
            "",
            "![Both ladders](ladder.svg)",
            "",
            markdown_table(("step", "new", "weighted log loss", "against", "difference"), rows, "llrlr"),
            "",
            "## The 2nd place's own ladder",
            "",
            "Real data, fold 0, from its repository; without intervals: a difference below .002, the "
            "spread from fold to fold, says little.",
            "",
            markdown_table(
                ("new", "weighted log loss"), [[what, f"{loss:.5f}"] for what, loss in PUBLISHED], "lr"
            ),
        ]
    ) + "\n"  # fmt: skip


def picture(result: dict[str, Any], path: Path) -> None:
    """Both ladders side by side, an SVG file; the same result gives the same bytes."""
    with matplotlib.style.context(["default", {**STYLE, "svg.hashsalt": "ladder"}]):
        figure = Figure(figsize=(11, 4.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        rows = result["rows"]
        _rungs(left, [row["what"] for row in rows], [row["weighted_log_loss"] for row in rows], "stage1")
        kind = "synthetic" if result["synthetic"] else "real"
        left.set_title(f"here: {kind} data, {result['patients']} patients, 95 %", loc="right", fontsize=10)
        _rungs(right, [what for what, _ in PUBLISHED], [[loss] * 3 for _, loss in PUBLISHED], "stage2")
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
        paths = [ROOT / "experiments" / f"{name}.json" for name, _, _ in STEPS]
        train_all(paths, settings, arguments)
    write_json(arguments.out, ladder(settings, Prepared(settings.clean)))
    result = read_json(arguments.out)
    write_text(arguments.out.with_suffix(".md"), page(result))
    picture(result, arguments.out.with_suffix(".svg"))
    print(f"wrote {arguments.out}, .md and .svg beside it")


def parse_arguments() -> Namespace:
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--trained", action="store_true", help="train nothing")
    add("--out", type=Path, required=True, metavar="FILE.json", help="such as results/ladder.json")
    arguments = parser.parse_args()
    arguments.folds = [FOLD]
    return arguments


if __name__ == "__main__":
    run(main)
