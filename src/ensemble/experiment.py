"""An experiment as a whole: gather its runs' predictions by key, score, blend, build the submission."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from joblib import Parallel, delayed

from ..data.contest_csv import read_long
from ..data.prepared import Prepared
from ..errors import UserError
from ..evaluation.alignment import positions
from ..evaluation.blend import Blend, fit_blend
from ..evaluation.bootstrap import bootstrap_weighted_log_loss, bootstrap_weighted_log_loss_difference
from ..evaluation.metrics import SCORING_EPS, constant_predictions, prevalence, weighted_log_loss
from ..evaluation.selection import backward_elimination
from ..evaluation.submission import fill_quarantined, read_sample, validate_submission, write_submission
from ..labels import LABELS
from ..settings import Settings
from ..training.provenance import check_alike, check_data, check_unchanged
from ..training.runs import Run, runs_of
from ..training.split import labelled_slices, unlabelled_slices
from ..training.studies.stacker_config import StackerConfig
from ..training.studies.study_fold import with_quarantined
from ..training.studies.study_inputs import interpolate
from .ensemble_config import EnsembleConfig
from .external import read_external

NESTED = "blend, nested"


@dataclass(frozen=True)
class Scored:
    """One set of predictions on the held-out training slices and on the test slices."""

    name: str
    oof: pd.DataFrame  # indexed by image_id, columns LABELS
    test: pd.DataFrame
    oof_score: float
    interval: tuple[float, float]  # 95 % patient-cluster bootstrap
    test_score: float | None  # where the test labels are at hand
    test_interval: tuple[float, float] | None

    def to_json(self) -> dict:
        return {
            "oof": self.oof_score,
            "interval": list(self.interval),
            "test": self.test_score,
            "test_interval": None if self.test_interval is None else list(self.test_interval),
        }


@dataclass(frozen=True)
class Comparison:
    """The paired difference of two predictions' scores, with its 95 % patient-cluster bootstrap interval."""

    better: str  # or so one hopes: below 0 it is
    worse: str
    difference: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Experiment:
    """What the score table, the report and the submission are made from."""

    name: str
    config: EnsembleConfig
    synthetic: bool
    labels: pd.DataFrame  # of the held-out training slices
    test_labels: pd.DataFrame | None
    prepared: Prepared
    slices: pd.DataFrame  # the whole of slices.parquet
    runs: list[Run]
    baseline: float
    test_baseline: float | None
    members: dict[str, Scored]
    mean: Scored
    blend: Scored
    fitted: Blend
    nested_interval: tuple[float, float]  # of the nested score
    gains: tuple[Comparison, ...]  # the nested blend against the mean and against the best single member
    context: Comparison | None  # the best stage-2 run against the best stage-1 run

    def scores(self) -> dict:
        """The content of scores.json."""
        return {
            "experiment": self.name,
            "data": "synthetic" if self.synthetic else "real",
            "eps": SCORING_EPS,
            "slices": {"oof": len(self.labels), "test": len(self.blend.test)},
            "baseline": self.baseline,
            "test_baseline": self.test_baseline,
            "members": {name: scored.to_json() for name, scored in self.members.items()},
            "mean": self.mean.to_json(),
            "blend": {
                **self.blend.to_json(),
                "nested": self.fitted.nested_score,
                "nested_interval": list(self.nested_interval),
                "nested_gains": [vars(gain) for gain in self.gains],
            },
            "context": None if self.context is None else vars(self.context),
        }


