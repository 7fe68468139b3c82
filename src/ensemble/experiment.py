"""An experiment as a whole: the scores of its runs, their blend, and what was compared with what."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from joblib import Parallel, delayed

from ..data.prepared import Prepared
from ..evaluation.blend import Blend, fit_blend
from ..evaluation.metrics import SCORING_EPS, constant_predictions, prevalence, weighted_log_loss
from ..settings import Settings
from ..training.runs import Run
from .ensemble_config import EnsembleConfig
from .gather import Gathered, gather
from .scoring import Comparison, Scored, blend_gains, compare_stages


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
    groups: pd.Series  # image_id -> group of linked patients
    runs: list[Run]
    baseline: float
    test_baseline: float | None
    members: dict[str, Scored]
    mean: Scored
    blend: Scored  # held out: the nested predictions
    fitted: Blend
    gains: tuple[Comparison, ...]  # the blend against the mean and against the best single member
    context: Comparison | None  # the best stage-2 run against the best stage-1 run
    leak: str | None  # what every held-out score has to say where patients were not kept apart

    def scores(self) -> dict:
        """The content of scores.json."""
        return {
            "experiment": self.name,
            "data": "synthetic" if self.synthetic else "real",
            "leak": self.leak,
            "eps": SCORING_EPS,
            "slices": {"oof": len(self.labels), "test": len(self.blend.test)},
            "baseline": self.baseline,
            "test_baseline": self.test_baseline,
            "members": {name: scored.to_json() for name, scored in self.members.items()},
            "mean": self.mean.to_json(),
            "blend": {
                **self.blend.to_json(),
                "nested": self.fitted.nested_score,
                "gains": [vars(gain) for gain in self.gains],
                "fixed": self.config.fixed,
            },
            "context": None if self.context is None else vars(self.context),
        }


def evaluate_experiment(settings: Settings, name: str, config: EnsembleConfig, jobs: int = 1) -> Experiment:
    """Gather the runs of an experiment, score them, `jobs` at once, and their blend."""
    return score_experiment(name, config, gather(settings, name, config), jobs)


def score_experiment(name: str, config: EnsembleConfig, gathered: Gathered, jobs: int = 1) -> Experiment:
    """Scores of every member, of their mean and of their blend. Where the hidden labels are at hand, the test
    part is scored too.
    """
    held_out, hidden = gathered.held_out, gathered.hidden
    oofs, tests = ({m: pair[i] for m, pair in gathered.members.items()} for i in (0, 1))
    # threads: numpy lets go of the interpreter, and no table is copied
    tasks = [delayed(Scored.of)(m, oofs[m], tests[m], held_out, hidden) for m in oofs]
    members = dict(zip(oofs, Parallel(jobs, prefer="threads")(tasks), strict=True))
    fitted = fit_blend(
        held_out.labels, oofs, gathered.groups, seed=config.seed,
        spaces=config.spaces, alternatives=config.alternatives, steps=config.steps,
    )  # fmt: skip
    mean = Scored.of("mean", *(sum(t.values()) / len(t) for t in (oofs, tests)), held_out, hidden)
    submitted = join_fixed(fitted.apply(tests), gathered.fixed, config.fixed)
    blend = Scored.of("blend", fitted.nested_predictions, submitted, held_out, hidden)
    base = prevalence(held_out.labels)
    baselines = [
        None
        if part is None
        else weighted_log_loss(part.labels, constant_predictions(base, part.labels.index))
        for part in (held_out, hidden)
    ]
    return Experiment(
        name=name,
        config=config,
        synthetic=gathered.synthetic,
        labels=held_out.labels,
        test_labels=None if hidden is None else hidden.labels,
        prepared=gathered.prepared,
        slices=gathered.slices,
        groups=gathered.groups,
        runs=gathered.runs,
        baseline=baselines[0],
        test_baseline=baselines[1],
        members=members,
        mean=mean,
        blend=blend,
        fitted=fitted,
        gains=blend_gains(blend, mean, members, held_out),
        context=compare_stages(members, held_out),
        leak=gathered.leak,
    )


def join_fixed(
    blend: pd.DataFrame, fixed: Mapping[str, pd.DataFrame], weights: Mapping[str, float]
) -> pd.DataFrame:
    """Test predictions without held-out ones take their fixed weights, the blend the rest; by image."""
    rest = 1 - sum(weights.values())
    return sum((weights[name] * p.loc[blend.index, blend.columns] for name, p in fixed.items()), rest * blend)
