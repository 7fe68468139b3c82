"""The installable package `ich` is src/ whole."""

import ast
import tomllib

from tests.conftest import ROOT

# Each room may import those before it, and the files of src/ itself.
ORDER = ("phantom", "data", "models", "evaluation", "training", "ensemble", "report", "audit")
MODULES_A_FOLDER = 18


def test_every_room_is_installed():
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    rooms = {path.parent.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("__init__.py")}
    assert set(setup["packages"]) == {".".join(("ich", *room.parts)) for room in rooms}
    kinds = {path.suffix for path in (ROOT / "src").rglob("*.*") if path.suffix not in (".py", ".pyc")}
    assert kinds == {pattern.removeprefix("*") for pattern in setup["package-data"]["ich.report"]}


def imported_rooms(path):
    """Rooms of src/ that a module imports, by its relative imports."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            module = (*parts[: -node.level], *(node.module or "").split("."))
            names = [module[1]] if len(module) > 1 and module[1] else [alias.name for alias in node.names]
            yield from (name for name in names if (ROOT / "src" / name).is_dir())


def test_no_room_imports_one_above_it():
    rank = {room: place for place, room in enumerate(ORDER)}
    rooms = {path.name for path in (ROOT / "src").iterdir() if (path / "__init__.py").exists()}
    assert rooms == set(ORDER)
    upward, seen = [], 0
    for path in (ROOT / "src").rglob("*.py"):
        room = path.relative_to(ROOT / "src").parts[0]
        for other in imported_rooms(path):
            seen += 1
            own = rank.get(room, -1)  # the files of src/ itself stand below every room
            if rank[other] > own:
                upward.append(f"{path.relative_to(ROOT)} imports {other}")
    assert not upward and seen > 300


def test_phantoms_are_imported_by_their_door_and_by_studies_of_them_alone():
    doors = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src").rglob("*.py")
        if "phantom" in imported_rooms(path) and "phantom" not in path.relative_to(ROOT / "src").parts
    }
    assert "data/phantom.py" in doors and all(door.startswith(("data/phantom", "audit/")) for door in doors)


def test_no_room_has_more_modules_than_can_be_overseen():
    for folder in {path.parent for path in (ROOT / "src").rglob("*.py")}:
        modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(modules) <= MODULES_A_FOLDER, folder
