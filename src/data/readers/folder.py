"""A folder for each class, as in the DTViT work of Yulin (its data are unpublished, so the format is ours).

    <class>/<patient>/<file>   or   <class>/<patient>_<rest>    DICOM in HU, or JPEG and PNG, which are not HU

Classes, the negative class, how to find the patient, and what to leave out stand in a JSON file
(`FolderConfig`). A patient with two scans, or in two classes, is one patient and stays in one fold.
"""

import fnmatch
import os
import re
from pathlib import Path

import pandas as pd

from ...config import StrictModel, load_config
from ...errors import UserError
from ..dicom import scan_headers
from ..images import gray_pixels
from ..preparation import checks
from ..preparation.headerless import headerless
from ..preparation.inventory import Inventory, empty_labels
from ..preparation.options import Options
from ..source import IMAGE_SUFFIXES, list_files, read_bytes
from .dicom import image_table, may_be_dicom


class FolderConfig(StrictModel):
    """What the folders of a class-folder data set mean. A file states only what differs."""

    classes: tuple[str, ...] = ("normal", "deep", "lobar", "subtentorial")
    negative: str = "normal"
    patient_regex: str | None = None  # its first group in the path is the patient; default: see `patient_of`
    exclude: tuple[str, ...] = ()  # patterns of paths below the data root


def read(raw_dir: Path, options: Options, jobs: int) -> Inventory:
    """List the images of every class. An unknown folder, an empty class or a file without patient raises
    UserError.
    """
    config = (
        FolderConfig() if options.folder_config is None else load_config(FolderConfig, options.folder_config)
    )
    paths = [entry.path for entry in list_files(raw_dir) if _is_image(entry.path)]
    paths = [path for path in paths if not _excluded(os.path.relpath(path, raw_dir), config)]
    images = image_table(paths, raw_dir, split="train")
    parts = [os.path.relpath(path, raw_dir).split(os.sep) for path in paths]
    images["class_name"] = [part[0] for part in parts]
    _check_classes(raw_dir, config, images)
    images["patient_id"] = [patient_of(part, config, raw_dir) for part in parts]
    others = [name for name in config.classes if name != config.negative]
    numbers = {name: others.index(name) if name in others else -1 for name in config.classes}
    images["class_index"] = pd.array([numbers[name] for name in images["class_name"]], dtype="Int32")
    # A patient's scans are told apart by their folders; what lies in one folder is one study.
    folders = [os.path.dirname(os.path.relpath(path, raw_dir)) for path in paths]
    direct = [os.sep not in folder for folder in folders]
    images["study_id"] = [
        f"{folder}/{patient}" if lies else folder
        for folder, patient, lies in zip(folders, images["patient_id"], direct, strict=True)
    ]
    return _with_headers(images, paths, jobs, config)


def patient_of(parts: list[str], config: FolderConfig, raw_dir: Path) -> str:
    """The patient of a file from its path below the root. Raises UserError where the rule finds none."""
    path = "/".join(parts)
    if config.patient_regex is not None:
        found = re.search(config.patient_regex, path)
        patient = found[1] if found and found.groups() else ""
    elif len(parts) > 2:
        patient = parts[1]
    else:
        patient = parts[-1].split("_")[0] if "_" in parts[-1] else ""
    if not patient:
        raise UserError(
            f"{raw_dir}/{path}: no patient in this name; set patient_regex in the file of --folder-config"
        )
    return patient


def _with_headers(images: pd.DataFrame, paths: list[str], jobs: int, config: FolderConfig) -> Inventory:
    gray = images["path"].str.lower().str.endswith(IMAGE_SUFFIXES)
    images["units"] = gray.map({True: "gray", False: "hu"})
    scanned = scan_headers(images.loc[~gray, "path"].tolist(), jobs).set_axis(images.index[~gray])
    images.loc[~gray, "cause"] = checks.cause_of(scanned)
    shapes = []
    for row, path in images.loc[gray, "path"].items():
        try:
            shapes.append(gray_pixels(read_bytes(path)).shape)
        except (ValueError, OSError) as error:
            shapes.append((0, 0))
            images.at[row, "cause"] = str(error)
    by_number = images[gray].assign(key=images.loc[gray, "image_id"].map(_natural)).sort_values("key")
    sequence = pd.Series(range(len(by_number)), by_number.index).reindex(images.index[gray])
    made = headerless(sequence.tolist(), shapes).set_axis(images.index[gray])
    headers = pd.concat([scanned, made]).reindex(images.index) if gray.any() else scanned
    labels = empty_labels(images.index)
    labels["any"] = (images["class_name"] != config.negative).astype("Int8")
    images["series_id"] = images["study_id"]
    return Inventory(images.join(labels), list(paths), headers=headers)


def _check_classes(raw_dir: Path, config: FolderConfig, images: pd.DataFrame) -> None:
    if config.negative not in config.classes:
        raise UserError(f"the negative class {config.negative!r} is none of {', '.join(config.classes)}")
    unknown = sorted(set(images["class_name"]) - set(config.classes))
    if unknown:
        known = ", ".join(config.classes)
        raise UserError(
            f"{raw_dir}/{unknown[0]}: not one of the classes {known}; name it in the file of --folder-config"
        )
    empty = [name for name in config.classes if name not in set(images["class_name"])]
    if empty:
        raise UserError(
            f"{raw_dir}/{empty[0]}: no image of this class; add some, or strike the class in --folder-config"
        )


def _is_image(path: str) -> bool:
    return path.lower().endswith(IMAGE_SUFFIXES) or may_be_dicom(path)


def _excluded(path: str, config: FolderConfig) -> bool:
    return any(fnmatch.fnmatch(path.replace(os.sep, "/"), pattern) for pattern in config.exclude)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts slice2 before slice10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
