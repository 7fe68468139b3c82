"""Step 4: predict the test slices with every complete run folder of an experiment, or score labelled data.

    python predict.py experiments/baseline
    python predict.py experiments/baseline --settings OTHER.json --labelled --out DIR [--against RUN]
    python predict.py experiments/baseline --evaluate TABLE.csv [--root FOLDER] --out DIR

Reads CLEAN_DATA_DIR and MODEL_DIR; writes test.parquet (and test_embeddings.npy, stage 1) to each run folder.
What is predicted already is skipped.

--labelled: every labelled image of CLEAN_DATA_DIR, whatever its data set, is answered by every complete fold
and by the experiment's blend (the mean of its members where ensemble.py has fitted none); a patient that was
learned from, only by the fold that held him out. predictions.csv, transfer.json and transfer.html with scores
by image and by study go to --out, nothing to the run folders. --against: a member, or the folder of another
experiment, that every member is compared with, pair by pair.

--evaluate: the same for every image of a table, without a step before: a row an image, `path` or `image_id`
(a file below --root), labels, and where known patient_id, study_id, position_mm, window_center, window_width
(all columns: README). predictions.csv and scores.json go to --out.
"""

from argparse import Namespace
from pathlib import Path

from src.command_line import command_line, run, start_logging


def main() -> None:
    arguments = parse_arguments()
    start_logging(arguments.quiet)
    if arguments.evaluate is not None:
        evaluate(arguments)
    elif arguments.labelled:
        score_labelled(arguments)
    else:
        predict_test_part(arguments)


def predict_test_part(arguments: Namespace) -> None:
    """Step 4 itself."""
    from src.settings import load_settings
    from src.training.launch import predict_runs
    from src.training.runs import experiment_name

    settings = load_settings(arguments.settings)
    name = experiment_name(arguments.experiment)
    predict_runs(settings, name, arguments.device, arguments.jobs, arguments.quiet)


def score_labelled(arguments: Namespace) -> None:
    """Files in --out."""
    from src.ensemble.transfer import score_transfer
    from src.files import write_text
    from src.report.transfer_page import transfer_page
    from src.settings import load_settings

    scores = score_transfer(
        load_settings(arguments.settings), arguments.experiment, arguments.against, arguments.out,
        arguments.device, arguments.jobs, arguments.quiet,
    )  # fmt: skip
    write_text(arguments.out / "transfer.html", transfer_page(scores))
    if not arguments.quiet:
        print(f"scores: {arguments.out / 'transfer.json'}\npage:   {arguments.out / 'transfer.html'}")


def evaluate(arguments: Namespace) -> None:
    """Files in --out."""
    from src.ensemble.answers import TrainedExperiment
    from src.ensemble.evaluate_table import evaluate_table, text_of
    from src.settings import load_settings
    from src.training.runs import experiment_name

    settings, name = load_settings(arguments.settings), experiment_name(arguments.experiment)
    trained = TrainedExperiment(settings, name, arguments.device, arguments.jobs, quiet=arguments.quiet)
    scores = evaluate_table(trained, arguments.evaluate, arguments.root, arguments.out, arguments.jobs)
    if not arguments.quiet:
        print(f"{text_of(scores)}\nscores: {arguments.out / 'scores.json'}")


def parse_arguments() -> Namespace:
    parser = command_line(__doc__, device=True)
    add = parser.add_argument
    add("experiment", metavar="EXPERIMENT", help="a folder such as experiments/baseline")
    add("--labelled", action="store_true", help="answer and score the labelled images of CLEAN_DATA_DIR")
    add("--against", metavar="RUN", help="with --labelled: a member, or another experiment, to compare with")
    add("--evaluate", type=Path, metavar="TABLE", help="answer and score the images of a labelled table")
    add("--root", type=Path, metavar="FOLDER", help="of the table's images (default: where the table lies)")
    add("--out", type=Path, metavar="DIR", help="where the answers and scores go")
    arguments = parser.parse_args()
    if arguments.labelled and arguments.evaluate:
        parser.error("give either --labelled or --evaluate TABLE")
    if (arguments.labelled or arguments.evaluate is not None) != (arguments.out is not None):
        parser.error("--labelled or --evaluate TABLE, and --out DIR, belong together")
    if arguments.root and not arguments.evaluate:
        parser.error("--root needs --evaluate TABLE")
    if arguments.against and not arguments.labelled:
        parser.error("--against needs --labelled")
    return arguments


if __name__ == "__main__":
    run(main)
