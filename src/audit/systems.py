"""The published systems side by side: small networks, one data set, one split, one seed.

    python -m src.audit.systems --settings experiments/demo/SETTINGS.json --out results/systems.json

Trains `small_*` of every system that is not complete, fold 0 (every fold where a stacker reads it), and
writes what each costs and reaches: parameters, multiply-adds a slice, seconds, loss and AUC with patient
intervals, label accuracy beside that of predicting nothing, and paired differences for the claims of the
papers. Stopped and started again it continues. `--folds` and `--seeds` name more than one.
"""

import os
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from ..command_line import add_overrides, command_line, run, start_logging
from ..config import read_values
from ..data.folds import link_patients
from ..data.prepared import Prepared
from ..data.synthetic_truth import is_synthetic
from ..errors import UserError
from ..evaluation.bootstrap import (
    bootstrap_auc,
    bootstrap_weighted_log_loss,
    bootstrap_weighted_log_loss_difference,
)
from ..evaluation.metrics import prevalence_baseline, study_maximum
from ..evaluation.roc import delong
from ..files import read_json, write_json, write_text
from ..labels import LABELS
from ..report.generated import markdown_table
from ..settings import Settings, load_settings
from ..targets import HEMORRHAGE
from ..training.engine.devices import prepare_torch
from ..training.kinds import Kind, kind_of
from ..training.runs import Run, runs_read
from ..training.split import labelled_slices
from .several_seeds import APART, over_seeds, seeds_page, settings_of
from .study_systems import STUDY_SYSTEM, study_claims, study_page, study_rows
from .target_systems import score_targets, target_claims, target_page, target_rows

Result = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = ("scopeformer", "cnn_lstm", "vivit_vs_convnext", "resnext_pca_bilstm", "dtvit")
TIMED = 10  # studies that prediction is timed on
# What each paper claims, as a run and the run it is compared with.
CLAIMS = (
    ("scopeformer/stage1/small_1", "scopeformer/stage1/small_0", "a trunk beats the plain transformer"),
    ("scopeformer/stage1/small_3", "scopeformer/stage1/small_1", "three trunks beat one"),
    ("scopeformer/stage1/small_2_seeds", "scopeformer/stage1/small_2_same", "two seeds beat one start twice"),
    (
        "scopeformer/stage1/small_2_architectures",
        "scopeformer/stage1/small_2_same",
        "two architectures beat one start twice",
    ),
    ("scopeformer/stage1/small_efficient", "scopeformer/stage1/small_3", "projections lose nothing"),
    ("cnn_lstm/stage1/small_lstm", "cnn_lstm/stage1/small_2d", "context beats 2D"),
    ("cnn_lstm/stage1/small_lstm", "cnn_lstm/stage1/small_lstm_study_draws", "draws by slice beat by study"),
    ("resnext_pca_bilstm/stage1/small_full", "resnext_pca_bilstm/stage1/small_half", "full beats half size"),
    ("resnext_pca_bilstm/stage2/small_pca", "resnext_pca_bilstm/stage1/small_half", "the BiLSTM beats 2D"),
    ("resnext_pca_bilstm/stage2/small_pca", "resnext_pca_bilstm/stage2/small_none", "PCA loses nothing"),
)


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
    for tasks in rounds.values():
        with ThreadPoolExecutor(arguments.jobs) as pool:
            running = {pool.submit(train, *task): task for task in tasks}
            ended = wait(running, return_when=FIRST_EXCEPTION)
            for waiting in ended.not_done:
                waiting.cancel()
        if failed := [running[one] for one in ended.done if one.exception()]:
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


def row_of(name: str, settings: Settings, prepared: Prepared, folds: Sequence[int]) -> dict[str, Any]:
    """What one run costs and reaches on the held-out slices of `folds`."""
    runs = [Run(name, fold, settings) for fold in folds]
    oof = pd.concat([one.predictions("oof") for one in runs])
    slices = labelled_slices(prepared).set_index("image_id").loc[oof.index]
    labels, groups = slices[list(LABELS)].astype("int8"), slices["patient_id"].map(
        link_patients(prepared.slices)
    )  # fmt: skip
    loss = bootstrap_weighted_log_loss(labels, oof, groups)
    areas = bootstrap_auc(labels, oof, groups)
    y, p = labels.to_numpy(), oof.to_numpy()
    studies = slices["study_id"]
    truth, scores = (study_maximum(table, studies)["any"] for table in (labels, oof))
    study = delong(truth.to_numpy() == 1, scores.to_numpy())
    return {
        "run": name,
        "slices": len(labels),
        "patients": int(groups.nunique()),
        "studies": len(truth),
        "baseline": prevalence_baseline(labels),
        "weighted_log_loss": list(loss),
        "auc_any": areas.loc["any"].tolist(),
        "auc_macro": areas.loc["macro"].tolist(),
        "study_auc_any": [study.auc, study.low, study.high],
        "accuracy": float(((p >= 0.5) == y).mean()),
        "accuracy_all_negative": float((y == 0).mean()),
        "training_seconds": sum(one.metrics()["seconds"] for one in runs) / len(runs),
        **cost(runs[0], prepared),
    }


def cost(one: Run, prepared: Prepared) -> dict[str, Any]:
    """Parameters, multiply-adds a slice and, of what reads pixels, seconds a study on this processor."""
    if one.stage == "stage2":
        from safetensors import safe_open

        with safe_open(one.require("model.safetensors"), "pt") as file:
            return {"parameters": sum(file.get_tensor(key).numel() for key in file.keys())}  # noqa: SIM118
    kind = kind_of(one)
    config = one.read_config(kind.config)
    model = kind.build(config, pretrained=False).eval()
    count = sum(p.numel() for p in model.parameters())
    hu = torch.zeros(1, len(config.neighbours), config.image_size, config.image_size, dtype=torch.int16)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.backbone(model.images(hu, torch.ones(1, len(config.windows), 2)))
    return {
        "parameters": count,
        "multiply_adds": counter.get_total_flops() // 2,
        "seconds_a_study": seconds_a_study(one, kind, prepared),
    }


