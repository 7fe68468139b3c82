"""Blend of models: per label, convex weights that minimise the log loss, cross-fitted by patient group.

Several ways to combine the members are fitted without every fold of patients and scored on it; the one with
the lowest score is fitted on all rows and used.  On fresh patients this rule loses least (docs/log.md,
`python -m src.audit.blend_rules`).  How good the result is is judged by doing all of it, the choice included,
without the patients that are scored (the nested score).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ..errors import UserError
from ..labels import LABELS, SUBTYPES
from .blending.adjustments import Step, fit_steps, step_from_dict
from .blending.candidates import BestSingle, CrossFit, ExactWeights, Greedy, Mean, Problem, Way
from .blending.crossfit import NOTHING, Held
from .blending.members import SPACES, Members
from .blending.stacking import Boosting, Stacking
from .metrics import SCORING_EPS, WEIGHTS, log_losses

EQUAL = 1e-9  # scores this close differ by rounding
# Ways to combine members beside the exact weights, by their seed.
ALTERNATIVES: dict[str, Callable[[int], Way]] = {"greedy": lambda seed: Greedy(), "boosting": Boosting}
SAVED = ("space", "eps", "nested_score", "optimistic_score", "nested", "decision", "remarks", "fitted_on")


@dataclass(frozen=True, eq=False)
class Blend:
    """A fitted blend: `apply` averages the members with `weights` in `space`, then runs the `steps`."""

    weights: pd.DataFrame  # members x LABELS, every column sums to 1
    space: str
    steps: tuple[Step, ...]
    eps: float  # clipping of the scores below and of probabilities on their way into logits
    nested_score: float  # weighted log loss of `nested_predictions`
    optimistic_score: float  # of the final weights and steps on the rows they were fitted on
    nested: dict[str, float]  # score of each member and of each way to combine, weights without the patient
    decision: str
    remarks: list[str]  # on the steps
    fitted_on: dict[str, int]  # images, patient groups, folds, seed
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
        return pd.DataFrame(run_steps(self.steps, p), table.index, list(LABELS))

    def to_dict(self) -> dict[str, Any]:
        """JSON that explains itself."""
        return {
            "what": "blend of models for the six labels, applied by image_id",
            "how": "per label: back(sum over members of weight * into(p)), then the steps in order; space "
            "'probability': into and back change nothing; 'logit': into is the logit of p clipped to "
            "[eps, 1 - eps], back its inverse; with `stacking`, LightGBM's trees on the members' "
            "probabilities stand in the average's place, and the weights are the members' shares of gain",
            "weights": {name: row.to_dict() for name, row in self.weights.iterrows()},
            "steps": [step.to_dict() for step in self.steps],
            "stacking": None if self.stacking is None else self.stacking.to_dict(),
            **{name: getattr(self, name) for name in SAVED},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Blend":
        """The inverse of `to_dict`; the two explaining texts are not read."""
        missing = [name for name in ("weights", "steps", *SAVED) if name not in values]
        if missing:
            raise UserError(f"the saved blend lacks {', '.join(missing)}; fit it again with ensemble.py")
        weights = pd.DataFrame.from_dict(values["weights"], orient="index")[list(LABELS)]
        return cls(
            weights=weights,
            steps=tuple(step_from_dict(step) for step in values["steps"]),
            stacking=Stacking.from_dict(values["stacking"]) if values.get("stacking") else None,
            **{name: values[name] for name in SAVED},
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
) -> Blend:
    """Fit a blend of out-of-fold predictions.

    labels, members: index image_id, columns LABELS, same images, any order.  groups: image_id -> patient, or
    the group of linked patients; None only where every image is of another patient.  spaces: where members
    may be averaged, simplest first.  alternatives: `greedy` and `boosting`, to try beside the exact weights.
    steps: names of `adjustments.STEPS` to try after the best way.
    """
    problem = Problem.of(labels, members, groups, folds, seed, eps)
    crossfits = [CrossFit(problem, way) for way in ways(len(members), spaces, alternatives, seed)]
    chosen, scores = choose(crossfits)
    kept, remarks = fit_steps(steps, chosen)
    (fit,) = chosen.fits([NOTHING])
    stacking = fit if isinstance(fit, Stacking) else None
    weights = fit if stacking is None else stacking.shares()
    optimistic = run_steps(kept, chosen.way.predict(problem, [fit] * problem.folds.count))
    nested = nested_predictions(crossfits, steps)
    return Blend(
        weights=pd.DataFrame(weights, list(members), list(LABELS)),
        space="probability" if stacking else chosen.way.space.name,
        steps=kept,
        eps=eps,
        nested_score=_score(problem.y, nested, eps),
        optimistic_score=_score(problem.y, optimistic, eps),
        nested=problem.member_scores | scores,
        decision=_decision(chosen, weights, list(members), scores),
        remarks=[*remarks, *_below_a_subtype(nested)],
        fitted_on={
            "images": len(labels),
            "groups": problem.folds.patients,
            "folds": problem.folds.count,
            "seed": seed,
        },
        nested_predictions=pd.DataFrame(nested, labels.index, list(LABELS)),
        stacking=stacking,
    )


def ways(members: int, spaces: Sequence[str], alternatives: Sequence[str], seed: int) -> list[Way]:
    """The ways to combine so many members, simplest first; of one member there is nothing to combine."""
    if members == 1:
        return [BestSingle()]
    means = dict.fromkeys(("probability", *spaces))
    return [
        BestSingle(),
        *(Mean(SPACES[name]) for name in means),
        *(ExactWeights(SPACES[name]) for name in spaces),
        *(ALTERNATIVES[name](seed) for name in alternatives),
    ]


def choose(crossfits: Sequence[CrossFit], held: Held = NOTHING) -> tuple[CrossFit, dict[str, float]]:
    """Of several ways the one with the lowest cross-fitted score without the folds in `held`, of equal ones
    the first; and the scores. Where fewer than two folds are left there is no score: the first.
    """
    if len(crossfits[0].problem.folds.outside(held)) < 2:
        return crossfits[0], {}
    scores = {crossfit.way.name: crossfit.score(held) for crossfit in crossfits}
    best = min(scores.values())
    return next(one for one in crossfits if scores[one.way.name] <= best + EQUAL), scores


def nested_predictions(crossfits: Sequence[CrossFit], steps: Sequence[str]) -> np.ndarray:
    """(n, 6): every row by a way and steps that were chosen and fitted without its fold."""
    problem = crossfits[0].problem
    predictions = np.empty(problem.y.shape)
    for fold in range(problem.folds.count):
        held, rows = frozenset({fold}), problem.folds.fold == fold
        chosen, _ = choose(crossfits, held)
        kept, _ = fit_steps(steps, chosen, held)
        predictions[rows] = run_steps(kept, chosen.predictions(held)[rows])
    return predictions


def run_steps(steps: Sequence[Step], p: np.ndarray) -> np.ndarray:
    """(n, 6) -> (n, 6)"""
    for step in steps:
        p = step.apply(p)
    return p


def _decision(chosen: CrossFit, weights: np.ndarray, names: list[str], scores: Mapping[str, float]) -> str:
    name = chosen.way.name
    if isinstance(chosen.way, BestSingle):
        name += f" ({names[weights[:, 0].argmax()]})"
    if len(scores) == 1:
        return f"{name}: the only member"
    return f"{name}: of {len(scores)} ways to combine the lowest nested score, {scores[chosen.way.name]:.6f}"


def _below_a_subtype(p: np.ndarray) -> list[str]:
    """A remark where `any` is below the largest subtype, which labels and steps by label do not rule out."""
    subtypes = p[:, [LABELS.index(label) for label in SUBTYPES]]
    below = int((p[:, LABELS.index("any")] < subtypes.max(axis=1)).sum())
    return [f"any is below the largest subtype on {below:,} of {len(p):,} held-out slices"] if below else []


def _score(y: np.ndarray, p: np.ndarray, eps: float) -> float:
    return float((log_losses(y, p, eps) @ WEIGHTS).mean())
