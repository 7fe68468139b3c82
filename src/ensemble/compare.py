"""Two configurations compared over replicates: what each says of every test part, and the tests of it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..data.division import VALIDATION, Division
from ..data.folds import link_patients
from ..data.prepared import TEST, Prepared
from ..data.synthetic_truth import is_synthetic
from ..data.target_labels import target_labels
from ..errors import UserError
from ..evaluation.confusion import outcome_counts
from ..evaluation.roc import auc
from ..evaluation.statistics import METRICS, compare_replicates, compare_values
from ..evaluation.target_scores import scores_of
from ..settings import Settings
from ..targets import HEMORRHAGE, KEYS, WHOLE, Targets, Unit
from ..training.provenance import effective
from ..training.runs import Run
from .replicates import FOLDER, Plan, Replicate, open_replicate, train_replicates
from .study_predictions import study_predictions

THRESHOLD = 0.5  # a study is called positive above it
CORRECTED = "corrected resampled t"


@dataclass(frozen=True)
class Outcome:
    """One configuration on one replicate; a study's probability is the highest of its slices."""

    seed: int  # of the division, and added to that of the configuration
    patients: dict[str, int]  # training, validation, test; linked ones count as one
    counts: tuple[int, int, int, int]  # TN, FP, FN, TP of the test part's studies
    auc: float | None  # of studies; None where all are alike
    score: float  # of what the network predicts, slices or studies: loss of the targets
    unit: str  # what `score` is the mean over: image or study
    run: str  # fingerprint of training and outputs

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"counts": list(self.counts)}


@dataclass(frozen=True)
class Comparison:
    """All outcomes of two configurations, and how they came about."""

    names: tuple[str, str]
    division: Division
    shared: bool  # replicate k of both is of the same division
    synthetic: bool
    data: str  # fingerprint of the prepared data
    outcomes: tuple[tuple[Outcome, ...], tuple[Outcome, ...]]

    @property
    def test_to_train(self) -> float:
        """Patients tested on over patients trained on, over all replicates."""
        patients = [one.patients for one in self.outcomes[0] + self.outcomes[1]]
        return sum(p["test"] for p in patients) / sum(p["training"] for p in patients)

    @property
    def unit(self) -> str | None:
        """What both predict; None where one predicts slices and the other studies."""
        units = {one.unit for model in self.outcomes for one in model}
        return units.pop() if len(units) == 1 else None

    def to_json(self) -> dict[str, Any]:
        """The content of compare.json; the same for the same runs."""
        division, metrics = self.division, self.tests()
        return {
            "a": self.names[0],
            "b": self.names[1],
            "data": "synthetic" if self.synthetic else "real",
            "data_fingerprint": self.data,
            "targets": division.targets.name,
            "label": division.label,
            "positive_above": THRESHOLD,
            "splits": {
                "shared": self.shared,
                "stratified": division.stratified,
                "test_share": division.test_share,
                "validation_share": division.validation_share,
                "test_to_train": self.test_to_train,
            },
            "verdict": metrics["accuracy"]["verdict"],
            "replicates": [
                {model: outcome.to_json() for model, outcome in zip("ab", pair, strict=True)}
                for pair in zip(*self.outcomes, strict=True)
            ],
            "metrics": metrics,
        }

    def tests(self) -> dict[str, Any]:
        """Of every metric the whole chain of tests."""
        names = short_names(*self.names)
        options = {"shared_splits": self.shared, "test_to_train": self.test_to_train, "names": names}
        found = compare_replicates(*([one.counts for one in model] for model in self.outcomes), **options)
        words = {key: words for key, (_, _, words) in METRICS.items()} | {"auc": "AUC of studies"}
        areas = ([np.nan if one.auc is None else one.auc for one in model] for model in self.outcomes)
        found["auc"] = compare_values(*areas, words["auc"], **options)
        if self.unit is not None:
            words["score"] = score_words(self.division.targets, self.unit)
            scores = ([one.score for one in model] for model in self.outcomes)
            found["score"] = compare_values(*scores, words["score"], **options, lower_is_better=True)
        return {
            key: {"words": words[key], **metric, "verdict": headline(metric, words[key], names)}
            for key, metric in found.items()
        }


def score_words(targets: Targets, unit: str) -> str:
    """The name of `Outcome.score`."""
    loss = "weighted log loss" if targets is HEMORRHAGE else "log loss"
    return f"{loss} of {'slices' if unit == 'image' else 'studies'}"


def headline(metric: dict[str, Any], words: str, names: tuple[str, str]) -> str:
    """The verdict, if the corrected test gave it: no other allows for patients that replicates share."""
    if metric["interval"]["test"] == CORRECTED:
        return metric["verdict"]
    means = [metric[model]["mean"] for model in "ab"]
    said = ", ".join(
        f"{n} {'has none' if m is None else f'{m:.3f}'}" for n, m in zip(names, means, strict=True)
    )
    reason = metric["paired"]["corrected_t_test"]["reason"]
    return f"No verdict on {words}: {said}; the {CORRECTED} test is not possible ({reason})."


def short_names(a: str, b: str) -> tuple[str, str]:
    """Run names without what both begin with: x/stage1/a and x/stage1/b -> a and b."""
    first, second = a.split("/"), b.split("/")
    while first[0] == second[0]:
        first, second = first[1:], second[1:]
    return "/".join(first), "/".join(second)


def default_folder(names: tuple[str, str]) -> Path:
    """Of the result, below SUBMISSION_DIR."""
    return Path(FOLDER, "_".join(name.replace("/", "-") for name in names))


