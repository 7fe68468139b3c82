"""What is installed as `ich` is all of src/."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_every_room_is_part_of_the_package():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    rooms = [path.parent.relative_to(ROOT).parts for path in (ROOT / "src").rglob("__init__.py")]
    assert sorted(listed) == sorted(".".join(("ich", *parts[1:])) for parts in rooms)