def evaluate_experiment(settings: Settings, name: str, config: EnsembleConfig, jobs: int = 1) -> Experiment:
    """Score every run of an experiment, `jobs` at once, and their blend.

    Every member must cover the same folds; a missing fold or test prediction is a UserError with the command
    that makes it. Where RAW_DATA_DIR has the demo's hidden labels, the test part is scored too.
    """
    prepared = Prepared(settings.clean)
    slices = prepared.slices
    training = labelled_slices(prepared)
    runs = experiment_runs(settings, prepared, name, config)
    members: dict[str, tuple[pd.DataFrame, pd.DataFrame]] = {}
    for member in dict.fromkeys(run.name for run in runs):
        own = [run for run in runs if run.name == member]
        oof = pd.concat([run.predictions("oof") for run in own])
        test = sum(run.predictions("test") for run in own) / len(own)
        members[member] = oof, test
    members |= read_external(config.external, slices)
    patients = training.set_index("image_id")["patient_id"]
    labels = training.set_index("image_id")[list(LABELS)].astype("int8")
    labels = labels.loc[next(iter(members.values()))[0].index.sort_values()]
    test_ids = pd.Index(unlabelled_slices(prepared)["image_id"])
    for member, (oof, test) in members.items():
        positions(labels.index, oof.index, f"{member}, held-out predictions")
        positions(test_ids, test.index, f"{member}, test predictions")
    test_labels, test_patients = hidden_test_labels(settings, slices, test_ids)

    options = {"replicates": config.replicates, "seed": config.seed}

    def score(label: str, oof: pd.DataFrame, test: pd.DataFrame) -> Scored:
        own = bootstrap_weighted_log_loss(labels, oof, patients, **options)
        hidden = None if test_labels is None else bootstrap_weighted_log_loss(
            test_labels, test, test_patients, **options
        )  # fmt: skip
        test_interval = None if hidden is None else (hidden.low, hidden.high)
        test_score = None if hidden is None else hidden.estimate
        return Scored(label, oof, test, own.estimate, (own.low, own.high), test_score, test_interval)

    oofs, tests = ({m: pair[i] for m, pair in members.items()} for i in (0, 1))
    # threads: numpy lets go of the interpreter, and no table is copied
    tasks = (delayed(score)(member, *pair) for member, pair in members.items())
    scored = dict(zip(members, Parallel(jobs, prefer="threads")(tasks), strict=True))
    fitted = fit_ensemble(labels, oofs, patients, config)
    kept = list(fitted.weights.index)
    base = prevalence(labels)
    mean = score("mean", *(sum(frames.values()) / len(frames) for frames in (oofs, tests)))
    nested = bootstrap_weighted_log_loss(labels, fitted.nested_predictions, patients, **options)
    return Experiment(
        name=name,
        config=config,
        synthetic=test_labels is not None,
        labels=labels,
        test_labels=test_labels,
        prepared=prepared,
        slices=slices,
        runs=runs,
        baseline=weighted_log_loss(labels, constant_predictions(base, labels.index)),
        test_baseline=None if test_labels is None else weighted_log_loss(
            test_labels, constant_predictions(base, test_labels.index)
        ),
        members=scored,
        mean=mean,
        blend=score("blend", *(fitted.apply({m: frames[m] for m in kept}) for frames in (oofs, tests))),
        fitted=fitted,
        nested_interval=(nested.low, nested.high),
        gains=nested_gains(labels, fitted, mean, scored, patients, **options),
        context=compare_stages(labels, scored, patients, **options),
    )  # fmt: skip


def fit_ensemble(
    labels: pd.DataFrame, members: dict[str, pd.DataFrame], patients: pd.Series, config: EnsembleConfig
) -> Blend:
    """The blend of an ensemble's configuration, maybe of fewer members: see `eliminate`."""
    options = {"seed": config.seed, "replicates": config.replicates}
    remark = None
    if config.eliminate and len(members) > 1:
        trials, kept = backward_elimination(labels, members, patients, **options)
        chosen = next(trial for trial in trials if trial.members == kept)
        remark = (
            f"backward elimination kept {len(kept)} of {len(members)} members, nested score "
            f"{chosen.nested_score:.6f}, best {min(trial.nested_score for trial in trials):.6f} "
            "(a choice by nested scores makes them slightly optimistic)"
        )
        members = {name: members[name] for name in kept}
    fitted = fit_blend(
        labels, members, patients, spaces=config.spaces, alternatives=config.alternatives,
        steps=config.steps, **options,
    )  # fmt: skip
    return fitted if remark is None else replace(fitted, decision=f"{remark}; {fitted.decision}")


def experiment_runs(settings: Settings, prepared: Prepared, name: str, config: EnsembleConfig) -> list[Run]:
    """The complete runs to blend, every member with the same folds and with test predictions."""
    runs = [run for run in runs_of(settings, name) if run.complete]
    if config.members is not None:
        unknown = set(config.members) - {run.name for run in runs}
        if unknown:
            raise UserError(
                f"ensemble.json: members {', '.join(sorted(unknown))} have no complete fold; train them first"
            )
        runs = [run for run in runs if run.name in config.members]
    if not runs:
        raise UserError(
            f"{settings.models / name}: holds no complete run; train the configurations of experiments/{name}"
        )
    folds = {run.fold for run in runs}
    for member in dict.fromkeys(run.name for run in runs):
        for fold in sorted(folds - {run.fold for run in runs if run.name == member}):
            run = Run(member, fold, settings)
            raise UserError(f"{run}: is missing, and others have this fold; run: {run.command}")
    for member in dict.fromkeys(run.name for run in runs):
        check_alike([run for run in runs if run.name == member])
    for run in runs:
        check_data(run, prepared)
        check_unchanged(run)
        if run.stage == "stage2" and run.read_config(StackerConfig).embedding_space == "per_fold":
            raise UserError(
                f"{run.name}: its embedding_space per_fold is in-sample, for comparison only; name the other "
                "runs as members in ensemble.json"
            )
    for run in runs:
        if not run.has("test", prepared.test_fingerprint):
            raise UserError(
                f"{run.folder}: has no test.parquet of these data; run: python predict.py experiments/{name}"
                f"{settings.flag}"
            )
    return runs


