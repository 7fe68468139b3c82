"""Step 3: train one stacker on every fold that is not complete, or on one fold.

    python train_stage2.py experiments/baseline/stage2/lstm.json             every fold
    python train_stage2.py experiments/baseline/stage2/lstm.json --fold 0    one fold, on a single GPU
    python train_stage2.py ... --set epochs=2 --set 'source="a trial"'    other values for keys of the file

Reads the stage-1 run folders its configuration names.
Writes config.json, model.safetensors (trees: model.txt), oof.parquet, metrics.json (last)
to MODEL_DIR/<run>/fold<k>/.
Stopped at any moment and started again it continues; a complete fold is skipped.
"""

from src.command_line import run, start_logging, training_command_line


def main() -> None:
    arguments = training_command_line(__doc__).parse_args()
    start_logging(arguments.quiet)

    from src.evaluation.metrics import held_out_scores
    from src.training.launch import train_folds
    from src.training.studies.stacker_config import StackerConfig
    from src.training.studies.study_fold import train_stacker_fold

    train_folds(__file__, arguments, StackerConfig, train_stacker_fold, held_out_scores)


if __name__ == "__main__":
    run(main)
