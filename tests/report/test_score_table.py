"""The score table, as rows and as text."""

from collections.abc import Callable

import pytest

from src.ensemble.experiment import Experiment
from src.report.score_table import SYNTHETIC, score_rows, score_table


def test_rows_stand_in_order_with_their_share_of_the_baseline(experiment: Experiment) -> None:
    rows = score_rows(experiment.scores())
    kinds = ["baseline", "stage1", "stage1", "stage2", "stage2", "mean", "blend"]
    assert [row.kind for row in rows] == kinds
    assert (rows[0].oof_share, rows[0].test_share) == (1, 1)
    assert rows[6].oof_share == pytest.approx(experiment.blend.oof_score / experiment.baseline)
    assert rows[6].test_share == pytest.approx(experiment.blend.test_score / experiment.test_baseline)
    assert rows[6].oof == pytest.approx(experiment.fitted.nested_score, rel=1e-12)
    assert rows[6].interval == experiment.blend.interval
    assert rows[6].interval[0] < rows[6].oof < rows[6].interval[1]


def test_text_is_aligned_and_says_what_it_is(experiment: Experiment) -> None:
    title, remark, header, *lines = score_table(experiment).splitlines()
    assert "eps 1e-15" in title
    assert remark == SYNTHETIC
    column = header.index("held out")
    assert f"({len(experiment.labels)} slices)" in header
    assert len(lines) == 7
    assert all(line[column - 2 : column] == "  " and line[column : column + 2] == "0." for line in lines)
    low, high = experiment.blend.interval
    assert f"{experiment.blend.oof_score:.4f}" in lines[6]
    assert f"[{low:.4f}, {high:.4f}]" in lines[6]


def test_text_without_test_labels_has_one_column(make_experiment: Callable[..., Experiment]) -> None:
    text = score_table(make_experiment(test=False))
    assert SYNTHETIC not in text
    assert "hidden test" not in text
