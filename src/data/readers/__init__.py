"""One module per data set, each with `read(raw_dir, options, jobs) -> Inventory`, loaded when asked for."""

from importlib import import_module
from pathlib import Path

from ..preparation.inventory import Inventory
from ..preparation.options import Options


def read_inventory(options: Options, raw_dir: Path, jobs: int) -> Inventory:
    """List the images of a data set. Raises UserError when files are absent or tables wrong."""
    return import_module(f".{options.dataset}", __name__).read(raw_dir, options, jobs)
