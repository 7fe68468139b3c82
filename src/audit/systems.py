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
from functools import partial
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
from ..report.tables import markdown_table
from ..settings import Settings, load_settings
from ..targets import HEMORRHAGE
from ..training.engine.devices import prepare_torch
from ..training.kinds import Kind, kind_of
from ..training.runs import Run, runs_read
from ..training.split import labelled_slices
from .study_systems import STUDY_SYSTEM, study_claims, study_page, study_rows
from .target_systems import score_targets, target_claims, target_page, target_rows

ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = (
    "scopeformer", "cnn_lstm", "vivit_vs_convnext", "resnext_pca_bilstm", "dtvit",
    "kaggle_1st", "kaggle_2nd", "kaggle_11th", "kaggle_12th", "ipan_2026", "shang_2022",
)  # fmt: skip
TIMED = 10  # studies that prediction is timed on
# Of a whole system at full size on the contest's data: weighted log loss, the private test unless said.
PUBLISHED = {
    "scopeformer": ".0705, validation",
    "cnn_lstm": ".0522",
    "resnext_pca_bilstm": ".0499",
    "kaggle_1st": ".0438",
    "kaggle_2nd": ".044",
    "kaggle_11th": "rank 11",
    "kaggle_12th": ".0473",
    "ipan_2026": "slice AUC any .983, of 989 patients",
    "shang_2022": ".0437",
}
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
    ("kaggle_1st/stage2/small_two_branch", "kaggle_1st/stage1/small_cnn", "two branches beat their CNN"),
    ("kaggle_2nd/stage2/small_lstm", "kaggle_2nd/stage1/small_cnn", "an LSTM on deltas beats its CNN"),
    ("kaggle_11th/stage2/small_boosting", "kaggle_11th/stage1/small_cnn", "boosting beats its CNN"),
    ("kaggle_12th/stage2/small_conv", "kaggle_12th/stage1/small_cnn", "convolutions beat their CNN"),
    ("ipan_2026/stage2/small_gru", "ipan_2026/stage1/small_cnn", "a GRU beats its CNN"),
    ("ipan_2026/stage2/small_transformer", "ipan_2026/stage2/small_gru", "a transformer beats a GRU"),
    (
        "shang_2022/stage1/small_transformer",
        "kaggle_1st/stage2/small_two_branch",
        "one transformer beats the winner",
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
    return sorted(found, key=lambda path: (path.parent.name, bool(runs_read(read_values(path)))))


def train_all(paths: Sequence[Path], settings: Settings, arguments: Namespace) -> None:
    """Every configuration by its script, `--jobs` at once; what is complete is skipped there."""
    everywhere = {
        member for path in paths if path.parent.name == "stage2" for member in read_values(path)["members"]
    }
    known = sorted(Prepared(settings.clean).folds["fold"].unique().tolist())
    rounds: dict[tuple[str, bool], list[tuple[Path, int]]] = {}
    for path in paths:
        folds = known if name_of(path) in everywhere else arguments.folds
        group = rounds.setdefault((path.parent.name, bool(runs_read(read_values(path)))), [])
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
    lines = [
        "# The published systems at a small size",
        "",
        f"Generated from results/systems.json by `make systems`. {kind}Fold {result['folds']}, seed 0. Every "
        "variant was trained once, with the values its file states; none was tuned further. Intervals: 95 %, "
        "patient-cluster bootstrap; study AUC: DeLong.",
        "",
        *(_six_labels(result["rows"], result["claims"]) if result["rows"] else ()),
        *(study_page(result["study_rows"], result["study_claims"]) if result["study_rows"] else ()),
        *(target_page(result["target_rows"], result["target_claims"]) if result["target_rows"] else ()),
        "One split, one seed, small networks from random weights: an answer here can speak against a claim's "
        "reach, not against its paper.",
    ]
    return "\n".join(lines) + "\n"


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
             "weighted log loss", "AUC any", "AUC macro", "study AUC any", "label accuracy", "published"),
            [_cells(row) for row in rows], "lrrrrrrrrrl",
        ),
        "",
        "A stacker's row has its own parameters and seconds, without those of the run it reads. Published: "
        "weighted log loss of the whole large system on the contest's private test, unless said otherwise.",
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
        PUBLISHED.get(row["run"].split("/")[0], ""),
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
    prepared, everything = Prepared(settings.clean), [name_of(path) for path in paths]
    names = [
        name for name in everything if Run(name, arguments.folds[0], settings).targets == HEMORRHAGE.name
    ]
    on_studies = [name for name in everything if name.startswith(STUDY_SYSTEM)]
    others = [name for name in everything if name not in (*names, *on_studies)]
    members = score_targets(others, settings, prepared, arguments.folds)
    result = {
        "synthetic": is_synthetic(settings.raw),
        "folds": ", ".join(map(str, arguments.folds)),
        "rows": [row_of(n, settings, prepared, arguments.folds) for n in names],
        "claims": compare(settings, prepared, arguments.folds, set(names)),
        "target_rows": target_rows(members, settings, arguments.folds, partial(cost, prepared=prepared)),
        "target_claims": target_claims(members),
        "study_rows": study_rows(on_studies, settings, prepared, arguments.folds, seconds_a_study),
        "study_claims": study_claims(settings, prepared, arguments.folds, set(on_studies)),
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
