"""The page of one study in a browser: it opens, answers to mouse, touch and keys, shows the right pixels."""

import functools
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from src.data.windows import WINDOWS, stack_windows
from src.labels import LABELS
from src.report.study.hu_packing import _text
from src.report.study.study_page import SHOWN_WINDOWS, ShownStudy, write_study_page
from tests.report import browsing
from tests.report.browsing import DESKTOP, PHONE
from tests.report.study.study_example import COUNT, HEIGHT, WIDTH, example, volume

FIRST = 6  # the slice with the highest probability of any bleeding


@pytest.fixture(scope="module")
def example_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "study.html"
    write_study_page(path, example(warnings=["missing slices: about 1 slice between 0.0 and 10.0 mm"]))
    return path


class Opened(browsing.Opened):
    """Of a study."""

    complete = "body[data-complete]"

    @property
    def slice(self) -> int:
        self.settle()
        return int(self.page.locator("#image").get_attribute("aria-valuenow"))

    def gray(self) -> np.ndarray:
        """(h, w) of the canvas; its three colours are equal."""
        self.settle()
        script = "(c) => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
        pixels = np.array(self.page.locator("#gray").evaluate(script)).reshape(HEIGHT, WIDTH, 4)
        assert (pixels[..., :3] == pixels[..., :1]).all() and (pixels[..., 3] == 255).all()
        return pixels[..., 0]

    def press(self, key: str) -> None:
        self.page.locator("#image").press(key)
        self.settle()

    def choose(self, group: str, value: str) -> None:
        self.page.locator(f'input[name="{group}"][value="{value}"]').check(force=True)


@pytest.fixture
def opened(browser, example_page) -> Iterator[Opened]:
    page = Opened(browser, example_page)
    yield page
    assert page.said == [] and page.requests == [example_page.as_uri()]
    page.context.close()


def windowed(hu: np.ndarray, center: float, width: float) -> np.ndarray:
    return np.floor(255 * np.clip((hu.astype(float) - center) / width + 0.5, 0, 1) + 0.5).astype(int)


def test_it_opens_at_the_most_probable_slice(opened):
    assert opened.slice == FIRST
    np.testing.assert_array_equal(opened.gray(), windowed(volume()[FIRST - 1], 40, 80))
    assert opened.text("#place") == "5.0 mm" and opened.text("#window") == "brain\nC 40 W 80"


@pytest.mark.parametrize("name", SHOWN_WINDOWS)
def test_every_window_is_the_arithmetic_that_networks_see(opened, name):
    opened.choose("window", name.replace("_", " "))
    found, hu = opened.gray(), volume()[FIRST - 1]
    np.testing.assert_array_equal(found, windowed(hu, *WINDOWS[name]))
    of_networks = stack_windows(torch.from_numpy(hu)[None, None], torch.tensor([WINDOWS[name]]))[0, 0]
    assert np.abs(found - 255 * of_networks.numpy()).max() <= 0.5 + 1e-4


def test_a_free_window_by_drag_and_by_number(opened):
    box = opened.page.locator("#image").bounding_box()
    x, y = box["x"] + 200, box["y"] + 200
    opened.page.mouse.move(x, y)
    opened.page.mouse.down()
    opened.page.mouse.move(x + 60, y - 30, steps=3)
    opened.page.mouse.up()
    np.testing.assert_array_equal(opened.gray(), windowed(volume()[FIRST - 1], 32, 96))  # 80 / 300 HU a pixel
    assert opened.text("#window") == "free\nC 32 W 96"
    assert opened.page.locator('input[name="window"][value="free"]').is_checked()
    opened.page.locator("#center").fill("300")
    opened.page.locator("#width").fill("1500")
    np.testing.assert_array_equal(opened.gray(), windowed(volume()[FIRST - 1], 300, 1500))
    opened.page.locator("#width").fill("0")  # is no width
    assert opened.text("#window") == "free\nC 300 W 1500"


