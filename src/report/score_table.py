"""The score table: one row for the baseline, every run, the mean and the blend."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..ensemble.experiment import Experiment

BASELINE = "prevalence baseline"
SYNTHETIC = "SYNTHETIC data: these scores say nothing about patients"


@dataclass(frozen=True)
class ScoreRow:
    """Scores of one set of predictions; `kind` is baseline, stage1, stage2, external, mean or blend."""

    name: str
    kind: str
    oof: float | None
    interval: tuple[float, float] | None
    oof_share: float | None  # of the baseline's score
    test: float | None
    test_interval: tuple[float, float] | None
    test_share: float | None

    def part(self, part: str) -> tuple[float | None, tuple[float, float] | None, float | None]:
        """Score, interval and share of the baseline on `oof` or `test`."""
        if part == "oof":
            return self.oof, self.interval, self.oof_share
        return self.test, self.test_interval, self.test_share


def score_rows(scores: Mapping[str, Any]) -> list[ScoreRow]:
    """The rows of scores.json, members in its order."""
    baseline, test_baseline = scores["baseline"], scores["test_baseline"]

    def row(name: str, kind: str, values: Mapping[str, Any]) -> ScoreRow:
        test = values["test"]
        return ScoreRow(
            name,
            kind,
            values["oof"],
            _pair(values["interval"]),
            values["oof"] / baseline,
            test,
            _pair(values["test_interval"]),
            None if test is None else test / test_baseline,
        )

    constant = {"oof": baseline, "interval": None, "test": test_baseline, "test_interval": None}
    return [
        row(BASELINE, "baseline", constant),
        *(row(name, Path(name).parent.name, values) for name, values in scores["members"].items()),
        row("mean", "mean", scores["mean"]),
        row("blend", "blend", scores["blend"]),
    ]


def score_table(experiment: Experiment) -> str:
    """Aligned plain text for the terminal."""
    scores = experiment.scores()
    rows = score_rows(scores)
    parts = ["oof"] if scores["test_baseline"] is None else ["oof", "test"]
    cells = [[row.name, *(_cell(row, part) for part in parts)] for row in rows]
    count = scores["slices"]
    header = ["", f"held out ({count['oof']:,} slices)", f"hidden test ({count['test']:,} slices)"]
    table = [header[: len(parts) + 1], *cells]
    title = (
        f"{scores['experiment']}: weighted log loss, eps {scores['eps']:g}, share of the baseline, "
        "95 % patient-cluster bootstrap interval"
    )
    remarks = [text for text in (SYNTHETIC if experiment.synthetic else None, experiment.leak) if text]
    if fixed := experiment.config.fixed:
        remarks.append(fixed_members(fixed))
    return "\n".join([title, *remarks, *aligned(table)])


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Lines of text whose columns stand below each other."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in table)
    return [line.rstrip() for line in lines]


def fixed_members(weights: Mapping[str, float]) -> str:
    """What the blend's row holds in the test part and not in the held-out one."""
    named = ", ".join(f"{weight:g} x {name}" for name, weight in weights.items())
    return f"test part and submission of the blend include {named}, which no held-out score covers"


def _cell(row: ScoreRow, part: str) -> str:
    score, interval, share = row.part(part)
    if score is None:
        return "-"
    text = f"{score:.4f} {100 * share:4.0f} %"
    return text if interval is None else f"{text}  [{interval[0]:.4f}, {interval[1]:.4f}]"


def _pair(values: Any) -> tuple[float, float] | None:
    return None if values is None else (values[0], values[1])
