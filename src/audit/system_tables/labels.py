"""The systems that predict the six labels of a slice: their rows, claims and table."""

import re
import time
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from ...data.folds import link_patients
from ...data.prepared import Prepared
from ...evaluation.bootstrap import (
    bootstrap_auc,
    bootstrap_weighted_log_loss,
    bootstrap_weighted_log_loss_difference,
)
from ...evaluation.metrics import prevalence_baseline, study_maximum
from ...evaluation.roc import delong
from ...labels import LABELS
from ...report.tables import markdown_table
from ...settings import Settings
from ...training.kinds import Kind, kind_of
from ...training.runs import Run
from ...training.split import labelled_slices
from ...training.studies.boosted_stacker import MODEL

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


def label_row(name: str, settings: Settings, prepared: Prepared, folds: Sequence[int]) -> dict[str, Any]:
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
        "leak": runs[0].leak,
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
    """Parameters (of trees: leaves), multiply-adds a slice and, of what reads pixels, seconds a study on this
    processor.
    """
    if one.stage == "stage2":
        return {"parameters": _stacker_parameters(one)}
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


def _stacker_parameters(one: Run) -> int:
    from safetensors import safe_open

    if (trees := one.folder / MODEL).exists():
        return sum(map(int, re.findall(r"^num_leaves=(\d+)$", trees.read_text(), re.MULTILINE)))
    with safe_open(one.require("model.safetensors"), "pt") as file:
        return sum(file.get_tensor(key).numel() for key in file.keys())  # noqa: SIM118


def seconds_a_study(one: Run, kind: Kind, prepared: Prepared) -> float:
    """On this processor."""
    ids = studies = prepared.volumes.study_ids[:TIMED]
    if one.predictions("oof").index.name == "image_id":
        ids = [image for study in studies for image in prepared.volumes.study_images(study)]
    started = time.perf_counter()
    kind.outputs(one, prepared, ids, torch.device("cpu"))
    return (time.perf_counter() - started) / len(studies)


def label_claims(
    settings: Settings, prepared: Prepared, folds: Sequence[int], done: set[str]
) -> list[dict[str, Any]]:
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


def label_page(rows: Sequence[dict[str, Any]], claims: Sequence[dict[str, Any]]) -> list[str]:
    first = next((row for row in rows if not row["leak"]), rows[0])
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
        "A stacker's row has its own parameters (of trees: leaves) and seconds, without those of the run it "
        "reads. Seconds are by the clock, beside whatever else the machine did: only large differences say "
        "something. Published: weighted log loss of the whole large system on the contest's private test, "
        "unless said otherwise.",
        *_leaks(rows),
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


def _leaks(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Which rows are of other held-out slices, and why."""
    lines = [
        f"{row['run']} is {row['leak']}. Its score is of {row['slices']:,} other held-out slices (prevalence "
        f"baseline {row['baseline']:.4f}): not to be compared with its neighbours."
        for row in rows if row["leak"]
    ]  # fmt: skip
    return ["", *lines] if lines else []


def _cells(row: dict[str, Any]) -> list[str]:
    seconds, adds = row.get("seconds_a_study"), row.get("multiply_adds")
    return [
        row["run"] + (" (leaky)" if row["leak"] else ""),
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
