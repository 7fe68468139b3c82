"""From decoded packs to the finished tables: what decoding found, copies, the final order, folds, the
manifest.
"""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from ..files import fingerprint, write_csv, write_json, write_parquet
from ..labels import LABELS
from . import checks, geometry
from .folds import assign_folds, check_folds, read_external_folds
from .hu import PADDED_BELOW, Slice
from .images import decode_source
from .inventory import Inventory
from .options import Options
from .pack import FOUND, Pack
from .packing import Plan
from .pixel_hash import pixel_hash
from .tables import FOLDS, MANIFEST, MASKS, QUARANTINE, SERIES, SLICES, STUDIES, VOLUMES

IDENTITY = ["image_id", "study_id", "series_id", "patient_id", "split"]
PLACE = ["position_mm", "order", "step_mm", "tilt_deg", "rows", "columns", "pixel_spacing_mm"]
ENCODING = ["bits_stored", "pixel_representation", "rescale_slope", "rescale_intercept"]
WINDOW = ["window_center", "window_width"]
VALUES = ["wrap_fixed", "padded", "units", "hu_min", "hu_max", "hu_mean", "blank"]
COPIES = ["pixel_hash", "conflicting_copy"]
STORED = ["square_top", "square_left", "square_side", "status", "cause", "volume", "volume_index"]
COLUMNS = [*IDENTITY, *PLACE, *ENCODING, *WINDOW, *VALUES, *COPIES, *STORED, *LABELS]
INTEGERS = (
    "order",
    "rows",
    "columns",
    "bits_stored",
    "pixel_representation",
    "hu_min",
    "hu_max",
    "volume_index",
)
TEXTS = (*IDENTITY, "units", "pixel_hash", "status", "cause", "volume")
GAP_MM = 15.0  # three times the usual step


@dataclass(frozen=True)
class Tables:
    """`copies`: rows of quarantine.csv for further files of an image; `series`: what was chosen, where there
    is choice.
    """

    slices: pd.DataFrame
    folds: pd.DataFrame
    copies: list[dict[str, str]]
    series: pd.DataFrame | None


def add_found(slices: pd.DataFrame, packs: list[Path]) -> pd.DataFrame:
    """Join what decoding found, and where each image is stored, from the packs' indices."""
    found = _indices(packs, ["length", *FOUND])
    found = found.astype(
        {
            "hu_min": "Int32",
            "hu_max": "Int32",
            "wrap_fixed": "boolean",
            "blank": "boolean",
            "volume_index": "Int64",
        }
    )
    failed = found["length"] == 0
    found.loc[failed, ["volume", "volume_index"]] = pd.NA
    slices = slices.join(found.drop(columns=["length", "cause"]), on="image_id")
    decoding = slices["image_id"].map(found["cause"])
    slices["cause"] = slices["cause"].where(slices["cause"].notna(), decoding)
    return slices


def add_mask_places(slices: pd.DataFrame, packs: list[Path]) -> pd.DataFrame:
    """Columns mask_volume and mask_index, null for an image without mask."""
    places = _indices(packs, []).astype({"volume_index": "Int32"})
    return slices.join(
        places.rename(columns={"volume": "mask_volume", "volume_index": "mask_index"}), on="image_id"
    )


def _indices(packs: list[Path], columns: list[str]) -> pd.DataFrame:
    """The packs' indices in one table, index image_id, with volume and volume_index."""
    place = {"volume": pa.string(), "volume_index": pa.int64()}
    wanted = {"image_id": pa.string(), "length": pa.int32(), **FOUND}
    schema = pa.schema({name: wanted[name] for name in ["image_id", *columns]} | place)
    tables = [schema.empty_table()]
    for path in packs:
        index = Pack(path).index.select(["image_id", *columns])
        volume = pa.array([path.name] * len(index), pa.string())
        arrays = [*index.columns, volume, pa.array(range(len(index)), pa.int64())]
        tables.append(pa.Table.from_arrays(arrays, schema=schema))
    return pa.concat_tables(tables).to_pandas(integer_object_nulls=True).set_index("image_id")


