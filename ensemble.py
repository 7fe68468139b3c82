"""Step 5: blend the runs of an experiment, write its submission, its score table and its report.

    python ensemble.py experiments/baseline

Reads the run folders (out-of-fold and test predictions) and the sample submission in RAW_DATA_DIR; writes
submission.csv, blend.json, scores.json and report.html to SUBMISSION_DIR/<experiment>/.
"""

from argparse import Namespace
from pathlib import Path

from src.command_line import command_line, run, start_logging


def main() -> None:
    arguments = parse_arguments()
    start_logging(arguments.quiet)

    from src.config import load_config
    from src.evaluation.experiment import EnsembleConfig, evaluate_experiment, write_experiment_submission
    from src.files import write_json
    from src.report.run_report import write_report
    from src.report.score_table import score_table
    from src.settings import load_settings
    from src.training.runs import experiment_name

    settings = load_settings(arguments.settings)
    name = experiment_name(arguments.experiment)
    config = load_config(EnsembleConfig, Path(arguments.experiment) / "ensemble.json")
    experiment = evaluate_experiment(settings, name, config)
    folder = settings.submissions / name
    filled = write_experiment_submission(experiment, settings.raw, folder / "submission.csv")
    write_json(folder / "blend.json", experiment.fitted.to_dict())
    write_report(folder / "report.html", experiment)
    write_json(folder / "scores.json", experiment.scores())
    if not arguments.quiet:
        print(score_table(experiment))
        for image_id, cause in filled.itertuples(index=False):
            print(f"{image_id}: quarantined ({cause}), got the training prior")
        print(f"submission: {folder / 'submission.csv'}\nreport:     {folder / 'report.html'}")


def parse_arguments() -> Namespace:
    parser = command_line(__doc__)
    parser.add_argument("experiment", metavar="EXPERIMENT", help="a folder such as experiments/baseline")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
