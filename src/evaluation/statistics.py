"""Two models compared over replicates: runs with other splits or seeds, metric by metric.

Beside the chain of tests that was published for ViViT against ConvNeXt, which takes every run for
independent, stand paired tests and one corrected for splits drawn from the same patients.  Differences are
the first model minus the second.  alpha is that of one metric, not of all of them together.
"""

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from ..errors import UserError
from .confusion import binary_metrics, settled
from .two_samples import (
    Result,
    cohen_d,
    corrected_t,
    differences,
    levene,
    mann_whitney,
    paired_t,
    power,
    shapiro_wilk,
    two_sample_t,
    variance,
    wilcoxon,
)

METRICS = {  # key of the result: metric, what becomes of undefined values, words for a sentence
    "accuracy": ("accuracy", "dropped", "accuracy"),
    "recall": ("recall", "dropped", "recall"),
    "precision_zero": ("precision", "zero", "precision (0 where nothing is called positive)"),
    "precision_dropped": ("precision", "dropped", "precision (of runs that call something positive)"),
    "f1": ("f1", "dropped", "F1"),
    "specificity": ("specificity", "dropped", "specificity"),
}
PUBLISHED_ALPHA = 0.5  # of the published power: a slip for .05
OWN_SPLITS = "the models were tested on splits of their own"


def compare_replicates(
    a: Sequence[Sequence[int]],
    b: Sequence[Sequence[int]],
    alpha: float = 0.05,
    *,
    shared_splits: bool = True,
    test_to_train: float | None = None,
    names: tuple[str, str] = ("A", "B"),
) -> dict[str, Result]:
    """a, b: (TN, FP, FN, TP) of every run -> for each of METRICS {a, b, difference, published, paired,
    interval, verdict}, fit for JSON: what cannot be computed is None, with a `reason` beside it.

    shared_splits: run k of both models is of the same split; counts that contradict it turn it off.
    test_to_train: patients tested on over patients trained on; without it nothing is corrected.
    """
    _check_options(alpha, test_to_train)
    counts = [_checked(runs, name) for runs, name in ((a, "a"), (b, "b"))]
    unpaired = _why_unpaired(*counts) if shared_splits else OWN_SPLITS
    metrics, results = [binary_metrics(each) for each in counts], {}
    for key, (metric, undefined, words) in METRICS.items():
        values = [each[metric] for each in metrics]
        found = _compare(values, undefined, alpha, test_to_train, unpaired)
        results[key] = {**found, "verdict": _verdict(found, words, names, alpha)}
    return results


def compare_values(
    a: Sequence[float],
    b: Sequence[float],
    words: str,
    alpha: float = 0.05,
    *,
    shared_splits: bool = True,
    test_to_train: float | None = None,
    names: tuple[str, str] = ("A", "B"),
    lower_is_better: bool = False,
) -> Result:
    """As `compare_replicates` says of one metric, of any number of every run; NaN where it has none, which is
    left out.  words: what the number is, for a sentence.
    """
    _check_options(alpha, test_to_train)
    values = [np.asarray(each, np.float64) for each in (a, b)]
    unpaired = None if shared_splits else OWN_SPLITS
    if len(a) != len(b):
        unpaired = f"{len(a)} and {len(b)} runs are no pairs"
    found = _compare(values, "dropped", alpha, test_to_train, unpaired)
    return {**found, "verdict": _verdict(found, words, names, alpha, lower_is_better)}


def _check_options(alpha: float, test_to_train: float | None) -> None:
    if not 0 < alpha < 1:
        raise UserError(f"alpha is {alpha}; it lies between 0 and 1, usually 0.05")
    if test_to_train is not None and not 0 < test_to_train < np.inf:
        raise UserError(f"test_to_train is {test_to_train}; give patients tested on over patients trained on")


def _checked(runs: Sequence[Sequence[int]], name: str) -> np.ndarray:
    """(n, 4); anything but four counts a run raises UserError."""
    for number, run in enumerate(runs):
        if len(run) != 4 or not all(isinstance(count, Integral) and count >= 0 for count in run):
            raise UserError(f"{name}: run {number} is {tuple(run)}; a run has four counts (TN, FP, FN, TP)")
    return np.array(list(runs), np.int64).reshape(-1, 4)


def _why_unpaired(a: np.ndarray, b: np.ndarray) -> str | None:
    """Why two models' runs (n, 4) have not shared their test parts; None where they may have."""
    if len(a) != len(b):
        return f"{len(a)} and {len(b)} runs are no pairs"
    cases, others = (runs.reshape(-1, 2, 2).sum(axis=2) for runs in (a, b))  # (n, 2): negatives, positives
    apart = np.flatnonzero((cases != others).any(axis=1))
    if not len(apart):
        return None
    run = apart[0]
    return (
        f"the test parts differ: in run {run} the first model has {cases[run, 1]} positives of "
        f"{cases[run].sum()} cases, the second {others[run, 1]} of {others[run].sum()}"
    )