def test_the_wheel_goes_up_and_down_the_head(opened):
    opened.page.locator("#image").hover()
    page_at = opened.page.evaluate("scrollY")
    opened.page.mouse.wheel(0, -100)
    assert opened.slice == FIRST + 1
    opened.page.mouse.wheel(0, 100)
    opened.page.mouse.wheel(0, 20)  # a pad's stroke, too short
    assert opened.slice == FIRST
    opened.page.mouse.wheel(0, 40)
    assert opened.slice == FIRST - 1
    assert opened.page.evaluate("scrollY") == page_at


def test_keys_reach_every_slice_window_and_map(opened):
    arrows = ["ArrowUp", "ArrowRight", "ArrowDown", "ArrowLeft"]
    places = []
    for key in [*arrows, "PageUp", "PageDown", "Home", "PageDown", "End"]:
        opened.press(key)
        places.append(opened.slice)
    assert places == [7, 8, 7, 6, 11, 6, 1, 1, COUNT]
    opened.press("4")
    assert opened.text("#window").startswith("soft tissue")
    opened.press("m")
    assert opened.page.locator('input[name="map"][value="subdural"]').is_checked()
    opened.press("m")
    assert opened.page.locator('input[name="map"][value=""]').is_checked()


def test_tab_visits_the_controls_in_their_order_and_focus_is_seen(opened):
    seen = []
    for _ in range(16):
        opened.page.keyboard.press("Tab")
        seen.append(
            opened.page.evaluate("(document.activeElement.id || document.activeElement.name "
                                 "|| document.activeElement.getAttribute('aria-label'))")
        )  # fmt: skip
        outline = "getComputedStyle(document.activeElement.matches('.choices input') ? "
        outline += "document.activeElement.nextElementSibling : document.activeElement).outlineStyle"
        assert opened.page.evaluate(outline) == "solid", seen[-1]
    assert seen[1:8] == ["image", "slice 6", "window", "center", "width", "map", "opacity"]
    assert seen[8] == "any: to slice 6, the highest with 0.950"
    opened.page.keyboard.press("Shift+Tab")


def test_the_strip_shows_every_slice_and_follows_the_keys(opened):
    opened.page.get_by_role("button", name="slice 3", exact=True).click()
    assert opened.slice == 3
    opened.page.keyboard.press("ArrowRight")
    assert opened.slice == 4
    assert opened.page.evaluate("document.activeElement.getAttribute('aria-label')") == "slice 4"
    current = opened.page.locator("#strip [aria-current]")
    assert current.count() == 1 and current.get_attribute("aria-label") == "slice 4"
    brightness = opened.page.locator("#strip canvas").evaluate_all(
        "(all) => all.map((c) => c.getContext('2d').getImageData(20, 20, 16, 16).data)"
        ".map((pixels) => pixels.reduce((sum, value) => sum + value))"
    )
    assert len(brightness) == COUNT and all(np.diff(brightness) > 0)  # the head grows brighter upwards


def test_the_chart_moves_the_slice(opened):
    track = opened.page.locator(".row.subdural .track")
    box = track.bounding_box()
    for place in (0, 8, COUNT - 1):
        track.click(position={"x": (place + 0.5) * box["width"] / COUNT, "y": 10})
        assert opened.slice == place + 1
        cursor = track.locator(".cursor").bounding_box()
        assert cursor["x"] + cursor["width"] / 2 == pytest.approx(
            box["x"] + (place + 0.5) * box["width"] / COUNT, abs=1
        )
    opened.page.get_by_role("button", name="subdural: to slice 6").click()
    assert opened.slice == 6 and opened.text('.now[data-label="subdural"]') == "0.900"


def test_bars_stand_where_their_probabilities_are(opened):
    row = opened.page.locator(".row.subdural")
    box = row.locator("svg").bounding_box()
    strong = row.locator(".strong").bounding_box()
    assert strong["x"] - box["x"] == pytest.approx(4.1 / COUNT * box["width"], abs=1)
    assert strong["width"] == pytest.approx(2.8 / COUNT * box["width"], abs=1.5)
    assert strong["height"] == pytest.approx(0.9 * box["height"], abs=1.5)
    point = row.locator(".point").bounding_box()
    assert point["y"] + point["height"] / 2 - box["y"] == pytest.approx(0.5 * box["height"], abs=1.5)


