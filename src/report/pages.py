"""The one way to a page: a template of this folder, filled in, with the common style; no other file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

FOLDER = Path(__file__).parent


def render_page(template: str, filters: dict[str, Callable[..., str]] | None = None, **contents: Any) -> str:
    """The HTML of `template`; a name it uses must be in `contents`, which are escaped. `style` is given."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters or {}
    style = Markup((FOLDER / "run_report.css").read_text(encoding="utf-8"))
    return environment.get_template(template).render(style=style, **contents) + "\n"
