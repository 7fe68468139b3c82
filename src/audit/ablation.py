"""What each ingredient of a recipe brings: configurations against a base, over several seeds.

    python -m src.audit.ablation experiments/ablation --base full --seeds 5 --fold 0
    python -m src.audit.ablation experiments/ablation --stage stage2 --base lstm --seeds 3

Trains every configuration of a stage of the experiment once a seed, on one fold or on all, into
MODEL_DIR/seed<k>/; what is complete is skipped, so a stopped command goes on. A slice classifier that
differs from the base in its views alone is predicted by the base's networks.
Prints a table of paired differences; --out also writes it as JSON.
"""

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

from ..command_line import command_line, positive, run, start_logging
from ..config import StrictModel, load_config
from ..data.folds import link_patients
from ..data.prepared import Prepared
from ..errors import UserError
from ..evaluation.bootstrap import Interval, PatientBootstrap
from ..evaluation.metrics import WEIGHTS, row_losses
from ..files import write_json
from ..labels import LABELS
from ..models.heads import probability_frame
from ..models.slice_classifier import build_slice_classifier
from ..settings import load_settings
from ..training.engine.devices import prepare_torch
from ..training.engine.training_config import WITHOUT_EFFECT
from ..training.kinds import DEFAULTS, load_kind
from ..training.launch import asked_runs, train_together
from ..training.provenance import is_done
from ..training.runs import Run, run_name
from ..training.slices.kind import predict_slices
from ..training.split import labelled_slices, split_fold


@dataclass(frozen=True)
class Effect:
    """A configuration's score and what it is above the base's; below 0 it is better than the base."""

    score: float  # mean over the seeds
    seed_sd: float  # of the score
    difference: Interval  # seeds and patients resampled
    by_patients: Interval  # patients alone
    by_seeds: Interval  # Student's t over the seeds


def effect(losses: np.ndarray, base: np.ndarray, patients: np.ndarray, replicates: int = 2000) -> Effect:
    """losses, base: (seeds, n) log losses of the same slices; patients: (n,).

    The seeds are paired too: a seed gives both the same order of slices and, where the shapes agree, the
    same initial weights. Needs two seeds.
    """
    bootstrap = PatientBootstrap(patients, replicates)
    count = np.bincount(bootstrap.code)
    sums = np.stack([np.bincount(bootstrap.code, row, len(count)) for row in losses - base])  # (seeds, p)
    draws = np.stack(list(bootstrap.draws()))  # (replicates, p)
    replicate = (draws @ sums.T) / (draws @ count)[:, None]  # (replicates, seeds)
    seeds = len(losses)
    drawn = np.random.default_rng(bootstrap.seed).integers(0, seeds, replicate.shape)
    both = np.take_along_axis(replicate, drawn, axis=1).mean(1)
    each = sums.sum(1) / len(patients)
    mean = np.array([each.mean()])
    half = stats.t.ppf(1 - bootstrap.alpha / 2, seeds - 1) * each.std(ddof=1) / np.sqrt(seeds)
    return Effect(
        float(losses.mean()),
        float(losses.mean(1).std(ddof=1)),
        bootstrap.summarise(mean, both[:, None])[0],
        bootstrap.summarise(mean, replicate.mean(1, keepdims=True))[0],
        Interval(float(mean[0]), float(mean[0] - half), float(mean[0] + half)),
    )


def verdict(found: Effect) -> str:
    """`better` and `worse` where all three intervals agree, else `not clear`."""
    intervals = (found.difference, found.by_patients, found.by_seeds)
    if all(interval.high < 0 for interval in intervals):
        return "better"
    return "worse" if all(interval.low > 0 for interval in intervals) else "not clear"


def table(effects: Mapping[str, Effect], base: str) -> str:
    """Markdown; the base first, then from the worst to the best."""
    lines = [
        "| configuration | loss | sd over seeds | minus the base | seeds and patients | patients | seeds | |",
        "|---|---:|---:|---:|---|---|---|---|",
    ]
    order = sorted(effects, key=lambda name: (name != base, -effects[name].difference.estimate))
    for name in order:
        found, start = effects[name], f"| {name} | {effects[name].score:.4f} | {effects[name].seed_sd:.4f} |"
        if name == base:
            lines.append(f"{start} | | | | base |")
            continue
        spans = (found.difference, found.by_patients, found.by_seeds)
        cells = [f"[{span.low:+.4f}, {span.high:+.4f}]" for span in spans]
        lines.append(f"{start} {found.difference.estimate:+.4f} | {' | '.join(cells)} | {verdict(found)} |")
    return "\n".join(lines)


