"""Do the tests notice a mistake? Small ones are made in the source, one at a time, and its tests run.

    python -m tests.mutation            320 mutants drawn with a seed; what is recorded is not run again
    python -m tests.mutation --again    survivors once more, against every test that imports their module

A mutant lives in memory only: an import hook gives it in place of its module to a process that is forked for
it, and to those that this one starts. It is killed by a test that fails or by needing five times the
processor time. Its tests are those that run the changed function, in the nearest files that import its
module. It is drawn by a checksum of its name, which has no line in it: while the source changes, most stay
drawn and what is recorded stays true. Survivors that no test can or should kill are explained in
tests/mutation_explained.json. Results: results/mutation.json.
"""

import argparse
import ast
import copy
import hashlib
import marshal
import os
import re
import resource
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType, FrameType

import pytest

import src  # noqa: F401  (before anything imports torchvision)
from src.files import read_json, write_json

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("training", "models", "evaluation", "ensemble")
RESULTS, EXPLAINED = ROOT / "results/mutation.json", ROOT / "tests/mutation_explained.json"
SEED, MUTANTS = 2026, 320
NEAREST = 5  # test files that are run for a module, at most
LONGEST_FILE = 20.0  # seconds of processor time; of a longer one the first tests count
OPTIONS = r"class \w+\(\w*(Model|Config|Options)\b"  # classes whose defaults stand in docs/configuration.md
DEFAULTS = "tests/report/test_configuration.py"

COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
ARITHMETIC = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


HOOK = """
import marshal, sys
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_file_location

class Given(SourceFileLoader):
    def find_spec(self, name, path=None, target=None):
        return spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, name):
        return marshal.loads({code!r})

sys.meta_path.insert(0, Given({name!r}, {path!r}))
"""


@dataclass(frozen=True)
class Mutant:
    """The `place`-th node of a module's tree, in `ast.walk`'s order, replaced."""

    path: str
    place: int
    function: str  # the outermost around it, with its class; empty for what runs on import
    name: str

    def __str__(self) -> str:
        return self.name


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


def _functions(node: ast.AST, inside: str = "") -> dict[int, str]:
    """Node -> the outermost function that it stands in."""
    found: dict[int, str] = {}
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            found |= {id(part): inside + child.name for part in ast.walk(child)}
        else:
            found |= _functions(
                child, f"{inside}{child.name}." if isinstance(child, ast.ClassDef) else inside
            )
    return found


def mutants_of(path: str) -> Iterator[Mutant]:
    tree = ast.parse((ROOT / path).read_text())
    skipped, functions, alike = _annotations(tree), _functions(tree), Counter()
    for place, node in enumerate(ast.walk(tree)):
        if id(node) not in skipped and (new := changed(node)) is not None:
            function = functions.get(id(node), "")
            name = f"{path}, {function or 'on import'}: {_short(node)}  ->  {_short(new)}"
            alike[name] += 1
            yield Mutant(path, place, function, name + (f"  ({alike[name]})" if alike[name] > 1 else ""))


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


def given(mutant: Mutant) -> str:
    """Python that puts the mutant in place of its module, for a process that has not imported it."""
    return HOOK.format(
        name=module_of(mutant.path), path=str(ROOT / mutant.path), code=marshal.dumps(code_of(mutant))
    )