def check_copies(slices: pd.DataFrame, inventory: Inventory) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    """Quarantine repeated SOPInstanceUIDs, flag identical slices with different labels.

    -> slices, and a row of quarantine.csv for every further file of an image already in the table.
    """
    if inventory.headers is None:  # the reader's own headers hold no UIDs
        slices["cause"] = checks.mark_duplicates(slices)
    rows = []
    row_of = {name: row for row, name in zip(slices.index, slices["image_id"], strict=True)}
    for image_id, path, source in inventory.copies:
        if image_id not in row_of:
            continue
        row = row_of[image_id]
        copy = decode_source(source)
        same = isinstance(copy, Slice) and pixel_hash(copy.values) == slices.at[row, "pixel_hash"]
        if not same and pd.isna(slices.at[row, "cause"]):
            slices.at[row, "cause"] = f"duplicate image: {path} has other pixels"
        what = "the same pixels" if same else "other pixels"
        rows.append(
            {
                "image_id": image_id,
                "path": path,
                "cause": f"duplicate image: {what} as the file that was read",
            }
        )
    slices["conflicting_copy"] = _conflicting(slices)
    return slices, rows


def _conflicting(slices: pd.DataFrame) -> pd.Series:
    """True where another training image has the same pixels but other labels: such labels cannot both be
    right.
    """
    labelled = slices[slices["blank"].eq(False).fillna(False) & slices["any"].notna()]
    distinct = labelled.drop_duplicates(["pixel_hash", *LABELS])["pixel_hash"]
    return slices["pixel_hash"].isin(distinct[distinct.duplicated()])


def final_order(slices: pd.DataFrame) -> pd.DataFrame:
    """Status, and the order among the usable slices of each study, now that all causes are known."""
    usable = slices["cause"].isna()
    slices["status"] = usable.map({True: "ok", False: "quarantined"})
    slices[["order", "step_mm"]] = geometry.order_slices(slices[usable]).reindex(slices.index)
    return slices.sort_values(["study_id", "order", "image_id"], na_position="last", ignore_index=True)


def fold_table(slices: pd.DataFrame, studies: pd.DataFrame | None, options: Options) -> pd.DataFrame:
    """The folds, our own or the given ones, checked for leaks either way."""
    if not (slices["split"].eq("train") & slices["patient_id"].notna()).any():
        return pd.DataFrame({"patient_id": pd.Series(dtype="str"), "fold": pd.Series(dtype="int64")})
    if options.folds_file is not None:
        return read_external_folds(options.folds_file, slices)
    folds = assign_folds(_with_study_labels(slices, studies), options.folds, options.seed)
    check_folds(slices, folds)
    return folds


def _with_study_labels(slices: pd.DataFrame, studies: pd.DataFrame | None) -> pd.DataFrame:
    """Where only studies have labels, each study's stand at one of its slices: studies are counted."""
    if (
        studies is None
        or not set(LABELS) <= set(studies.columns)
        or slices[list(LABELS)].notna().any(axis=None)
    ):
        return slices
    labels = studies.reindex(slices["study_id"])[list(LABELS)].set_index(slices.index)
    return slices.assign(**labels.where(~slices["study_id"].duplicated(), 0))


