"""Which rule should decide how members are combined: the loss on fresh patients that each leads to.

    python -m src.audit.blend_rules --out results/blend_rules.json
    python -m src.audit.blend_rules --patients 40 120 1000 --predictions preds_labels.npz --images images.csv

Members of a known quality are drawn, or real predictions are disturbed; the ways to combine are fitted on so
many patients as `fit_blend` does, every rule takes one of them, and all are scored on patients that had no
part in it. Numbers are weighted log losses minus that of the rule `lowest score` on the same draw.

--predictions: an .npz of one network's held-out predictions: image, preds, labels (n, 6), classes; --images:
tables with the columns Image and PatientID.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from ..command_line import argument_parser, positive, run, start_logging
from ..ensemble.ensemble_config import EnsembleConfig
from ..errors import UserError
from ..evaluation.blend import choose, run_steps, ways
from ..evaluation.blending.adjustments import BOUNDS, CALIBRATORS, Calibration, Step, fit_platt, fit_steps
from ..evaluation.blending.candidates import Average, CrossFit, Problem
from ..evaluation.blending.crossfit import NOTHING, Held
from ..evaluation.blending.members import Members
from ..evaluation.bootstrap import PatientBootstrap, difference_interval
from ..evaluation.metrics import SCORING_EPS, WEIGHTS, log_losses
from ..files import write_json
from ..labels import LABELS, SUBTYPES
from ..progress import Progress

SPACES = ("probability", "logit")
STEPS = EnsembleConfig().steps
SHARES = (0.25, 0.5, 0.75)  # of the mean in weights shrunk towards it
SLICES = 20  # a study
FRESH = 1_000  # patients
POPULATIONS = {  # share of patients with each subtype, factor on the logits of calibrated members
    "contest, calibrated": ((0.016, 0.17, 0.13, 0.16, 0.17), 1.0),
    "enriched, over-confident": ((0.12, 0.20, 0.16, 0.20, 0.20), 1.3),
}
PATIENTS = (40, 120, 1_000, 17_000)
USED = "lowest score"


@dataclass(frozen=True)
class Errors:
    """How members err: noise on the true logit, and the shares of its variance that are common to all
    members, to the slices of a patient, to the labels of a slice."""

    noise: tuple[tuple[float, ...], ...]  # (members, 6) standard deviations
    members: float = 0.6
    patient: float = 0.4
    labels: float = 0.8


def alike(*noise: float, **shares: float) -> Errors:
    """Members that are equally good at every label."""
    return Errors(tuple((sd,) * len(LABELS) for sd in noise), **shares)


ERRORS = {
    "six alike": alike(*[2.5] * 6),
    "six unequal": alike(2, 2.3, 2.6, 3, 3.4, 4),
    "one good": alike(1.5, *[3] * 5),
    "two": alike(2, 2.5),
    "good at different labels": Errors(
        tuple(map(tuple, np.random.default_rng(0).uniform(1.5, 4, (6, len(LABELS))).tolist()))
    ),
    "fifteen": alike(*np.linspace(2, 3.5, 15).tolist(), members=0.8),
    "errors of their own": alike(2, 2.3, 2.6, 3, 3.4, 4, members=0.2),
}


@dataclass(frozen=True, eq=False)
class Draw:
    """Patients with their members' predictions. `truth` may be probabilities: a loss is then expected."""

    truth: np.ndarray  # (n, 6)
    members: dict[str, pd.DataFrame]
    patients: np.ndarray  # (n,)

    def loss(self, p: np.ndarray) -> np.ndarray:
        """(6,) mean log losses of probabilities p (n, 6)."""
        positive, negative = (log_losses(np.full(p.shape, y), p) for y in (True, False))
        return (self.truth * positive + (1 - self.truth) * negative).mean(axis=0)


Drawing = Callable[[int, np.random.Generator], tuple[Draw, Draw]]  # patients, rng -> fitted on, fresh


