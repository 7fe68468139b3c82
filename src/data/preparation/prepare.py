"""Step 1: a published data set becomes tables and a cache of HU volumes.

Inventory -> headers -> causes and order -> packs -> folds -> tables -> manifest. Nothing is lost: every image
that is found or named ends in slices.parquet, with status `ok` or `quarantined` and the cause.
"""

import hashlib
import logging
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from ...errors import UserError, failed_access
from ...files import file_sha256, fingerprint, folder_lock, read_json
from ...progress import parallel
from ..pack import Pack
from ..prepared import FOLDS, FORMAT, MANIFEST, MASKS, QUARANTINE, SLICES, STUDIES, VOLUMES
from ..readers import read_inventory
from ..source import Source, changed_since, read_bytes, stamp
from .describe import describe, mask_files, study_files
from .inventory import Inventory
from .options import Options, changes
from .packing import Plan, StudyFiles, plan_packs, write_planned
from .remedies import remedy
from .tables import (
    Tables,
    add_found,
    add_mask_places,
    check_copies,
    check_fold_choice,
    final_order,
    fold_table,
    folds_before,
    hash_quarantined,
    tidy,
    write_tables,
)

log = logging.getLogger("ich")

PACKED = 0.27  # of the bytes of int16, a generous share for head CT at 512 px


def prepare(
    raw: Path, clean: Path, options: Options, jobs: int = 1, inventory: Inventory | None = None
) -> dict[str, Any]:
    """Prepare the data set below `raw` into `clean`; gives the manifest. A finished run is only verified.

    inventory: the images where they are known already; `raw` is then but a name for them. Stopped at any
    moment and started again it continues. Raises UserError for what a person must mend.
    """
    try:
        if inventory is None:
            inventory = read_inventory(options, raw, jobs)
            _check_folders(raw, clean)
        return _prepare(raw, clean, options, jobs, inventory)
    except OSError as error:
        raise failed_access(error, clean) from None


def _prepare(raw: Path, clean: Path, options: Options, jobs: int, inventory: Inventory) -> dict[str, Any]:
    with folder_lock(clean):
        return _prepare_into(clean, raw, inventory, options, jobs)


def _prepare_into(
    clean: Path, raw: Path, inventory: Inventory, options: Options, jobs: int
) -> dict[str, Any]:
    inputs = _inputs_fingerprint(inventory, options)
    if (manifest := _finished(clean, inventory, inputs, options, jobs)) is not None:
        return manifest
    log.info("%s: %d images found or named", raw, len(inventory.images))
    slices, series = describe(inventory, options, jobs)
    _require_usable(slices, raw)
    check_fold_choice(slices, options)
    volumes = _write_packs(study_files(slices, inventory.sources, options), clean / VOLUMES, options, jobs)
    slices = add_found(slices, volumes)
    slices, others = check_copies(slices, inventory)
    slices = hash_quarantined(slices, inventory.sources, jobs)
    _require_usable(slices, raw)
    masks = Plan({}, [])
    if inventory.masks is not None:
        masks = _write_packs(mask_files(slices, inventory.masks, options), clean / MASKS, options, jobs)
        slices, rejected = add_mask_places(slices, masks, inventory.masks)
        others += rejected
    slices = final_order(slices)
    folds = fold_table(slices, inventory.studies, options, folds_before(clean, options))
    tables = Tables(slices, *folds, [*others, *inventory.dropped], series)
    return write_tables(clean, raw, tables, inventory, (volumes, masks), inputs, options)


def _check_folders(raw: Path, clean: Path) -> None:
    """Raises UserError where the prepared folder is a file, or would lie in the data, which stay as they
    are.
    """
    if clean.exists() and not clean.is_dir():
        raise UserError(f"{clean}: a file, not a folder; set CLEAN_DATA_DIR to another path")
    if clean.resolve().is_relative_to(raw.resolve()):
        raise UserError(
            f"{clean}: CLEAN_DATA_DIR lies in RAW_DATA_DIR ({raw}), which is never written to; set another "
            f"one"
        )


def _require_usable(slices: pd.DataFrame, raw: Path) -> None:
    """Raises UserError where there is no image to prepare."""
    if slices["cause"].isna().any():
        return
    if slices.empty:
        raise UserError(f"{raw}: no image there; set RAW_DATA_DIR to the folder of the data, and --dataset")
    classes = slices["cause"].str.split(":").str[0].value_counts()
    counts = ", ".join(f"{name} {count}" for name, count in classes.items())
    first = slices[slices["cause"].str.startswith(classes.index[0])].iloc[0]
    name = first["image_id"] if pd.isna(first["path"]) else first["path"]
    raise UserError(
        f"{raw}: none of {len(slices)} images can be used ({counts}), such as {name}: {first['cause']}; "
        f"{remedy(first['cause'])}"
    )


def _inputs_fingerprint(inventory: Inventory, options: Options) -> str:
    """Names and sizes of the images, content of the tables. Times of images are compared, not hashed: a copy
    of the data is as good.
    """
    images = inventory.images["image_id"].tolist()
    stamps = [[() if source is None else stamp(source) for source in group] for group in _files(inventory)]
    tables = [hashlib.sha256(read_bytes(table)).hexdigest() for table in inventory.inputs]
    chosen = [file_sha256(file) for file in (options.folds_file, options.folder_config) if file is not None]
    return fingerprint([images, stamps, tables, chosen])


def _files(inventory: Inventory) -> list[list[Source | None]]:
    """Images, masks and further copies of images."""
    copies = [source for _, _, source in inventory.copies]
    return [inventory.sources, inventory.masks or [], copies]


def _finished(
    clean: Path, inventory: Inventory, inputs: str, options: Options, jobs: int
) -> dict[str, Any] | None:
    """The manifest of a finished run of the same inputs and options whose volumes are whole; else None."""
    path = clean / MANIFEST
    if not path.is_file():
        return None
    manifest = read_json(path)
    if manifest.get("format") != FORMAT:
        log.info("%s: prepared by another version; its tables are written anew", clean)
        return None
    if differences := changes(manifest["settings"], options.recorded):
        log.info("%s: settings changed: %s; what depends on them is made anew", clean, differences)
        return None
    made = path.stat().st_mtime_ns
    files = [source for group in _files(inventory) for source in group if source is not None]
    if manifest["inputs"] != inputs or any(changed_since(file, made) for file in files):
        log.info("%s: the data changed since it was prepared; what is new is added", clean)
        return None
    if any(not (clean / name).is_file() for name in (SLICES, STUDIES, FOLDS, QUARANTINE)):
        log.warning("%s: a table is missing; it is made anew", clean)
        return None
    if changed := [name for name, sha in manifest["tables"].items() if file_sha256(clean / name) != sha]:
        log.warning("%s: %s is not as it was written; the tables are made anew", clean, ", ".join(changed))
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
    tidy(clean, manifest)
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
    weights = [sum(len(study.images) for study in group) for _, group in plan.todo]
    if plan.kept:
        there = sum(map(len, plan.kept.values()))
        log.info("%s: %d images are there already, %d to store", folder, there, sum(weights))
    if len(studies) > 1:  # of a single study it is no matter
        wanted = sum(weights) * options.size**2 * 2 * PACKED
        home = next(place for place in (folder, *folder.parents) if place.exists())
        free = shutil.disk_usage(home).free
        log.info("%s: needs about %.1f GB, %.1f GB are free", folder, wanted / 1e9, free / 1e9)
    parallel(write_planned, [(path, group, options) for path, group in plan.todo], jobs, folder.name, weights)
    return plan
