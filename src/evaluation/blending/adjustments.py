"""What may follow a blend: calibration of single labels and bounds between `any` and the subtypes.

Each step maps (n, 6) probabilities to (n, 6) and is kept only where it gains on patients it was not fitted
on.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from ...labels import LABELS, SUBTYPES
from ..metrics import WEIGHTS, log_losses
from .candidates import CrossFit
from .crossfit import NOTHING, Held

ANY = LABELS.index("any")
LOGIT_EPS = 1e-15


@dataclass(frozen=True)
class Step(ABC):
    """Base of the steps; `kind` is its name in JSON."""

    kind: ClassVar[str]

    @abstractmethod
    def apply(self, p: np.ndarray) -> np.ndarray:
        """Probabilities (n, 6) -> (n, 6)."""

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class LogitLine(Step):
    """p -> sigmoid(slope * logit(p) + intercept) for one label: temperature scaling (intercept 0) or
    Platt's."""

    kind: ClassVar[str] = "logit_line"
    label: str
    slope: float
    intercept: float

    def apply(self, p: np.ndarray) -> np.ndarray:
        column = LABELS.index(self.label)
        p = p.copy()
        p[:, column] = expit(self.slope * _logits(p[:, column]) + self.intercept)
        return p


@dataclass(frozen=True)
class Isotonic(Step):
    """A rising step curve for one label, linear between its points and constant outside."""

    kind: ClassVar[str] = "isotonic"
    label: str
    probability: tuple[float, ...]
    calibrated: tuple[float, ...]

    def apply(self, p: np.ndarray) -> np.ndarray:
        column = LABELS.index(self.label)
        p = p.copy()
        p[:, column] = np.interp(p[:, column], self.probability, self.calibrated)
        return p


@dataclass(frozen=True)
class RaiseAny(Step):
    """Where `any` is below the largest subtype, it is raised to it (12th place of RSNA 2019)."""

    kind: ClassVar[str] = "raise_any"

    def apply(self, p: np.ndarray) -> np.ndarray:
        p = p.copy()
        p[:, ANY] = p.max(axis=1)
        return p


@dataclass(frozen=True)
class MeetAny(Step):
    """Where `any` is above the sum of the subtypes, both are set to their average, the subtypes keeping their
    proportions (12th place of RSNA 2019)."""

    kind: ClassVar[str] = "meet_any"

    def apply(self, p: np.ndarray) -> np.ndarray:
        p = p.copy()
        total = p.sum(axis=1) - p[:, ANY]
        apart = (p[:, ANY] > total) & (total > 0)
        average = (p[apart, ANY] + total[apart]) / 2
        subtypes = [LABELS.index(label) for label in SUBTYPES]
        p[np.ix_(apart, subtypes)] *= (average / total[apart])[:, None]
        p[apart, ANY] = average
        return p


Fitter = Callable[[str, np.ndarray, np.ndarray], Step]  # (label, y, p) -> step


def fit_temperature(label: str, y: np.ndarray, p: np.ndarray) -> Step:
    """One factor on the logit (Guo et al., ICML 2017: 1 / temperature)."""
    return _fit_line(label, y, p, intercept=False)


def fit_platt(label: str, y: np.ndarray, p: np.ndarray) -> Step:
    """Slope and intercept on the logit (Platt, Advances in Large Margin Classifiers, 1999)."""
    return _fit_line(label, y, p, intercept=True)


def fit_isotonic(label: str, y: np.ndarray, p: np.ndarray) -> Step:
    """Isotonic regression, kept off 0 and 1 by one imagined case of each class, or a single miss would cost
    -log(eps)."""
    from sklearn.isotonic import IsotonicRegression

    edge = 1 / (len(y) + 2)
    fitted = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip").fit(p, y)
    return Isotonic(label, tuple(fitted.X_thresholds_.tolist()), tuple(fitted.y_thresholds_.tolist()))


CALIBRATORS: dict[str, Fitter] = {
    "temperature": fit_temperature, "platt": fit_platt, "isotonic": fit_isotonic
}  # fmt: skip
BOUNDS = {step.kind: step for step in (RaiseAny(), MeetAny())}
STEPS = (*CALIBRATORS, *BOUNDS)