class Touched:
    """A plugin of pytest: which functions of src a test runs, the set-up of its shared fixtures included.

    It ends after so many seconds of processor time; tests that share nothing come first.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.stopped = seconds, False
        self.now = self.at_import = {}  # by id: code hashes slowly
        self.fixtures: dict[str, dict[int, CodeType]] = defaultdict(dict)
        self.tests: dict[str, list[dict[int, CodeType]]] = {}

    def start(self) -> None:
        signal.signal(signal.SIGXCPU, self._stop)
        signal.signal(signal.SIGALRM, self._stop)  # for tests that wait
        signal.alarm(int(4 * self.seconds))
        sys.settrace(self._trace)
        threading.settrace(self._trace)

    def _stop(self, *_: object) -> None:
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)  # it comes every second
        signal.alarm(0)
        self.stopped = True
        pytest.exit("no more time")

    def _trace(self, frame: FrameType, event: str, argument: object) -> None:
        if frame.f_code.co_filename.startswith(f"{ROOT}/src/"):
            self.now[id(frame.f_code)] = frame.f_code

    @contextmanager
    def _into(self, found: dict[int, CodeType]) -> Iterator[dict[int, CodeType]]:
        before, self.now = self.now, found
        try:
            yield found
        finally:
            self.now = before

    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        def shared(item: pytest.Function) -> int:
            return sum(d[-1].scope != "function" for d in item._fixtureinfo.name2fixturedefs.values())

        items.sort(key=shared)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef, request) -> object:
        if fixturedef.scope == "function":
            return (yield)
        with self._into(self.fixtures[fixturedef.argname]):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item, nextitem) -> object:
        with self._into({}) as own:
            done = yield
        shared = [self.fixtures[name] for name in item.fixturenames]
        self.tests[item.nodeid] = [self.at_import, own, *shared]
        return done

    def by_function(self) -> dict[str, list[str]]:
        """Path and function -> its tests; all of them by ""."""
        found: dict[str, list[str]] = defaultdict(list, {"": list(self.tests)})
        for test, parts in self.tests.items():
            for name in {_name(code) for part in parts for code in part.values()}:
                found[name].append(test)
        return found


def _name(code: CodeType) -> str:
    return f"{Path(code.co_filename).relative_to(ROOT)}, {code.co_qualname.split('.<locals>')[0]}"


@cache
def tests_by_text() -> dict[str, str]:
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if "faults" not in path.parts]
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted(files)}


def candidates(path: str, most: int | None = None) -> list[str]:
    """The nearest test files that import a module; where none does, those of its folder, which come by it."""
    module = re.escape(module_of(path))
    package, _, name = module_of(path).rpartition(".")
    ways = (rf"\b{module}\b", rf"from {re.escape(package)} import .*\b{name}\b")
    found = [test for test, text in tests_by_text().items() if any(re.search(way, text) for way in ways)]
    folder = str(Path(path).parent).replace("src", "tests", 1)
    inside = [test for test in tests_by_text() if str(Path(test).parent) == folder]
    nearest = sorted(found, key=lambda test: (Path(test).stem != f"test_{name}", test not in inside))
    return nearest[:most] or inside


def in_fork(action: Callable[[], int], seconds: float) -> tuple[str, float]:
    """Outcome (passed, failed, time) of an action in a process of its own, and its processor time."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, 2 * int(seconds) + 10))
        silence = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(silence, number)
        os._exit(action())
    end = time.monotonic() + 4 * seconds + 60  # for a test that waits, and for company on the machine
    try:
        while (found := os.wait4(child, os.WNOHANG))[0] == 0:
            if time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
            time.sleep(0.02)
    finally:
        with suppress(ProcessLookupError):  # and what it has started
            os.killpg(child, signal.SIGKILL)
    _, status, used = found
    if os.WIFSIGNALED(status):
        name = "time" if os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL) else "failed"
    else:
        name = "failed" if os.WEXITSTATUS(status) else "passed"
    return name, used.ru_utime + used.ru_stime


def run_tests(tests: list[str], mutant: Mutant | None = None, plugins: tuple[object, ...] = ()) -> int:
    with TemporaryDirectory(prefix="mutant_") as folder:
        if mutant is not None:
            hook = Path(folder) / "sitecustomize.py"  # what the tests start runs it
            hook.write_text(given(mutant))
            os.environ["PYTHONPATH"] = os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])
            exec(hook.read_text(), {})
        options = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={folder}/t"]
        return int(pytest.main([*options, *(str(ROOT / test) for test in tests)], plugins))


