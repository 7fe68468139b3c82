"""Write the generated texts: tables in README.md and docs/ from results/, and directory_structure.txt.

    python -m src.report.tables

A generated table stands between `<!-- generated: NAME -->` and `<!-- end -->`; NAME is demo_scores or
benchmarks. results/demo.json is the scores.json of the last `make run`, where there is one.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import read_json, write_text
from .score_table import SYNTHETIC, ScoreRow, score_rows
from .structure import directory_structure, listed_files

START, END = re.compile(r"^<!-- generated: (\S+) -->$", re.M), "<!-- end -->"
DEMO, BENCH = Path("results/demo.json"), Path("results/bench.json")
STRUCTURE = Path("directory_structure.txt")
BENCH_COLUMNS = ("part", "ours", "reference", "unit", "ratio", "reference_name")


def update(root: Path | str, demo_scores: Path | None = None) -> list[Path]:
    """Bring every generated text below `root` up to date; give the files that changed.

    demo_scores: the scores.json of a demo run, copied to results/demo.json where it exists. Results are
    read, never made: what is missing is named in its table's place.
    """
    root = Path(root)
    changed = []
    if demo_scores is not None and demo_scores.is_file():
        changed += _write(root, DEMO, demo_scores.read_text(encoding="utf-8"))
    for path in documents(root):
        changed += _write(root, path, generated_text((root / path).read_text(encoding="utf-8"), root, path))
    return changed + _write(
        root, STRUCTURE, directory_structure(listed_files(root) | {STRUCTURE.as_posix()}, root)
    )


def documents(root: Path) -> list[Path]:
    """The files that may hold generated tables, relative to `root`."""
    if not (root / "README.md").is_file():
        raise UserError(f"{root / 'README.md'}: missing; run this in a full copy of the repository")
    return [Path("README.md"), *sorted(path.relative_to(root) for path in (root / "docs").glob("*.md"))]


def generated_text(text: str, root: Path, path: Path) -> str:
    """`text` with every generated block replaced by what the results say; `path` is named in errors."""
    position, parts = 0, []
    for start in START.finditer(text):
        name = start[1]
        if name not in BLOCKS:
            raise UserError(f"{path}: no generated block is called {name!r}; known: {', '.join(BLOCKS)}")
        end = text.find(f"\n{END}", start.end())
        following = START.search(text, start.end())
        if end < 0 or (following and following.start() < end):
            raise UserError(f"{path}: the generated block {name!r} has no end; close it with a line {END}")
        parts += [text[position : start.end()], "\n", BLOCKS[name](root).strip("\n")]
        position = end
    return "".join([*parts, text[position:]])


def demo_scores_block(root: Path) -> str:
    """The score table of results/demo.json."""
    if not (root / DEMO).is_file():
        return f"No {DEMO} yet: `make run`, then `make results`, fills in this table (synthetic demo data)."
    scores = read_json(root / DEMO)
    if scores["data"] != "synthetic":
        raise UserError(f"{root / DEMO}: is not of the synthetic demo; delete it and run: make run results")
    count = scores["slices"]
    header = ("predictions", "held out", "of baseline", "hidden test", "of baseline")
    table = markdown_table(header, [_score_cells(row) for row in score_rows(scores)], "lrrrr")
    return (
        f"**{SYNTHETIC}.** Weighted log loss, eps {scores['eps']:g}, lower is better, with a 95 % "
        f"patient-cluster bootstrap interval; {count['oof']:,} held-out and {count['test']:,} hidden test "
        "slices. The blend's weights were fitted on the held-out slices; nested, every slice is scored by "
        f"weights fitted without its patient.\n\n{table}"
    )


def benchmarks_block(root: Path) -> str:
    """The table of results/bench.json."""
    if not (root / BENCH).is_file():
        return f"No {BENCH} yet: `make bench`, then `make results`, fills in this table."
    entries = read_json(root / BENCH)
    rows = [[_plain(entry[column]) for column in BENCH_COLUMNS] for entry in entries]
    return markdown_table([column.replace("_", " ") for column in BENCH_COLUMNS], rows, "lrrlrl")


BLOCKS: Mapping[str, Callable[[Path], str]] = {
    "demo_scores": demo_scores_block,
    "benchmarks": benchmarks_block,
}


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], sides: str) -> str:
    """`sides` has an l or r for each column; a bar in a cell is escaped."""
    lines = [header, ["---:" if side == "r" else "---" for side in sides], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _score_cells(row: ScoreRow) -> list[str]:
    cells = [f"**{row.name}**" if row.kind == "blend" else row.name]
    for part in ("oof", "test"):
        score, interval, share = row.part(part)
        if score is None:
            cells += ["", ""]
            continue
        bounds = "" if interval is None else f" [{interval[0]:.4f}, {interval[1]:.4f}]"
        cells += [f"{score:.4f}{bounds}", f"{100 * share:.0f} %"]
    return cells


def _plain(value: Any) -> str:
    """Numbers with three significant digits, or all digits before the point; text as it is."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "" if value is None else str(value)


def _write(root: Path, path: Path, text: str) -> list[Path]:
    """Write where the content differs; the file as a list if it did."""
    target = root / path
    if target.is_file() and target.read_text(encoding="utf-8") == text:
        return []
    write_text(target, text)
    return [path]


if __name__ == "__main__":
    import sys

    from ..settings import load_settings

    ROOT = Path(__file__).resolve().parents[2]
    try:
        demo = load_settings(ROOT / "experiments/demo/SETTINGS.json").submissions / "demo" / "scores.json"
        for file in update(ROOT, demo):
            print(f"wrote {file}")
    except UserError as error:
        sys.exit(f"error: {error}")