def test_a_map_lies_over_its_slice_only(opened):
    canvas = opened.page.locator("#map")
    assert canvas.is_hidden()
    opened.choose("map", "subdural")
    opened.settle()
    assert canvas.is_visible() and canvas.evaluate("(c) => c.style.opacity") == "0.6"
    script = "(c) => [...c.getContext('2d').getImageData(0, 0, 64, 64).data].filter((v, at) => at % 4 === 3)"
    alpha = np.array(canvas.evaluate(script)).reshape(64, 64)
    assert alpha.max() == 255 and alpha.argmax(axis=1)[4] == 3  # the diagonal of 48 x 64 made square
    opened.page.locator("#opacity").fill("25")
    opened.settle()
    assert canvas.evaluate("(c) => c.style.opacity") == "0.25"
    opened.press("ArrowUp")
    opened.settle()
    assert canvas.is_hidden() and opened.text("#mapped") == "No map of this slice. Maps of subdural: slices 6"
    opened.page.locator("#mapped a").click()
    assert opened.slice == 6 and canvas.is_visible()


def test_a_slice_has_an_address(browser, example_page):
    page = Opened(browser, example_page, "#slice=9")
    assert page.slice == 9
    page.press("ArrowUp")
    page.page.wait_for_url("**#slice=10")
    page.page.evaluate("location.hash = '#slice=2'")
    assert page.slice == 2
    page.page.evaluate("location.hash = '#slice=99'")
    assert page.slice == COUNT and page.said == []
    page.context.close()


def test_a_window_without_tissue_is_said(opened):
    empty = opened.page.locator("#empty")
    assert empty.is_hidden()
    opened.page.locator("#center").fill("3000")
    opened.settle()
    assert empty.inner_text() == "no tissue in the window" and not opened.gray().any()
    opened.press("1")
    assert empty.is_hidden()


def test_the_mouse_reads_hu(opened):
    box = opened.page.locator("#gray").bounding_box()
    x, y = (30.5 / WIDTH) * box["width"], (20.5 / HEIGHT) * box["height"]
    opened.page.mouse.move(box["x"] + x, box["y"] + y)
    assert opened.text("#here") == f"{volume()[FIRST - 1, 20, 30]} HU"


def test_pixels_are_as_wide_and_high_as_the_scale_says(opened):
    box = opened.page.locator("#image").bounding_box()
    assert box["width"] / box["height"] == pytest.approx(WIDTH * 0.4 / (HEIGHT * 0.5), rel=0.01)


def test_the_scale_measures_millimetres(browser, tmp_path):
    write_study_page(tmp_path / "study.html", example(spacing_mm=(2.5, 2.0)))
    page = Opened(browser, tmp_path / "study.html")
    screen = page.page.locator("#image").bounding_box()["width"]
    scale = page.page.locator(".scale i").bounding_box()["width"]
    assert scale == pytest.approx(screen * 50 / (WIDTH * 2.0), abs=1)
    page.context.close()


def test_a_finger_scrolls(browser, example_page):
    page = Opened(browser, example_page, viewport=PHONE, has_touch=True, is_mobile=True)
    box = page.page.locator("#image").bounding_box()
    session = page.context.new_cdp_session(page.page)
    x, y = box["x"] + 100, box["y"] + 150
    for kind, points in (
        ("touchStart", [{"x": x, "y": y}]),
        ("touchMove", [{"x": x, "y": y - 36}]),
        ("touchEnd", []),
    ):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert page.slice == FIRST + 3 and page.text("#window").startswith("brain")
    page.context.close()


