"""What may follow a blend: calibration of single labels and bounds between `any` and the subtypes.

Each step maps (n, 6) probabilities to (n, 6) and is kept only where it gains on patients it was not fitted
on. Calibrators are fitted by scikit-learn, which is imported only then.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit, logit

from ..labels import LABELS, SUBTYPES
from .bootstrap import Interval, PatientBootstrap, describe_gain, difference_interval
from .crossfit import PatientFolds
from .metrics import WEIGHTS, log_losses

ANY = LABELS.index("any")
LOGIT_EPS = 1e-15


@dataclass(frozen=True)
class LogitLine:
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

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class Isotonic:
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

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class RaiseAny:
    """Where `any` is below the largest subtype, it is raised to it (12th place of RSNA 2019)."""

    kind: ClassVar[str] = "raise_any"

    def apply(self, p: np.ndarray) -> np.ndarray:
        p = p.copy()
        p[:, ANY] = p.max(axis=1)
        return p

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind}


@dataclass(frozen=True)
class MeetAny:
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

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind}


Step = LogitLine | Isotonic | RaiseAny | MeetAny
Fitter = Callable[[str, np.ndarray, np.ndarray], Step]  # (label, y, p) -> step


def fit_temperature(label: str, y: np.ndarray, p: np.ndarray) -> Step:
    """One factor on the logit (Guo et al., ICML 2017: 1 / temperature)."""
    return _fit_line(label, y, p, intercept=False)


def fit_platt(label: str, y: np.ndarray, p: np.ndarray) -> Step:
    """Slope and intercept on the logit (Platt 1999)."""
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
    names: Sequence[str],
    y: np.ndarray,
    p: np.ndarray,
    folds: PatientFolds,
    bootstrap: PatientBootstrap,
    eps: float,
) -> tuple[tuple[Step, ...], np.ndarray, list[str]]:
    """Try the named steps after cross-fitted predictions p (n, 6).

    Per label the best of the named calibrators, fitted without the patients it is scored on, is kept if its
    gain is above 0 by the paired patient bootstrap; bounds are then tried in the order given.  Returns the
    steps fitted on all rows, the cross-fitted predictions after them, and a remark on each.
    """
    unknown = [name for name in names if name not in STEPS]
    if unknown:
        raise ValueError(f"unknown steps {unknown}; known: {STEPS}")
    steps: list[Step] = []
    remarks: list[str] = []
    calibrators = [name for name in names if name in CALIBRATORS]
    for column, label in enumerate(LABELS if calibrators else ()):
        best, step, remark = _calibrate(calibrators, label, y[:, column], p, folds, bootstrap, eps)
        remarks.append(remark)
        if step is not None:
            steps.append(step)
            p = best
    for name in (name for name in names if name in BOUNDS):
        changed = BOUNDS[name].apply(p)
        before, after = (log_losses(y, table, eps) @ WEIGHTS for table in (p, changed))
        gain = difference_interval(before, after, bootstrap)
        remarks.append(_remark(name, gain))
        if gain.low > 0:
            steps.append(BOUNDS[name])
            p = changed
    return tuple(steps), p, remarks


def _calibrate(
    names: Sequence[str],
    label: str,
    y: np.ndarray,
    p: np.ndarray,
    folds: PatientFolds,
    bootstrap: PatientBootstrap,
    eps: float,
) -> tuple[np.ndarray, Step | None, str]:
    """The best calibrator of one label: cross-fitted (n, 6), the step fitted on all rows, a remark."""
    column = LABELS.index(label)
    classes = [len(np.unique(y[folds.fold != fold])) for fold in range(folds.count)]
    if min(classes) < 2:
        return p, None, f"{label} is not calibrated: a part of the folds has one class only"
    trials = {}
    for name in names:
        changed = p.copy()
        for fold in range(folds.count):
            held = folds.fold == fold
            step = CALIBRATORS[name](label, y[~held], p[~held, column])
            changed[held] = step.apply(p[held])
        trials[name] = changed
    before = log_losses(y, p[:, column], eps)
    losses = {name: log_losses(y, table[:, column], eps) for name, table in trials.items()}
    best = min(losses, key=lambda name: losses[name].mean())
    gain = difference_interval(before, losses[best], bootstrap)
    remark = _remark(f"{best} (log loss of {label} alone)", gain)
    if gain.low <= 0:
        return p, None, remark
    return trials[best], CALIBRATORS[best](label, y, p[:, column]), remark


def step_from_dict(values: Mapping[str, Any]) -> Step:
    """The inverse of a step's `to_dict`."""
    kinds = {step.kind: step for step in (LogitLine, Isotonic, RaiseAny, MeetAny)}
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return kinds[fields.pop("kind")](**fields)


def _fit_line(label: str, y: np.ndarray, p: np.ndarray, intercept: bool) -> LogitLine:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=np.inf, fit_intercept=intercept, solver="newton-cholesky")
    model.fit(_logits(p)[:, None], y)
    return LogitLine(label, float(model.coef_[0, 0]), float(model.intercept_[0]) if intercept else 0.0)


def _logits(p: np.ndarray) -> np.ndarray:
    return logit(np.clip(p, LOGIT_EPS, 1 - LOGIT_EPS))


def _remark(name: str, gain: Interval) -> str:
    return f"{name}: {describe_gain(gain)}, {'used' if gain.low > 0 else 'not used'}"
