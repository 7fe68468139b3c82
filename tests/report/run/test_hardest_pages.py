"""Pages of the hardest studies beside the report: which, where, what they show, and that none is left."""

import dataclasses
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from src.data.prepared import Prepared
from src.ensemble.experiment import Experiment
from src.labels import LABELS
from src.report.run.hardest_pages import remove_other_pages, write_hardest_pages
from src.report.run.hardest_section import hard_rows
from src.report.run.outcome import EACH, MOST_PAGES, Outcome
from tests.report.conftest import build_experiment
from tests.report.run.test_run_report import Reader, rendered


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return build_experiment(tmp_path_factory.mktemp("hardest"), volumes=True)


@pytest.fixture(scope="module")
def outcome(experiment: Experiment) -> Outcome:
    return Outcome.of(experiment)


def write(out: Path, experiment: Experiment, outcome: Outcome, most: int = MOST_PAGES) -> dict[str, str]:
    return write_hardest_pages(out, experiment, outcome.hardest, outcome.points["labels"], most, jobs=2)


def test_every_hard_study_has_its_page_and_the_worst_come_first(experiment, outcome, tmp_path):
    pages = write(tmp_path, experiment, outcome)
    assert list(pages) == outcome.hardest.study_ids and 2 * EACH <= len(pages) <= MOST_PAGES
    assert sorted(tmp_path.rglob("*.html")) == sorted(tmp_path / path for path in pages.values())
    few = write(tmp_path / "few", experiment, outcome, most=2)
    assert list(few) == [outcome.hardest.missed[0].study_id, outcome.hardest.alarms[0].study_id]
    assert few.items() <= pages.items()  # a study keeps its address
    assert write(tmp_path / "none", experiment, outcome, most=0) == {}
    assert not (tmp_path / "none").exists()


def test_a_page_shows_the_slices_with_what_was_said_and_what_is_known(experiment, outcome, tmp_path):
    pages = write(tmp_path, experiment, outcome)
    study = outcome.hardest.missed[0]
    text = (tmp_path / pages[study.study_id]).read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    table = experiment.slices[(experiment.slices["study_id"] == study.study_id)]
    ids = table.loc[table["image_id"].isin(experiment.labels.index), "image_id"].tolist()
    shown = pd.DataFrame(data["probabilities"], ids, data["labels"])
    pd.testing.assert_frame_equal(
        shown, experiment.blend.oof.loc[ids, data["labels"]], atol=6e-5, check_names=False
    )
    rows = re.findall(r'<tr><th scope="row"><a href="#slice=\d+">(.*?)</tr>', text, re.S)
    marked = experiment.labels.loc[ids].sum(axis=1)
    assert [row.count(" *<") for row in rows] == marked.tolist() and marked.max() >= 2  # any, a subtype
    assert '<a href="../report.html#hardest">Report of fake</a>' in text
    assert study.study_id not in text and not any(image in text for image in ids)
    assert "Trained on SYNTHETIC images" in text


def test_the_same_experiment_gives_the_same_pages(experiment, outcome, tmp_path):
    first, second = (write(tmp_path / name, experiment, outcome) for name in "ab")
    for path in first.values():
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()
    assert first == second


def test_pages_that_nothing_leads_to_are_removed(experiment, outcome, tmp_path):
    pages = write(tmp_path, experiment, outcome)
    few = write(tmp_path, experiment, outcome, most=1)
    remove_other_pages(tmp_path, few.values())
    assert [path.name for path in tmp_path.rglob("*.html")] == [Path(*few.values()).name]
    assert len(pages) > 1
    remove_other_pages(tmp_path, [])
    assert list(tmp_path.iterdir()) == []


def test_without_volumes_or_hu_there_are_no_pages(experiment, outcome, tmp_path, caplog):
    gray = dataclasses.replace(experiment, slices=experiment.slices.assign(units="gray"))
    assert write(tmp_path, gray, outcome) == {}
    assert "no Hounsfield units" in caplog.text
    (tmp_path / "gone").mkdir()
    for name in ("manifest.json", "slices.parquet"):
        (tmp_path / "gone" / name).write_bytes((experiment.prepared.folder / name).read_bytes())
    gone = dataclasses.replace(experiment, prepared=Prepared(tmp_path / "gone"))
    assert write(tmp_path, gone, outcome) == {}
    assert caplog.text.count("no pages of studies") == 2
    assert not (tmp_path / "studies").exists()


def test_the_report_leads_to_the_worst_slice_of_every_study(experiment, outcome, tmp_path):
    pages = write(tmp_path, experiment, outcome)
    page = rendered(experiment, pages=pages)
    for rows in hard_rows(experiment, dataclasses.replace(outcome, pages=pages)).values():
        assert len(rows) == EACH
        for row in rows:
            study = row["study"]
            assert row["address"] == f"{pages[study.study_id]}#slice={row['number']}"
            assert f'<a href="{row["address"]}">slice {row["number"]}</a>' in page
            of_study = experiment.slices[experiment.slices["study_id"] == study.study_id]
            usable = of_study.loc[of_study["image_id"].isin(experiment.labels.index), "image_id"]
            assert usable.tolist()[row["number"] - 1] == study.worst.image_id
    assert "--study-pages" not in page
    some = rendered(experiment, pages=dict(list(pages.items())[:2]))
    assert "--study-pages 9" in some and 'href="studies' in some
    without = Reader(rendered(experiment)).text
    assert "There are no pages of them" in without
    assert all(study.study_id in without for kind in outcome.hardest for study in kind)


def test_labels_of_a_study_in_words(experiment, outcome):
    rows = hard_rows(experiment, outcome)
    (alarm, *_) = rows["no bleeding, and the highest probability of it"]
    assert alarm["labelled"] == f"none of {alarm['study'].slices}"
    (missed, *_) = rows["bleeding, and the lowest probability of it"]
    counts = [
        f"{label} {missed['study'].positives[label]}" for label in LABELS if missed["study"].positives[label]
    ]
    assert missed["labelled"] == f"{', '.join(counts)} of {missed['study'].slices}"
    assert missed["labelled"].split(" of ")[0].split(", ")[-1].startswith("any ")
