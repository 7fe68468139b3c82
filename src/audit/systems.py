"""The published systems side by side: small networks, one data set, one split, one seed.

    python -m src.audit.systems --settings experiments/demo/SETTINGS.json --out results/systems.json

Trains `small_*` of every system that is not complete, fold 0 (every fold where a stacker reads it), and
writes what each costs and reaches: parameters, multiply-adds a slice, seconds, loss and AUC with patient
intervals, label accuracy beside that of predicting nothing, and paired differences for the claims of the
papers. Stopped and started again it continues. `--folds` names more than one.
"""

import os
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from ..command_line import command_line, run, start_logging
from ..config import read_values
from ..data.folds import link_patients
from ..data.prepared import Prepared
from ..data.synthetic_truth import is_synthetic
from ..data.target_labels import target_labels
from ..ensemble.study_predictions import study_predictions
from ..errors import UserError
from ..evaluation.bootstrap import (
    bootstrap_auc,
    bootstrap_weighted_log_loss,
    bootstrap_weighted_log_loss_difference,
)
from ..evaluation.confusion import binary_metrics, outcome_counts
from ..evaluation.metrics import prevalence_baseline, study_maximum
from ..evaluation.roc import delong, delong_paired
from ..files import read_json, write_json, write_text
from ..labels import LABELS
from ..report.generated import markdown_table
from ..settings import Settings, load_settings
from ..targets import PRESENCE, find_targets
from ..training.engine.devices import prepare_torch
from ..training.kinds import Kind, kind_of
from ..training.runs import Run
from ..training.split import labelled_slices

ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = ("scopeformer", "cnn_lstm", "resnext_pca_bilstm", "vivit_vs_convnext")
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
# Of networks that say of a study whether it bleeds.
STUDY_CLAIMS = (
    (
        "vivit_vs_convnext/stage1/small_vivit",
        "vivit_vs_convnext/stage1/small_convnext",
        "a video beats any slice",
    ),
    (
        "vivit_vs_convnext/stage1/small_vivit_from_slices",
        "vivit_vs_convnext/stage1/small_vivit",
        "a start from an image transformer helps",
    ),
)


def configurations(systems: Iterable[str]) -> list[Path]:
    """`small_*` of every system, in an order in which each comes after what it reads."""
    found = [
        path
        for stage in ("stage1", "stage2")
        for system in systems
        for path in sorted((ROOT / "experiments" / system / stage).glob("small_*.json"))
    ]
    return sorted(found, key=lambda path: (path.parent.name, bool(sources(read_values(path)))))


def sources(values: Any) -> list[str]:
    """The runs that a configuration reads: its members, and where its weights are from."""
    if isinstance(values, dict):
        return list(values.get("members", ())) + [s for v in values.values() for s in sources(v)]
    if isinstance(values, list):
        return [s for value in values for s in sources(value)]
    return [values.removeprefix("run:")] if isinstance(values, str) and values.startswith("run:") else []


def train_all(paths: Sequence[Path], settings: Settings, arguments: Namespace) -> None:
    """Every configuration by its script, `--jobs` at once; what is complete is skipped there."""
    everywhere = {
        member for path in paths if path.parent.name == "stage2" for member in read_values(path)["members"]
    }
    known = sorted(Prepared(settings.clean).folds["fold"].unique().tolist())
    rounds: dict[tuple[str, bool], list[tuple[Path, int]]] = {}
    for path in paths:
        folds = known if name_of(path) in everywhere else arguments.folds
        group = rounds.setdefault((path.parent.name, bool(sources(read_values(path)))), [])
        group.extend((path, fold) for fold in folds)
    for (stage, _), tasks in rounds.items():
        with ThreadPoolExecutor(arguments.jobs) as pool:
            codes = list(pool.map(lambda task, stage=stage: _train(stage, *task, settings), tasks))
        if failed := [f"{name_of(p)} fold {k}" for (p, k), code in zip(tasks, codes, strict=True) if code]:
            raise UserError(f"{', '.join(failed)}: did not finish; the reason stands above")


def _train(stage: str, path: Path, fold: int, settings: Settings) -> int:
    command = [sys.executable, str(ROOT / f"train_{stage}.py"), str(path), "--fold", str(fold), "--jobs", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, "--settings", str(settings.file)], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
    ).returncode


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


def studies_of(
    names: Sequence[str], settings: Settings, prepared: Prepared, folds: Sequence[int]
) -> tuple[pd.Series, list[pd.Series]]:
    """Whether each held-out study bleeds (bool), and what the runs say of it; of slices the maximum."""
    truth = target_labels(prepared, find_targets(PRESENCE), "study")[PRESENCE] == 1
    said = [
        pd.concat([study_predictions(Run(name, fold, settings), "oof", prepared) for fold in folds])
        for name in names
    ]
    truth = truth.loc[said[0].index]
    return truth, [one.loc[truth.index] for one in said]


def study_row_of(name: str, settings: Settings, prepared: Prepared, folds: Sequence[int]) -> dict[str, Any]:
    """What a run costs and reaches that says of a study, or of its slices, whether it bleeds."""
    runs = [Run(name, fold, settings) for fold in folds]
    truth, (scores,) = studies_of([name], settings, prepared, folds)
    area = delong(truth.to_numpy(), scores.to_numpy())
    counts = outcome_counts(truth.to_numpy(), scores.to_numpy() >= 0.5)
    kind = kind_of(runs[0])
    model = kind.build(runs[0].read_config(kind.config), pretrained=False)
    return {
        "run": name,
        "studies": len(truth),
        "positive": int(truth.sum()),
        "parameters": sum(p.numel() for p in model.parameters()),
        "training_seconds": sum(one.metrics()["seconds"] for one in runs) / len(runs),
        "seconds_a_study": seconds_a_study(runs[0], kind, prepared),
        "study_auc": [area.auc, area.low, area.high],
        "counts": list(counts),
        **{key: None if value != value else float(value) for key, value in binary_metrics(counts).items()},
        "accuracy_all_negative": 1 - float(truth.mean()),
    }