def _compare(
    raw: list[np.ndarray], undefined: str, alpha: float, test_to_train: float | None, unpaired: str | None
) -> Result:
    """raw: the values of both models by run, NaN where undefined."""
    zeroed = [settled(values, "zero") for values in raw]
    by_run = zeroed if undefined == "zero" else raw
    a, b = (settled(values, undefined) for values in raw)
    found = {
        **{model: _summary(values, each) for model, values, each in zip("ab", by_run, raw, strict=True)},
        "difference": float(a.mean() - b.mean()) if len(a) and len(b) else None,
        "published": _published(a, b, zeroed, alpha),
        "paired": _paired(by_run[0], by_run[1], alpha, test_to_train, unpaired),
    }
    return {**found, "interval": _interval(*_deciding(found), alpha)}


def _summary(by_run: np.ndarray, raw: np.ndarray) -> Result:
    """What a table says of one model; None with a reason where there are too few values."""
    kept = by_run[~np.isnan(by_run)]
    statistics: dict[str, Callable[[np.ndarray], Any]] = {
        "mean": np.mean,
        "min": np.min,
        "max": np.max,
        "median": np.median,
    }
    reasons = ("no run has a value", "one value has no spread", None)
    return {
        "n": len(kept),
        "undefined": int(np.isnan(raw).sum()),
        **{name: float(of(kept)) if len(kept) else None for name, of in statistics.items()},
        "sd": variance(kept) ** 0.5 if len(kept) > 1 else None,
        "values": [None if np.isnan(value) else float(value) for value in by_run],
        "reason": reasons[min(len(kept), 2)],
    }


def _published(a: np.ndarray, b: np.ndarray, zeroed: list[np.ndarray], alpha: float) -> Result:
    """The published chain.  zeroed: the values by run, 0 where undefined."""
    variances, d = levene(a, b), cohen_d(a, b)
    equal, choice = _equal_variances(variances, levene(*zeroed), alpha)
    return {
        "shapiro": {"a": shapiro_wilk(a), "b": shapiro_wilk(b)},
        "levene": variances,
        "t_test": {**two_sample_t(a, b, equal, alpha), "choice": choice},
        "mann_whitney": mann_whitney(a, b),
        "cohen_d": d,
        "power": [
            {
                "alpha": level,
                "value": None if d["reason"] else power(d["value"], len(a), len(b), level),
                "reason": d["reason"],
            }
            for level in (PUBLISHED_ALPHA, alpha)
        ],
    }


def _equal_variances(kept: Result, zeroed: Result, alpha: float) -> tuple[bool, str]:
    """Whether Student's test may be used, and why, by Levene's test of the values and of those with 0 for
    undefined ones: on the latter the authors chose."""
    for test, where in ((kept, ""), (zeroed, " with 0 for undefined values")):
        if test["reason"]:
            return False, f"Levene's test is not possible{where}: {test['reason']}"
        if test["p"] <= alpha:
            return False, f"Levene's test rejects equal variances{where}"
    return True, "Levene's test does not reject equal variances"


def _paired(
    a: np.ndarray, b: np.ndarray, alpha: float, test_to_train: float | None, unpaired: str | None
) -> Result:
    """Tests of the differences by run, without the runs where a model has no value (NaN)."""
    difference = np.zeros(0) if unpaired else differences(a, b)
    tests = {
        "t_test": paired_t(difference, alpha),
        "corrected_t_test": corrected_t(difference, test_to_train, alpha),
        "wilcoxon": wilcoxon(difference),
    }
    if unpaired:
        tests = {key: {**test, "reason": unpaired} for key, test in tests.items()}
    mean = float(difference.mean()) if len(difference) else None
    return {"pairs": len(difference), "difference": mean, **tests}


def _deciding(found: Result) -> tuple[Result, float | None]:
    """The first test that was possible, from the one that supposes least, and the difference it tests."""
    paired, published = found["paired"], found["published"]
    for key in ("corrected_t_test", "t_test", "wilcoxon"):
        if not paired[key]["reason"]:
            return paired[key], paired["difference"]
    test = published["mann_whitney" if published["t_test"]["reason"] else "t_test"]
    return test, found["difference"]


def _interval(test: Result, difference: float | None, alpha: float) -> Result:
    """Of the difference of means, by the test that decides."""
    reason = test["reason"] or (None if "low" in test else f"the {test['test']} test has none")
    low, high = (None, None) if reason else (test["low"], test["high"])
    bounds = {"difference": difference, "low": low, "high": high}
    return {"test": test["test"], "level": 1 - alpha, **bounds, "reason": reason}


def _verdict(
    found: Result, words: str, names: tuple[str, str], alpha: float, lower_is_better: bool = False
) -> str:
    """One sentence for a reader."""
    (test, difference), interval = _deciding(found), found["interval"]
    if test["reason"] or difference is None:
        return f"No verdict on {words}: {test['reason']}."
    head = f"No clear difference in {words}"
    if test["p"] < alpha:
        head = f"{names[(difference > 0) == lower_is_better]} is better in {words}"
    means = ", ".join(f"{name} {found[key]['mean']:.3f}" for name, key in zip(names, "ab", strict=True))
    span = "" if interval["reason"] else f" [{interval['low']:+.3f}, {interval['high']:+.3f}]"
    p = f"p = {test['p']:.4f}" if test["p"] >= 1e-4 else "p < 0.0001"
    caution = "" if test["test"] == "corrected resampled t" else ", which takes the runs for independent"
    return f"{head}: {means}, difference {difference:+.3f}{span}, {p} by the {test['test']} test{caution}."