def fit_steps(
    names: Sequence[str], crossfit: CrossFit, held: Held = NOTHING
) -> tuple[tuple[Step, ...], list[str]]:
    """Try the named steps after a way to combine, without the folds in `held`; with a remark on each.

    Per label the best of the named calibrators is kept if it lowers the log loss of patients that neither it
    nor the weights below it were fitted on; bounds are then tried in the order given.  It takes three folds:
    one to score, one to calibrate, one for the weights below.
    """
    unknown = [name for name in names if name not in STEPS]
    if unknown:
        raise ValueError(f"unknown steps {unknown}; known: {STEPS}")
    problem, steps, remarks = crossfit.problem, [], []
    if not names or len(problem.folds.outside(held)) < 3:
        return (), [f"too few patients to try {', '.join(names)}"] if names else []
    rows, p = problem.folds.rows_outside(held), crossfit.predictions(held)
    calibrators = [name for name in names if name in CALIBRATORS]
    calibration = Calibration(crossfit, held, p)
    for label in LABELS if calibrators else ():
        step, column, remark = calibration.best(calibrators, label)
        remarks.append(remark)
        if step is not None:
            steps.append(step)
            p[:, LABELS.index(label)] = column
    for name in (name for name in names if name in BOUNDS):
        changed = BOUNDS[name].apply(p)
        before, after = (log_losses(problem.y[rows], table[rows], problem.eps) for table in (p, changed))
        gain = float(((before - after) @ WEIGHTS).mean())
        remarks.append(_remark(name, gain))
        if gain > 0:
            steps.append(BOUNDS[name])
            p = changed
    return tuple(steps), remarks


class Calibration:
    """Calibrators of single labels after predictions p (n, 6), cross-fitted outside the folds in `held`."""

    def __init__(self, crossfit: CrossFit, held: Held, p: np.ndarray):
        self.problem, self.p = crossfit.problem, p.copy()
        self.rows = self.problem.folds.rows_outside(held)
        self.parts = []  # of each fold: its rows, the rows to fit on, their predictions without either
        for fold in self.problem.folds.outside(held):
            others = self.problem.folds.rows_outside(held | {fold})
            below = crossfit.predictions(held | {fold})[others]
            self.parts.append((self.problem.folds.fold == fold, others, below))

    def one_class(self, label: str) -> bool:
        """Whether a part that would be fitted on lacks a class."""
        y = self.problem.y[:, LABELS.index(label)]
        return any(y[others].all() or not y[others].any() for _, others, _ in self.parts)

    def column(self, name: str, label: str) -> np.ndarray:
        """(n,) the label after a calibrator fitted without each row's fold."""
        index = LABELS.index(label)
        column = self.p[:, index].copy()
        for own, others, below in self.parts:
            step = CALIBRATORS[name](label, self.problem.y[others, index], below[:, index])
            column[own] = step.apply(self.p[own])[:, index]
        return column

    def best(self, names: Sequence[str], label: str) -> tuple[Step | None, np.ndarray, str]:
        """The best calibrator fitted on all rows, None where none helps; its `column`; and a remark."""
        index, y = LABELS.index(label), self.problem.y[:, LABELS.index(label)]
        if self.one_class(label):
            remark = f"{label} is not calibrated: a part of the folds has one class only"
            return None, self.p[:, index], remark
        columns = {name: self.column(name, label) for name in names}
        losses = {name: self._loss(y, column) for name, column in columns.items()}
        name = min(losses, key=losses.get)
        gain = self._loss(y, self.p[:, index]) - losses[name]
        remark = _remark(f"{name} (log loss of {label} alone)", gain)
        if gain <= 0:
            return None, self.p[:, index], remark
        return CALIBRATORS[name](label, y[self.rows], self.p[self.rows, index]), columns[name], remark

    def _loss(self, y: np.ndarray, column: np.ndarray) -> float:
        return float(log_losses(y[self.rows], column[self.rows], self.problem.eps).mean())


def step_from_dict(values: Mapping[str, Any]) -> Step:
    """The inverse of a step's `to_dict`."""
    kinds = {step.kind: step for step in (LogitLine, Isotonic, RaiseAny, MeetAny)}
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return kinds[fields.pop("kind")](**fields)


def _fit_line(label: str, y: np.ndarray, p: np.ndarray, intercept: bool) -> LogitLine:
    """Maximum likelihood, with Platt's targets instead of 0 and 1: one more case of each class, or few
    positives that are all ranked first would make the line as steep as can be."""
    positives = int(y.sum())
    target = np.where(y, (positives + 1) / (positives + 2), 1 / (len(y) - positives + 2))
    x = np.stack([_logits(p), np.ones(len(p))][: 1 + intercept])

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        z = line @ x
        return float(np.mean(np.logaddexp(0, z) - target * z)), x @ (expit(z) - target) / len(y)

    def curvature(line: np.ndarray) -> np.ndarray:
        q = expit(line @ x)
        return (x * (q * (1 - q))) @ x.T / len(y)

    found = minimize(loss, np.eye(len(x))[0], jac=True, hess=curvature, method="trust-exact", tol=1e-9)
    line = found.x
    return LogitLine(label, float(line[0]), float(line[1]) if intercept else 0.0)


def _logits(p: np.ndarray) -> np.ndarray:
    return logit(np.clip(p, LOGIT_EPS, 1 - LOGIT_EPS))


def _remark(name: str, gain: float) -> str:
    return f"{name}: gain {gain:.6f}, {'used' if gain > 0 else 'not used'}"