def seconds_a_study(one: Run, kind: Kind, prepared: Prepared) -> float:
    """On this processor."""
    ids = studies = prepared.volumes.study_ids[:TIMED]
    if one.predictions("oof").index.name == "image_id":
        ids = [image for study in studies for image in prepared.volumes.study_images(study)]
    started = time.perf_counter()
    kind.outputs(one, prepared, ids, torch.device("cpu"))
    return (time.perf_counter() - started) / len(studies)


def compare(settings: Settings, prepared: Prepared, folds: Sequence[int], done: set[str]) -> list[dict]:
    """The paired difference behind every claim; below 0 the first is better."""
    groups = prepared.slices.set_index("image_id")["patient_id"].map(link_patients(prepared.slices))
    table = labelled_slices(prepared).set_index("image_id")
    found = []
    for better, reference, claim in CLAIMS:
        if not {better, reference} <= done:
            continue
        first, second = (
            pd.concat([Run(name, fold, settings).predictions("oof") for fold in folds])
            for name in (better, reference)
        )
        labels = table.loc[first.index, list(LABELS)].astype("int8")
        gain = bootstrap_weighted_log_loss_difference(labels, first, second, groups.loc[first.index])
        answer = "yes" if gain.high < 0 else "no, the reverse" if gain.low > 0 else "inside the noise"
        found.append(
            {
                "claim": claim,
                "run": better,
                "reference": reference,
                "difference": list(gain),
                "answer": answer,
            }
        )
    return found


def page(result: Result) -> str:
    """results/systems.md."""
    kind = "**SYNTHETIC data: these scores say nothing about patients.** " if result["synthetic"] else ""
    (seed, first), *_ = result["seeds"].items()
    parts = _several("Fold", result["folds"]) + ", " + _several("seed", result["seeds"])
    lines = [
        "# The published systems at a small size",
        "",
        f"Generated by `python -m src.audit.systems`. {kind}{parts}. Every variant was trained with the "
        "values its file states; none was tuned further. Intervals: 95 %, patient-cluster bootstrap; study "
        "AUC: DeLong.",
        "",
        *(seeds_page(result["over_seeds"], list(result["seeds"])) if result["over_seeds"] else ()),
        *([f"All tables below are of seed {seed}.", ""] if result["over_seeds"] else ()),
        *(_six_labels(first["rows"], first["claims"]) if first["rows"] else ()),
        *(study_page(first["study_rows"], first["study_claims"]) if first["study_rows"] else ()),
        *(target_page(first["target_rows"], first["target_claims"]) if first["target_rows"] else ()),
        f"{parts}, small networks: an answer here can speak against a claim's reach, not against its paper.",
    ]
    return "\n".join(lines) + "\n"


def _several(word: str, values: Collection[Any]) -> str:
    return f"{word}{'s' * (len(values) > 1)} {', '.join(map(str, values))}"


def _six_labels(rows: Sequence[dict[str, Any]], claims: Sequence[dict[str, Any]]) -> list[str]:
    first = rows[0]
    return [
        "## The six labels",
        "",
        f"{first['slices']:,} held-out slices of {first['studies']} studies and {first['patients']} "
        f"patients; prevalence baseline {first['baseline']:.4f}, accuracy of predicting nothing "
        f"{first['accuracy_all_negative']:.2%}.",
        "",
        markdown_table(
            ("run", "parameters", "multiply-adds a slice", "training s", "prediction s a study",
             "weighted log loss", "AUC any", "AUC macro", "study AUC any", "label accuracy"),
            [_cells(row) for row in rows], "lrrrrrrrrr",
        ),
        "",
        "A stacker's row has its own parameters and seconds, without those of the run it reads.",
        "",
        "### Claims of the papers",
        "",
        markdown_table(
            ("claim", "run", "against", "difference of the loss", "answer here"),
            [(c["claim"], c["run"], c["reference"], _span(c["difference"], "+.4f"), c["answer"])
             for c in claims], "lllrl",
        ),
        "",
    ]  # fmt: skip


def _cells(row: dict[str, Any]) -> list[str]:
    seconds, adds = row.get("seconds_a_study"), row.get("multiply_adds")
    return [
        row["run"],
        f"{row['parameters']:,}",
        "" if adds is None else f"{adds / 1e6:,.1f} M",
        f"{row['training_seconds']:.0f}",
        "" if seconds is None else f"{seconds:.2f}",
        _span(row["weighted_log_loss"], ".4f"),
        *(_span(row[key], ".3f") for key in ("auc_any", "auc_macro", "study_auc_any")),
        f"{row['accuracy']:.2%}",
    ]


def _span(values: Sequence[float], form: str) -> str:
    estimate, low, high = values
    return f"{estimate:{form}} [{low:{form}}, {high:{form}}]"


def score(names: Sequence[str], settings: Settings, prepared: Prepared, folds: Sequence[int]) -> Result:
    """Rows and claims of the runs of one seed."""
    of_labels = [name for name in names if Run(name, folds[0], settings).targets == HEMORRHAGE.name]
    of_studies = [name for name in names if name.startswith(STUDY_SYSTEM)]
    members = score_targets(
        [name for name in names if name not in (*of_labels, *of_studies)], settings, prepared, folds
    )
    return {
        "rows": [row_of(name, settings, prepared, folds) for name in of_labels],
        "claims": compare(settings, prepared, folds, set(of_labels)),
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
