"""Step 5: blend the runs of an experiment, write its submission, its score table and its report.

    python ensemble.py experiments/baseline
    python ensemble.py --score submission.csv --labels labels.csv     only score a file, any team's

Reads the run folders (out-of-fold and test predictions) and the sample submission in RAW_DATA_DIR; writes
submission.csv, blend.json, operating_points.json, scores.json, commands.txt and report.html to
SUBMISSION_DIR/<experiment>/, and to studies/ there a page of each of the studies that the blend is worst at.
Runs of other targets than the six labels are scored and reported, and neither blended nor submitted.
"""

from argparse import Namespace
from pathlib import Path

from src.command_line import command_line, run, start_logging


def main() -> None:
    arguments = parse_arguments()
    start_logging(arguments.quiet)
    if arguments.score is None:
        evaluate(arguments)
    else:
        from src.evaluation.submission import score_file

        print(score_file(arguments.score, arguments.labels).text())


def evaluate(arguments: Namespace) -> None:
    """The whole of step 5."""
    from src.report.run.submission_folder import write_submission_folder
    from src.settings import load_settings

    settings = load_settings(arguments.settings)
    text = write_submission_folder(
        settings, Path(arguments.experiment), arguments.jobs, arguments.study_pages
    )
    if not arguments.quiet:
        print(text)


def parse_arguments() -> Namespace:
    parser = command_line(__doc__)
    parser.add_argument(
        "experiment", metavar="EXPERIMENT", nargs="?", help="a folder such as experiments/baseline"
    )
    parser.add_argument(
        "--study-pages", metavar="N", type=int, choices=range(10), default=9,
        help="hardest studies to write a page of, some megabytes each (0 to 9, default: all 9 listed)",
    )  # fmt: skip
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
