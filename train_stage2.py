"""Step 3: train one stacker on every fold that is not complete, or on one fold.

    python train_stage2.py experiments/baseline/stage2/lstm.json             every fold
    python train_stage2.py experiments/baseline/stage2/lstm.json --fold 0    one fold, on a single GPU
    python train_stage2.py ... --set epochs=2 --set 'source="a trial"'    other values for keys of the file

Reads the stage-1 run folders its configuration names.
Writes config.json, model.safetensors, oof.parquet, metrics.json (last). to MODEL_DIR/<run>/fold<k>/
Stopped at any moment and started again it continues; a complete fold is skipped.
"""

from argparse import Namespace

from src.command_line import command_line, run, start_logging


def main() -> None:
    arguments = parse_arguments()
    start_logging(arguments.quiet)

    from src.evaluation.metrics import held_out_scores
    from src.training.launch import train_folds
    from src.training.stacker_config import StackerConfig
    from src.training.stage2 import train_stacker_fold

    train_folds(__file__, arguments, StackerConfig, train_stacker_fold, held_out_scores)


def parse_arguments() -> Namespace:
    parser = command_line(__doc__, overrides=True, device=True)
    parser.add_argument("config", metavar="CONFIG.json", help="below experiments/; its path names the run")
    parser.add_argument("--fold", type=int, metavar="K", help="only this fold (default: every fold)")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
