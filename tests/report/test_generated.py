"""Generated texts: what README shows is what results/ say."""

import json
import subprocess
from pathlib import Path

import pytest

from src.errors import UserError
from src.labels import LABELS
from src.report.generated import BLOCKS, documents, generated_text, update
from src.report.structure import directory_structure, listed_files
from tests.conftest import ROOT

README = """# Title

<!-- generated: demo_scores -->
old
<!-- end -->

between

<!-- generated: benchmarks -->
<!-- end -->
after
"""
SCORES = {
    "experiment": "demo",
    "data": "synthetic",
    "eps": 1e-15,
    "slices": {"oof": 2500, "test": 500},
    "baseline": 0.25,
    "test_baseline": 0.2,
    "members": {
        "demo/stage1/a": {"oof": 0.125, "interval": [0.1, 0.15], "test": 0.11, "test_interval": [0.09, 0.13]}
    },
    "mean": {"oof": 0.125, "interval": [0.1, 0.15], "test": 0.11, "test_interval": [0.09, 0.13]},
    "blend": {
        "oof": 0.1,
        "interval": [0.08, 0.12],
        "test": 0.1,
        "test_interval": [0.08, 0.12],
        "nested": 0.105,
    },
    "context": None,
}
BENCH = [
    {
        "part": "scan",
        "ours": 9870.4,
        "reference": 1955,
        "unit": "slices/s",
        "ratio": 5.049,
        "reference_name": "a|b",
    }
]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A clone with a README, one module and no results."""
    (tmp_path / "README.md").write_text(README)
    (tmp_path / "src" / "room").mkdir(parents=True)
    (tmp_path / "src" / "__init__.py").write_text("")
    (tmp_path / "src" / "room" / "__init__.py").write_text('"""What the room is for."""\n')
    (tmp_path / "src" / "room" / "thing.py").write_text(
        '"""Does a thing.  And says\nmore.\n\nMuch more."""\n'
    )
    (tmp_path / "Makefile").write_text("# make all: everything.   make none: nothing\nall:\n")
    (tmp_path / ".gitignore").write_text("/data/\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "big.bin").write_text("")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    return tmp_path


def with_results(repository: Path) -> Path:
    (repository / "results").mkdir()
    (repository / "results" / "demo.json").write_text(json.dumps(SCORES))
    (repository / "results" / "bench.json").write_text(json.dumps(BENCH))
    return repository


def test_readme_of_this_repository_shows_what_results_say() -> None:
    for path in documents(ROOT):
        text = (ROOT / path).read_text(encoding="utf-8")
        assert generated_text(text, ROOT, path) == text, f"{path} is out of date; run: make results"
    texts = "".join((ROOT / path).read_text(encoding="utf-8") for path in documents(ROOT))
    assert all(f"<!-- generated: {name} -->" in texts for name in BLOCKS)


def test_missing_results_name_the_command_that_makes_them(repository: Path) -> None:
    update(repository)
    text = (repository / "README.md").read_text()
    assert "`make run`, then `make results`" in text
    assert "`make bench`, then `make results`" in text
    assert "old" not in text


def test_tables_hold_the_results(repository: Path) -> None:
    update(with_results(repository))
    text = (repository / "README.md").read_text()
    assert "SYNTHETIC" in text
    assert "| prevalence baseline | 0.2500 | 100 % | 0.2000 | 100 % |" in text
    assert "| demo/stage1/a | 0.1250 [0.1000, 0.1500] | 50 % | 0.1100 [0.0900, 0.1300] | 55 % |" in text
    assert "| **blend** | 0.1000 [0.0800, 0.1200] | 40 % |" in text
    assert "| scan | 9,870 | 1,955 | slices/s | 5.05 | a\\|b |" in text
    assert text.startswith("# Title\n\n<!-- generated: demo_scores -->\n")
    assert "<!-- end -->\n\nbetween\n\n<!-- generated: benchmarks -->\n| part" in text
    assert text.endswith("<!-- end -->\nafter\n")


def test_second_run_changes_nothing(repository: Path) -> None:
    assert update(with_results(repository)) == [Path("README.md"), Path("directory_structure.txt")]
    assert update(repository) == []


def test_changed_results_change_the_table(repository: Path) -> None:
    update(with_results(repository))
    (repository / "results" / "demo.json").write_text(json.dumps(SCORES | {"baseline": 0.3}))
    assert update(repository) == [Path("README.md")]
    assert "| prevalence baseline | 0.3000 |" in (repository / "README.md").read_text()


def test_scores_of_a_demo_run_are_taken_over(repository: Path, tmp_path: Path) -> None:
    scores = tmp_path / "data" / "scores.json"
    update(repository, {"demo": scores})  # not there yet: nothing to take over
    assert not (repository / "results" / "demo.json").exists()
    scores.write_text(json.dumps(SCORES))
    assert Path("results/demo.json") in update(repository, {"demo": scores})
    assert (repository / "results" / "demo.json").read_text() == scores.read_text()


def test_an_experiment_shows_its_own_table_in_its_own_readme(repository: Path) -> None:
    readme = repository / "experiments" / "realistic" / "README.md"
    readme.parent.mkdir(parents=True)
    readme.write_text(
        "<!-- generated: realistic_scores -->\n<!-- end -->\n\n<!-- generated: difficulty -->\n<!-- end -->\n"
    )
    update(repository)
    assert "No results/realistic.json yet" in readme.read_text()
    assert "No results/difficulty_*.json yet" in readme.read_text()
    with_results(repository)
    (repository / "results" / "realistic.json").write_text(json.dumps(SCORES | {"baseline": 0.5}))
    label = {"positives": 9, "ratio": 0.7, "auc": [0.8, 0.7, 0.9]}
    row = {"part": "held out", "run": "realistic/stage1/a", "ratio": [0.75, 0.7, 0.8], "slices": 3500}
    row |= {
        "labels": {name: label for name in LABELS} | {"epidural": label | {"auc": [None] * 3, "ratio": 1.1}}
    }
    other = row | {"run": "realistic/stage2/b", "of_stage1": [0.9, 0.85, 0.95], "studies": 300}
    result = {
        "data": {"preset": "realistic", "size": 256, "seed": 1},
        "rows": [other, row | {"studies": 300}, row | {"studies": 100}],
    }
    (repository / "results" / "difficulty_a.json").write_text(json.dumps(result))
    update(repository)
    lines = readme.read_text().splitlines()
    assert "| prevalence baseline | 0.5000 | 100 % | 0.2000 | 100 % |" in lines
    assert [line.split(" | ")[:3] for line in lines if "3,500" in line] == [
        ["| realistic/stage1/a", "held out", "100"],
        ["| realistic/stage1/a", "held out", "300"],
        ["| realistic/stage2/b", "held out", "300"],
    ]
    assert any(
        line.endswith("| 0.750 [0.700, 0.800] | 0.800 [0.700, 0.900] | 0.900 [0.850, 0.950] |")
        for line in lines
    )
    assert (
        "| realistic/stage1/a | log loss of baseline | 1.100 | 0.700 | 0.700 | 0.700 | 0.700 | 0.700 |"
        in lines
    )
    assert "| realistic/stage1/a | AUC |  | 0.800 | 0.800 | 0.800 | 0.800 | 0.800 |" in lines


def test_real_scores_are_not_called_a_demo(repository: Path) -> None:
    with_results(repository)
    (repository / "results" / "demo.json").write_text(json.dumps(SCORES | {"data": "real"}))
    with pytest.raises(UserError, match=r"demo\.json: is not of the synthetic demo"):
        update(repository)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- generated: speed -->\n<!-- end -->\n", "'speed'; known: demo_scores, realistic_scores, "),
        ("<!-- generated: benchmarks -->\n", "'benchmarks' has no end"),
        ("<!-- generated: benchmarks -->\n" + README, "'benchmarks' has no end"),
    ],
)
def test_broken_marks_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        generated_text(text, tmp_path, Path("README.md"))


def test_structure_takes_its_remarks_from_the_files(repository: Path) -> None:
    paths = listed_files(repository)
    assert "data/big.bin" not in paths
    lines = [" ".join(line.split()) for line in directory_structure(paths, repository).splitlines()]
    assert lines == [
        "Generated by `make results`: 6 files.",
        "",
        ".gitignore data, environments and caches stay out of the repository",
        "Makefile make all: everything",
        "README.md start here",
        "src/ the library: everything the scripts call",
        "room/ What the room is for",
        "thing.py Does a thing",
    ]


def test_a_folder_that_git_does_not_know_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="git cannot list its files"):
        listed_files(tmp_path / "nowhere")


def test_figures_of_faults_stand_row_by_row(tmp_path):
    (tmp_path / "results").mkdir()
    faults = {
        "kills at random moments": {"slice": {"SIGKILL": 7, "SIGTERM": 6}},
        "kills in place of a change of files": {"slice": {"SIGKILL": 48}, "trees": {"SIGKILL": 16}},
        "mutants": {"CSV": {"tried": 3600, "refused": 3000}},
    }
    outcomes = {"src/models/a.py:1: 1 -> 2": "killed", "src/models/b.py:2: 1 -> 2": "survived"}
    outcomes |= {"src/training/c.py:3: x -> y": "killed by time", "src/training/c.py:4: x -> y": "no test"}
    outcomes["src/training/c.py:5: x -> y"] = "explained: y is x"
    (tmp_path / "results/faults.json").write_text(json.dumps(faults))
    (tmp_path / "results/mutation.json").write_text(json.dumps({"outcomes": outcomes}))
    (tmp_path / "other/results").mkdir(parents=True)
    (tmp_path / "other/results/faults.json").write_text("{}")
    assert BLOCKS["damaged_files"](tmp_path / "other").startswith("Not recorded yet: `make faults`")
    rows = {name: BLOCKS[name](tmp_path).splitlines()[2:] for name in ("kills", "damaged_files", "mistakes")}
    assert rows == {
        "kills": [
            "| slice | 7 | 6 | not recorded | 48 |",
            "| trees | not recorded | not recorded | not recorded | 16 |",
        ],
        "damaged_files": ["| CSV | 3,600 | 3,000 |"],
        "mistakes": ["| models | 2 | 1 | 0 | 1 | 0 |", "| training | 3 | 1 | 1 | 0 | 1 |"],
    }
