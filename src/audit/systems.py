"""The published systems side by side: small networks, one data set, one split, one seed.

    python -m src.audit.systems --settings experiments/demo/SETTINGS.json --out results/systems.json

Trains `small_*` of every system that is not complete, fold 0 (every fold where a stacker reads it), and
writes what each costs and reaches: parameters, multiply-adds a slice, seconds, loss and AUC with patient
intervals, label accuracy beside that of predicting nothing, and paired differences for the claims of the
papers. Stopped and started again it continues. `--folds` and `--seeds` name more than one.
"""

import logging
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

from ..command_line import add_overrides, command_line, run, start_logging
from ..config import read_values
from ..data.prepared import Prepared
from ..data.synthetic_truth import is_synthetic
from ..errors import UserError
from ..files import read_json, write_json, write_text
from ..settings import Settings, load_settings
from ..targets import HEMORRHAGE
from ..training.engine.devices import prepare_torch
from ..training.runs import Run, runs_read
from .system_tables.labels import cost, label_claims, label_page, label_row, seconds_a_study
from .system_tables.seeds import APART, over_seeds, seeds_page, settings_of
from .system_tables.studies import STUDY_SYSTEM, study_claims, study_page, study_rows
from .system_tables.targets import score_targets, target_claims, target_page, target_rows

log = logging.getLogger("ich")

Result = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = (
    "scopeformer", "cnn_lstm", "vivit_vs_convnext", "resnext_pca_bilstm", "dtvit",
    "kaggle_1st", "kaggle_2nd", "kaggle_11th", "kaggle_12th", "ipan_2026", "shang_2022",
)  # fmt: skip


def configurations(systems: Iterable[str]) -> list[Path]:
    """`small_*` of every system, in an order in which each comes after what it reads."""
    found = [
        path
        for stage in ("stage1", "stage2")
        for system in systems
        for path in sorted((ROOT / "experiments" / system / stage).glob("small_*.json"))
    ]
    return sorted(found, key=lambda path: (path.parent.name, bool(runs_read(read_values(path)))))


def train_all(paths: Sequence[Path], settings: Settings, seed: int, arguments: Namespace) -> None:
    """Every configuration by its script, `--jobs` at once; what is complete is skipped there."""
    train = partial(_train, settings=settings, seed=seed, overrides=arguments.overrides)
    everywhere = {
        member for path in paths if path.parent.name == "stage2" for member in read_values(path)["members"]
    }
    known = sorted(Prepared(settings.clean).folds["fold"].unique().tolist())
    rounds: dict[tuple[str, bool], list[tuple[Path, int]]] = {}
    for path in paths:
        folds = known if name_of(path) in everywhere else arguments.folds
        group = rounds.setdefault((path.parent.name, bool(runs_read(read_values(path)))), [])
        group.extend((path, fold) for fold in folds)
    done, wanted = 0, sum(map(len, rounds.values()))
    for tasks in rounds.values():
        failed = []
        with ThreadPoolExecutor(arguments.jobs) as pool:
            running = {pool.submit(train, *task): task for task in tasks}
            for one in as_completed(running):
                if one.cancelled():
                    continue
                path, fold = running[one]
                if one.exception():
                    failed.append((path, fold))
                    for waiting in running:
                        waiting.cancel()
                else:
                    done += 1
                    log.info("%d of %d: %s fold %d", done, wanted, name_of(path), fold)
        if failed:
            names = ", ".join(f"{name_of(path)} fold {fold}" for path, fold in failed)
            raise UserError(f"{names}: did not finish; the reason stands above")


def _train(path: Path, fold: int, settings: Settings, seed: int, overrides: Sequence[str]) -> None:
    stage = path.parent.name
    values = list(overrides) if stage == "stage1" else []
    if seed:
        values.append(f"seed={read_values(path).get('seed', 0) + APART * seed}")
    command = [sys.executable, str(ROOT / f"train_{stage}.py"), str(path), "--fold", str(fold), "--jobs", "1"]
    flags = [flag for value in values for flag in ("--set", value)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*command, *flags, "--settings", str(settings.file)],
        cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip


