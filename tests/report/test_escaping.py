"""Whatever came from a file is text on a page, never markup."""

import ast
import re
from functools import partial
from typing import Any

import pytest

from src.report.compare_page import render_comparison
from src.report.pages import FOLDER, render_page
from src.report.transfer_page import transfer_page
from src.training.slices.slice_config import SliceConfig
from tests.conftest import ROOT
from tests.ensemble.test_compare import comparison_of
from tests.evaluation.test_statistics import CONVNEXT, VIVIT

BAD = '<img src=x onerror="alert(1)"></title></style></script><script>alert(2)</script>{{ 7 * 7 }}\'`&lt;'
TRUSTED = {"pages.py", "svg.py"}  # what they mark as markup are files of this project, and Matplotlib's


def poisoned(value: Any) -> Any:
    """The same with markup behind every text that is no key, but the few that choose something."""
    if isinstance(value, dict):
        return {
            key: value[key] if key in ("data", "test", "targets") else poisoned(value[key]) for key in value
        }
    if isinstance(value, list | tuple):
        return type(value)(map(poisoned, value))
    return value + BAD if isinstance(value, str) else value


def check(page: str, clean: str) -> None:
    """No element, attribute or program more than the clean page has."""
    assert BAD not in page and "49" not in set(re.findall(r"\w+", page)) - set(re.findall(r"\w+", clean))
    assert "&lt;img src=x onerror=" in page
    for tag in ("<img", "<script", "</script", "</style", "</title", 'onerror="'):
        assert page.count(tag) == clean.count(tag), tag


def test_a_comparison_of_runs_with_markup_in_their_names():
    found = comparison_of(VIVIT, CONVNEXT, shared=False).to_json()
    check(render_comparison(poisoned(found)), render_comparison(found))


def test_an_experiment_asked_elsewhere_with_markup_in_its_names():
    data = {"dataset": "table", "size": 256, "units": "hu", "synthetic": True}
    scores = {
        "experiment": "tiny", "members": {"blend": {"labels": {}, "studies": None}}, "comparisons": [],
        "baseline": {}, "left_out": 3, "eps": 1e-15,
    }  # fmt: skip
    page = transfer_page(scores | {"data": data})
    check(transfer_page(poisoned(scores) | {"data": poisoned(data)}), page)


@pytest.mark.parametrize("template", sorted(path.name for path in FOLDER.glob("*.html")))
def test_no_template_trusts_a_value(template):
    """`safe` stands behind literals only."""
    text = (FOLDER / template).read_text()
    for before in re.findall(r"(\S+(?: \S+)*?)\s*\|\s*safe\b", text):
        literal = re.search(r"""('[^'{}]*'|"[^"{}]*")$""", before)
        assert literal, before
    assert not re.search(r"autoescape\s+false|\bMarkup\b", text)


def test_pages_come_from_one_environment_that_escapes():
    for path in (ROOT / "src").rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Markup":
                literal = len(node.args) == 1 and isinstance(node.args[0], ast.Constant)
                assert literal or path.name in TRUSTED, path
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Environment"):
                assert path.name == "pages.py"


def test_samples_with_markup_in_their_names():
    sample = {"image_id": "a", "labels": "any", "draws": "data:,", "views": "data:,"}
    values = {"name": "run", "settings": "{}", "samples": [sample]}
    fill = partial(render_page, "augmentation.html", config=SliceConfig(backbone="test_resnet"))
    check(fill(**poisoned(values)), fill(**values))
