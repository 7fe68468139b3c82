"""Step 4: predict the test slices with every complete run folder of an experiment.

    python predict.py experiments/baseline

Reads CLEAN_DATA_DIR and MODEL_DIR; writes test.parquet (and test_embeddings.npy, stage 1) to each run folder.
What is predicted already is skipped.
"""

from argparse import Namespace

from src.command_line import command_line, run, start_logging


def main() -> None:
    arguments = parse_arguments()
    start_logging(arguments.quiet)

    from src.settings import load_settings
    from src.training.launch import predict_runs
    from src.training.runs import experiment_name

    settings = load_settings(arguments.settings)
    name = experiment_name(arguments.experiment)
    predict_runs(settings, name, arguments.device, arguments.jobs, arguments.quiet)


def parse_arguments() -> Namespace:
    parser = command_line(__doc__, device=True)
    parser.add_argument("experiment", metavar="EXPERIMENT", help="a folder such as experiments/baseline")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
