"""From prevalence to the blend, rung by rung: what every step of an experiment brings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..evaluation.bootstrap import Interval
from ..evaluation.metrics import constant_predictions, prevalence
from .experiment import Experiment
from .scoring import Part, Scored, best


@dataclass(frozen=True)
class Rung:
    """Weighted log loss by part, `oof` and `test`, and that minus the score of the nearest rung before that
    has one, the same patients drawn for both.
    """

    name: str
    kind: str  # baseline, stage1, stage2, mean or blend
    scores: Mapping[str, Interval]
    gains: Mapping[str, Interval]


def ladder(experiment: Experiment) -> list[Rung]:
    """Prevalence, one fold of the best slice classifier, all its folds, the mean of stage 1, the best of
    stage 2, the mean of all members, the blend; what the experiment does not have is left out.

    A fold alone was asked about every slice of the test part only. Best: by held-out score.
    """
    options = (experiment.groups, experiment.config.replicates, experiment.config.seed)
    parts = {"oof": Part(experiment.labels, *options)}
    if experiment.test_labels is not None:
        parts["test"] = Part(experiment.test_labels, *options)
    rungs: list[Rung] = []
    before: dict[str, pd.DataFrame] = {}
    for name, kind, predictions in _rungs(experiment, parts):
        own = {part: table for part, table in predictions.items() if part in parts}
        if own:
            scores = {part: parts[part].score(table) for part, table in own.items()}
            gains = {part: parts[part].difference(own[part], before[part]) for part in own if part in before}
            rungs.append(Rung(name, kind, scores, gains))
            before |= own
    return rungs


def _rungs(
    experiment: Experiment, parts: Mapping[str, Part]
) -> Iterator[tuple[str, str, dict[str, pd.DataFrame]]]:
    """Name, kind, part -> predictions."""
    base = prevalence(experiment.labels)
    constants = {name: constant_predictions(base, part.labels.index) for name, part in parts.items()}
    yield "prevalence", "baseline", constants
    members = experiment.members
    for stage in ("stage1", "stage2"):
        own = {name: scored for name, scored in members.items() if Path(name).parent.name == stage}
        if not own:
            continue
        strongest = best(own.values())
        if stage == "stage1":
            yield _one_fold(experiment, strongest.name)
        name = f"{strongest.name}, the best" if len(own) > 1 else strongest.name
        yield name, stage, _both(strongest)
        if stage == "stage1" and 1 < len(own) < len(members):
            yield f"mean of the {len(own)} runs of stage 1", stage, _mean(own)
    if len(members) > 1:
        yield f"mean of all {len(members)} members", "mean", _both(experiment.mean)
    yield "blend", "blend", _both(experiment.blend)


def _one_fold(experiment: Experiment, name: str) -> tuple[str, str, dict[str, pd.DataFrame]]:
    """The fold of a run with the lowest held-out score; nothing where there is one fold only."""
    folds = [run for run in experiment.runs if run.name == name]
    chosen = min(folds, key=lambda run: run.metrics()["score"])
    tables = (
        {"test": chosen.predictions("test")} if len(folds) > 1 and experiment.test_labels is not None else {}
    )
    return f"{name}, its best fold alone", "stage1", tables


def _both(scored: Scored) -> dict[str, pd.DataFrame]:
    return {"oof": scored.oof, "test": scored.test}


def _mean(members: Mapping[str, Scored]) -> dict[str, pd.DataFrame]:
    tables = [_both(scored) for scored in members.values()]
    return {part: sum(table[part] for table in tables) / len(tables) for part in ("oof", "test")}
