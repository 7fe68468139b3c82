"""The one way to a page: a template of this folder, filled in, with the common style; no other file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

FOLDER = Path(__file__).parent


def render_page(template: str, filters: dict[str, Callable[..., str]] | None = None, **contents: Any) -> str:
    """The HTML of `template`; a name it uses must be in `contents`, which are escaped. `style` is given, and
    `file(name)`, which puts in another file of this folder as it is.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters or {}
    environment.globals["file"] = _file
    return environment.get_template(template).render(style=_file("run_report.css"), **contents) + "\n"


def _file(name: str) -> Markup:
    return Markup((FOLDER / name).read_text(encoding="utf-8"))
