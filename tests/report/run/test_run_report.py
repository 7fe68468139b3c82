"""The report: complete, self-contained, escaped, reproducible, whatever the experiment lacks."""

import dataclasses
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from src.ensemble.experiment import Experiment
from src.labels import LABELS
from src.report.run.outcome import Outcome
from src.report.run.run_report import interval, number, render_report, write_report
from src.report.run.run_section import duration

VOID = {
    "meta",
    "br",
    "img",
    "path",
    "use",
    "rect",
}  # elements that need no end tag, SVG's self-closed ones included
MakeExperiment = Callable[..., Experiment]


class Reader(HTMLParser):
    """Checks nesting; collects the text, attributes and ids of a page."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def rendered(experiment: Experiment, **found: Any) -> str:
    """The page; found: of what step 5 does besides."""
    return render_report(experiment, dataclasses.replace(Outcome.of(experiment), **found))


@pytest.fixture(scope="session")
def page(experiment: Experiment) -> str:
    return rendered(experiment)


def test_page_is_well_formed_and_names_every_run_and_label(page: str) -> None:
    reader = Reader(page)
    assert not reader.open
    for name in ("resnet", "mobilenet", "lstm", "transformer"):
        assert f"/{name}" in reader.text
    assert all(label in reader.text for label in LABELS)
    assert "eps 1e-15" in reader.text
    assert "0123456789ab" in reader.text  # the commit
    assert "12 min 18 s" in reader.text  # 4 runs x 3 folds x 61.5 s


def test_page_needs_nothing_from_outside(page: str) -> None:
    assert not re.search(r"https?:|src=|@import|<script|<link|<iframe", page)
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', page))
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_every_reference_has_exactly_one_target(page: str) -> None:
    ids = [value for name, value in Reader(page).attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', page)) <= {
        pair for i in ids for pair in ((i, ""), ("", i))
    }


def test_pictures_take_all_their_colours_from_the_page(page: str) -> None:
    pictures = re.findall(r"<svg.*?</svg>", page, flags=re.S)
    # ladder and scores by part, ROC and PR and reliability by label, triage by part, folds, learning curves
    assert len(pictures) == 2 * 2 + 3 * 6 + 2 + 1 + 4
    assert not any(
        re.search(r"#[0-9a-f]{6}\b", re.sub(r'(id|href)="[^"]*"|url\([^)]*\)', "", p)) for p in pictures
    )
    used = set(re.findall(r"var\((--\w+)\)", "".join(pictures)))
    assert used <= set(re.findall(r"(--\w+):", page))


def test_scores_on_the_page_are_those_of_the_experiment(page: str, experiment: Experiment) -> None:
    text = Reader(page).text
    for scored in (*experiment.members.values(), experiment.mean, experiment.blend):
        low, high = scored.interval
        assert f"{scored.name} {scored.oof_score:.4f} [{low:.4f}, {high:.4f}]" in text
    assert experiment.blend.oof_score == pytest.approx(experiment.fitted.nested_score, rel=1e-12)
    best = min(experiment.members.values(), key=lambda scored: scored.oof_score)
    for gain, other in zip(experiment.gains, (experiment.mean, best), strict=True):
        assert gain.second == other.name
        assert gain.difference == pytest.approx(experiment.fitted.nested_score - other.oof_score)
        bounds = f"[{gain.interval[0]:.4f}, {gain.interval[1]:.4f}]"
        assert f"minus {gain.second}: {gain.difference:+.4f} {bounds}" in text
    assert experiment.fitted.decision in text


def test_same_experiment_gives_the_same_bytes(
    page: str, make_experiment: MakeExperiment, tmp_path: Path
) -> None:
    again = make_experiment()
    write_report(tmp_path / "report.html", again, Outcome.of(again))
    written = (tmp_path / "report.html").read_bytes()
    assert written == page.encode()
    assert len(written) < 3_000_000


def test_a_page_that_differs_by_its_times_alone_is_left(experiment: Experiment, tmp_path: Path) -> None:
    path, outcome = tmp_path / "report.html", Outcome.of(experiment)

    def written(**found: Any) -> str:
        write_report(path, experiment, dataclasses.replace(outcome, **found))
        return path.read_text()

    first = written(seconds={"submission": 1.5}, commands=["python ensemble.py"])
    assert "<td>1.5 s</td>" in first
    assert written(seconds={"submission": 2.5}, commands=["python ensemble.py"]) == first
    changed = written(seconds={"submission": 2.5}, commands=["python ensemble.py --study-pages 1"])
    assert "<td>2.5 s</td>" in changed and "--study-pages 1" in changed


def test_names_are_escaped(make_experiment: MakeExperiment) -> None:
    page = rendered(make_experiment(runs={"stage1/<b>x$_1$": 1.0, "stage2/y&z": 0.7}))
    assert "<b>x" not in page
    reader = Reader(page)
    assert "fake/stage1/<b>x$_1$" in reader.text
    assert "fake/stage2/y&z" in reader.text
    assert "unreadable: <not DICOM>" in reader.text  # a cause of quarantine


def test_real_data_has_neither_banner_nor_test_scores(page: str, make_experiment: MakeExperiment) -> None:
    assert ("class", "banner") in Reader(page).attributes
    real = rendered(make_experiment(test=False))
    reader = Reader(real)
    assert ("class", "banner") not in reader.attributes
    assert "synthetic" not in reader.text.lower()
    assert "phantom" not in reader.text
    assert "hidden test</" not in real
    assert real.count("<svg") == page.count("<svg") - 3  # ladder, scores and triage of the test part


def test_label_without_positives_has_no_curve_and_no_nan(make_experiment: MakeExperiment) -> None:
    page = rendered(make_experiment(absent=("epidural",)))
    assert "no positive slice: no curve" in Reader(page).text
    assert not re.search(r"\bnan\b", page, flags=re.I)


def test_single_fold_of_one_run_is_enough(make_experiment: MakeExperiment) -> None:
    text = Reader(rendered(make_experiment(runs={"stage1/only": 1.0}, folds=1))).text
    assert "runs of one stage only" in text
    assert "runs × folds 1 × 1" in text


def test_numbers_are_written_for_people() -> None:
    assert number(0.12345, 3) == "0.123"
    assert number(None, 3) == number(float("nan"), 3) == "–"
    assert interval((0.1, 0.2), 3) == "[0.100, 0.200]"
    assert interval(None) == interval((float("nan"), 1.0)) == ""
    assert [duration(s) for s in (4.74, 9.96, 47.4)] == ["4.7 s", "10 s", "47 s"]
    assert [duration(s) for s in (725, 12_000)] == ["12 min 05 s", "3 h 20 min"]
