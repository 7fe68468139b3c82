"""Step 1: a published data set becomes tables and a cache of HU volumes.

Inventory -> headers -> causes and order -> packs -> folds -> tables -> manifest. Nothing is lost: every image
that is found or named ends in slices.parquet, with status `ok` or `quarantined` and the cause.
"""

import errno
import logging
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import file_sha256, fingerprint, read_json
from ..progress import parallel
from .describe import describe, mask_files, study_files
from .inventory import Inventory
from .options import Options, changes
from .pack import Pack
from .packing import Plan, StudyFiles, plan_packs, write_planned
from .readers import read_inventory
from .results import Tables, add_found, add_mask_places, check_copies, final_order, fold_table, write_tables
from .source import modified_ns, size_of
from .tables import MANIFEST, MASKS, VOLUMES

log = logging.getLogger("ich")


def prepare(raw: Path, clean: Path, options: Options, jobs: int = 1) -> dict[str, Any]:
    """Prepare the data set below `raw` into `clean`; gives the manifest. A finished run is only verified.

    Stopped at any moment and started again it continues. Raises UserError for what a person must mend.
    """
    try:
        return _prepare(raw, clean, options, jobs)
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0)
        if remedy is None:
            raise
        raise UserError(f"{error.filename or clean}: {error.strerror}; {remedy}") from None


REMEDIES = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room and run again, it goes on")
REMEDIES[errno.ENOENT] = "check the path"
REMEDIES |= dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "check the permissions of the folder")


def _prepare(raw: Path, clean: Path, options: Options, jobs: int) -> dict[str, Any]:
    inventory = read_inventory(options, raw, jobs)
    inputs = _inputs_fingerprint(inventory, options)
    if (manifest := _finished(clean, inventory, inputs, options, jobs)) is not None:
        return manifest
    log.info("%s: %d images found or named", raw, len(inventory.images))
    slices, series = describe(inventory, options, jobs)
    volumes = _write_packs(study_files(slices, inventory.sources, options), clean / VOLUMES, options, jobs)
    slices = add_found(slices, volumes.packs)
    slices, copies = check_copies(slices, inventory)
    masks = Plan([], [], [])
    if inventory.masks is not None:
        masks = _write_packs(mask_files(slices, inventory.masks, options), clean / MASKS, options, jobs)
        slices = add_mask_places(slices, masks.packs)
    slices = final_order(slices)
    folds = fold_table(slices, inventory.studies, options)
    tables = Tables(slices, folds, copies, series)
    return write_tables(clean, raw, tables, inventory, (volumes, masks), inputs, options)


def _inputs_fingerprint(inventory: Inventory, options: Options) -> str:
    """Names and sizes of all that is read. Times are compared, not hashed: a copy of the data is as good."""
    images = inventory.images["image_id"].tolist()
    files = [-1 if source is None else size_of(source) for source in inventory.sources]
    chosen = [file_sha256(file) for file in (options.folds_file, options.folder_config) if file is not None]
    return fingerprint([images, files, [size_of(source) for source in inventory.inputs], chosen])


def _finished(
    clean: Path, inventory: Inventory, inputs: str, options: Options, jobs: int
) -> dict[str, Any] | None:
    """The manifest of a finished run of the same inputs and options whose volumes are whole; else None."""
    path = clean / MANIFEST
    if not path.is_file():
        return None
    manifest = read_json(path)
    if differences := changes(manifest["settings"], options.recorded):
        log.info("%s: settings changed: %s; what depends on them is made anew", clean, differences)
        return None
    made = path.stat().st_mtime_ns
    sources = [source for source in [*inventory.sources, *inventory.inputs] if source is not None]
    if manifest["inputs"] != inputs or any(modified_ns(source) > made for source in sources):
        log.info("%s: the data changed since it was prepared; new and changed studies are added", clean)
        return None
    packs = [clean / folder / name for folder in (VOLUMES, MASKS) for name in manifest[folder]]
    damaged = [
        error
        for error in parallel(_damage, [(pack,) for pack in packs], jobs, "verifying", unit="packs")
        if error
    ]
    for path_of_pack, error in damaged:
        log.warning("%s", error)
        path_of_pack.unlink(missing_ok=True)
    if damaged:
        return None
    log.info("%s: up to date, %d volume files verified", clean, len(packs))
    return manifest


def _damage(path: Path) -> tuple[Path, str] | None:
    try:
        Pack(path).verify()
    except UserError as error:
        return path, str(error)
    return None


def _write_packs(studies: list[StudyFiles], folder: Path, options: Options, jobs: int) -> Plan:
    plan = plan_packs(studies, folder, options)
    if plan.kept:
        log.info("%s: %d files are there already, %d to write", folder, len(plan.kept), len(plan.todo))
    weights = [sum(len(study.image_ids) for study in group) for _, group in plan.todo]
    parallel(write_planned, [(path, group, options) for path, group in plan.todo], jobs, folder.name, weights)
    return plan