def held_out(
    run: Run, prepared: Prepared, config: StrictModel, base: StrictModel, base_run: Run, device: torch.device,
    quiet: bool,
) -> pd.DataFrame:  # fmt: skip
    """Held-out probabilities of a configuration, trained where that is still to be done."""
    ignored, stage1 = {*WITHOUT_EFFECT, "tta"}, run.stage == "stage1"
    if stage1 and run != base_run and config.model_dump(exclude=ignored) == base.model_dump(exclude=ignored):
        ids = list(base_run.predictions("oof").index)
        model = base_run.load_weights(build_slice_classifier(base, pretrained=False)).to(device)
        return probability_frame(
            predict_slices(model, prepared, ids, config, device)[0], ids, config.predicted
        )
    if not is_done(run, config, prepared):
        train_together(run, prepared, load_kind(config.kind), config, device, quiet)
    return run.predictions("oof")


def main() -> None:
    arguments = parse_arguments()
    start_logging(arguments.quiet)
    settings, folder = load_settings(arguments.settings), Path(arguments.experiment) / arguments.stage
    device = prepare_torch(arguments.device)
    paths = sorted(folder.glob("*.json"), key=lambda path: path.stem != arguments.base)
    if len(paths) < 2 or paths[0].stem != arguments.base:
        raise UserError(f"{folder}: needs {arguments.base}.json and others to compare with it")
    prepared, kind = Prepared(settings.clean), load_kind(DEFAULTS[arguments.stage])
    slices = labelled_slices(prepared)
    if arguments.fold is not None:
        slices = split_fold(prepared, arguments.fold)[1]
    truth, losses = slices.set_index("image_id"), {}
    for seed in range(arguments.seeds):  # a stopped command has whole seeds of everything, but one
        bases: list[tuple[StrictModel, list[Run]]] = []
        for path in paths:
            config = load_config(kind.config, path, [*arguments.overrides, f"seed={seed}"])
            runs = asked_runs(settings, prepared, f"seed{seed}/{run_name(path)}", arguments.fold)
            bases.append((config, runs))
            base, base_runs = bases[0]
            frame = pd.concat(
                [
                    held_out(one, prepared, config, base, base_run, device, arguments.quiet)
                    for one, base_run in zip(runs, base_runs, strict=True)
                ]
            )
            losses.setdefault(path.stem, []).append(row_losses(truth[list(LABELS)], frame) @ WEIGHTS)
    groups = truth["patient_id"].map(link_patients(prepared.slices))
    found = compare(losses, arguments.base, groups.to_numpy())
    print(table(found, arguments.base))
    if arguments.out:
        write_json(arguments.out, as_json(found, arguments))


def compare(losses: Mapping[str, list[np.ndarray]], base: str, patients: np.ndarray) -> dict[str, Effect]:
    """losses: configuration -> (n,) of each seed."""
    return {name: effect(np.stack(rows), np.stack(losses[base]), patients) for name, rows in losses.items()}


def as_json(effects: Mapping[str, Effect], arguments: Namespace) -> dict[str, Any]:
    rows = {
        name: {
            "score": one.score, "seed_sd": one.seed_sd, "difference": one.difference.estimate,
            "seeds_and_patients": one.difference[1:], "patients": one.by_patients[1:],
            "seeds": one.by_seeds[1:], "verdict": verdict(one),
        }
        for name, one in effects.items()
    }  # fmt: skip
    asked = {key: getattr(arguments, key) for key in ("stage", "base", "fold", "seeds")}
    return {**asked, "configurations": rows}


def parse_arguments() -> Namespace:
    parser = command_line(__doc__, device=True)
    add = parser.add_argument
    add("experiment", metavar="EXPERIMENT", help="a folder such as experiments/ablation")
    add("--base", default="full", metavar="NAME", help="what the others are compared with (default: full)")
    add("--seeds", type=positive, default=5, metavar="N", help="0 to N - 1 (default: 5)")
    add("--stage", choices=DEFAULTS, default="stage1", help="default: stage1")
    add("--fold", type=int, metavar="K", help="only this fold (default: every fold)")
    add("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="for all of them")
    add("--out", type=Path, metavar="FILE.json", help="also write the numbers there")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error("--seeds: at least 2, or there is no spread to compare with")
    return arguments


if __name__ == "__main__":
    run(main)
