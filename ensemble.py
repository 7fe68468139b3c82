"""Step 5: blend the runs of an experiment, write its submission, its score table and its report.

    python ensemble.py experiments/baseline
    python ensemble.py --score submission.csv --labels labels.csv     only score a file, any team's

Reads the run folders (out-of-fold and test predictions) and the sample submission in RAW_DATA_DIR; writes
submission.csv, blend.json, scores.json, commands.txt and report.html to SUBMISSION_DIR/<experiment>/.
"""

from argparse import Namespace
from pathlib import Path

from src.command_line import command_line, run, start_logging


def main() -> None:
    arguments = parse_arguments()
    start_logging(arguments.quiet)
    if arguments.score is None:
        blend(arguments)
    else:
        from src.evaluation.submission import score_file

        print(score_file(arguments.score, arguments.labels).text())


def blend(arguments: Namespace) -> None:
    """The whole of step 5."""
    from src.ensemble.ensemble_config import load_ensemble
    from src.ensemble.experiment import evaluate_experiment
    from src.ensemble.reproduce import reproduction_commands
    from src.ensemble.submit import write_experiment_submission
    from src.files import write_json, write_text
    from src.report.run_report import write_report
    from src.report.score_table import score_table
    from src.settings import load_settings
    from src.training.runs import experiment_name

    settings = load_settings(arguments.settings)
    name = experiment_name(arguments.experiment)
    config = load_ensemble(arguments.experiment)
    experiment = evaluate_experiment(settings, name, config, arguments.jobs)
    folder = settings.submissions / name
    filled = write_experiment_submission(experiment, settings.raw, folder / "submission.csv")
    quarantined = [] if filled is None else filled.astype(str).to_dict("records")
    write_json(folder / "blend.json", experiment.fitted.to_dict() | {"quarantined": quarantined})
    commands = reproduction_commands(
        settings, Path(arguments.experiment), arguments.settings, list(experiment.members),
        experiment.config.external,
    )  # fmt: skip
    write_text(folder / "commands.txt", "\n".join(commands) + "\n")
    write_report(folder / "report.html", experiment)
    write_json(folder / "scores.json", experiment.scores())
    if not arguments.quiet:
        print(score_table(experiment))
        for row in quarantined:
            print("{image_id}: quarantined ({cause}), got: {value}".format(**row))
        print("\n  ".join(["the same again:", *commands]))
        submission = "no test part, no submission" if filled is None else folder / "submission.csv"
        print(f"submission: {submission}\nreport:     {folder / 'report.html'}")


def parse_arguments() -> Namespace:
    parser = command_line(__doc__)
    parser.add_argument(
        "experiment", metavar="EXPERIMENT", nargs="?", help="a folder such as experiments/baseline"
    )
    parser.add_argument("--score", metavar="FILE", help="a submission file to score, with --labels")
    parser.add_argument("--labels", metavar="FILE", help="the labels of its images, ID,Label as well")
    arguments = parser.parse_args()
    if (arguments.score is None) != (arguments.labels is None):
        parser.error("--score and --labels belong together")
    if (arguments.experiment is None) == (arguments.score is None):
        parser.error("give either an EXPERIMENT or --score FILE --labels FILE")
    return arguments


if __name__ == "__main__":
    run(main)
