"""Step 1: turn a published data set into tables and a cache of HU volumes.

    python prepare_data.py                                the contest's data below RAW_DATA_DIR, at 512 pixels
    python prepare_data.py --size 384 --crop --jobs 16    smaller, cut to the head, on 16 processes
    python prepare_data.py --limit 50                     a quick look at 50 studies

Reads RAW_DATA_DIR; writes slices.parquet, studies.parquet, volumes/, folds.csv, quarantine.csv and
manifest.json to CLEAN_DATA_DIR. Stopped and started again it continues; finished, it verifies and does
nothing. Where the data have grown only new slices are decoded, and every patient keeps the fold.
"""

from argparse import Namespace

from src.command_line import command_line, positive, run, start_logging
from src.data.preparation.options import DATASETS, SIZES, Options


def main() -> None:
    arguments = parse_arguments()
    start_logging(arguments.quiet)

    from src.data.preparation.prepare import prepare
    from src.data.preparation.summary import summary
    from src.progress import on_cluster
    from src.settings import load_settings

    settings = load_settings(arguments.settings)
    options = Options(
        dataset=arguments.dataset,
        size=arguments.size,
        crop=arguments.crop,
        remove_holder=arguments.remove_holder,
        correct_tilt=arguments.correct_tilt,
        folds=arguments.folds,
        folds_file=arguments.folds_file,
        seed=arguments.seed,
        limit=arguments.limit,
        folder_config=arguments.folder_config,
    )
    with on_cluster(arguments.scheduler):
        jobs = -1 if arguments.scheduler else arguments.jobs  # a cluster lends all its workers
        manifest = prepare(settings.raw, settings.clean, options, jobs)
    if not arguments.quiet:
        print(summary(manifest, settings.clean))


def parse_arguments() -> Namespace:
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--dataset", choices=DATASETS, default="rsna", help="layout of RAW_DATA_DIR (default: rsna)")
    add("--size", type=int, choices=SIZES, default=512, help="side of the stored slices (default: 512)")
    add("--crop", action="store_true", help="cut every study to the head")
    add("--remove-holder", action="store_true", help="put air in place of the head holder and the table")
    add("--correct-tilt", action="store_true", help="undo the shear that a tilted gantry gives a stack")
    add("--folds", type=positive, default=5, metavar="N", help="cross-validation folds (default: 5)")
    add("--folds-file", metavar="CSV", help="use these folds (patient_id,fold) instead of making them")
    add("--seed", type=int, default=0, help="of the folds (default: 0)")
    add("--limit", type=positive, metavar="N", help="only N studies, for a quick look")
    add("--folder-config", metavar="FILE", help="classes and patients of --dataset folder, see its reader")
    add("--scheduler", metavar="ADDRESS", help="work on the Dask cluster with this scheduler")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
