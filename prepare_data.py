"""Step 1: turn a published data set into tables and a cache of HU volumes.

    python prepare_data.py                                the contest's data below RAW_DATA_DIR, at 512 pixels
    python prepare_data.py --size 384 --crop --jobs 16    smaller, cut to the head, on 16 processes
    python prepare_data.py --limit 50                     a quick look at 50 studies
    python prepare_data.py --dataset table --table FILE.csv    images that a table names, such as PNGs

Reads RAW_DATA_DIR; writes slices.parquet, studies.parquet, volumes/, folds.csv, quarantine.csv and
manifest.json to CLEAN_DATA_DIR. Stopped and started again it continues; finished, it verifies and does
nothing. Where the data have grown only new slices are decoded, and every patient keeps the fold. A prepared
folder remembers its flags: those not given stay as they were, whatever the defaults say.
"""

import os
from argparse import SUPPRESS, BooleanOptionalAction, Namespace

from src.command_line import command_line, positive, run, start_logging
from src.data.preparation.options import DATASETS, SIZES, Options


def main() -> None:
    arguments = parse_arguments()
    start_logging(arguments.quiet)

    from src.data.preparation.prepare import prepare
    from src.data.preparation.remembered import chosen
    from src.data.preparation.summary import summary
    from src.progress import on_cluster
    from src.settings import load_settings

    settings = load_settings(arguments.settings)
    given = {name: value for name, value in vars(arguments).items() if name in Options().recorded}
    options = chosen(settings.clean, given, arguments.again)
    with on_cluster(arguments.scheduler):
        jobs = -1 if arguments.scheduler else arguments.jobs  # a cluster lends all its workers
        manifest = prepare(settings.raw, settings.clean, options, jobs)
    if not arguments.quiet:
        print(summary(manifest, settings.clean))


def parse_arguments() -> Namespace:
    parser = command_line(__doc__)

    def option(name: str, text: str, **others: object) -> None:
        """A flag that is absent from the result unless given; its default is that of `Options`."""
        default = getattr(Options, name.removeprefix("--").replace("-", "_"))
        stated = "" if default in (None, False) else f" (default: {default})"
        parser.add_argument(name, default=SUPPRESS, help=text + stated, **others)

    option("--dataset", "layout of RAW_DATA_DIR", choices=DATASETS)
    option("--size", "side of the stored slices", type=int, choices=SIZES)
    option("--crop", "cut every study to the head", action=BooleanOptionalAction)
    text = "put air in place of the head holder and the table"
    option("--remove-holder", text, action=BooleanOptionalAction)
    text = "undo the shear that a tilted gantry gives a stack"
    option("--correct-tilt", text, action=BooleanOptionalAction)
    option("--folds", "cross-validation folds", type=positive, metavar="N")
    text = "use these folds (patient_id,fold) instead of making them"
    option("--folds-file", text, type=absolute, metavar="CSV")
    option("--seed", "of the folds", type=int)
    option("--limit", "only N studies, for a quick look; `all` ends it", type=studies, metavar="N")
    text = "classes and patients of --dataset folder, see docs/configuration.md"
    option("--folder-config", text, type=absolute, metavar="FILE")
    text = "of --dataset table, a row an image; of cq500, its reads; looked for here and below RAW_DATA_DIR"
    option("--table", text, type=here_or_below, metavar="FILE")
    text = "remake the volumes where a choice that changes stored pixels is not that of the prepared folder"
    parser.add_argument("--again", action="store_true", help=text)
    text = "work on the Dask cluster with this scheduler"
    parser.add_argument("--scheduler", metavar="ADDRESS", help=text)
    return parser.parse_args()


def absolute(text: str) -> str:
    """Type of a file that is remembered, and so must be found from elsewhere too."""
    return os.path.abspath(text)


def here_or_below(text: str) -> str:
    """Type of --table: absolute where it is here, else below RAW_DATA_DIR."""
    return os.path.abspath(text) if os.path.exists(text) else text


def studies(text: str) -> int | None:
    """Type of --limit."""
    return None if text == "all" else positive(text)


if __name__ == "__main__":
    run(main)
