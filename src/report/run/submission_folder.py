"""What step 5 leaves in SUBMISSION_DIR/<experiment>/, and what it says of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ...ensemble.ensemble_config import EnsembleConfig, load_ensemble
from ...ensemble.experiment import evaluate_experiment
from ...ensemble.gather import experiment_targets
from ...ensemble.reproduce import reproduction_commands
from ...ensemble.submit import write_experiment_submission
from ...ensemble.target_experiment import evaluate_target_experiment
from ...evaluation.operating import POINTS
from ...files import folder_lock, write_json, write_text
from ...settings import Settings
from ...targets import HEMORRHAGE, Targets
from ...training.runs import experiment_name
from ..score_table import score_table
from .hardest_pages import remove_other_pages, write_hardest_pages
from .outcome import MOST_PAGES, Outcome
from .run_report import write_report
from .target_report import target_table, write_target_report


def write_submission_folder(settings: Settings, experiment: Path, jobs: int, pages: int = MOST_PAGES) -> str:
    """Blend an experiment of the six labels, or score one of other targets; the text for the terminal.

    `experiment` is the folder as given; pages: how many of the hardest studies get a page at most.
    """
    config, name = load_ensemble(experiment), experiment_name(experiment)
    targets = experiment_targets(settings, name, config)
    with folder_lock(settings.submissions / name):
        if targets != HEMORRHAGE:
            return _score(settings, experiment, config, targets)
        return _blend(settings, experiment, config, jobs, pages)


def _blend(settings: Settings, folder: Path, config: EnsembleConfig, jobs: int, pages: int) -> str:
    seconds: dict[str, float] = {}
    with _timed(seconds, "reading the predictions, scores, blend"):
        experiment = evaluate_experiment(settings, experiment_name(folder), config, jobs)
    out = settings.submissions / experiment.name
    (out / "scores.json").unlink(missing_ok=True)  # the last to be written: a stopped step leaves none
    with _timed(seconds, "submission"):
        filled = write_experiment_submission(experiment, settings.raw, out / "submission.csv")
    quarantined = [] if filled is None else filled.astype(str).to_dict("records")
    leaky = {"leak": experiment.leak} if experiment.leak else {}
    write_json(out / "blend.json", experiment.fitted.to_dict() | {"quarantined": quarantined} | leaky)
    outcome = Outcome.of(experiment)
    write_json(out / POINTS, outcome.points | leaky)
    flags = "" if pages == MOST_PAGES else f" --study-pages {pages}"
    commands = _write_commands(settings, folder, config, list(experiment.members), out, flags)
    with _timed(seconds, "pages of the hardest studies"):
        written = write_hardest_pages(out, experiment, outcome.hardest, outcome.points["labels"], pages, jobs)
    outcome = replace(outcome, pages=written, commands=commands, seconds=seconds)
    write_report(out / "report.html", experiment, outcome)
    remove_other_pages(out, written.values())
    write_json(out / "scores.json", experiment.scores())
    submission = "no test part, no submission" if filled is None else out / "submission.csv"
    lines = ["{image_id}: quarantined ({cause}), got: {value}".format(**row) for row in quarantined]
    places = [f"submission: {submission}", f"report:     {out / 'report.html'}"]
    return "\n".join([score_table(experiment), *lines, _paragraph(commands), *places])


def _score(settings: Settings, folder: Path, config: EnsembleConfig, targets: Targets) -> str:
    experiment = evaluate_target_experiment(settings, experiment_name(folder), config, targets)
    out = settings.submissions / experiment.name
    (out / "scores.json").unlink(missing_ok=True)
    commands = _write_commands(settings, folder, config, list(experiment.members), out)
    write_target_report(out / "report.html", experiment, commands)
    write_json(out / "scores.json", experiment.scores())
    return "\n".join([target_table(experiment), _paragraph(commands), f"report: {out / 'report.html'}"])


def _write_commands(
    settings: Settings, folder: Path, config: EnsembleConfig, members: list[str], out: Path, flags: str = ""
) -> list[str]:
    """commands.txt, and its lines; flags: those of this step."""
    *others, own = reproduction_commands(settings, folder, members, config.external)
    commands = [*others, own + flags]
    write_text(out / "commands.txt", "\n".join(commands) + "\n")
    return commands


def _paragraph(commands: list[str]) -> str:
    return "\n  ".join(["the same again:", *commands])


@contextmanager
def _timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    """Note how long the block takes."""
    started = time.perf_counter()
    yield
    seconds[what] = time.perf_counter() - started
