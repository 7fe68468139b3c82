"""Blend of models: per label, convex weights that minimise the log loss, cross-fitted by patient.

The weights are fitted on all rows; how good they are is judged by weights fitted without the patients they
are scored on (the nested score).  Weights over near-equal models gain next to nothing, so they are used only
where the nested gain over the better of the mean and the best single member is outside the paired patient
bootstrap's interval.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ..errors import UserError
from ..labels import LABELS
from .adjustments import Step, fit_steps, step_from_dict
from .bootstrap import PatientBootstrap, describe_gain, difference_interval
from .candidates import Candidate, Candidates, Problem, fit_candidates
from .members import Members
from .metrics import SCORING_EPS, WEIGHTS, log_losses
from .selection import greedy_candidate
from .spaces import SPACES
from .stacking import Stacking, stacking_candidate

EQUAL = 1e-9  # scores this close differ by rounding
ALTERNATIVES: dict[str, Callable[[Problem, int], Candidate]] = {
    "greedy": lambda problem, seed: greedy_candidate(problem), "boosting": stacking_candidate,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Blend:
    """A fitted blend: `apply` averages the members with `weights` in `space`, then runs the `steps`."""

    weights: pd.DataFrame  # members x LABELS, every column sums to 1
    space: str
    steps: tuple[Step, ...]
    eps: float  # clipping of the scores below and of probabilities on their way into logits
    nested_score: float  # weighted log loss of `nested_predictions`
    optimistic_score: float  # of the final weights and steps on the rows they were fitted on
    nested: dict[str, float]  # the same rows scored by: each member, "best single", "mean", each fitted space
    decision: str
    fitted_on: dict[str, int]  # images, patients, folds, seed
    nested_predictions: pd.DataFrame | None = field(default=None, repr=False)  # not saved
    stacking: Stacking | None = None  # in place of averaging; `weights` are then the members' shares of gain

    def apply(self, members: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        """Blend predictions by key: index of the first member, columns LABELS.

        A missing or unknown member, and members of different images, raise UserError.
        """
        missing = [name for name in self.weights.index if name not in members]
        unknown = [name for name in members if name not in self.weights.index]
        if missing or unknown:
            raise UserError(
                f"the blend was fitted on {', '.join(self.weights.index)}; "
                f"missing: {', '.join(missing) or 'none'}, unknown: {', '.join(unknown) or 'none'}"
            )
        table = Members(members, next(iter(members.values())).index)
        weights = self.weights.loc[table.names, list(LABELS)].to_numpy()[None]
        if self.stacking is not None:
            p = self.stacking.apply(table)
        else:
            p = table.mix(weights, None, SPACES[self.space], self.eps)
        for step in self.steps:
            p = step.apply(p)
        return pd.DataFrame(p, table.index, list(LABELS))

    def to_dict(self) -> dict[str, Any]:
        """JSON that explains itself."""
        return {
            "what": "blend of models for the six labels, applied by image_id",
            "how": "per label: back(sum over members of weight * into(p)), then the steps in order; space "
            "'probability': into and back change nothing; 'logit': into is the logit of p clipped to "
            "[eps, 1 - eps], back its inverse; with `stacking`, LightGBM's trees on the members' "
            "probabilities stand in the average's place, and the weights are the members' shares of gain",
            "decision": self.decision,
            "space": self.space,
            "weights": {name: row.to_dict() for name, row in self.weights.iterrows()},
            "steps": [step.to_dict() for step in self.steps],
            "stacking": None if self.stacking is None else self.stacking.to_dict(),
            "eps": self.eps,
            "nested_score": self.nested_score,
            "optimistic_score": self.optimistic_score,
            "nested": self.nested,
            "fitted_on": self.fitted_on,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Blend":
        """The inverse of `to_dict`; the two explaining texts are not read."""
        names = ("space", "eps", "nested_score", "optimistic_score", "nested", "decision", "fitted_on")
        missing = [name for name in ("weights", "steps", *names) if name not in values]
        if missing:
            raise UserError(f"the saved blend lacks {', '.join(missing)}; fit it again with ensemble.py")
        weights = pd.DataFrame.from_dict(values["weights"], orient="index")[list(LABELS)]
        return cls(
            weights=weights,
            steps=tuple(step_from_dict(step) for step in values["steps"]),
            stacking=Stacking.from_dict(values["stacking"]) if values.get("stacking") else None,
            **{name: values[name] for name in names},
        )


def fit_blend(
    labels: pd.DataFrame,
    members: Mapping[str, pd.DataFrame],
    groups: pd.Series | None,
    *,
    folds: int = 5,
    seed: int = 0,
    eps: float = SCORING_EPS,
    spaces: Sequence[str] = ("probability",),
    alternatives: Sequence[str] = (),
    steps: Sequence[str] = (),
    replicates: int = 1000,
) -> Blend:
    """Fit a blend of out-of-fold predictions.

    labels, members: index image_id, columns LABELS, same images, any order.  groups: image_id -> patient;
    None only where every image is of another patient.  spaces: the spaces to try, simplest first.
    alternatives: of ALTERNATIVES, to try after the weights.  steps: names of `adjustments.STEPS` to try
    after those.  Everything beyond the better of mean and best single
    member is kept only where its nested gain is above 0 by the paired patient bootstrap.
    """
    problem = Problem.of(labels, members, groups, folds, seed, eps)
    bootstrap = PatientBootstrap(problem.folds.patient, replicates, seed)
    candidates = fit_candidates(problem, spaces)
    if len(members) > 1:
        candidates.weighted.extend(ALTERNATIVES[name](problem, seed) for name in alternatives)
    chosen, decision = decide(candidates, bootstrap)
    kept, nested, remarks = fit_steps(steps, problem.y, chosen.predictions, problem.folds, bootstrap, eps)
    if chosen.stacking is not None:
        optimistic = chosen.stacking.apply(problem.members)
    else:
        optimistic = problem.members.mix(chosen.weights[None], None, chosen.space, eps)
    for step in kept:
        optimistic = step.apply(optimistic)
    compared = [*candidates.simple, *candidates.weighted]
    return Blend(
        weights=pd.DataFrame(chosen.weights, list(members), list(LABELS)),
        space=chosen.space.name,
        steps=kept,
        eps=eps,
        nested_score=_score(problem.y, nested, eps),
        optimistic_score=_score(problem.y, optimistic, eps),
        nested=candidates.member_scores | {candidate.name: candidate.score for candidate in compared},
        decision="; ".join([decision, *remarks]),
        fitted_on={
            "images": len(labels),
            "patients": problem.folds.patients,
            "folds": problem.folds.count,
            "seed": seed,
        },
        nested_predictions=pd.DataFrame(nested, labels.index, list(LABELS)),
        stacking=chosen.stacking,
    )


def decide(candidates: Candidates, bootstrap: PatientBootstrap) -> tuple[Candidate, str]:
    """The better simple candidate, of equal ones the simpler, unless a fitted one beats it outside the noise;
    and why, in words.
    """
    best = min(candidate.score for candidate in candidates.simple)
    chosen = next(candidate for candidate in candidates.simple if candidate.score <= best + EQUAL)
    text = [f"{_name(chosen, candidates)} scores {chosen.score:.6f} nested"]
    for challenger in candidates.weighted:
        gain = difference_interval(chosen.losses, challenger.losses, bootstrap)
        verdict = (
            "used" if gain.low > 0 else "worse, not used" if gain.high < 0 else "inside the noise, not used"
        )
        text.append(f"{challenger.name}, {challenger.score:.6f}: {describe_gain(gain)}, {verdict}")
        chosen = challenger if gain.low > 0 else chosen
    return chosen, "; ".join(text)


def _name(simple: Candidate, candidates: Candidates) -> str:
    if simple.name == "mean":
        return f"mean of {len(candidates.member_scores)}"
    return f"{simple.name} ({list(candidates.member_scores)[simple.weights[:, 0].argmax()]})"


def _score(y: np.ndarray, p: np.ndarray, eps: float) -> float:
    return float((log_losses(y, p, eps) @ WEIGHTS).mean())
