"""The page of a comparison: what stands on it, and that it says no more than compare.json."""

import re
from html import unescape

import pytest

from src.report.compare_page import p_value, render_comparison
from tests.ensemble.test_compare import comparison_of
from tests.evaluation.test_statistics import CONVNEXT, TESTS, VIVIT


@pytest.fixture(scope="module")
def result():
    return comparison_of(VIVIT, CONVNEXT, shared=False).to_json()


@pytest.fixture(scope="module")
def page(result):
    return render_comparison(result)


def text_of(page):
    """Words without markup, one space apart."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def row(page, section, head):
    """The text of the row that begins so in a section's table."""
    part = page[page.index(f'<section id="{section}">') :]
    return text_of(part[part.index(f'<tr><th scope="row">{head}</th>') :].partition("</tr>")[0])


def test_the_published_tables_stand_on_it(page):
    assert row(page, "values", "accuracy") == (
        "accuracy 10 0.7160 0.640 to 0.840 0.0580 0.7000 10 0.5960 0.480 to 0.680 0.0692 0.6200"
    )
    name = "precision (of runs that call something positive)"
    assert row(page, "values", name).endswith("8 0.8375 0.500 to 1.000 0.2264 1.0000")
    precision = TESTS["precision_zero"]
    for value in (*precision[:5], precision[5], precision[6], *precision[9:]):
        assert value in row(page, "published", "precision (0 where nothing is called positive)")
    assert row(page, "published", "recall").split()[6:10] == ["7.8191", "18.00", "<", "0.0001"]
    text = text_of(page)
    assert "0.5 (as published)" in text and "The power at alpha .5 is as published, a slip for .05" in text


def test_every_run_and_its_totals(page):
    assert row(page, "runs", "0") == "0 0 10 3 3 9 0.760 – 1 11 0 13 1 0.480 –"
    assert "total 112 30 41 67 135 5 96 14" in text_of(page)
    matrix = page[page.index('aria-label="Mean confusion matrix of vivit"') :].partition("</svg>")[0]
    shown = re.findall(r">([\d.]+(?: %)?|T[NP]|F[NP])<", matrix)
    assert shown == ["TN", "11.2", "79 %", "FP", "3.0", "21 %", "FN", "4.1", "38 %", "TP", "6.7", "62 %"]


def test_the_verdict_leads_and_nothing_claims_more(page, result):
    assert f'<p class="verdict">{result["verdict"]}</p>' in page
    assert "is better" not in page
    assert "no test here allows for patients that the splits share" in page
    assert "A minus B" not in page


def test_shared_splits_have_the_paired_tests_and_joined_points():
    first = [(tn, fp, fn - k % 2, tp + k % 2) for k, (tn, fp, fn, tp) in enumerate(VIVIT)]
    found = comparison_of(first, VIVIT, shared=True, auc=(0.9, 0.8)).to_json()
    page = render_comparison(found)
    corrected = found["metrics"]["accuracy"]["paired"]["corrected_t_test"]
    cells = row(page, "ours", "accuracy")
    assert cells.startswith(f"accuracy 10 +0.0200 [{corrected['low']:+.4f}, {corrected['high']:+.4f}] ")
    assert f" {p_value(corrected['p'])} " in cells
    assert [f"<li>{metric['verdict']}</li>" in page for metric in found["metrics"].values()] == [True] * 7
    assert "takes the variance of a mean of n differences as 1/n + 0.521 of theirs" in page
    assert "a line joins the runs of one split" in page
    own = render_comparison(found | {"splits": found["splits"] | {"shared": False}})
    accuracy = r'aria-label="accuracy of vivit \(A\).*?</svg>'
    joined, apart = (re.search(accuracy, one, re.S)[0].count("<path") for one in (page, own))
    assert joined == apart + 10


def test_what_is_not_possible_has_its_reason_and_no_empty_picture(page):
    assert 'title="at least 2 values are needed, not 0 and 0">–</td>' in page
    assert "AUC of studies of vivit" not in page
    assert page.count("<svg") == 6 + 2


def test_it_needs_no_other_file_and_is_the_same_again(page, result):
    assert render_comparison(result) == page
    assert not re.findall(r"<script|<link|src=|url\((?!#)|https?://(?!www\.w3\.org)", page)
    assert "SYNTHETIC" not in page
    assert "SYNTHETIC data" in render_comparison(result | {"data": "synthetic"})


def test_small_p_values_are_bounded():
    assert [p_value(p) for p in (0.5, 1e-4, 9.9e-5, None)] == ["0.5000", "0.0001", "< 0.0001", "–"]