@dataclass(frozen=True)
class TestFile:
    """How long a file takes without a mutant, and which of its tests run what, as far as there was time."""

    path: str
    seconds: float
    tests: dict[str, list[str]]  # by path and function; all of them by ""


@cache
def measured(path: str, slow: bool) -> TestFile | None:
    """None where it does not pass."""
    seconds = 300.0 if slow else LONGEST_FILE
    with TemporaryDirectory(prefix="touched_") as folder:
        found = Path(folder) / "found.json"

        def trace() -> int:
            touched = Touched(seconds)
            touched.start()
            status = run_tests([path], plugins=(touched,))
            sys.settrace(None)
            write_json(found, touched.by_function())
            return 0 if touched.stopped else status

        outcome, used = in_fork(trace, seconds)
        return TestFile(path, used, read_json(found)) if outcome == "passed" else None


def outcome_of(mutant: Mutant, slow: bool = False) -> str:
    """By the tests that run the function, or all where it is run on import; `slow`: all in any case."""
    nearest = candidates(mutant.path, None if slow else NEAREST)
    if re.search(OPTIONS, (ROOT / mutant.path).read_text()):
        nearest.append(DEFAULTS)
    known = False
    for file in filter(None, (measured(path, slow) for path in nearest)):
        own = file.tests.get(f"{mutant.path}, {mutant.function}" if mutant.function else "", [])
        if tests := [file.path] if slow else own:
            known = True
            outcome, _ = in_fork(lambda tests=tests: run_tests(tests, mutant), 5 * file.seconds + 20)
            if outcome != "passed":
                return {"failed": "killed", "time": "killed by time"}[outcome]
    return "survived" if known else "no test"


def drawn(number: int) -> list[Mutant]:
    """Evenly over all mistakes that can be made, of modules that some test imports."""
    paths = [
        path.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in sorted((ROOT / "src" / room).rglob("*.py"))
        if path.name != "__init__.py"
    ]
    every = [mutant for path in paths if candidates(path) for mutant in mutants_of(path)]
    return sorted(every, key=lambda mutant: hashlib.sha256(f"{SEED} {mutant}".encode()).digest())[:number]


def preload() -> None:
    """What the tests import and no mutant is of, before any fork."""
    import hypothesis  # noqa: F401
    import lightgbm  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import pandas  # noqa: F401
    import scipy.stats  # noqa: F401
    import sklearn.linear_model  # noqa: F401
    import timm
    import torch

    torch.set_num_threads(1)
    assert timm.__version__
    for path in [*(ROOT / "src").glob("*.py"), *(ROOT / "src/data").rglob("*.py")]:
        import_module(module_of(path.relative_to(ROOT).as_posix()).removesuffix(".__init__"))


def record(found: dict[str, str]) -> None:
    """What was not noticed and is explained carries the explanation."""
    unnoticed = {name for name, outcome in found.items() if not outcome.startswith("killed")}
    explained = {name: f"explained: {why}" for name, why in read_json(EXPLAINED).items() if name in unnoticed}
    write_json(RESULTS, {"seed": SEED, "outcomes": dict(sorted((found | explained).items()))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--mutants", type=int, default=MUTANTS, metavar="N")
    parser.add_argument("--again", action="store_true", help="run what was not noticed again")
    arguments = parser.parse_args()
    preload()
    known = read_json(RESULTS)["outcomes"] if RESULTS.exists() else {}
    mutants = drawn(arguments.mutants)
    found = {mutant.name: known[mutant.name] for mutant in mutants if mutant.name in known}
    for mutant in mutants:
        before = found.get(mutant.name)
        again = arguments.again and before in ("survived", "no test")
        if before is None or again:
            outcome = outcome_of(mutant, again)
            found[mutant.name] = outcome
            print(f"{outcome:16s}{mutant}", flush=True)
            record(found)
    record(found)


if __name__ == "__main__":
    main()
