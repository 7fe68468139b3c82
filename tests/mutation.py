"""Do the tests notice a mistake? Small ones are made in the source, one at a time, and its tests run.

    python -m tests.mutation            300 mutants drawn with a seed; what is recorded is not run again
    python -m tests.mutation --again    survivors once more, against every test that imports their module

A mutant lives in memory only: an import hook gives it in place of its module to a process that is forked for
it. It is killed by a test that fails or by needing five times the processor time. The tests of a module are
the nearest files that import it, the quickest first. Results: results/mutation.json.
"""

import argparse
import ast
import copy
import importlib.machinery
import importlib.util
import os
import random
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("training", "models", "evaluation", "ensemble")
RESULTS = ROOT / "results/mutation.json"
SEED, MUTANTS = 2026, 320
NEAREST = 4  # test files that are run for a module, at most
LONGEST_FILE = 8.0  # seconds of processor time; a longer file is run only where there is no other
LONGEST = 900.0  # seconds by the clock, for a test that waits

COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
ARITHMETIC = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """The `place`-th node of a module's tree, in `ast.walk`'s order, replaced."""

    path: str
    place: int
    line: int
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before}  ->  {self.after}"


def changed(node: ast.AST) -> ast.AST | None:
    """The node with a mistake in it; None where there is none to make."""
    new = copy.deepcopy(node)
    if isinstance(new, ast.Compare) and type(new.ops[0]) in COMPARISONS:
        new.ops[0] = COMPARISONS[type(new.ops[0])]()
    elif isinstance(new, ast.BinOp) and type(new.op) in ARITHMETIC and not _is_text(new):
        new.op = ARITHMETIC[type(new.op)]()
    elif isinstance(new, ast.BoolOp):
        new.op = ast.Or() if isinstance(new.op, ast.And) else ast.And()
    elif isinstance(new, ast.UnaryOp) and isinstance(new.op, ast.Not):
        return new.operand
    elif isinstance(new, ast.Constant) and isinstance(new.value, bool | int | float):
        new.value = not new.value if isinstance(new.value, bool) else new.value + 1
    elif isinstance(new, ast.Return) and new.value is not None and not _is_none(new.value):
        new.value = ast.Constant(None)
    else:
        return None
    return new


def _is_text(node: ast.BinOp) -> bool:
    """Types joined by | and texts joined by + are not arithmetic."""
    parts = [part for part in ast.walk(node) if isinstance(part, ast.Constant | ast.JoinedStr)]
    texts = any(isinstance(p, ast.JoinedStr) or isinstance(p.value, str | None) for p in parts)
    return texts or isinstance(node.op, ast.BitOr | ast.BitAnd)


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _annotations(tree: ast.AST) -> set[int]:
    """Nodes that only say types."""
    roots = [
        getattr(node, name)
        for node in ast.walk(tree)
        for name in ("annotation", "returns")
        if getattr(node, name, None) is not None
    ]
    return {id(node) for root in roots for node in ast.walk(root)}


def mutants_of(path: str) -> Iterator[Mutant]:
    tree = ast.parse((ROOT / path).read_text())
    skipped = _annotations(tree)
    for place, node in enumerate(ast.walk(tree)):
        if id(node) not in skipped and (new := changed(node)) is not None:
            yield Mutant(path, place, node.lineno, *map(_short, (node, new)))


def _short(node: ast.AST) -> str:
    return re.sub(r"\s+", " ", ast.unparse(node))[:80]


def code_of(mutant: Mutant) -> object:
    """The compiled module with the mistake in it, lines as in the file."""
    tree = ast.parse((ROOT / mutant.path).read_text())
    target = list(ast.walk(tree))[mutant.place]
    new = ast.copy_location(changed(target), target)

    class Exchange(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            return new if node is target else self.generic_visit(node)

    return compile(ast.fix_missing_locations(Exchange().visit(tree)), str(ROOT / mutant.path), "exec")


def module_of(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".")


class Given(importlib.machinery.SourceFileLoader):
    """Loads one module from code that is given."""

    def __init__(self, mutant: Mutant):
        super().__init__(module_of(mutant.path), str(ROOT / mutant.path))
        self.code = code_of(mutant)

    def find_spec(self, name: str, path: object = None, target: object = None):
        if name == self.name:
            return importlib.util.spec_from_file_location(name, self.path, loader=self)
        return None

    def get_code(self, fullname: str) -> object:
        return self.code


@cache
def tests_by_text() -> dict[str, str]:
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if "faults" not in path.parts]
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted(files)}


