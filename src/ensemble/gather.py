"""What is blended: the complete runs of an experiment, their predictions and the labels, aligned by key."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..data.contest_csv import read_long
from ..data.folds import link_patients
from ..data.prepared import Prepared
from ..data.synthetic_truth import TEST_LABELS_CSV, is_synthetic
from ..errors import UserError
from ..evaluation.alignment import positions
from ..labels import LABELS
from ..settings import Settings
from ..targets import Targets
from ..training.kinds import kind_of
from ..training.provenance import check_alike, check_data, check_unchanged
from ..training.runs import Run, nothing_complete, runs_of
from ..training.split import PATIENT, labelled_slices, leak_of, unlabelled_slices
from .ensemble_config import EnsembleConfig
from .external import read_external
from .scoring import Part

log = logging.getLogger("ich")

Predictions = tuple[pd.DataFrame, pd.DataFrame]  # held-out and test, index image_id, columns LABELS


@dataclass(frozen=True)
class Gathered:
    """Everything of an experiment that is judged; all predictions are of the same images."""

    prepared: Prepared
    slices: pd.DataFrame  # the whole of slices.parquet
    groups: pd.Series  # image_id -> group of linked patients
    runs: list[Run]
    members: dict[str, Predictions]
    fixed: dict[str, pd.DataFrame]  # test predictions that join with the weights of ensemble.json
    held_out: Part
    hidden: Part | None  # the test slices, where the labels of a synthetic data set are at hand
    synthetic: bool
    leak: str | None = None  # what every held-out score has to say where patients were not kept apart


def gather(settings: Settings, name: str, config: EnsembleConfig) -> Gathered:
    """Every member must cover the same folds; a missing fold or test prediction is a UserError with the
    command that makes it, a table of other images one that names them.
    """
    prepared = Prepared(settings.clean)
    slices = prepared.slices
    groups = slices.set_index("image_id")["patient_id"].map(link_patients(slices)).rename("group")
    config = _named_members(settings, name, config)
    runs = experiment_runs(settings, prepared, name, config)
    split = common_split(name, runs, config)
    external = read_external(config.external, slices)
    members = run_predictions(runs)
    members |= {member: (oof, test) for member, (oof, test) in external.items() if oof is not None}
    fixed = {member: test for member, (oof, test) in external.items() if oof is None}
    labels = labelled_slices(prepared).set_index("image_id")[list(LABELS)].astype("int8")
    labels = labels.loc[next(iter(members.values()))[0].index.sort_values()]
    test_ids = pd.Index(unlabelled_slices(prepared)["image_id"])
    for member, (oof, _) in members.items():
        positions(labels.index, oof.index, f"{member}, held-out predictions")
    tests = {member: test for member, (_, test) in members.items()}
    for member, test in (tests | fixed).items():
        positions(test_ids, test.index, f"{member}, test predictions")
    hidden = hidden_labels(settings, test_ids)
    options = (groups, config.replicates, config.seed)
    return Gathered(
        prepared, slices, groups, runs, members, fixed,
        held_out=Part(labels, *options),
        hidden=None if hidden is None else Part(hidden, *options),
        synthetic=is_synthetic(settings.raw),
        leak=leak_of(split),
    )  # fmt: skip


def run_predictions(runs: Sequence[Run]) -> dict[str, Predictions]:
    """Of every run the held-out predictions of all its folds, and the mean of their test predictions."""
    folds: dict[str, list[Run]] = {}
    for run in runs:
        folds.setdefault(run.name, []).append(run)
    return {
        name: (
            pd.concat([run.predictions("oof") for run in own]),
            sum(run.predictions("test") for run in own) / len(own),
        )
        for name, own in folds.items()
    }


def experiment_targets(settings: Settings, name: str, config: EnsembleConfig) -> Targets:
    """What every run of an experiment predicts; UserError where they predict different things."""
    found: dict[Targets, list[str]] = {}
    for run in complete_runs(settings, name, config.members):
        found.setdefault(run.read_config(kind_of(run).config).predicted, []).append(run.name)
    if len(found) > 1:
        named = "; ".join(
            f"{', '.join(targets.columns)}: {', '.join(dict.fromkeys(names))}"
            for targets, names in found.items()
        )
        raise UserError(
            f"{name}: its runs have different targets, which no score has in common ({named}); name those of "
            f"one kind under members in experiments/{name}/ensemble.json"
        )
    return next(iter(found))


def experiment_runs(settings: Settings, prepared: Prepared, name: str, config: EnsembleConfig) -> list[Run]:
    """The complete runs to blend, every member with the same folds and with test predictions."""
    runs = complete_runs(settings, name, config.members)
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
    for run in runs:
        if not run.has("test", prepared.test_fingerprint):
            experiment = run.name.split("/")[0]
            raise UserError(
                f"{run.folder}: has no test.parquet of these data; run: python predict.py "
                f"experiments/{experiment}{settings.flag}"
            )
    return runs


def common_split(name: str, runs: Sequence[Run], config: EnsembleConfig) -> str:
    """By what the folds of all members were divided; what was predicted elsewhere counts as split by patient.

    UserError where they differ: what one held out another has learned from.
    """
    found: dict[str, list[str]] = {}
    for run in runs:
        found.setdefault(run.split, []).append(run.name)
    for member in (key for key, files in config.external.items() if files.oof is not None):
        found.setdefault(PATIENT, []).append(f"external/{member}")
    if len(found) > 1:
        named = "; ".join(f"by {split}: {', '.join(dict.fromkeys(names))}" for split, names in found.items())
        raise UserError(
            f"{name}: its runs were split differently, and leaky ones never blend with those whose patients "
            f"were kept apart ({named}); name those of one split under members in "
            f"experiments/{name}/ensemble.json"
        )
    return next(iter(found))


def _named_members(settings: Settings, name: str, config: EnsembleConfig) -> EnsembleConfig:
    if config.members is not None:
        return config
    runs = without_leaks(complete_runs(settings, name, None))
    return config.model_copy(update={"members": tuple(dict.fromkeys(run.name for run in runs))})


def without_leaks(runs: Sequence[Run]) -> list[Run]:
    """The runs whose patients were kept apart; all of them where there is none."""
    apart = [run for run in runs if run.leak is None]
    if apart and len(apart) < len(runs):
        left_out = dict.fromkeys(run.name for run in runs if run.leak is not None)
        log.warning("%s: left out, as leaky runs never join others", ", ".join(left_out))
    return apart or list(runs)


def complete_runs(settings: Settings, name: str, members: Sequence[str] | None) -> list[Run]:
    """Every complete fold of an experiment, or of the members that its ensemble.json names."""
    if members is None:
        runs = [run for run in runs_of(settings, name) if run.complete]
        if not runs:
            raise nothing_complete(settings, Path("experiments") / name)
        return runs
    experiments = dict.fromkeys(member.split("/")[0] for member in members)
    found = [run for experiment in experiments for run in runs_of(settings, experiment)]
    runs = [run for run in found if run.complete and run.name in members]
    if unknown := sorted(set(members) - {run.name for run in runs}):
        known = sorted({run.name for run in found if run.complete})
        raise UserError(
            f"ensemble.json: members {', '.join(unknown)} have no complete fold below {settings.models}; "
            f"train them first, or name runs that are complete ({', '.join(known) or 'none'})"
        )
    return runs


def hidden_labels(settings: Settings, test_ids: pd.Index) -> pd.DataFrame | None:
    """The labels of the usable test slices that lie beside a synthetic data set; None beside a real one."""
    path = settings.raw / TEST_LABELS_CSV
    if not path.exists() or not len(test_ids):
        return None
    return read_long(path, labels=True).loc[test_ids]