def compare_studies(
    settings: Settings, prepared: Prepared, folds: Sequence[int], done: set[str]
) -> list[dict[str, Any]]:
    """The paired difference of the AUC behind every claim on studies; above 0 the first is better."""
    found = []
    for better, reference, claim in STUDY_CLAIMS:
        if not {better, reference} <= done:
            continue
        truth, (first, second) = studies_of([better, reference], settings, prepared, folds)
        gain = delong_paired(truth.to_numpy(), first.to_numpy(), second.to_numpy())
        answer = "yes" if gain.low > 0 else "no, the reverse" if gain.high < 0 else "inside the noise"
        difference = [gain.difference, gain.low, gain.high]
        found.append(
            {"claim": claim, "run": better, "reference": reference}
            | {"difference": difference, "answer": answer}
        )
    return found


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


def page(result: dict[str, Any]) -> str:
    """results/systems.md."""
    kind = "**SYNTHETIC data: these scores say nothing about patients.** " if result["synthetic"] else ""
    first = result["rows"][0]
    lines = [
        "# The published systems at a small size",
        "",
        f"Generated from results/systems.json by `make systems`. {kind}Fold {result['folds']}, seed 0: "
        f"{first['slices']:,} held-out slices of {first['studies']} studies and {first['patients']} "
        f"patients; "
        f"prevalence baseline {first['baseline']:.4f}, accuracy of predicting nothing "
        f"{first['accuracy_all_negative']:.2%}. Every variant was trained once, with the values its file "
        "states; none was tuned further. Intervals: 95 %, patient-cluster bootstrap; study AUC: DeLong.",
        "",
        markdown_table(
            ("run", "parameters", "multiply-adds a slice", "training s", "prediction s a study",
             "weighted log loss", "AUC any", "AUC macro", "study AUC any", "label accuracy"),
            [_cells(row) for row in result["rows"]], "lrrrrrrrrr",
        ),
        "",
        "A stacker's row has its own parameters and seconds, without those of the run it reads.",
        "",
        "## Claims of the papers",
        "",
        markdown_table(
            ("claim", "run", "against", "difference of the loss", "answer here"),
            [(c["claim"], c["run"], c["reference"], _span(c["difference"], "+.4f"), c["answer"])
             for c in result["claims"]], "lllrl",
        ),
        "",
        "One split, one seed, small networks from random weights: an answer here can speak against a claim's "
        "reach, not against its paper.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n" + study_section(result)


def study_section(result: dict[str, Any]) -> str:
    """The part of the page on systems that answer for a study."""
    if not (rows := result["study_rows"]):
        return ""
    first = rows[0]
    cells = [
        [row["run"], f"{row['parameters']:,}", f"{row['training_seconds']:.0f}",
         f"{row['seconds_a_study']:.2f}", _span(row["study_auc"], ".3f"),
         *("none called positive" if row[key] is None else f"{row[key]:.2f}"
           for key in ("accuracy", "recall", "precision"))]
        for row in rows
    ]  # fmt: skip
    claims = [
        [c["claim"], c["run"], c["reference"], _span(c["difference"], "+.3f"), c["answer"]]
        for c in result["study_claims"]
    ]
    lines = [
        "", "## Does a study bleed?", "",
        f"{first['studies']} held-out studies, {first['positive']} positive; accuracy of calling none "
        f"positive {first['accuracy_all_negative']:.2f}. A study has the highest probability of its slices, "
        "or its own; accuracy, recall, precision at .5, which is the any-slice rule; intervals: DeLong.",
        "",
        markdown_table(("run", "parameters", "training s", "prediction s a study", "study AUC", "accuracy",
                        "recall", "precision"), cells, "lrrrrrrr"), "",
        markdown_table(("claim", "run", "against", "difference of the AUC", "answer here"), claims, "lllrl"),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


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


def main() -> None:
    arguments = parse_arguments()
    start_logging(arguments.quiet)
    settings = load_settings(arguments.settings)
    paths = configurations(arguments.systems)
    train_all(paths, settings, arguments)
    prepare_torch("cpu")
    prepared, names = Prepared(settings.clean), [name_of(path) for path in paths]
    on_studies = [name for name in names if Run(name, arguments.folds[0], settings).targets == PRESENCE]
    result = {
        "synthetic": is_synthetic(settings.raw),
        "folds": ", ".join(map(str, arguments.folds)),
        "rows": [row_of(n, settings, prepared, arguments.folds) for n in names if n not in on_studies],
        "claims": compare(settings, prepared, arguments.folds, set(names)),
        "study_rows": [study_row_of(name, settings, prepared, arguments.folds) for name in on_studies],
        "study_claims": compare_studies(settings, prepared, arguments.folds, set(names)),
    }
    write_json(arguments.out, result)
    write_text(arguments.out.with_suffix(".md"), page(read_json(arguments.out)))
    print(f"wrote {arguments.out} and {arguments.out.with_suffix('.md')}")


def parse_arguments() -> Namespace:
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS, help="only these (default: all)")
    add("--folds", nargs="+", type=int, default=[0], metavar="K", help="held-out folds (default: 0)")
    add("--out", type=Path, required=True, metavar="FILE.json", help="such as results/systems.json")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
