"""What trained runs reach on their held-out slices, with an interval for every number, beside the prevalence.

    python -m src.audit.held_out real_slices/stage1/lite0 --settings FILE --out results/real_slices.json
    python -m src.audit.held_out RUN OTHER --against THIRD --settings FILE --out results/real_studies.json

Of every complete fold of every run: weighted log loss, its difference to the constant prevalence of the
fold's own training slices, AUC, Brier score and calibration error of each label, sensitivity and specificity
of `any`, the same by study where studies have several slices, and paired differences. All
intervals are 95 % and draw patients, those of a study's AUC are DeLong's. The thresholds of one half of the
patients are judged on the other half.
"""

import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..command_line import command_line, run
from ..data.folds import link_patients
from ..data.prepared import Prepared
from ..data.synthetic_truth import is_synthetic
from ..ensemble.answering.transfer import read_answer
from ..errors import UserError
from ..evaluation.bootstrap import (
    PatientBootstrap,
    bootstrap_auc,
    bootstrap_weighted_log_loss,
    bootstrap_weighted_log_loss_difference,
)
from ..evaluation.labelled_scores import Labelled
from ..evaluation.metrics import constant_predictions, prevalence, study_maximum
from ..evaluation.operating import RATES, threshold_at_sensitivity, threshold_at_specificity
from ..evaluation.reliability import calibration_sums, error_from_sums
from ..files import write_text
from ..labels import LABELS
from ..settings import Settings, load_settings
from ..training.runs import Run
from ..training.split import labelled_slices, split_fold


@dataclass(frozen=True)
class HeldOut:
    """A run's held-out probabilities over its complete folds, with what is known of their slices: all by
    image_id, in one order.
    """

    name: str
    folds: list[int]
    p: pd.DataFrame
    labels: pd.DataFrame
    study_of: pd.Series
    patients: pd.Series  # linked ones as one
    constant: pd.DataFrame  # the prevalence of the training slices of each fold
    leak: str | None = None  # what its scores have to say where patients were not kept apart

    @classmethod
    def of(cls, name: str, settings: Settings, prepared: Prepared) -> "HeldOut":
        """UserError where no fold is complete."""
        folds = sorted(prepared.folds["fold"].unique())
        runs = [one for one in (Run(name, int(fold), settings) for fold in folds) if one.complete]
        if not runs:
            raise UserError(f"{name}: no fold is complete; {Run(name, 0, settings).command}")
        p = pd.concat([one.predictions("oof")[list(LABELS)] for one in runs])
        slices = labelled_slices(prepared).set_index("image_id").loc[p.index]
        return cls(
            name,
            [one.fold for one in runs],
            p,
            slices[list(LABELS)].astype("int8"),
            slices["study_id"],
            slices["patient_id"].map(link_patients(prepared.slices)),
            pd.concat([_constant(prepared, one) for one in runs]).loc[p.index],
            runs[0].leak,
        )

    def part(self, index: pd.Index) -> "HeldOut":
        """The same of some slices."""
        tables = ("p", "labels", "study_of", "patients", "constant")
        return replace(self, **{name: getattr(self, name).loc[index] for name in tables})

    @property
    def by_study(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series] | None:
        """Labels, probabilities and patients, or None where every study has one slice."""
        if not self.study_of.duplicated().any():
            return None
        labels, p = (study_maximum(table, self.study_of) for table in (self.labels, self.p))
        return labels, p, self.patients.groupby(self.study_of).first().loc[labels.index]


def _constant(prepared: Prepared, one: Run) -> pd.DataFrame:
    """The prevalence of a fold's training slices, said of each held-out one."""
    training, held_out = split_fold(prepared, one.fold, split=one.split)
    return constant_predictions(prevalence(training[list(LABELS)]), pd.Index(held_out["image_id"]))


def row_of(run: HeldOut) -> dict[str, Any]:
    """Every number of a run: lists are estimate, low, high."""
    labels, p, patients = run.labels, run.p, run.patients
    found: dict[str, Any] = {
        "run": run.name,
        **({"leak": run.leak} if run.leak else {}),
        "folds": run.folds,
        "slices": len(labels),
        "patients": int(patients.nunique()),
        "baseline": list(bootstrap_weighted_log_loss(labels, run.constant, patients)),
        "weighted_log_loss": list(bootstrap_weighted_log_loss(labels, p, patients)),
        "minus_baseline": list(bootstrap_weighted_log_loss_difference(labels, p, run.constant, patients)),
        "labels": label_rows(run),
        "any": operating_rates(labels["any"].to_numpy() == 1, p["any"].to_numpy(), patients.to_numpy()),
        "studies": None,
    }
    if (studies := run.by_study) is not None:
        scores = Labelled(studies[0].astype("float64"), studies[2], by_study=True).scores(studies[1])
        area = scores["labels"]["any"]
        found["studies"] = {
            "studies": len(studies[0]),
            "positives": area["positives"],
            "auc_any": [area["auc"], *(area["interval"] or (None, None))],
            "weighted_log_loss": scores["weighted_log_loss"],
        }
    return found


