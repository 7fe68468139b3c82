"""One module per data set; each has `read(raw_dir) -> Inventory`, loaded when it is asked for."""

from importlib import import_module
from pathlib import Path

from ..inventory import Inventory

DATASETS = ("rsna",)


def read_inventory(dataset: str, raw_dir: Path) -> Inventory:
    """List the images of a data set. Raises UserError when its files are not there or its tables are wrong."""
    return import_module(f".{dataset}", __name__).read(raw_dir)
