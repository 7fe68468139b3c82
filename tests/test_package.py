"""The installable package `ich` is src/ whole."""

import tomllib

from tests.conftest import ROOT


def test_every_room_is_installed():
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    rooms = {path.parent.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("__init__.py")}
    assert set(setup["packages"]) == {".".join(("ich", *room.parts)) for room in rooms}
    kinds = {path.suffix for path in (ROOT / "src").rglob("*.*") if path.suffix not in (".py", ".pyc")}
    assert kinds == {pattern.removeprefix("*") for pattern in setup["package-data"]["ich.report"]}
