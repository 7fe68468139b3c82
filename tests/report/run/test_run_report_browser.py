"""The run report in a browser: it opens, is read by keyboard, on a telephone, in the dark and on paper."""

import re
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from src.report.run.hardest_pages import write_hardest_pages
from src.report.run.outcome import Outcome
from src.report.run.run_report import write_report
from tests.report.browsing import DESKTOP, PHONE, Opened
from tests.report.conftest import build_experiment

COMMANDS = ("python prepare_data.py --size 256", "python ensemble.py experiments/fake " + "--long-flag " * 30)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    experiment = build_experiment(folder, volumes=True)
    found = Outcome.of(experiment)
    pages = write_hardest_pages(folder, experiment, found.hardest, found.points["labels"], most=9)
    outcome = Outcome(found.points, found.hardest, pages, COMMANDS, {"submission": 0.25})
    write_report(folder / "report.html", experiment, outcome)
    return folder / "report.html"


@pytest.fixture
def opened(browser, report) -> Iterator[Opened]:
    page = Opened(browser, report)
    yield page
    assert page.said == [] and page.requests == [report.as_uri()]
    page.context.close()


def test_it_opens_without_a_word_or_a_request_and_scrolls(opened):
    assert opened.page.get_by_role("heading", level=1).inner_text() == "fake"
    assert opened.page.locator("[role=note]").first.inner_text().startswith("SYNTHETIC")
    opened.page.mouse.wheel(0, 3000)
    opened.page.wait_for_function("scrollY > 2000")


def test_the_contents_lead_to_every_section_and_back_by_keyboard(opened):
    page = opened.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "To the scores"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0  # seen when it has focus
    sections = page.locator("main > section").evaluate_all("(all) => all.map((one) => one.id)")
    links = page.locator("nav a").evaluate_all("(all) => all.map((one) => one.hash.slice(1))")
    assert links == sections and len(sections) == 16
    for section in sections:
        page.locator(f'nav a[href="#{section}"]').focus()
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Enter")
        assert page.url.endswith(f"#{section}")
        last = section == sections[-1]  # it may be too short to reach the top
        assert (
            last
            or abs(page.evaluate(f"document.getElementById('{section}').getBoundingClientRect().top")) < 50
        )
        page.locator(f"#{section} .up a").focus()
        page.keyboard.press("Enter")
        assert page.evaluate("scrollY") == 0


def test_links_lead_to_the_slice_on_the_page_of_a_study_and_back(opened, report):
    page = opened.page
    links = page.locator("#hardest td a")
    assert links.count() == 9
    for address in links.evaluate_all("(all) => all.map((one) => one.getAttribute('href'))"):
        assert (report.parent / address.split("#")[0]).is_file()
    number = links.first.inner_text().removeprefix("slice ")
    links.first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("body[data-complete]")
    assert page.locator("#image").get_attribute("aria-valuenow") == number
    assert (
        page.locator("path.labelled").first.evaluate("(e) => getComputedStyle(e).stroke")
        == "rgb(139, 92, 158)"
    )
    page.get_by_role("link", name="Report of fake").click()
    page.wait_for_url("**/report.html#hardest")
    opened.requests = opened.requests[:1]  # the page of the study and the way back were asked for


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_the_contrast_of_wcag_aa(browser, report, scheme):
    page = Opened(browser, report, color_scheme=scheme)
    seen = page.contrasts()
    assert len(seen) > 2000
    assert [(text, round(ratio, 2)) for text, ratio in seen if ratio < 4.5] == []
    background = page.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}[scheme]
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marks_in_pictures_stand_out(browser, report, scheme):
    """Lines and dots have a contrast of 3 at least, but for the grid, which only helps the eye."""
    page = Opened(browser, report, color_scheme=scheme)
    script = """(names) => names.map((name) => {
        const style = getComputedStyle(document.documentElement);
        const light = (text) => {
            const [r, g, b] = [1, 3, 5].map((at) => parseInt(text.trim().slice(at, at + 2), 16) / 255)
                .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
        };
        const [one, two] = [style.getPropertyValue(name), style.getPropertyValue("--page")].map(light);
        return Math.max(one, two) / Math.min(one, two);
    })"""
    used = set(re.findall(r"var\((--\w+)\)", "".join(re.findall(r"<svg.*?</svg>", report.read_text(), re.S))))
    assert used >= {"--ink", "--muted", "--stage1", "--stage2", "--mean", "--blend"}
    assert min(page.page.evaluate(script, sorted(used - {"--grid"}))) >= 3
    page.context.close()