def write_experiment_submission(experiment: Experiment, raw: Path, path: Path) -> pd.DataFrame | None:
    """Write and check the submission of the blend, in the order of the sample submission in RAW_DATA_DIR.

    Only a quarantined image is filled in: returns those (image_id, cause, value). `value` is what
    ensemble.json asks for where the image's place among predicted slices is known, else `prior`, the
    prevalence of the training slices. Any other image without a prediction is a UserError. Of a data set
    without test part there is nothing to submit: None.
    """
    if not (experiment.slices["split"] == "test").any():
        return None
    sample = read_sample(sample_submission(raw))
    slices, known, how = experiment.slices, experiment.blend.test, experiment.config.quarantined
    causes = slices[slices["status"] == "quarantined"].set_index("image_id")["cause"]
    guessed = GUESSES[how](experiment)
    guessed = guessed[guessed.index.isin(sample.image_ids)]
    probabilities, filled = fill_quarantined(
        pd.concat([known, guessed]), sample.image_ids, causes, prevalence(experiment.labels)
    )
    listed = causes.loc[guessed.index].rename("cause").rename_axis("image_id").reset_index()
    write_submission(path, sample, probabilities, experiment.config.submission_eps)
    validate_submission(path, sample)
    return pd.concat([filled.assign(value="prior"), listed.assign(value=how)], ignore_index=True)


def interpolated_predictions(experiment: Experiment) -> pd.DataFrame:
    """Quarantined test images whose place is known: the blend's probabilities on the line between the nearest
    predicted slices to either side, beyond the ends those of the last one.
    """
    slices, known = experiment.slices, experiment.blend.test
    table = with_quarantined(slices[slices["image_id"].isin(known.index)], slices)
    study = table.groupby("study_id")["missing"].transform("any")
    guessed = [known[:0]]
    for _, rows in table[study].groupby("study_id"):
        missing = rows["missing"].to_numpy()
        values = interpolate(known.reindex(rows["image_id"]).to_numpy(), missing)
        guessed.append(pd.DataFrame(values, rows["image_id"], list(LABELS))[missing])
    return pd.concat(guessed)


def neighbour_predictions(experiment: Experiment) -> pd.DataFrame:
    """Quarantined test images by their neighbours: the mean of stackers trained with slice_dropout."""
    files = [run.folder / "missing.parquet" for run in experiment.runs]
    tables = [pd.read_parquet(file).set_index("image_id") for file in files if file.exists()]
    if not tables:
        raise UserError(
            "ensemble.json: quarantined is neighbours, but no stacker predicted missing slices; train one "
            "with slice_dropout, or set it to interpolated or prior"
        )
    return pd.concat(tables)[list(LABELS)].groupby(level=0).mean()


GUESSES: dict[str, Callable[[Experiment], pd.DataFrame]] = {
    "prior": lambda experiment: experiment.blend.test[:0],
    "interpolated": interpolated_predictions,
    "neighbours": neighbour_predictions,
}


def sample_submission(raw: Path) -> Path:
    """The sample submission as the contest names it."""
    found = sorted(raw.glob("*sample_submission.csv"))
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise UserError(
            f"{raw}: expected one *sample_submission.csv, found {names}; put the contest's file there"
        )
    return found[0]


def hidden_test_labels(
    settings: Settings, slices: pd.DataFrame, test_ids: pd.Index
) -> tuple[pd.DataFrame | None, pd.Series | None]:
    """The demo's hidden labels and the patients of its usable test slices, or None for a real data set."""
    path = settings.raw / "demo_test_labels.csv"
    if not path.exists() or not len(test_ids):
        return None, None
    patients = slices[slices["split"] == "test"].set_index("image_id")["patient_id"]
    return read_long(path, labels=True).loc[test_ids], patients.loc[test_ids]


def compare_stages(
    labels: pd.DataFrame, members: dict[str, Scored], patients: pd.Series, **options: float
) -> Comparison | None:
    """The best stage-2 run against the best stage-1 run; None where a stage has none."""
    stages = [[m for name, m in members.items() if Path(name).parent.name == s] for s in ("stage2", "stage1")]
    if not all(stages):
        return None
    later, earlier = (min(stage, key=lambda scored: scored.oof_score) for stage in stages)
    return _compare(labels, later.name, later.oof, earlier, patients, options)


def nested_gains(
    labels: pd.DataFrame,
    blend: Blend,
    mean: Scored,
    members: dict[str, Scored],
    patients: pd.Series,
    **options: float,
) -> tuple[Comparison, ...]:
    """The nested blend against the mean and against the best single member, which was chosen on the rows it
    is scored on: to the member's advantage.  Of a single member there is nothing to compare.
    """
    if len(members) == 1:
        return ()
    best = min(members.values(), key=lambda scored: scored.oof_score)
    nested = blend.nested_predictions
    return tuple(_compare(labels, NESTED, nested, other, patients, options) for other in (mean, best))


def _compare(
    labels: pd.DataFrame,
    name: str,
    oof: pd.DataFrame,
    other: Scored,
    patients: pd.Series,
    options: dict[str, float],
) -> Comparison:
    found = bootstrap_weighted_log_loss_difference(labels, oof, other.oof, patients, **options)
    return Comparison(name, other.name, found.estimate, (found.low, found.high))