@pytest.mark.parametrize("media", ["screen", "print"])
@pytest.mark.parametrize(
    "viewport", [PHONE, {"width": 700, "height": 900}, DESKTOP], ids=lambda v: v["width"]
)
def test_nothing_is_wider_than_the_page(browser, example_page, viewport, media):
    if media == "print" and viewport is PHONE:
        pytest.skip("nobody prints on 390 pixels")
    page = Opened(browser, example_page, viewport=viewport)
    page.page.emulate_media(media=media)
    assert page.page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert page.page.locator("#image").bounding_box()["width"] >= 200
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_the_contrast_of_wcag_aa(browser, example_page, scheme):
    page = Opened(browser, example_page, color_scheme=scheme)
    page.page.locator("details:not([open]) summary").click()
    page.choose("map", "subdural")
    page.press("ArrowUp")
    page.settle()
    seen = page.contrasts()
    assert len(seen) > 150
    assert [(text, round(ratio, 2)) for text, ratio in seen if ratio < 4.5] == []
    page.context.close()


def test_a_screen_reader_hears_the_slice_and_its_probabilities(opened):
    image = opened.page.get_by_role("slider", name="Slice")
    heard = image.get_attribute("aria-valuetext")
    assert heard.startswith("slice 6 of 12, 5.0 millimetres; any 0.950, epidural 0.020") and "0.900" in heard
    for role in ("button", "radio", "slider", "spinbutton", "img"):
        for control in opened.page.get_by_role(role).all():
            assert control.evaluate(
                "(e) => e.getAttribute('aria-label') || e.closest('label')?.innerText.trim()"
            ), control
    assert opened.page.get_by_role("heading", level=1).count() == 1
    assert opened.page.locator("html").get_attribute("lang") == "en"


def test_damaged_slices_are_said(browser, example_page, tmp_path):
    text = example_page.read_text()
    at = text.index('class="slice">') + 200
    (tmp_path / "study.html").write_text(text[:at] + "AAAA" + text[at + 4 :])
    context = browser.new_context()
    page = context.new_page()
    page.goto((tmp_path / "study.html").as_uri())
    page.wait_for_selector("#message:not([hidden])")
    assert page.locator("#message").inner_text().startswith("No images: the file is damaged")
    context.close()


def large_study(monkeypatch: pytest.MonkeyPatch, count: int = 60, size: int = 512) -> ShownStudy:
    """As many slices as any study of the contest, with the noise of a usual scan; few are packed anew."""
    few = volume(count=4, height=size, width=size, noise=6)
    pack = functools.cache(lambda numbers: _text(np.frombuffer(numbers, int).reshape(size, size)))
    monkeypatch.setattr("src.report.study.hu_packing._text", lambda numbers: pack(numbers.tobytes()))
    slices = pd.DataFrame(0.1, [f"{number}" for number in range(count)], LABELS)
    return ShownStudy(np.concatenate([few] * (count // 4)), slices, slices.max())


def test_sixty_slices_open_within_a_second_and_weigh_12_megabytes_at_most(browser, tmp_path, monkeypatch):
    path = tmp_path / "study.html"
    write_study_page(path, large_study(monkeypatch))
    assert 9e6 < path.stat().st_size <= 12e6
    milliseconds = []
    for _ in range(3):  # the best one counts: other work may run beside it
        page = Opened(browser, path)
        script = "performance.getEntriesByName('first slice')[0].startTime"
        milliseconds.append(page.page.evaluate(script))
        page.context.close()
    assert min(milliseconds) < 1000


def test_the_picture_on_the_screen_is_the_slice(opened):
    """As a person sees it, scaled by the browser, without the marks in the corners."""
    shown = opened.page.locator("#image").screenshot()
    picture = cv2.imdecode(np.frombuffer(shown, np.uint8), cv2.IMREAD_GRAYSCALE)
    small = cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(float)
    expected = windowed(volume()[FIRST - 1], 40, 80)
    middle = (slice(12, -12), slice(16, -16))
    assert np.corrcoef(small[middle].ravel(), expected[middle].ravel())[0, 1] > 0.9
