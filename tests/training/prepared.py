"""A tiny prepared data set, written by the cache's own writer: studies of graded slices, no DICOM needed."""

import numpy as np
import pandas as pd

from src.data.pack import FOUND, Entry, write_pack
from src.data.prepared import FORMAT, fingerprints, table_digests
from src.files import read_json, write_csv, write_json, write_parquet
from src.labels import LABELS, SUBTYPES

SIZE = 64


def study_name(number):
    return f"study{number:02d}"


def image_name(study, order):
    return f"image{study:02d}_{order}"


def pixel_values(study, order, bleeding, size=SIZE):
    """(size, size) int16: air around a head of 30 HU plus the order, a bright square of blood."""
    hu = np.full((size, size), -1000, np.int16)
    edge = size // 8
    hu[edge:-edge, edge:-edge] = 30 + order
    rng = np.random.default_rng((study, order))
    hu[edge:-edge, edge:-edge] += rng.integers(-5, 6, (size - 2 * edge,) * 2).astype(np.int16)
    if bleeding:
        row, column = rng.integers(size // 4, size // 2, 2)
        hu[row : row + size // 6, column : column + size // 6] = 75
    return hu


def write_clean(clean, studies=8, slices=5, folds=2, size=SIZE, masks=False):
    """A folder as prepare_data.py leaves it. The last quarter of the studies is the test part.

    In every study slices 1 and 2 bleed, subtype by study; a file's window is center 40 + study, width 80.
    With `masks` every second study has a mask of its pixels above 60 HU.
    """
    entries, mask_entries, rows = [], [], []
    nothing = dict.fromkeys(FOUND)
    for study in range(studies):
        training = study < studies - studies // 4
        for order in range(slices):
            bleeding = order in (1, 2)
            labels = {label: int(bleeding and SUBTYPES[study % 5] == label) for label in SUBTYPES}
            labels["any"] = int(bleeding)
            name, values = image_name(study, order), pixel_values(study, order, bleeding, size)
            entries.append(Entry(name, study_name(study), values, nothing))
            if masks and study % 2 == 0:
                mask_entries.append(Entry(name, study_name(study), (values > 60).astype(np.int16), nothing))
            rows.append(
                {
                    "image_id": name, "study_id": study_name(study), "patient_id": f"patient{study:02d}",
                    "split": "train" if training else "test", "order": order, "status": "ok", "cause": None,
                    "hu_min": int(values.min()), "hu_max": int(values.max()),
                    "rows": size, "columns": size, "square_top": 0.0, "square_left": 0.0, "square_side": size,
                    "units": "hu", "pixel_hash": f"{study}-{order}", "conflicting_copy": False,
                    "position_mm": 5.0 * order, "step_mm": 5.0,
                    "window_center": 40.0 + study, "window_width": 80.0,
                    "volume": "all.pack", "volume_index": len(entries) - 1,
                    "mask_volume": "all.pack" if masks and study % 2 == 0 else None,
                    "mask_index": len(mask_entries) - 1 if masks and study % 2 == 0 else None,
                    **(labels if training else dict.fromkeys(LABELS)),
                }
            )  # fmt: skip
    table = pd.DataFrame(rows).astype({label: "Int8" for label in LABELS} | {"mask_index": "Int32"})
    write_parquet(clean / "slices.parquet", table)
    write_pack(clean / "volumes" / "all.pack", entries, size, {})
    if masks:
        write_pack(clean / "masks" / "all.pack", mask_entries, size, {})
    patients = table.loc[table["split"] == "train", "patient_id"].unique()
    fold = np.arange(len(patients)) % folds
    write_csv(clean / "folds.csv", pd.DataFrame({"patient_id": patients, "fold": fold}))
    sign(clean, size, masks)


def sign(clean, size=SIZE, masks=False):
    """Write the manifest of the tables as they are now."""
    slices, folds = pd.read_parquet(clean / "slices.parquet"), pd.read_csv(clean / "folds.csv")
    studies = slices[["study_id", "patient_id"]].drop_duplicates("study_id")
    write_parquet(clean / "studies.parquet", studies)
    settings = {"size": size, "crop": False, "remove_holder": False, "correct_tilt": False}
    causes = slices.loc[slices["status"] == "quarantined", "cause"].value_counts().to_dict()
    manifest = {"format": FORMAT, "settings": settings, "masks": ["all.pack"] * masks}
    manifest |= {"quarantined": causes, "kept_defects": {}}
    manifest |= fingerprints(slices, studies, folds, settings) | {"tables": table_digests(clean)}
    write_json(clean / "manifest.json", manifest)


def rewrite(clean, file, change):
    """Change one table, as if the folder had been prepared so."""
    path = clean / file
    if path.suffix == ".csv":
        write_csv(path, change(pd.read_csv(path)))
    else:
        write_parquet(path, change(pd.read_parquet(path)))
    manifest = read_json(clean / "manifest.json")
    sign(clean, manifest["settings"]["size"], bool(manifest["masks"]))


def write_settings(home, **folders):
    """SETTINGS.json with every folder below `home`, but those given by key."""
    keys = ("RAW_DATA", "CLEAN_DATA", "MODEL", "CHECKPOINT", "LOGS", "SUBMISSION")
    write_json(home / "SETTINGS.json", {f"{key}_DIR": key.lower() for key in keys} | folders)
    return home / "SETTINGS.json"


def pair_studies(clean):
    """Studies 0 and 1, 2 and 3 ... become those of one patient, every second of whom is in fold 1."""

    def paired(slices):
        number = slices["study_id"].str.removeprefix("study").astype(int)
        return slices.assign(patient_id="patient" + (number // 2 * 2).astype(str).str.zfill(2))

    rewrite(clean, "slices.parquet", paired)
    patients = pd.read_parquet(clean / "slices.parquet").query("split == 'train'")["patient_id"].unique()
    rewrite(clean, "folds.csv", lambda folds: folds[: len(patients)].assign(patient_id=patients))
