"""Compare two configurations: train both on replicate splits of the patients, then test what differs.

    python compare.py experiments/A/stage1/a.json experiments/B/stage1/b.json --replicates 10
    python compare.py ... --independent     each model on splits of its own, not stratified, as once published

Every replicate divides the labelled patients of CLEAN_DATA_DIR anew: a test part, a validation part, and
the rest, which is trained on. Writes runs below MODEL_DIR/compare/, and compare.json, compare.html and
splits.csv to the folder of --out.
Stopped at any moment and started again it continues; what is complete is not trained again.
"""

from argparse import Namespace
from pathlib import Path

from src.command_line import add_overrides, command_line, positive, run, share, start_logging


def main() -> None:
    arguments = parse_arguments()
    start_logging(arguments.quiet)

    from src.data.division import Division
    from src.ensemble.compare import (
        compare_configurations,
        compared_targets,
        default_folder,
        replicate_seeds,
        splits_table,
    )
    from src.ensemble.replicates import plan
    from src.files import write_csv, write_json, write_text
    from src.report.compare_page import render_comparison
    from src.settings import load_settings

    settings = load_settings(arguments.settings)
    a, b = (plan(path, arguments.overrides) for path in arguments.configs)
    targets, label = compared_targets(a, b, arguments.label)
    shares = (arguments.test_share, arguments.validation_share)
    division = Division(targets, label, *shares, stratified=not arguments.independent)
    seeds = replicate_seeds(arguments.replicates, arguments.seed, shared=not arguments.independent)
    comparison, replicates = compare_configurations(
        settings, (a, b), division, seeds, arguments.device, arguments.jobs, arguments.quiet
    )
    folder = arguments.out or settings.submissions / default_folder(comparison.names)
    result = comparison.to_json()
    write_csv(folder / "splits.csv", splits_table(replicates))
    write_text(folder / "compare.html", render_comparison(result))
    write_json(folder / "compare.json", result)
    if not arguments.quiet:
        print("\n".join(metric["verdict"] for metric in result["metrics"].values()))
        print(f"verdict: {result['verdict']}\npage:    {folder / 'compare.html'}")


def parse_arguments() -> Namespace:
    parser = command_line(__doc__, device=True)
    add = parser.add_argument
    add("configs", nargs=2, metavar="CONFIG.json", help="below experiments/; a path names its runs")
    add("--replicates", type=positive, required=True, metavar="R", help="splits of the patients; say 10")
    add("--out", type=Path, metavar="DIR", help="of the result (default: SUBMISSION_DIR/compare/A_B)")
    add("--independent", action="store_true", help="splits of its own for each model, not stratified")
    add("--label", help="the column that is judged (default: any, or presence)")
    add("--test-share", type=share, default=0.3, metavar="X", help="of the patients (default: 0.3)")
    text = "of the patients not tested on (default: 0.15)"
    add("--validation-share", type=share, default=0.15, metavar="X", help=text)
    add("--seed", type=int, default=0, metavar="S", help="of the first split (default: 0)")
    add_overrides(parser, "replace a key of both configurations by a JSON value; repeatable")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
