"""Pages in Chromium, which the system has and playwright drives: opened, watched, measured.

A module that imports this one skips where either is missing.
"""

import shutil
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("no Chromium on this machine's PATH", allow_module_level=True)

DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


class Opened:
    """A page that is open, and everything it did besides what it was asked for."""

    complete = "body"  # what is there when the page is

    def __init__(self, browser: "playwright.Browser", path: Path, address: str = "", **options: object):
        self.context = browser.new_context(**{"viewport": DESKTOP} | options)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._listen)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri() + address)
        self.page.wait_for_selector(self.complete)

    def _listen(self, message: "playwright.ConsoleMessage") -> None:
        if "willReadFrequently" not in message.text:  # it is the tests that read pixels back
            self.said.append(message.text)

    def settle(self) -> None:
        """What was changed is drawn with the next frame."""
        self.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def text(self, selector: str) -> str:
        self.settle()
        return self.page.locator(selector).inner_text()

    def contrasts(self) -> list[tuple[str, float]]:
        """Every visible text and its contrast to what lies behind it, as WCAG defines it."""
        return self.page.evaluate(CONTRAST)


CONTRAST = """() => {
  const channel = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const numbers = (colour) => {
    const found = colour.match(/[\\d.]+/g).map(Number);
    return [...found.slice(0, 3), found[3] ?? 1];
  };
  const behind = (element) => {
    const [r, g, b, a] = numbers(getComputedStyle(element).backgroundColor);
    if (a === 1) return [r, g, b];
    const above = element.parentElement;
    const onPicture = !above || above.matches(".screen, .strip button"); // white is worst for white marks
    const under = onPicture ? [255, 255, 255] : behind(above);
    return [r, g, b].map((v, at) => a * v + (1 - a) * under[at]);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const seen = [];
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.matches("script, style, noscript")) continue;
    if (!element.checkVisibility()) continue;
    const ground = behind(element), style = getComputedStyle(element);
    const colour = element.closest("svg") ? style.fill : style.color;
    const [one, two] = [luminance(numbers(colour).slice(0, 3)), luminance(ground)];
    seen.push([walker.currentNode.data.trim(), (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05)]);
  }
  return seen;
}"""
