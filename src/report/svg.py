"""Matplotlib figures as inline SVG: same figure, same bytes; colours and font are the page's.

Colours are drawn as fixed hex values and become CSS variables, so that one picture serves a light page, a
dark page and paper. Text stays text, in the font of the page.
"""

import io
import re
from collections.abc import Callable

import matplotlib.style
from markupsafe import Markup
from matplotlib.figure import Figure

# Okabe and Ito's colour-blind safe hues, darkened where they carry thin lines; run_report.css defines each.
COLOURS = {
    "ink": "#1b1f24",
    "muted": "#6a737d",
    "grid": "#d8dce1",
    "stage1": "#0072b2",
    "stage2": "#d55e00",
    "external": "#6a737d",
    "mean": "#8b5c9e",
    "blend": "#00795a",
}
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names of runs are text, whatever they hold
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": COLOURS["muted"],
    "axes.linewidth": 0.8,
    "axes.labelcolor": COLOURS["muted"],
    "axes.labelsize": 10,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "lines.solid_capstyle": "round",
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.8,
    "path.simplify": False,
}
Draw = Callable[[Figure], None]


def inline_svg(name: str, size: tuple[float, float], title: str, draw: Draw) -> Markup:
    """Draw on a figure of `size` (width, height) points and give its SVG element, scaled by the page.

    name: unique on the page, it keeps the ids of one picture apart from those of another.  title: what a
    screen reader says.
    """
    with matplotlib.style.context(["default", {**STYLE, "svg.hashsalt": name}]):
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), layout="constrained")
        figure.patch.set_visible(False)
        figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03)
        draw(figure)
        for axes in figure.axes:
            axes.patch.set_visible(False)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _for_page(text.getvalue(), title)


def _for_page(svg: str, title: str) -> Markup:
    """Drop what only a file of its own needs: namespaces, size, style sheet, unused ids, long decimals."""
    body = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", svg[svg.index("<svg") :], flags=re.S)
    box = re.search(r'viewBox="([^"]*)"', body)[1]
    body = re.sub(r'<g id="[^"]*"', "<g", body[body.index(">") + 1 :])
    body = body.replace("xlink:href", "href")
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = re.sub(r' transform="rotate\(-?0 [^)]*\)"', "", body)
    body = re.sub(
        r"<[^>]*>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), body
    )  # hundredths of a point
    body = re.sub(r"\s*\n\s*", "\n", body)
    for colour, value in COLOURS.items():
        body = body.replace(value, f"var(--{colour})")
    label = Markup('<svg viewBox="{}" role="img" aria-label="{}">').format(box, title)
    return label + Markup(body.strip())
