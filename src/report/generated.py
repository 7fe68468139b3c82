"""Write the generated texts: tables in README.md and docs/ from results/, and directory_structure.txt.

    python -m src.report.generated

A generated table stands between `<!-- generated: NAME -->` and `<!-- end -->`; NAME is one of BLOCKS.
results/demo.json is the scores.json of the last `make run`, results/realistic.json that of
experiments/realistic, where there is one; results/real_*.json are written by `python -m src.audit.held_out`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..command_line import argument_parser, run
from ..errors import UserError
from ..files import read_json, write_text
from ..labels import LABELS
from ..settings import load_settings
from .real_scores import real_block, real_line
from .reliability import Rows, kill_rows, mutant_rows, mutation_rows
from .score_table import SYNTHETIC, ScoreRow, score_rows
from .structure import directory_structure, listed_files
from .tables import markdown_table

START, END = re.compile(r"^<!-- generated: (\S+) -->$", re.M), "<!-- end -->"
RESULTS = Path("results")
BENCH = RESULTS / "bench.json"
SYNTHETIC_EXPERIMENTS = {  # and what makes their results
    "demo": "`make run`",
    "realistic": "the steps in experiments/realistic/README.md",
}
STRUCTURE = Path("directory_structure.txt")
BENCH_COLUMNS = ("part", "ours", "reference", "unit", "ratio", "reference_name")


def update(root: Path | str, scores: Mapping[str, Path] | None = None) -> list[Path]:
    """Bring every generated text below `root` up to date; give the files that changed.

    scores: experiment -> the scores.json of its last run, copied to results/<experiment>.json where it
    exists. Results are read, never made: what is missing is named in its table's place.
    """
    root = Path(root)
    changed = []
    for name, path in (scores or {}).items():
        if path.is_file():
            changed += _write(root, RESULTS / f"{name}.json", path.read_text(encoding="utf-8"))
    for path in documents(root):
        changed += _write(root, path, generated_text((root / path).read_text(encoding="utf-8"), root, path))
    return changed + _write(
        root, STRUCTURE, directory_structure(listed_files(root) | {STRUCTURE.as_posix()}, root)
    )


def documents(root: Path) -> list[Path]:
    """The files that may hold generated tables, relative to `root`."""
    if not (root / "README.md").is_file():
        raise UserError(f"{root / 'README.md'}: missing; run this in a full copy of the repository")
    others = [*root.glob("docs/*.md"), *root.glob("experiments/*/README.md")]
    return [Path("README.md"), *sorted(path.relative_to(root) for path in others)]


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


def scores_block(root: Path, name: str) -> str:
    """The score table of results/<name>.json, a synthetic experiment's."""
    path, maker = RESULTS / f"{name}.json", SYNTHETIC_EXPERIMENTS[name]
    if not (root / path).is_file():
        return f"No {path} yet: {maker}, then `make results`, fills in this table (synthetic demo data)."
    scores = read_json(root / path)
    if scores["data"] != "synthetic":
        raise UserError(
            f"{root / path}: is not of the synthetic {name}; delete it, then {maker} and make results"
        )
    count = scores["slices"]
    header = ("predictions", "held out", "of baseline", "hidden test", "of baseline")
    table = markdown_table(header, [_score_cells(row) for row in score_rows(scores)], "lrrrr")
    return (
        f"**{SYNTHETIC}.** Weighted log loss, eps {scores['eps']:g}, lower is better, with a 95 % "
        f"patient-cluster bootstrap interval; {count['oof']:,} held-out and {count['test']:,} hidden test "
        "slices. The blend's held-out score is nested: every slice is scored by a blend that was chosen and "
        f"fitted without its patient.\n\n{table}"
    )


def benchmarks_block(root: Path) -> str:
    """The table of results/bench.json."""
    if not (root / BENCH).is_file():
        return f"No {BENCH} yet: `make bench`, then `make results`, fills in this table."
    entries = read_json(root / BENCH)
    rows = [[_plain(entry[column]) for column in BENCH_COLUMNS] for entry in entries]
    return markdown_table([column.replace("_", " ") for column in BENCH_COLUMNS], rows, "lrrlrl")


def difficulty_block(root: Path) -> str:
    """The tables of results/difficulty_*.json: score against training size, labels at the largest size."""
    files = sorted((root / RESULTS).glob("difficulty_*.json"))
    if not files:
        return "No results/difficulty_*.json yet: `python -m src.audit.difficulty` fills in these tables."
    by_size, by_label = [], []
    for result in map(read_json, files):
        largest = max(row["studies"] for row in result["rows"])
        for row in sorted(result["rows"], key=lambda row: (row["part"], row["studies"], row["run"])):
            areas = row["labels"]["any"]["auc"]
            gain = row.get("of_stage1")
            by_size.append(
                [
                    row["run"],
                    row["part"],
                    f"{row['studies']:,}",
                    f"{row['slices']:,}",
                    _span(row["ratio"]),
                    _span(areas),
                    "" if gain is None else _span(gain),
                ]
            )
            if row["studies"] == largest and row["part"] == "held out":
                by_label += [_label_cells(row, "ratio"), _label_cells(row, "auc")]
    header = ("run", "scored on", "training studies", "slices", "of baseline", "AUC any", "of stage 1")
    labels = ("run, largest training set", "", *LABELS)
    data = result["data"]
    return (
        f"**{SYNTHETIC}.** Preset {data['preset']}, {data['size']} pixels, seed {data['seed']}. `of "
        "baseline`: weighted log loss over that of the constant prevalence. Intervals: 95 %, bootstrap of "
        "patients.\n\n"
        f"{markdown_table(header, by_size, 'llrrrrr')}\n\n"
        f"{markdown_table(labels, by_label, 'll' + 'r' * len(LABELS))}"
    )


def _span(values: Sequence[float]) -> str:
    return f"{values[0]:.3f} [{values[1]:.3f}, {values[2]:.3f}]"


def _label_cells(row: Mapping[str, Any], what: str) -> list[str]:
    found = [row["labels"][label][what] for label in LABELS]
    firsts = [value[0] if isinstance(value, list) else value for value in found]
    named = "log loss of baseline" if what == "ratio" else "AUC"
    return [row["run"], named, *("" if value is None else f"{value:.3f}" for value in firsts)]


def reliability_block(rows: Callable[[Path], Rows], root: Path) -> str:
    """A table of docs/reliability.md; numbers stand right."""
    header, found = rows(root)
    if not found:
        return "Not recorded yet: `make faults`, then `make results`, fills in this table."
    return markdown_table(header, found, "l" + "r" * (len(header) - 1))


BLOCKS: Mapping[str, Callable[[Path], str]] = {
    **{f"{name}_scores": partial(scores_block, name=name) for name in SYNTHETIC_EXPERIMENTS},
    **{name: partial(real_block, name=name) for name in ("real_slices", "real_studies")},
    "real_line": real_line,
    "difficulty": difficulty_block,
    "benchmarks": benchmarks_block,
    "kills": partial(reliability_block, kill_rows),
    "damaged_files": partial(reliability_block, mutant_rows),
    "mistakes": partial(reliability_block, mutation_rows),
}


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


def main() -> None:
    argument_parser(__doc__).parse_args()
    root = Path(__file__).resolve().parents[2]
    found = {
        name: load_settings(root / f"experiments/{name}/SETTINGS.json").submissions / name / "scores.json"
        for name in SYNTHETIC_EXPERIMENTS
    }
    for file in update(root, found):
        print(f"wrote {file}")


if __name__ == "__main__":
    run(main)
