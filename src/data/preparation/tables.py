"""From decoded packs to the finished tables: what decoding found, copies, the final order, folds, the
manifest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from ...errors import UserError
from ...files import PARTIAL, file_sha256, read_json, write_csv, write_json, write_parquet
from ...labels import LABELS
from ...progress import parallel
from .. import geometry
from ..folds import assign_folds, check_folds, read_external_folds, read_fold_file
from ..formats.images import decode_source
from ..hu import PADDED_BELOW, Slice
from ..pack import FOUND, SUFFIX, Pack
from ..prepared import (
    FOLDS,
    FORMAT,
    MANIFEST,
    MASKS,
    PREVIOUS,
    QUARANTINE,
    SERIES,
    SLICES,
    STUDIES,
    VOLUMES,
    fingerprints,
    table_digests,
)
from ..source import Source, printable
from ..synthetic_truth import is_synthetic
from . import checks
from .inventory import OTHER_SERIES, Inventory
from .options import Options, fold_choices
from .packing import Plan
from .pixel_hash import pixel_hash
from .remedies import remedy

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
FOLD_COLUMNS = ["study_id", "patient_id", "split", "pixel_hash", "blank", *LABELS]
GAP_MM = 15.0  # three times the usual step


@dataclass(frozen=True)
class Tables:
    """`folds_grew`: they are not those that the same data would get at once; `others`: rows of quarantine.csv
    for files that are no image of the table (image_id, path, cause); `series`: what was chosen, where there
    is choice.
    """

    slices: pd.DataFrame
    folds: pd.DataFrame
    folds_grew: bool
    others: list[tuple[str, str, str]]
    series: pd.DataFrame | None


def add_found(slices: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Join what decoding found, and where each image is stored, from the packs' indices."""
    found = _indices(plan, ["length", *FOUND])
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


def hash_quarantined(slices: pd.DataFrame, sources: Sequence[Source | None], jobs: int) -> pd.DataFrame:
    """Fill in pixel_hash and blank of quarantined images that can be decoded all the same, for their copies
    link patients too. Series that were not chosen are left out: they get no fold, and are most of some data.
    """
    other = slices["cause"].str.startswith(OTHER_SERIES, na=False)
    rows = slices.index[slices["cause"].notna() & ~other & slices["pixel_hash"].isna()]
    rows = [row for row in rows if sources[row] is not None]
    found = parallel(_hash_and_blank, [(sources[row],) for row in rows], jobs, "quarantined")
    slices.loc[rows, "pixel_hash"] = [hashed for hashed, _ in found]
    slices.loc[rows, "blank"] = pd.array([blank for _, blank in found], dtype="boolean")
    return slices


def _hash_and_blank(source: Source) -> tuple[str | None, bool | None]:
    image = decode_source(source)
    if not isinstance(image, Slice):
        return None, None
    low, high = image.range
    return pixel_hash(image.values), low == high


def add_mask_places(
    slices: pd.DataFrame, plan: Plan, masks: list[Source | None]
) -> tuple[pd.DataFrame, list[tuple[str, str, str]]]:
    """Columns mask_volume and mask_index, null for an image without mask; and rows of quarantine.csv for
    masks that could not be used.
    """
    places = _indices(plan, ["length", "cause"]).astype({"volume_index": "Int32"})
    failed = places["length"] == 0
    row_of = dict(zip(slices["image_id"], slices.index, strict=True))
    rejected = [
        (name, printable(masks[row_of[name]]), cause) for name, cause in places.loc[failed, "cause"].items()
    ]
    places = places.loc[~failed, ["volume", "volume_index"]]
    places.columns = ["mask_volume", "mask_index"]
    return slices.join(places, on="image_id"), rejected


def _indices(plan: Plan, columns: list[str]) -> pd.DataFrame:
    """The rows in use of the packs' indices in one table, index image_id, with volume and volume_index."""
    place = {"volume": pa.string(), "volume_index": pa.int64()}
    wanted = {"image_id": pa.string(), "length": pa.int32(), **FOUND}
    schema = pa.schema({name: wanted[name] for name in ["image_id", *columns]} | place)
    tables = [schema.empty_table()]
    for path in plan.packs:
        index = Pack(path).index.select(["image_id", *columns])
        rows = pa.array(plan.kept.get(path, range(len(index))), pa.int64())
        volume = pa.array([path.name] * len(rows), pa.string())
        arrays = [*index.take(rows).columns, volume, rows]
        tables.append(pa.Table.from_arrays(arrays, schema=schema))
    return pa.concat_tables(tables).to_pandas(integer_object_nulls=True).set_index("image_id")


def check_copies(
    slices: pd.DataFrame, inventory: Inventory
) -> tuple[pd.DataFrame, list[tuple[str, str, str]]]:
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
        if not isinstance(copy, Slice) or not copy.is_hu:
            what = "a file that cannot be used beside the one" if isinstance(copy, Slice) else copy
            rows.append((image_id, path, f"duplicate image: {what}"))
            continue
        same = pixel_hash(copy.values) == slices.at[row, "pixel_hash"]
        if not same and pd.isna(slices.at[row, "cause"]):
            slices.at[row, "cause"] = f"duplicate image: {path} has other pixels"
        what = "the same pixels" if same else "other pixels"
        rows.append((image_id, path, f"duplicate image: {what} as the file that was read"))
    slices["conflicting_copy"] = _conflicting(slices)
    return slices, rows


def _conflicting(slices: pd.DataFrame) -> pd.Series:
    """True for a labelled image where another one has the same pixels but other labels: both cannot be right.
    Never missing: an image without pixels or labels contradicts none, nor does a blank one.
    """
    labelled = slices["blank"].eq(False).fillna(False).astype(bool) & slices["any"].notna()
    distinct = slices[labelled].drop_duplicates(["pixel_hash", *LABELS])["pixel_hash"]
    return labelled & slices["pixel_hash"].isin(distinct[distinct.duplicated()])


