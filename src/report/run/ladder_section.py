"""What the report says of the way from prevalence to the blend."""

from collections.abc import Sequence
from dataclasses import replace

from ...ensemble.rungs import Rung
from ..score_table import ScoreRow


def rung_rows(rungs: Sequence[Rung]) -> list[ScoreRow]:
    """The rungs as rows of a score picture; the first is the baseline, a line without an interval."""
    first, *others = [_row(rung, rungs[0]) for rung in rungs]
    return [replace(first, interval=None, test_interval=None), *others]


def _row(rung: Rung, baseline: Rung) -> ScoreRow:
    values = []
    for part in ("oof", "test"):
        score = rung.scores.get(part)
        if score is None:
            values += [None, None, None]
        else:
            share = score.estimate / baseline.scores[part].estimate
            values += [score.estimate, (score.low, score.high), share]
    return ScoreRow(rung.name, rung.kind, *values)
