"""A prepared folder remembers its options: what is not given stays."""

import logging
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...files import read_json
from ..prepared import MANIFEST, PREVIOUS
from .options import Options, changes

log = logging.getLogger("ich")


def chosen(clean: Path, given: dict[str, Any], again: bool = False) -> Options:
    """The options `given`, completed by those of the prepared folder, in a new one by the defaults.

    Raises UserError where a change would remake the volumes and `again` was not said.
    """
    before = _recorded(clean)
    if before is None:
        return Options(**given)
    kept = before.recorded
    if "folds" in given or "seed" in given:  # then not those of a file
        del kept["folds_file"]
    if given.get("dataset", before.dataset) != before.dataset:
        del kept["folder_config"], kept["table"]
    options = Options(**(kept | given))
    differences = changes(before.volumes, options.volumes)
    if differences and not again:
        raise UserError(
            f"{clean}: {differences} would remake all its volumes, and what was trained on them would have "
            "to be trained again; add --again if that is meant, or set another CLEAN_DATA_DIR"
        )
    defaults, left = Options().recorded, {name: value for name, value in kept.items() if name not in given}
    if stated := changes({name: defaults[name] for name in left}, left):
        log.info("%s: flags not given stay as it was prepared (default -> there: %s)", clean, stated)
    return options


def _recorded(clean: Path) -> Options | None:
    """Of the last run that came to its end; None where there is none."""
    path = next((clean / name for name in (MANIFEST, PREVIOUS) if (clean / name).is_file()), None)
    if path is None:
        return None
    known = Options().recorded
    return Options(**{name: value for name, value in read_json(path)["settings"].items() if name in known})