def label_rows(run: HeldOut) -> dict[str, Any]:
    """Label -> positives, AUC, Brier score beside the prevalence's, calibration error."""
    areas = bootstrap_auc(run.labels, run.p, run.patients)
    bootstrap, found = PatientBootstrap(run.patients.to_numpy()), {}
    for label in LABELS:
        y, p = run.labels[label].to_numpy() == 1, run.p[label].to_numpy(np.float64)
        squares = np.column_stack([(p - y) ** 2, (run.constant[label].to_numpy() - y) ** 2, np.ones(len(y))])
        brier, constant = bootstrap.intervals(squares, lambda sums: sums[..., :-1] / sums[..., -1:])
        found[label] = {
            "positives": int(y.sum()),
            "auc": areas.loc[label].tolist(),
            "brier": list(brier),
            "brier_of_baseline": list(constant),
            "ece": list(bootstrap.interval(calibration_sums(y, p), error_from_sums)),
        }
    found["macro"] = {"auc": areas.loc["macro"].tolist()}
    return found


def operating_rates(y: np.ndarray, p: np.ndarray, patients: np.ndarray) -> dict[str, Any]:
    """Asked rate -> sensitivity and specificity where the threshold came from the other patients.

    y (n,) bool, p (n,), patients (n,). Halves that lack a class give nothing.
    """
    bootstrap = PatientBootstrap(patients)
    half = np.random.default_rng(0).permutation(bootstrap.patients)[bootstrap.code] % 2 == 0
    found: dict[str, Any] = {}
    for name, threshold in (
        ("sensitivity", threshold_at_sensitivity),
        ("specificity", threshold_at_specificity),
    ):
        for rate in RATES:
            called = np.zeros(len(y), bool)
            for part in (half, ~half):
                if y[~part].all() or not y[~part].any():
                    return {}
                called[part] = p[part] >= threshold(y[~part], p[~part], rate)
            rows = np.column_stack([called & y, y, ~called & ~y, ~y])
            with np.errstate(invalid="ignore"):  # a replicate without a class has no rate, and is left out
                pair = bootstrap.intervals(rows, lambda sums: sums[..., ::2] / sums[..., 1::2])
            found[f"{name}_{round(100 * rate)}"] = {
                "sensitivity": list(pair[0]),
                "specificity": list(pair[1]),
            }
    return found


def compare(first: HeldOut, second: HeldOut) -> dict[str, Any]:
    """First minus second on the slices both answered, by slice and by study."""
    index = first.p.index.intersection(second.p.index)
    first, second = first.part(index), second.part(index)
    leak = first.leak or second.leak
    found: dict[str, Any] = {
        "first": first.name,
        "second": second.name,
        **({"leak": leak} if leak else {}),
        "slices": len(index),
        "difference": list(
            bootstrap_weighted_log_loss_difference(first.labels, first.p, second.p, first.patients)
        ),
        "studies": None,
    }
    if (studies := first.by_study) is not None:
        other = study_maximum(second.p, second.study_of)
        rows = Labelled(studies[0].astype("float64"), studies[2], by_study=True)
        found["studies"] = _of_studies(rows.difference(studies[1], other))
    return found


def _of_studies(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "studies": found["rows"],
        "weighted_log_loss": found["weighted_log_loss"],
        "auc_any": found["auc"]["any"],
    }


def of_strangers(file: Path, run: HeldOut) -> HeldOut:
    """What a network that learned from other data says of a run's slices: predictions.csv of predict.py."""
    p = read_answer(file).slices
    if missing := run.p.index.difference(p.index).tolist():
        raise UserError(f"{file}: has no slice {missing[0]}; give predictions of the same data")
    return replace(run, name=file.stem, p=p.loc[run.p.index])


def evidence(
    names: Sequence[str], against: Sequence[str], settings: Settings, strangers: Path | None = None
) -> dict[str, Any]:
    """The content of the file: `names` and `against` in rows, and each pair of them compared."""
    prepared = Prepared(settings.clean)
    runs = {name: HeldOut.of(name, settings, prepared) for name in (*names, *against)}
    asked = [(name, other) for other in against for name in runs if name != other]
    pairs = [(runs[a], runs[b]) for n, (a, b) in enumerate(asked) if (b, a) not in asked[:n]]
    if strangers is not None:
        pairs += [(one, of_strangers(strangers, one)) for one in runs.values()]
    return {
        "synthetic": is_synthetic(settings.raw),
        "rows": [row_of(one) for one in runs.values()],
        "comparisons": [compare(*pair) for pair in pairs],
    }


def lines_of(found: Mapping[str, Any]) -> str:
    """JSON with a line for each row and comparison, six digits a number."""
    text = json.dumps(found, allow_nan=False)
    short = json.loads(text, parse_float=lambda digits: float(f"{float(digits):.6g}"))
    parts = [
        f'"{key}": [\n' + ",\n".join(json.dumps(one) for one in value) + "\n]"
        if isinstance(value, list) else f'"{key}": {json.dumps(value)}'
        for key, value in short.items()
    ]  # fmt: skip
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    arguments = parse_arguments()
    settings = load_settings(arguments.settings)
    found = evidence(arguments.runs, arguments.against, settings, arguments.strangers)
    write_text(arguments.out, lines_of(found))
    print(f"wrote {arguments.out}; python -m src.report.generated makes its tables")


def parse_arguments() -> Namespace:
    parser = command_line(__doc__)
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="such as real_slices/stage1/lite0")
    add("--against", nargs="+", default=[], metavar="RUN", help="runs that the others are compared with")
    text = "predictions.csv of predict.py --labelled, by networks that learned elsewhere, to compare with too"
    add("--strangers", type=Path, metavar="FILE", help=text)
    add("--out", type=Path, required=True, metavar="FILE.json", help="such as results/real_slices.json")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
