"""Tests of two small samples that say why they are not possible, instead of NaN or a warning.

Samples are (n,) float.  A result is {"test", "statistic", "p", "reason"}, two-sided, a t-test's also "df" and
"low" to "high", the interval of the first mean minus the second; where there is a reason, the rest is None.
"""

from typing import Any

import numpy as np
from scipy import stats

Result = dict[str, Any]
INTERVAL = ("df", "low", "high")
DIGITS = 12  # finer differences are rounding, which would break ties and give equal differences a spread


def shapiro_wilk(values: np.ndarray) -> Result:
    """Are the values drawn from a normal distribution?"""
    reason = _too_few(3, values) or _flat([values], "the values are all the same")
    return _none("Shapiro-Wilk", reason) if reason else _found("Shapiro-Wilk", stats.shapiro(values))


def levene(a: np.ndarray, b: np.ndarray) -> Result:
    """Are the variances equal?  By deviations from the medians."""
    reason = _too_few(3, a, b)
    if not reason:
        deviations = [np.round(np.abs(values - np.median(values)), DIGITS) for values in (a, b)]
        reason = _flat(deviations, "the values of each model lie equally far from their median")
    return _none("Levene", reason) if reason else _found("Levene", stats.levene(a, b, center="median"))


def mann_whitney(a: np.ndarray, b: np.ndarray) -> Result:
    """Does one model tend to higher values?  U counts the pairs that the first wins, ties one half."""
    if reason := _too_few(2, a, b):
        return _none("Mann-Whitney U", reason)
    return _found("Mann-Whitney U", stats.mannwhitneyu(a, b, alternative="two-sided"))


def two_sample_t(a: np.ndarray, b: np.ndarray, equal_variances: bool, alpha: float = 0.05) -> Result:
    """Student's t-test, or Welch's where the variances differ."""
    name = "Student t" if equal_variances else "Welch t"
    if reason := _no_spread(a, b):
        return _none(name, reason, *INTERVAL)
    difference, n = a.mean() - b.mean(), np.array([len(a), len(b)])
    if equal_variances:
        return _t(name, difference, pooled_sd(a, b) * np.sqrt((1 / n).sum()), n.sum() - 2, alpha)
    parts = np.array([variance(a), variance(b)]) / n
    return _t(name, difference, np.sqrt(parts.sum()), parts.sum() ** 2 / (parts**2 / (n - 1)).sum(), alpha)


def paired_t(difference: np.ndarray, alpha: float = 0.05) -> Result:
    """Student's t-test of the differences of pairs."""
    return _paired("paired t", difference, 0.0, alpha)


def corrected_t(difference: np.ndarray, test_to_train: float | None, alpha: float = 0.05) -> Result:
    """Student's t-test of the differences of pairs that come from splits drawn from the same cases.

    Such splits share cases, so the variance of their mean is not 1 / n of theirs but 1 / n + `test_to_train`,
    cases tested on over cases trained on (Nadeau and Bengio, Machine Learning 2003).
    """
    if test_to_train is None:
        return _none(
            "corrected resampled t",
            "how many cases are tested on for each trained on is not given",
            *INTERVAL,
        )
    return _paired("corrected resampled t", difference, test_to_train, alpha)


def wilcoxon(difference: np.ndarray) -> Result:
    """Are the differences of pairs balanced around zero?  By signed ranks, without differences of zero."""
    reason = _too_few(2, difference) or (None if difference.any() else "no pair differs")
    name = "Wilcoxon signed-rank"
    return _none(name, reason) if reason else _found(name, stats.wilcoxon(difference))


def cohen_d(a: np.ndarray, b: np.ndarray) -> Result:
    """Difference of the means in pooled standard deviations: {"value", "reason"}."""
    if reason := _no_spread(a, b):
        return {"value": None, "reason": reason}
    return {"value": float((a.mean() - b.mean()) / pooled_sd(a, b)), "reason": None}


def power(d: float, n_a: int, n_b: int, alpha: float = 0.05) -> float:
    """Power of Student's two-sided t-test at Cohen's d, by the noncentral t distribution."""
    df = n_a + n_b - 2
    critical = stats.t.isf(alpha / 2, df)
    shift = min(abs(d) * np.sqrt(n_a * n_b / (n_a + n_b)), 1e6)  # far beyond, SciPy gives NaN for 1
    far_tail = np.nan_to_num(stats.nct.cdf(-critical, df, shift))  # NaN where it is too small to matter
    return float(stats.nct.sf(critical, df, shift) + far_tail)


def differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n,) and (n,) values of pairs, NaN where there is none -> the differences of complete pairs."""
    found = np.round(a - b, DIGITS)
    return found[~np.isnan(found)]


def variance(values: np.ndarray) -> float:
    """With n - 1 below; exactly 0 for equal values, whose mean may be rounded."""
    return float(values.var(ddof=1)) if np.ptp(values) else 0.0


def pooled_sd(a: np.ndarray, b: np.ndarray) -> float:
    """Standard deviation within the two samples."""
    squares = variance(a) * (len(a) - 1) + variance(b) * (len(b) - 1)
    return float(np.sqrt(squares / (len(a) + len(b) - 2)))


def _paired(name: str, difference: np.ndarray, shared: float, alpha: float) -> Result:
    if reason := _too_few(2, difference) or _flat([difference], "the difference is the same in every pair"):
        return _none(name, reason, *INTERVAL)
    n = len(difference)
    return _t(name, difference.mean(), np.sqrt(variance(difference) * (1 / n + shared)), n - 1, alpha)


def _t(name: str, difference: float, se: float, df: float, alpha: float) -> Result:
    statistic, half = difference / se, stats.t.isf(alpha / 2, df) * se
    found = _found(name, (statistic, 2 * stats.t.sf(abs(statistic), df)))
    return {**found, "df": float(df), "low": float(difference - half), "high": float(difference + half)}


def _found(name: str, statistic_and_p: tuple[float, float]) -> Result:
    statistic, p = statistic_and_p
    return {"test": name, "statistic": float(statistic), "p": float(p), "reason": None}


def _none(name: str, reason: str, *fields: str) -> Result:
    return {"test": name, **dict.fromkeys(("statistic", "p", *fields)), "reason": reason}


def _too_few(least: int, *samples: np.ndarray) -> str | None:
    if min(sizes := [len(values) for values in samples]) >= least:
        return None
    return f"at least {least} values are needed, not {' and '.join(map(str, sizes))}"


def _flat(samples: list[np.ndarray], reason: str) -> str | None:
    """The reason where no sample varies; they must not be empty."""
    return None if any(np.ptp(values) for values in samples) else reason


def _no_spread(a: np.ndarray, b: np.ndarray) -> str | None:
    return _too_few(2, a, b) or _flat([a, b], "the values of neither model vary")