def write_tables(
    clean: Path,
    raw: Path,
    tables: Tables,
    inventory: Inventory,
    plans: tuple[Plan, Plan],
    inputs: str,
    options: Options,
) -> dict[str, Any]:
    """Write everything, the manifest last; then delete volumes that nothing refers to any more."""
    quarantine = _quarantine(tables, str(raw) + "/")
    extra = [name for name in inventory.images if name not in (*COLUMNS, "path")]
    slices = _typed(
        tables.slices, [*extra, *(name for name in ("mask_volume", "mask_index") if name in tables.slices)]
    )
    studies = _studies(slices, inventory)
    packs = {
        folder: [path.name for path in plan.packs]
        for folder, plan in zip((VOLUMES, MASKS), plans, strict=True)
    }
    manifest = _manifest(slices, studies, tables.folds, quarantine, inventory.notes, options)
    (clean / MANIFEST).unlink(missing_ok=True)
    write_parquet(clean / SLICES, slices)
    write_parquet(clean / STUDIES, studies)
    write_csv(clean / FOLDS, tables.folds)
    write_csv(clean / QUARANTINE, quarantine)
    if tables.series is not None:
        write_csv(clean / SERIES, tables.series)
    manifest |= {"inputs": inputs, **packs}
    write_json(clean / MANIFEST, manifest)
    for path in [*plans[0].stale, *plans[1].stale]:
        path.unlink(missing_ok=True)
    return manifest


def _quarantine(tables: Tables, below: str) -> pd.DataFrame:
    bad = tables.slices.loc[tables.slices["status"] == "quarantined", ["image_id", "path", "cause"]]
    table = pd.concat([bad, pd.DataFrame(tables.copies, columns=bad.columns)])
    return table.assign(path=table["path"].str.removeprefix(below)).sort_values(["image_id", "path"])


def _typed(slices: pd.DataFrame, extra: list[str]) -> pd.DataFrame:
    """The columns of the contract, in order, with types that can say `unknown`."""
    table = slices.rename(columns={"pixel_spacing_row": "pixel_spacing_mm"})
    table["padded"] = (table["hu_min"] <= PADDED_BELOW).astype("boolean")
    types = (
        {name: "Int32" for name in INTEGERS}
        | {name: "str" for name in TEXTS}
        | {"wrap_fixed": "boolean", "blank": "boolean"}
    )
    return table.astype(types)[[*COLUMNS, *extra]]


def _studies(slices: pd.DataFrame, inventory: Inventory) -> pd.DataFrame:
    known = slices[slices["study_id"].notna() & slices["patient_id"].notna()]
    studies = known.drop_duplicates("study_id")[["study_id", "patient_id"]].sort_values(
        "study_id", ignore_index=True
    )
    return studies if inventory.studies is None else studies.join(inventory.studies, on="study_id")


def _manifest(
    slices: pd.DataFrame,
    studies: pd.DataFrame,
    folds: pd.DataFrame,
    quarantine: pd.DataFrame,
    notes: dict[str, int],
    options: Options,
) -> dict[str, Any]:
    usable = slices[slices["status"] == "ok"]
    where = [name for name in slices if name.endswith(("volume", "_index")) and name != "class_index"]
    contents = [_digest(table) for table in (slices.drop(columns=where), studies, folds)]
    return {
        "format": 1,
        "fingerprint": fingerprint([contents, options.recorded]),
        "settings": options.recorded,
        "images": {split: int((usable["split"] == split).sum()) for split in ("train", "test")},
        "studies": int(usable["study_id"].nunique()),
        "patients": int(usable["patient_id"].nunique()),
        "quarantined": quarantine["cause"].str.split(":").str[0].value_counts().sort_index().to_dict(),
        "kept_defects": _kept_defects(usable) | notes,
        "versions": {
            name: version(name) for name in ("numpy", "opencv-python-headless", "pyarrow", "pydicom")
        },
    }


def _digest(table: pd.DataFrame) -> str:
    """Of a table's values; pixels are in it by their hashes."""
    return fingerprint(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes().hex())


def _kept_defects(usable: pd.DataFrame) -> dict[str, int]:
    """Images that are kept in spite of something a person should know."""
    within = usable["order"] > 0
    found = {
        "blank": usable["blank"],
        "padded": usable["padded"],
        "12-bit wrap mended": usable["wrap_fixed"],
        "zero step": within & (usable["step_mm"] == 0),
        "gap": within & (usable["step_mm"] > GAP_MM),
        "identical to a slice with other labels": usable["conflicting_copy"],
    }
    return {name: int(hit.sum()) for name, hit in found.items()}