def final_order(slices: pd.DataFrame) -> pd.DataFrame:
    """Status, and the order among the usable slices of each study, now that all causes are known."""
    usable = slices["cause"].isna()
    slices["status"] = usable.map({True: "ok", False: "quarantined"})
    order = geometry.order_slices(slices.loc[usable, geometry.ORDERED_BY])
    slices[["order", "step_mm"]] = order.reindex(slices.index)
    return slices.sort_values(["study_id", "order", "image_id"], na_position="last", ignore_index=True)


def check_fold_choice(slices: pd.DataFrame, options: Options) -> None:
    """Raises UserError for folds that are impossible whatever the pixels are, before any is stored."""
    if options.folds_file is not None:
        read_external_folds(options.folds_file, slices)
        return
    patients = slices.loc[slices["split"] == "train", "patient_id"].nunique()
    if 0 < patients < options.folds:
        raise UserError(
            f"--folds {options.folds}: there are only {patients} patients; ask for as many or fewer"
        )


def fold_table(
    slices: pd.DataFrame, studies: pd.DataFrame | None, options: Options, before: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, bool]:
    """The folds, our own or the given ones, checked for leaks either way, and whether they grew: in our own
    the patients of `before` keep theirs, and without it some would have another.
    """
    if not (slices["split"].eq("train") & slices["patient_id"].notna()).any():
        return pd.DataFrame({"patient_id": pd.Series(dtype="str"), "fold": pd.Series(dtype="int64")}), False
    if options.folds_file is not None:
        return read_external_folds(options.folds_file, slices), False
    used = ~slices["cause"].str.startswith(OTHER_SERIES, na=False)
    labelled = _with_study_labels(slices.loc[used, FOLD_COLUMNS], studies)
    folds = assign_folds(labelled, options.folds, options.seed, before)
    check_folds(labelled, folds)
    return folds, before is not None and not folds.equals(assign_folds(labelled, options.folds, options.seed))


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
    """Write everything, the manifest last; then delete what nothing refers to any more."""
    quarantine = _quarantine(tables, printable(raw) + "/")
    extra = [name for name in inventory.images if name not in (*COLUMNS, "path")]
    slices = _typed(
        tables.slices, [*extra, *(name for name in ("mask_volume", "mask_index") if name in tables.slices)]
    )
    studies = _studies(slices, inventory)
    packs = {
        folder: [path.name for path in plan.packs]
        for folder, plan in zip((VOLUMES, MASKS), plans, strict=True)
    }
    assumed = tables.slices["patient_assumed"] & (tables.slices["status"] == "ok")
    notes = inventory.notes | {"no PatientID, told by the study": int(assumed.sum())}
    manifest = _manifest(slices, studies, tables.folds, quarantine, notes, options)
    if (clean / MANIFEST).is_file():
        (clean / MANIFEST).replace(clean / PREVIOUS)
    write_parquet(clean / SLICES, slices)
    write_parquet(clean / STUDIES, studies)
    write_csv(clean / FOLDS, tables.folds)
    write_csv(clean / QUARANTINE, quarantine)
    if tables.series is not None:
        write_csv(clean / SERIES, tables.series)
    manifest |= {"synthetic": is_synthetic(raw), "folds_grew": tables.folds_grew, "inputs": inputs, **packs}
    manifest["tables"] = table_digests(clean)
    write_json(clean / MANIFEST, manifest)
    tidy(clean, manifest)
    return manifest


def tidy(clean: Path, manifest: dict[str, Any]) -> None:
    """Delete volumes that nothing refers to any more, and what a killed run left."""
    leftovers = [clean / PREVIOUS, *clean.glob(f".*{PARTIAL}")]
    for folder in (VOLUMES, MASKS):
        used = set(manifest[folder])
        leftovers += [path for path in (clean / folder).glob(f"*{SUFFIX}") if path.name not in used]
        leftovers += (clean / folder).glob(f".*{PARTIAL}")
    for path in leftovers:
        path.unlink(missing_ok=True)


def folds_before(clean: Path, options: Options) -> pd.DataFrame | None:
    """The folds that the folder has for the same choice of data and folds; None where there are none.

    A model must not be judged on patients it was trained on, so data that grow keep the fold of every
    patient. A stopped run has no manifest yet, but the one before it.
    """
    path = next((clean / name for name in (MANIFEST, PREVIOUS) if (clean / name).is_file()), None)
    if path is None or options.folds_file is not None or not (clean / FOLDS).is_file():
        return None
    before = read_json(path)
    if fold_choices(before["settings"]) != fold_choices(options.recorded):
        return None
    written = before.get("tables", {}).get(FOLDS)
    if path.name == MANIFEST and written not in (None, file_sha256(clean / FOLDS)):
        raise UserError(
            f"{clean / FOLDS}: was changed since prepare_data.py wrote it; give folds of your own by "
            "--folds-file, or delete it to divide all patients anew, which every model is then trained for"
        )
    return read_fold_file(clean / FOLDS)


def _quarantine(tables: Tables, below: str) -> pd.DataFrame:
    bad = tables.slices.loc[tables.slices["status"] == "quarantined", ["image_id", "path", "cause"]]
    table = pd.concat([bad, pd.DataFrame(tables.others, columns=bad.columns, dtype="str")])
    table = table.assign(path=table["path"].str.removeprefix(below), remedy=table["cause"].map(remedy))
    return table.sort_values(["image_id", "path"])


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
    return {
        "format": FORMAT,
        **fingerprints(slices, studies, folds, options.recorded),
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