def compared_targets(a: Plan, b: Plan, label: str | None) -> tuple[Targets, str]:
    """What both predict, and the column that is judged; UserError where there is nothing to compare."""
    first, second = a[-1], b[-1]
    if first.name == second.name or effective(first.config) == effective(second.config):
        raise UserError(f"{first.name} and {second.name}: are the same configuration; name two that differ")
    targets, other = (getattr(step.config, "predicted", HEMORRHAGE) for step in (first, second))
    if targets != other:
        raise UserError(
            f"{first.name} predicts {targets.name} {', '.join(targets.columns)}, {second.name} {other.name} "
            f"{', '.join(other.columns)}; compare configurations with the same `targets`"
        )
    known = [column for head in targets.heads if head.given is None for column in head.columns]
    label = label or next(column for column in known if column in WHOLE)
    if label not in known:
        raise UserError(f"--label {label}: the targets {targets.name} have {', '.join(known)}")
    return targets, label


def replicate_seeds(replicates: int, seed: int, shared: bool) -> list[tuple[int, int]]:
    """Of every replicate the seeds of both models; the first ones stay when more are asked for."""
    if replicates < 2:
        raise UserError(
            f"--replicates {replicates}: one run says nothing of the next; give 2 at least, say 10"
        )
    if shared:
        return [(seed + k, seed + k) for k in range(replicates)]
    return [(seed + 2 * k, seed + 2 * k + 1) for k in range(replicates)]


def compare_configurations(
    settings: Settings,
    plans: tuple[Plan, Plan],
    division: Division,
    seeds: Sequence[tuple[int, int]],
    device_name: str,
    jobs: int,
    quiet: bool,
) -> tuple[Comparison, list[Replicate]]:
    """Train what is not complete and compare; seeds: of every replicate those of both models."""
    prepared, names = Prepared(settings.clean), tuple(plan[-1].name for plan in plans)
    of_seed: dict[int, list[Plan]] = {}
    for pair in seeds:
        for seed, plan in zip(pair, plans, strict=True):
            of_seed.setdefault(seed, []).append(plan)
    replicates = {seed: open_replicate(settings, prepared, division, seed)[0] for seed in of_seed}
    train_replicates(settings, division, of_seed, device_name, jobs, quiet)
    labels = cache(partial(target_labels, prepared, division.targets))  # of images or of studies
    outcomes = tuple(
        tuple(outcome(replicates[seed], name, prepared, division, labels) for seed in of_model)
        for name, of_model in zip(names, zip(*seeds, strict=True), strict=True)
    )
    shared, synthetic = len(of_seed) == len(seeds), is_synthetic(settings.raw)
    comparison = Comparison(names, division, shared, synthetic, prepared.fingerprint, outcomes)
    return comparison, list(replicates.values())


def outcome(
    replicate: Replicate,
    name: str,
    prepared: Prepared,
    division: Division,
    labels_of: Callable[[Unit], pd.DataFrame],
) -> Outcome:
    """What a trained configuration says of the test part; prepared: the data before they were divided."""
    run, parts = replicate.run(name), replicate.parts
    tested = prepared.slices["patient_id"].isin(parts.loc[parts["fold"] == TEST, "patient_id"])

    def labels_in_test(unit: Unit) -> pd.DataFrame:
        labels = labels_of(unit)
        return labels[labels.index.isin(prepared.slices.loc[tested, KEYS[unit]])]

    truth = labels_in_test("study")[division.label] == 1
    called = _of(study_predictions(run, "test", prepared, division.label), truth.index, run)
    probabilities = run.predictions("test")
    unit = next(unit for unit, key in KEYS.items() if key == probabilities.index.name)
    labels = labels_in_test(unit)
    area = auc(truth.to_numpy(), called.to_numpy())
    return Outcome(
        seed=replicate.seed,
        patients=_counted(parts, prepared),
        counts=tuple(outcome_counts(truth.to_numpy(), called.to_numpy() > THRESHOLD)),
        auc=None if np.isnan(area) else area,
        score=scores_of(division.targets, labels, _of(probabilities, labels.index, run))["score"],
        unit=unit,
        run=run.fingerprint,
    )


def _of(table: Any, index: pd.Index, run: Run) -> Any:
    """The rows of a table, in the order of `index`; a row that is missing is a UserError."""
    if len(missing := index.difference(table.index)):
        raise UserError(
            f"{run.folder / 'test.parquet'}: has no {missing[0]} ({len(missing)} are missing); delete it and "
            f"run {run.command}"
        )
    return table.loc[index]


def _part_names(parts: pd.DataFrame) -> pd.Series:
    """training, validation or test, index patient_id."""
    names = {TEST: "test", VALIDATION: "validation"}
    return parts.set_index("patient_id")["fold"].map(lambda fold: names.get(fold, "training"))


def _counted(parts: pd.DataFrame, prepared: Prepared) -> dict[str, int]:
    """Patients of every part, linked ones as one."""
    part = _part_names(parts)
    groups = link_patients(prepared.slices)[part.index]
    return {name: int(groups[part == name].nunique()) for name in ("training", "validation", "test")}


def splits_table(replicates: Sequence[Replicate]) -> pd.DataFrame:
    """patient_id, and a column a split: test, validation or training; for splits.csv."""
    columns = {f"split{one.seed}": _part_names(one.parts) for one in replicates}
    return pd.DataFrame(columns).rename_axis("patient_id").reset_index()
