"""Texts name modules and files of this repository that are there."""

import re

import pytest

from tests.conftest import ROOT

TEXTS = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/*.md", "experiments/*/*.md", "results/*.md", "steps/*", ".ci/*", "Makefile")
    for path in ROOT.glob(pattern)
)
MODULE = re.compile(r"\b(?:src|ich|benchmarks)(?:\.[a-zA-Z_]\w*)+")
FILE = re.compile(r"\b(?:src|tests|benchmarks|docs|steps)/[\w./-]+\.(?:py|json|md|sh|html|css|js)\b")


def is_there(name: str) -> bool:
    """Whether a dotted name is a module, or what a module defines."""
    *packages, last = re.sub(r"^ich\.", "src.", name).split(".")
    module, owner = ROOT.joinpath(*packages, last), ROOT.joinpath(*packages)
    if module.with_suffix(".py").is_file() or module.is_dir():
        return True
    file = owner / "__init__.py" if owner.is_dir() else owner.with_suffix(".py")
    defined = rf"^(def|class) {last}\b|^{last}\b.*="
    return file.is_file() and re.search(defined, file.read_text(), re.M) is not None


@pytest.mark.parametrize("text", TEXTS, ids=str)
def test_every_module_that_a_text_names_is_there(text):
    named = set(MODULE.findall((ROOT / text).read_text(encoding="utf-8")))
    assert [name for name in sorted(named) if not is_there(name)] == []


@pytest.mark.parametrize("text", TEXTS, ids=str)
def test_every_file_that_a_text_names_is_there(text):
    named = set(FILE.findall((ROOT / text).read_text(encoding="utf-8")))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
