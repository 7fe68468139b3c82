"""Step 3: train one stacker on every fold that is not complete, or on one fold.

    python train_stage2.py experiments/baseline/stage2/two_branch.json             every fold
    python train_stage2.py experiments/baseline/stage2/two_branch.json --fold 0    one fold, on a single GPU
    python train_stage2.py ... --set epochs=2 --set 'source="a trial"'    other values for keys of the file
    python train_stage2.py --keys    every key of a configuration, its type, default and meaning

Reads the stage-1 run folders its configuration names.
Writes config.json, model.safetensors (trees: model.txt), oof.parquet, metrics.json (last)
to MODEL_DIR/<run>/fold<k>/.
Stopped at any moment and started again it continues; a complete fold is skipped.
"""

from src.command_line import run, start_logging, training_command_line


def keys() -> str:
    """The keys of CONFIG.json, for --keys."""
    from src.training.kinds import key_listing

    return key_listing("stage2")


def main() -> None:
    arguments = training_command_line(__doc__, keys).parse_args()
    start_logging(arguments.quiet)

    from src.training.launch import train_folds

    train_folds(__file__, arguments, "stage2")


if __name__ == "__main__":
    run(main)