@pytest.mark.parametrize(
    "viewport", [PHONE, {"width": 700, "height": 900}, DESKTOP], ids=lambda v: v["width"]
)
def test_only_tables_and_commands_scroll_sideways(browser, report, viewport):
    page = Opened(browser, report, viewport=viewport)
    assert page.page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    wider = page.page.evaluate(
        "[...document.querySelectorAll('main *')].filter((e) => e.scrollWidth > e.clientWidth + 1"
        " && getComputedStyle(e).overflowX === 'auto').map((e) => e.matches('.scroll, pre'))"
    )
    assert wider and all(wider)
    page.context.close()


def test_a_wide_table_is_scrolled_by_keys_on_a_telephone(browser, report):
    page = Opened(browser, report, viewport=PHONE)
    regions = page.page.get_by_role("region")
    names = regions.evaluate_all("(all) => all.map((one) => one.getAttribute('aria-label'))")
    assert len(names) == len(set(names)) == page.page.locator(".scroll, pre").count() and all(names)
    assert page.page.locator(".scroll:not([tabindex='0']), pre:not([tabindex='0'])").count() == 0
    table = page.page.get_by_role("region", name="Hardest studies")
    table.focus()
    page.page.keyboard.press("ArrowRight")
    page.page.wait_for_function("document.activeElement.scrollLeft > 0")
    assert page.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.context.close()


def test_pictures_and_tables_say_what_they_are(opened):
    page = opened.page
    pictures = page.locator("svg").evaluate_all(
        "(all) => all.map((e) => [e.getAttribute('role'), e.ariaLabel])"
    )
    assert len(pictures) == 30 and all(role == "img" and name for role, name in pictures)
    assert len({name for _, name in pictures}) == 30
    assert page.locator("img").evaluate_all("(all) => all.every((e) => e.alt)")
    assert page.locator("th:not([scope])").count() == 0
    levels = page.locator("h1, h2, h3").evaluate_all("(all) => all.map((e) => Number(e.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert page.locator("html").get_attribute("lang") == "en" and page.locator("main").count() == 1


def page_contents(pdf: bytes) -> list[bytes]:
    """What is drawn on each page of a file that Chromium wrote."""
    objects = dict(re.findall(rb"\n(\d+) 0 obj\n?(.*?)endobj", pdf, re.S))
    pages = [body for body in objects.values() if re.search(rb"/Type\s*/Page\b", body)]
    numbers = [re.search(rb"/Contents (\d+) 0 R", body)[1] for body in pages]
    return [zlib.decompress(re.search(rb"stream\r?\n(.*)endstream", objects[n], re.S)[1]) for n in numbers]


def test_no_page_on_paper_is_empty_and_nothing_is_cut_off(opened):
    pdf = opened.page.pdf(format="A4", print_background=False)
    contents = page_contents(pdf)
    assert 8 <= len(contents) <= 24
    assert min(content.count(b"Tj") for content in contents) > 10, [c.count(b"Tj") for c in contents]
    opened.page.emulate_media(media="print")
    opened.page.set_viewport_size({"width": 680, "height": 1000})  # 180 mm
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 680
    assert opened.page.locator("nav").is_hidden() and opened.page.locator(".up").first.is_hidden()


def test_a_report_weighs_less_than_a_megabyte_without_its_data(report):
    assert 300_000 < report.stat().st_size < 1_000_000