def candidates(path: str) -> list[str]:
    """The test files that import a module; where none does, those of its folder, which come by it."""
    module = re.escape(module_of(path))
    package, _, name = module_of(path).rpartition(".")
    ways = (rf"\b{module}\b", rf"from {re.escape(package)} import .*\b{name}\b")
    found = [test for test, text in tests_by_text().items() if any(re.search(way, text) for way in ways)]
    folder = str(Path(path).parent).replace("src", "tests", 1)
    inside = [test for test in tests_by_text() if str(Path(test).parent) == folder]
    nearest = sorted(found, key=lambda test: (Path(test).stem != f"test_{name}", test not in inside))
    return nearest or inside


def in_fork(action: Callable[[], int], seconds: float | None = None) -> tuple[str, float]:
    """Outcome (passed, failed, time) of an action in a process of its own, and its processor time."""
    child = os.fork()
    if child == 0:
        if seconds is not None:
            resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 2))
        silence = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(silence, number)
        os._exit(action())
    end = time.monotonic() + LONGEST
    while True:
        found, status, used = os.wait4(child, os.WNOHANG)
        if found:
            break
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.02)
    if os.WIFSIGNALED(status):
        name = "time" if os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL) else "failed"
    else:
        name = "failed" if os.WEXITSTATUS(status) else "passed"
    return name, used.ru_utime + used.ru_stime


def run_tests(tests: list[str], mutant: Mutant | None = None) -> int:
    import pytest

    if mutant is not None:
        sys.meta_path.insert(0, Given(mutant))
    with TemporaryDirectory(prefix="mutant_") as folder:
        options = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={folder}/t"]
        return int(pytest.main([*options, *(str(ROOT / test) for test in tests)]))


@cache
def seconds_of(test: str, slow: bool) -> float | None:
    """Processor time of a test file without a mutant; None where it does not pass."""
    outcome, seconds = in_fork(lambda: run_tests([test]), 300 if slow else 25)
    return seconds if outcome == "passed" else None


@cache
def chosen_tests(path: str, slow: bool) -> tuple[list[str], float]:
    nearest = candidates(path)[: None if slow else NEAREST]
    timed = sorted((s, test) for test in nearest if (s := seconds_of(test, slow)) is not None)
    chosen = [(s, test) for s, test in timed if slow or s <= LONGEST_FILE] or timed[:1]
    return [test for _, test in chosen], sum(s for s, _ in chosen)


def outcome_of(mutant: Mutant, slow: bool = False) -> str:
    tests, seconds = chosen_tests(mutant.path, slow)
    if not tests:
        return "no test"
    name, _ = in_fork(lambda: run_tests(tests, mutant), 5 * seconds + 20)
    return {"passed": "survived", "failed": "killed", "time": "killed by time"}[name]


def drawn(number: int) -> list[Mutant]:
    """Evenly over all mistakes that can be made, of modules that some test imports."""
    paths = [
        path.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in sorted((ROOT / "src" / room).rglob("*.py"))
        if path.name != "__init__.py"
    ]
    every = [mutant for path in paths if candidates(path) for mutant in mutants_of(path)]
    return random.Random(SEED).sample(every, number)


def preload() -> None:
    """What the tests import from elsewhere, before any fork; of the project only what goes first."""
    import hypothesis  # noqa: F401
    import lightgbm  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import pandas  # noqa: F401
    import pytest  # noqa: F401
    import scipy.stats  # noqa: F401
    import sklearn.linear_model  # noqa: F401
    import timm
    import torch

    torch.set_num_threads(1)
    assert timm.__version__


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--mutants", type=int, default=MUTANTS, metavar="N")
    parser.add_argument("--again", action="store_true", help="run what was not noticed again")
    arguments = parser.parse_args()
    import src  # noqa: F401  (before anything imports torchvision)
    from src.files import read_json, write_json

    preload()
    found = read_json(RESULTS)["outcomes"] if RESULTS.exists() else {}
    mutants = drawn(arguments.mutants)
    for mutant in mutants:
        known = found.get(str(mutant))
        again = arguments.again and known in ("survived", "no test")
        if known is None or again:
            found[str(mutant)] = outcome_of(mutant, again)
            print(f"{found[str(mutant)]:16s}{mutant}", flush=True)
            write_json(RESULTS, {"seed": SEED, "outcomes": dict(sorted(found.items()))})


if __name__ == "__main__":
    main()