def simulated(errors: Errors, bleeding: Sequence[float], confidence: float) -> Drawing:
    """Drawn studies. Members are calibrated on a large draw; `confidence` then scales their logits."""

    def patients(count: int, rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
        logits = true_logits(count, bleeding, rng)
        return logits, disturbed(logits, errors, np.repeat(np.arange(count), SLICES), rng)

    logits, noisy = patients(2 * FRESH, np.random.default_rng(0))
    known = drawn_labels(logits, np.random.default_rng(1))
    lines = [[fit_platt(label, known[:, i], expit(m[:, i])) for i, label in enumerate(LABELS)] for m in noisy]

    def draw(count: int, rng: np.random.Generator, expected: bool) -> Draw:
        logits, noisy = patients(count, rng)
        tables = [
            expit(confidence * (m * [line.slope for line in own] + [line.intercept for line in own]))
            for m, own in zip(noisy, lines, strict=True)
        ]
        truth = expit(logits) if expected else drawn_labels(logits, rng).astype(float)
        return Draw(truth, frames(tables), np.repeat(np.arange(count), SLICES))

    fresh = draw(FRESH, np.random.default_rng(2), expected=True)
    return lambda count, rng: (draw(count, rng, expected=False), fresh)


def true_logits(count: int, bleeding: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """(count * SLICES, 6): a bleeding is a run of slices, its ends are doubtful; `any` is the union."""
    place = np.linspace(0, 1, SLICES)[:, None]
    present = rng.random((count, 1, len(SUBTYPES))) < np.array(bleeding)
    middle = rng.uniform(0.1, 0.9, present.shape)
    half = 0.03 + np.abs(rng.normal(0, 0.12, present.shape))
    inside = 3 - 9 * expit((np.abs(place - middle) - half) / 0.03)
    logits = np.where(present, inside, -7) + rng.normal(0, 0.8, present.shape)
    logits = logits + rng.normal(0, 0.6, (count, SLICES, len(SUBTYPES)))
    logits = logits.reshape(-1, len(SUBTYPES))
    return np.column_stack([logits, logit(-np.expm1(np.log(expit(-logits)).sum(axis=1)))])


def drawn_labels(logits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n, 6) bool"""
    subtypes = rng.random((len(logits), len(SUBTYPES))) < expit(logits[:, : len(SUBTYPES)])
    return np.column_stack([subtypes, subtypes.any(axis=1)])


def disturbed(
    logits: np.ndarray, errors: Errors, patients: np.ndarray, rng: np.random.Generator
) -> list[np.ndarray]:
    """(n, 6) logits of every member."""

    def field(labels: int) -> np.ndarray:
        by_patient = rng.normal(size=(patients.max() + 1, labels))[patients]
        return mixed(errors.patient, by_patient, rng.normal(size=(len(logits), labels)))

    def error() -> np.ndarray:
        return mixed(errors.labels, field(1), field(len(LABELS)))

    common = error()
    return [logits + np.array(noise) * mixed(errors.members, common, error()) for noise in errors.noise]


def mixed(share: float, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Unit noise of which `share` of the variance is the first."""
    return np.sqrt(share) * first + np.sqrt(1 - share) * second


def frames(tables: Sequence[np.ndarray]) -> dict[str, pd.DataFrame]:
    return {f"m{k}": pd.DataFrame(p, columns=list(LABELS)) for k, p in enumerate(tables)}


def disturbed_real(predictions: Path, images: Sequence[Path], errors: Errors) -> Drawing:
    """Real predictions, disturbed twice as much as drawn ones and calibrated; fresh: who is not drawn."""
    table, patients = read_real(predictions, images)
    labels, p = table["labels"].astype(bool), table["preds"].astype(np.float64)
    wide = replace(errors, noise=tuple(tuple(2 * sd for sd in row) for row in errors.noise))
    noisy = disturbed(logit(p.clip(1e-7, 1 - 1e-7)), wide, patients, np.random.default_rng(0))
    tables = []
    for member in noisy:
        lines = [fit_platt(label, labels[:, i], expit(member[:, i])) for i, label in enumerate(LABELS)]
        tables.append(run_steps(lines, expit(member)))

    def draw(count: int, rng: np.random.Generator) -> tuple[Draw, Draw]:
        if count > patients.max():
            raise UserError(f"--patients {count}: there are {patients.max() + 1}, and some must stay fresh")
        chosen = np.isin(patients, rng.permutation(patients.max() + 1)[:count])
        return tuple(
            Draw(labels[rows].astype(float), frames([t[rows] for t in tables]), patients[rows])
            for rows in (chosen, ~chosen)
        )

    return draw


def read_real(predictions: Path, images: Sequence[Path]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """labels and preds (n, 6) in our order, (n,) patients 0, 1, ...: the images of known patients."""
    known = pd.concat([pd.read_csv(path, usecols=["Image", "PatientID"]) for path in images]).dropna()
    patient_of = known.drop_duplicates("Image").set_index("Image")["PatientID"]
    with np.load(predictions) as saved:
        order = [saved["classes"].tolist().index(label) for label in LABELS]
        names = pd.Index(saved["image"].astype(str))
        rows = names.isin(patient_of.index)
        table = {name: saved[name][rows][:, order] for name in ("labels", "preds")}
    return table, pd.factorize(patient_of.loc[names[rows]])[0]


@dataclass(frozen=True)
class Shrunk(Average):
    """Exact weights with a share of the mean."""

    exact: CrossFit | None = None
    share: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.exact.way.name}, {self.share} of the mean"

    def fit(self, problem: Problem, held: Sequence[Held]) -> list[np.ndarray]:
        mean = self.share / len(problem.members)
        return [(1 - self.share) * weights + mean for weights in self.exact.fits(held)]


def fresh_losses(draw: Draw, fresh: Draw, seed: int) -> dict[str, float]:
    """Rule -> weighted log loss on the fresh patients."""
    labels = pd.DataFrame(draw.truth.astype(bool), columns=list(LABELS))
    groups = pd.Series(draw.patients)
    problem = Problem.of(labels, draw.members, groups, 5, seed, SCORING_EPS)
    bootstrap = PatientBootstrap(draw.patients, 400, seed)
    crossfits = [CrossFit(problem, way) for way in ways(len(draw.members), SPACES, (), seed)]
    exact = [crossfit for crossfit in crossfits if crossfit.way.name.startswith("weights")]
    shrunk = [CrossFit(problem, Shrunk(one.way.space, one, share)) for share in SHARES for one in exact]
    losses, elsewhere = {}, {}
    table = Members(fresh.members, pd.RangeIndex(len(fresh.truth)))
    for crossfit in [*crossfits, *shrunk]:
        name, (weights,) = crossfit.way.name, crossfit.fits([NOTHING])
        losses[name] = log_losses(problem.y, crossfit.predictions(), problem.eps)
        elsewhere[name] = fresh.loss(table.mix(weights[None], None, crossfit.way.space, problem.eps))
    names = [crossfit.way.name for crossfit in crossfits]
    found = {
        rule: float(elsewhere[name] @ WEIGHTS) for rule, name in chosen_by(losses, names, bootstrap).items()
    }
    by_label = [min(names, key=lambda name, i=i: losses[name][:, i].mean()) for i in range(len(LABELS))]
    found["lowest score of each label"] = float(
        sum(w * elsewhere[name][i] for i, (w, name) in enumerate(zip(WEIGHTS, by_label, strict=True)))
    )
    best, _ = choose(crossfits)
    p = table.mix(best.fits([NOTHING])[0][None], None, best.way.space, problem.eps)
    steps = {
        "steps by lowest score": fit_steps(STEPS, best)[0],
        "steps outside the noise": clear_steps(best, bootstrap),
    }
    return found | {rule: float(fresh.loss(run_steps(kept, p)) @ WEIGHTS) for rule, kept in steps.items()}


def chosen_by(
    losses: Mapping[str, np.ndarray], names: Sequence[str], bootstrap: PatientBootstrap
) -> dict[str, str]:
    """Rule -> the way it takes. losses: way -> (n, 6) cross-fitted; names: those that are not shrunk."""
    rows = {name: table @ WEIGHTS for name, table in losses.items()}
    score = {name: float(row.mean()) for name, row in rows.items()}
    best = min(names, key=score.get)
    clear = min(("best single", "mean"), key=score.get)
    for name in (name for name in names if name.startswith("weights")):
        clear = name if difference_interval(rows[clear], rows[name], bootstrap).low > 0 else clear

    def near(name: str) -> bool:
        gap = difference_interval(rows[name], rows[best], bootstrap)
        return gap.estimate <= (gap.high - gap.low) / (2 * 1.96)

    return {
        USED: best,
        "outside the noise": clear,
        "shrunk towards the mean": min(losses, key=score.get),
        "one standard error": next(name for name in names if near(name)),
        **{name: name for name in names},
    }


def clear_steps(crossfit: CrossFit, bootstrap: PatientBootstrap) -> list[Step]:
    """The steps whose gain is above 0 by the paired patient bootstrap."""
    problem, p, steps = crossfit.problem, crossfit.predictions(), []
    calibration = Calibration(crossfit, NOTHING, p)
    for i, label in enumerate(LABELS):
        y = problem.y[:, i]
        if calibration.one_class(label):
            continue
        columns = {name: calibration.column(name, label) for name in STEPS if name in CALIBRATORS}
        losses = {name: log_losses(y, column) for name, column in columns.items()}
        name = min(losses, key=lambda name: losses[name].mean())
        if difference_interval(log_losses(y, p[:, i]), losses[name], bootstrap).low > 0:
            steps.append(CALIBRATORS[name](label, y, p[:, i]))
            p[:, i] = columns[name]
    for bound in (BOUNDS[name] for name in STEPS if name in BOUNDS):
        before, after = (log_losses(problem.y, table) @ WEIGHTS for table in (p, bound.apply(p)))
        if difference_interval(before, after, bootstrap).low > 0:
            steps.append(bound)
            p = bound.apply(p)
    return steps


def drawings(arguments: argparse.Namespace) -> Iterator[tuple[str, Drawing]]:
    """Every population with its name."""
    for name, errors in ERRORS.items():
        if arguments.predictions:
            yield f"real, {name}", disturbed_real(arguments.predictions, arguments.images, errors)
            continue
        for population, (bleeding, confidence) in POPULATIONS.items():
            yield f"{population}, {name}", simulated(errors, bleeding, confidence)


def main() -> None:
    parser = argument_parser(__doc__)
    add = parser.add_argument
    add("--patients", type=positive, nargs="+", default=PATIENTS, metavar="N", help="to fit on")
    add("--repeats", type=positive, metavar="N", help="of every population (default: 6,000 / N, 1 to 20)")
    add("--predictions", type=Path, metavar="FILE.npz", help="of a real network instead of drawn ones")
    add("--images", type=Path, nargs="+", default=[], metavar="FILE.csv", help="which patient an image is of")
    add("--out", type=Path, metavar="FILE.json", help="also write the numbers there")
    arguments = parser.parse_args()
    if bool(arguments.predictions) != bool(arguments.images):
        parser.error("--predictions and --images belong together")
    start_logging()
    counts = {count: arguments.repeats or min(max(6_000 // count, 1), 20) for count in arguments.patients}
    populations, rows = dict(drawings(arguments)), []
    with Progress("blend rules", len(populations) * sum(counts.values()), "draws") as progress:
        for population, draw in populations.items():
            for count, repeat in ((count, repeat) for count, n in counts.items() for repeat in range(n)):
                drawn = draw(count, np.random.default_rng((count, repeat)))
                rows.append({"population": population, "patients": count} | fresh_losses(*drawn, repeat))
                progress.update()
    found = differences(pd.DataFrame(rows))
    print((1e5 * summary(found)).round(1).to_string())
    if arguments.out:
        write_json(arguments.out, as_json(found))


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """Every rule's loss minus that of the rule in use; index population and patients."""
    losses = table.set_index(["population", "patients"])
    return losses.sub(losses[USED], axis=0)


def summary(differences: pd.DataFrame) -> pd.DataFrame:
    """Rules x (patients, `mean` and `se`): over the populations alike; the error is that of the repeats."""
    by_population = differences.groupby(["patients", "population"])
    means = by_population.mean().groupby("patients").mean()
    variances = (by_population.var().fillna(0) / by_population.count()).groupby("patients")
    errors = np.sqrt(variances.mean() / variances.count())
    return pd.concat({"mean": means.T, "se": errors.T}, axis=1).swaplevel(axis=1).sort_index(axis=1)


def as_json(differences: pd.DataFrame) -> dict[str, Any]:
    """patients -> rule -> mean difference, its error and the means by population."""
    table = summary(differences)
    by_population = differences.groupby(["patients", "population"]).mean()
    found: dict[str, Any] = {}
    for count in table.columns.unique(0):
        found[str(count)] = {
            rule: {
                **{key: round(float(table.loc[rule, (count, key)]), 7) for key in ("mean", "se")},
                "populations": by_population.loc[count, rule].round(7).to_dict(),
            }
            for rule in table.index
        }
    return {"rule": USED, "minus_its_loss": found}


if __name__ == "__main__":
    run(main)