def name_of(path: Path) -> str:
    return path.relative_to(ROOT / "experiments").with_suffix("").as_posix()


def page(result: Result) -> str:
    """results/systems.md."""
    kind = "**SYNTHETIC data: these scores say nothing about patients.** " if result["synthetic"] else ""
    (seed, first), *_ = result["seeds"].items()
    parts = several("Fold", result["folds"]) + ", " + several("seed", result["seeds"])
    lines = [
        "# The published systems at a small size",
        "",
        f"Generated by `python -m src.audit.systems`. {kind}{parts}. Every variant was trained with the "
        "values its file states; none was tuned further. Intervals: 95 %, patient-cluster bootstrap; study "
        "AUC: DeLong.",
        "",
        *(seeds_page(result["over_seeds"], list(result["seeds"])) if result["over_seeds"] else ()),
        *([f"All tables below are of seed {seed}.", ""] if result["over_seeds"] else ()),
        *(label_page(first["rows"], first["claims"]) if first["rows"] else ()),
        *(study_page(first["study_rows"], first["study_claims"]) if first["study_rows"] else ()),
        *(target_page(first["target_rows"], first["target_claims"]) if first["target_rows"] else ()),
        f"{parts}, small networks: an answer here can speak against a claim's reach, not against its paper.",
    ]
    return "\n".join(lines) + "\n"


def several(word: str, values: Collection[Any]) -> str:
    return f"{word}{'s' * (len(values) > 1)} {', '.join(map(str, values))}"


def score(names: Sequence[str], settings: Settings, prepared: Prepared, folds: Sequence[int]) -> Result:
    """Rows and claims of the runs of one seed."""
    of_labels = [name for name in names if Run(name, folds[0], settings).targets == HEMORRHAGE.name]
    of_studies = [name for name in names if name.startswith(STUDY_SYSTEM)]
    members = score_targets(
        [name for name in names if name not in (*of_labels, *of_studies)], settings, prepared, folds
    )
    return {
        "rows": [label_row(name, settings, prepared, folds) for name in of_labels],
        "claims": label_claims(settings, prepared, folds, set(of_labels)),
        "target_rows": target_rows(members, settings, folds, partial(cost, prepared=prepared)),
        "target_claims": target_claims(members),
        "study_rows": study_rows(of_studies, settings, prepared, folds, seconds_a_study),
        "study_claims": study_claims(settings, prepared, folds, set(of_studies)),
    }


def main() -> None:
    arguments = parse_arguments()
    start_logging(arguments.quiet)
    settings, paths = load_settings(arguments.settings), configurations(arguments.systems)
    own = {seed: settings_of(settings, seed) for seed in arguments.seeds}
    for seed, folders in own.items():
        train_all(paths, folders, seed, arguments)
    prepare_torch("cpu")
    prepared, names = Prepared(settings.clean), [name_of(path) for path in paths]
    results = {seed: score(names, folders, prepared, arguments.folds) for seed, folders in own.items()}
    result = {
        "synthetic": is_synthetic(settings.raw),
        "folds": arguments.folds,
        "seeds": results,
        "over_seeds": over_seeds(list(results.values())) if len(results) > 1 else [],
    }
    write_json(arguments.out, result)
    write_text(arguments.out.with_suffix(".md"), page(read_json(arguments.out)))
    print(f"wrote {arguments.out} and {arguments.out.with_suffix('.md')}")


def parse_arguments() -> Namespace:
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS, help="only these (default: all)")
    add("--folds", nargs="+", type=int, default=[0], metavar="K", help="held-out folds (default: 0)")
    add("--seeds", nargs="+", type=int, default=[0], metavar="S", help="trained from each (default: 0)")
    add_overrides(parser, "in every stage-1 configuration, as in training; repeatable")
    add("--out", type=Path, required=True, metavar="FILE.json", help="such as results/systems.json")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
