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
from pydantic import field_validator

from ...config import StrictModel, load_config
from ...errors import UserError
from ..dicom import scan_headers
from ..formats.images import gray_pixels
from ..preparation import checks
from ..preparation.headerless import headerless
from ..preparation.inventory import Inventory, empty_labels
from ..preparation.options import Options
from ..source import IMAGE_SUFFIXES, cause_of_failure, list_files, printable, read_bytes
from .dicom import image_table, is_picture, may_be_dicom, other_format


class FolderConfig(StrictModel):
    """What the folders of `--dataset folder` mean."""

    classes: tuple[str, ...] = ("normal", "deep", "lobar", "subtentorial")
    """the folders directly below RAW_DATA_DIR, one a class"""
    negative: str = "normal"
    """the class without bleeding"""
    patient_regex: str | None = None
    """its first group, found in a path below RAW_DATA_DIR, is the patient; null: the folder below the class,
    or the file's name up to its first _"""
    exclude: tuple[str, ...] = ()
    """patterns of paths below RAW_DATA_DIR that are left out, such as */scout*"""

    @field_validator("patient_regex")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            groups = 1 if pattern is None else re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"no regular expression ({error})") from None
        if groups < 1:
            raise ValueError("no group; put the patient's part in parentheses")
        return pattern


def read(raw_dir: Path, options: Options, jobs: int) -> Inventory:
    """List the images of every class. An unknown folder, an empty class or a file without patient raises
    UserError.
    """
    config = (
        FolderConfig() if options.folder_config is None else load_config(FolderConfig, options.folder_config)
    )
    found = [entry.path for entry in list_files(raw_dir)]
    found = [path for path in found if not _excluded(os.path.relpath(path, raw_dir), config)]
    paths = [path for path in found if _is_image(path)]
    chosen = set(paths)
    unread = [path for path in found if path not in chosen and is_picture(path)]
    images = image_table(paths, raw_dir, split="train")
    parts = [printable(os.path.relpath(path, raw_dir)).split(os.sep) for path in paths]
    images["class_name"] = [part[0] for part in parts]
    _check_classes(raw_dir, config, images)
    images["patient_id"] = [patient_of(part, config, raw_dir) for part in parts]
    others = [name for name in config.classes if name != config.negative]
    numbers = {name: others.index(name) if name in others else -1 for name in config.classes}
    images["class_index"] = pd.array([numbers[name] for name in images["class_name"]], dtype="Int32")
    # A patient's scans are told apart by their folders; what lies in one folder is one study.
    folders = ["/".join(part[:-1]) for part in parts]
    direct = [len(part) == 2 for part in parts]
    images["study_id"] = [
        f"{folder}/{patient}" if lies else folder
        for folder, patient, lies in zip(folders, images["patient_id"], direct, strict=True)
    ]
    dropped = [
        (printable(os.path.relpath(path, raw_dir)), printable(path), other_format(path)) for path in unread
    ]
    return _with_headers(images, paths, jobs, config, dropped)


def patient_of(parts: list[str], config: FolderConfig, raw_dir: Path) -> str:
    """The patient of a file from its path below the root. Raises UserError where the rule finds none."""
    path = "/".join(parts)
    if config.patient_regex is not None:
        found = re.search(config.patient_regex, path)
        patient = found[1] if found else ""
    elif len(parts) > 2:
        patient = parts[1]
    else:
        patient = parts[-1].split("_")[0] if "_" in parts[-1] else ""
    if not patient:
        raise UserError(
            f"{raw_dir}/{path}: no patient in this name; set patient_regex in the file of --folder-config"
        )
    return patient


def _with_headers(
    images: pd.DataFrame,
    paths: list[str],
    jobs: int,
    config: FolderConfig,
    dropped: list[tuple[str, str, str]],
) -> Inventory:
    gray = images["path"].str.lower().str.endswith(IMAGE_SUFFIXES)
    images["units"] = gray.map({True: "gray", False: "hu"})
    scanned = scan_headers([paths[row] for row in images.index[~gray]], jobs).set_axis(images.index[~gray])
    images.loc[~gray, "cause"] = checks.cause_of(scanned)
    shapes = []
    for row in images.index[gray]:
        try:
            shapes.append(gray_pixels(read_bytes(paths[row])).shape)
        except Exception as error:  # as in images.decode_source: this picture's matter alone
            shapes.append((0, 0))
            images.at[row, "cause"] = cause_of_failure(error)
    by_number = images[gray].assign(key=images.loc[gray, "image_id"].map(natural)).sort_values("key")
    sequence = pd.Series(range(len(by_number)), by_number.index).reindex(images.index[gray])
    made = headerless(sequence.tolist(), shapes).set_axis(images.index[gray])
    headers = pd.concat([scanned, made]).reindex(images.index) if gray.any() else scanned
    labels = empty_labels(images.index)
    labels["any"] = (images["class_name"] != config.negative).astype("Int8")
    images["series_id"] = images["study_id"]
    return Inventory(images.join(labels), list(paths), headers=headers, dropped=dropped)


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


def natural(name: str) -> list[tuple[int, str]]:
    """Sorts slice2 before slice10."""
    parts = re.split(r"(\d+)", name)  # every second one is a number
    return [(int(part), "") if place % 2 else (-1, part) for place, part in enumerate(parts)]
